"""Which configuration file and which data folder a command takes, wherever it is started."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring.config import file_for
from forebay.app.wiring.data_folder import DataFolder
from tests.support.commands import OURS, Answer, invoked, refused

if TYPE_CHECKING:
    from pathlib import Path

VENUE = '[[venues]]\nname = "coinbase"\nsymbols = ["BTC-USD"]\n'
READING = [
    ("sql", "SELECT 1"),
    ("book", "coinbase", "BTC-USD"),
    ("audit",),
    ("status",),
    ("top",),
    ("gaps", "list"),
    ("gaps", "explain", "BTC-USD", "1"),
    ("gaps", "fill"),
    ("dlq", "list"),
    ("dlq", "show", "1"),
    ("journal", "fsck"),
    ("journal", "inspect"),
    ("journal", "export"),
    ("journal", "tail"),
    ("rebuild",),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start commands in a folder of their own, with nothing of Forebay in the environment."""
    for name in [*os.environ]:
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def folder(path: Path) -> Path:
    DataFolder(path).create()
    return path


def configured(file: Path, data: object) -> Path:
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text(f'data = "{data}"\n')
    return file


def data_of(answer: Answer) -> str:
    """Return the folder that ``forebay status --json`` took, in which nothing runs."""
    assert answer.code == 3, answer
    found = answer.json["data"]
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_every_command_finds_its_folder_by_the_file(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    nowhere = configured(tmp_path / "a.toml", tmp_path / "of the file")
    refused(invoked(*command, "-c", nowhere), 2, "of the file is not a Forebay data folder")
    configured(tmp_path / "here" / "forebay.toml", tmp_path / "of here")
    refused(invoked(*command), 2, "of here is not a Forebay data folder")


def test_a_flag_beats_the_environment_beats_the_file(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, environment, file = (folder(tmp_path / name) for name in ("flag", "env", "file"))
    configured(here / "forebay.toml", file)
    assert data_of(invoked("status", "--json")) == str(file)
    monkeypatch.setenv("FOREBAY_DATA", str(environment))
    assert data_of(invoked("status", "--json")) == str(environment)
    assert data_of(invoked("status", "--json", "--data", flag)) == str(flag)


def test_the_file_given_beats_that_of_the_data_folder_beats_that_of_here(
    tmp_path: Path, here: Path
) -> None:
    given = configured(tmp_path / "given.toml", "x")
    beside, current = tmp_path / "data", here
    configured(current / "forebay.toml", "z")
    assert file_for(None, beside, current) == current / "forebay.toml"
    configured(beside / "forebay.toml", "y")
    assert file_for(None, beside, current) == beside / "forebay.toml"
    assert file_for(given, beside, current) == given
    assert file_for(None, None, tmp_path / "none") is None


def test_the_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder(tmp_path / "data")
    monkeypatch.setenv("FOREBAY_CONFIG", str(configured(tmp_path / "a.toml", data)))
    assert data_of(invoked("status", "--json")) == str(data)
    explained = {row["key"]: row for row in invoked("check", "--explain", "--json").json}
    assert explained["data"]["value"] == str(data)
    monkeypatch.setenv("FOREBAY_CONFIG", os.devnull)
    refused(invoked("status"), 2, "data is not a Forebay data folder")


def test_a_file_in_a_data_folder_that_names_none_speaks_of_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "data")
    (data / "forebay.toml").write_text(VENUE)
    assert data_of(invoked("status", "--json", "-c", data / "forebay.toml")) == str(data)
    assert data_of(invoked("status", "--json", "-c", "../data/forebay.toml")) == "../data"
    monkeypatch.chdir(data)
    assert data_of(invoked("status", "--json")) == "."
    row = invoked("check", "--explain", "--json").json[0]
    assert row == {"key": "data", "value": ".", "origin": "the folder of the file"}


def test_a_file_that_is_not_needed_may_be_wrong(tmp_path: Path, here: Path) -> None:
    data = folder(tmp_path / "data")
    for file in (here / "forebay.toml", data / "forebay.toml"):
        file.write_text("data = \n")
    assert data_of(invoked("status", "--json", "--data", data)) == str(data)
    refused(invoked("status"), 2, "forebay.toml is not valid TOML", "Correct that line")
    refused(invoked("run", "--data", data), 2, "data/forebay.toml is not valid TOML")
    refused(invoked("status", "--data", data, "-c", here / "forebay.toml"), 2, "not valid TOML")


def test_a_file_that_is_there_and_cannot_be_read_is_not_passed_over(here: Path) -> None:
    (here / "forebay.toml").mkdir()
    refused(invoked("status"), 2, "forebay.toml cannot be read", "Is a directory")
    (here / "forebay.toml").rmdir()
    (here / "forebay.toml").symlink_to(here / "gone")
    refused(invoked("status"), 2, "forebay.toml cannot be read", "No such file")


# ---------------------------------------------------------------- a folder with the file


def test_a_folder_that_holds_the_file_alone_becomes_a_data_folder(tmp_path: Path) -> None:
    assert invoked("init", tmp_path / "new").code == 0
    made = DataFolder(tmp_path / "new").create()
    assert made.marked
    assert made.existing() is made


@pytest.mark.parametrize("strange", [".gitignore", "Forebay.toml", "forebay.toml.bak"])
def test_a_folder_that_holds_anything_else_beside_it_does_not(tmp_path: Path, strange: str) -> None:
    invoked("init", tmp_path / "new")
    (tmp_path / "new" / strange).write_text("")
    refused(
        invoked("run", "--data", tmp_path / "new"), 2, "not empty", repr(strange), "Choose an empty"
    )


def test_a_start_in_the_folder_of_the_file_needs_no_flag(here: Path) -> None:
    refused(invoked("run"), 2, "nothing to capture", "forebay init")
    (here / "forebay.toml").write_text(VENUE.replace("coinbase", "coinbse"))
    refused(invoked("run"), 2, "'coinbse'")
    refused(invoked("check"), 2, "'coinbse'")


@pytest.mark.parametrize("name", ["new", "a name", "it's", "[red]x[/red]"])
def test_init_tells_the_next_commands_as_they_can_be_typed(here: Path, name: str) -> None:
    told = invoked("init", here / name).stderr.splitlines()
    commands = [shlex.split(line) for line in told if line.startswith("  ")]
    file = str(here / name / "forebay.toml")
    assert [command[1:] for command in commands] == [["check", "-c", file], ["run", "-c", file]]
    assert told[0] == f"Wrote {file}. Edit it, then:"


def test_init_of_the_current_folder_tells_them_without_the_file(here: Path) -> None:
    told = invoked("init").stderr
    assert [line.split()[1:] for line in told.splitlines() if line.startswith("  ")] == [
        ["check"],
        ["run"],
    ]
    assert (here / "forebay.toml").is_file()
