"""A data folder is on stable storage when it is made, and a try that died is made good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring.data_folder import LAYOUT, DataFolder
from forebay.journal import OsDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class KilledError(BaseException):
    """The process is gone."""


class WatchedDisk(OsDisk):
    """Real folders, and which names in them would survive a power cut; dies when told."""

    def __init__(self, root: Path, left: int = 1000) -> None:
        self.root = root
        self.left = left
        self.durable: set[Path] = set()

    def fsync_dir(self, folder: Path) -> None:
        self._step()
        super().fsync_dir(folder)
        self.durable |= set(folder.iterdir())

    def rename(self, old: Path, new: Path) -> None:  # type: ignore[override]  # a function there
        self._step()
        super().rename(old, new)
        self.durable.discard(new)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._step()
        super().fdatasync(fd)

    def make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._step()
        super().make_folder(folder)

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


def names(folder: DataFolder) -> Iterator[Path]:
    yield folder.root.parent
    yield folder.root
    yield from folder.root.iterdir()


def test_every_name_is_durable_when_the_folder_is_made(tmp_path: Path) -> None:
    folder, disk = DataFolder(tmp_path / "a" / "b"), WatchedDisk(tmp_path)
    folder.create(disk)
    assert set(names(folder)) <= disk.durable
    assert {folder.journal, folder.cursor("store").parent, folder.root / "FOREBAY"} <= disk.durable


def test_names_that_an_earlier_try_made_are_synced_too(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "a" / "b").create()
    disk = WatchedDisk(tmp_path)
    folder.create(disk)
    assert {folder.root, folder.journal, folder.cursor("store").parent} <= disk.durable


def test_a_try_that_dies_anywhere_does_not_make_a_strangers_folder(tmp_path: Path) -> None:
    for left in range(20):
        folder, disk = DataFolder(tmp_path / str(left) / "b"), WatchedDisk(tmp_path, left)
        try:
            folder.create(disk)
        except KilledError:
            assert folder.create().journal.is_dir()
        else:
            assert left > 4
            break
    else:
        pytest.fail("never made")


@pytest.mark.parametrize("left", range(12))
def test_a_power_cut_while_it_is_made_does_not_make_a_strangers_folder(
    tmp_path: Path, left: int
) -> None:
    """All names may survive but those the mark; so the mark has to be durable before them."""
    folder, disk = DataFolder(tmp_path / "b"), WatchedDisk(tmp_path, left)
    try:
        folder.create(disk)
    except KilledError:
        mark = folder.root / "FOREBAY"
        if mark.exists() and mark not in disk.durable:
            mark.unlink()
        folder.create()
    assert folder.existing() is folder


@pytest.mark.parametrize("left", range(4))
def test_a_mark_that_is_written_anew_is_the_old_or_the_new_one(tmp_path: Path, left: int) -> None:
    folder = DataFolder(tmp_path).create()
    mark = tmp_path / "FOREBAY"
    mark.write_text("Forebay data folder, layout 1\n")
    disk = WatchedDisk(tmp_path, left)
    try:
        folder.mark(disk)
    except KilledError:
        assert folder.layout() in (1, LAYOUT)
        folder.mark()
    else:
        assert left == 3
        assert mark in disk.durable
    assert folder.layout() == LAYOUT
    assert not (tmp_path / "FOREBAY.making").exists()
