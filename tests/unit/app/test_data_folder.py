"""The data folder: whose it is, and who may use it."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring.data_folder import LAYOUT, STORE, Consumer, DataFolder, socket_address
from forebay.errors import ConfigError, Unreachable
from forebay.services.deliver import CONSUMER

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_made_with_what_belongs_in_it_and_may_be_made_again(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "a" / "b").create().create()

    assert folder.journal.is_dir()
    assert folder.cursor("store").parent.is_dir()
    assert folder.existing() is folder


def test_a_strangers_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(ConfigError, match="not empty and not a Forebay data folder"):
        DataFolder(tmp_path).create()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ConfigError, match="is not a Forebay data folder"):
        DataFolder(tmp_path).existing()


def test_a_place_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be used") as raised:
        DataFolder(tmp_path / "file" / "below").create()
    assert "--data" in raised.value.hint


def test_one_capture_at_a_time(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()

    with folder.owned():
        refused = pytest.raises(Unreachable, match=r"in use by the capture with process id \d+")
        with refused, folder.owned():
            pytest.fail("two owners")
    with folder.owned():
        pass


def test_a_socket_in_a_deep_folder_has_an_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)

    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with socket_address(deep / "x.sock") as address:
            server.bind(address)
        server.listen()
        with socket_address(deep / "x.sock") as address:
            client.connect(address)
    assert (deep / "x.sock").exists()


# ------------------------------------------------------------------------- layouts


def of_layout(root: Path, mark: str) -> DataFolder:
    """Make a folder with something in it and that mark."""
    folder = DataFolder(root).create()
    (root / "FOREBAY").write_text(mark)
    return folder


def test_a_new_folder_says_its_layout(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path).create()

    assert folder.layout() == LAYOUT
    assert (tmp_path / "FOREBAY").read_text() == f"Forebay data folder, layout {LAYOUT}\n"


@pytest.mark.parametrize("mark", ["Forebay data folder, layout 1\n", ""])
def test_a_folder_of_layout_1_is_refused_and_the_hint_can_be_typed(
    tmp_path: Path, mark: str
) -> None:
    folder = of_layout(tmp_path, mark)

    for opened in (folder.create, folder.existing):
        with pytest.raises(ConfigError, match="layout 1; this Forebay needs 2") as refused:
            opened()
        rebuild = f"`forebay rebuild --data {tmp_path}`"
        assert refused.value.hint == (
            f"{rebuild} makes the new one from its journal, and keeps the old database."
        )
    assert folder.existing(oldest=1) is folder


@pytest.mark.parametrize("mark", ["Forebay data folder, layout 3\n", "mark\n", "Forebay"])
def test_a_folder_of_a_layout_that_is_not_known_is_refused(tmp_path: Path, mark: str) -> None:
    folder = of_layout(tmp_path, mark)

    for opened in (folder.create, folder.existing, partial(folder.existing, oldest=1)):
        with pytest.raises(ConfigError, match=r"of layout 3|of a layout that is not") as refused:
            opened()
        assert refused.value.hint == "Upgrade Forebay."
    assert (tmp_path / "FOREBAY").read_text() == mark


def test_a_folder_of_layout_1_that_holds_nothing_is_taken(tmp_path: Path) -> None:
    (tmp_path / "FOREBAY").write_text("Forebay data folder, layout 1\n")

    assert DataFolder(tmp_path).create().layout() == LAYOUT


def test_the_store_is_always_a_consumer_and_others_are_remembered(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    assert folder.consumers() == [STORE] == [Consumer(CONSUMER, required=True)]
    others = [Consumer("stream"), Consumer("shown", required=False)]
    folder.remember_consumers([*others, Consumer("store", required=False)])
    assert DataFolder(folder.root).existing().consumers() == [STORE, *others]
    folder.remember_consumers([])
    assert folder.consumers() == [STORE]


@pytest.mark.parametrize("content", ["", "[1]", "{", "7"])
def test_consumers_that_cannot_be_read_are_not_guessed(tmp_path: Path, content: str) -> None:
    folder = DataFolder(tmp_path / "d").create()
    folder.remember_consumers([Consumer("stream")])
    (written,) = [path for path in folder.root.iterdir() if path.suffix == ".json"]
    written.write_text(content)
    with pytest.raises(ConfigError, match=r"consumers\.json cannot be read"):
        folder.consumers()
