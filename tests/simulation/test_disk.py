"""What of the disk decides whether a seed is one world; its faults are tested with the journal."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.sim_disk import SimDisk

FOLDER = Path("journal")
NAMES = [f"{number:02d}" for number in random.Random(5).sample(range(100), 12)]


def test_names_keep_the_order_in_which_they_came_whatever_their_hashes_are() -> None:
    disk = SimDisk(random.Random(1))
    for name in NAMES:
        disk.close(disk.open(FOLDER / name, create=True))
    disk.fsync_dir(FOLDER)
    assert [path.name for path in disk.stable_names] == NAMES
    disk.lose_power()
    assert disk.listdir(FOLDER) == NAMES


def test_a_synced_folder_holds_what_it_shows_and_nothing_else() -> None:
    disk = SimDisk(random.Random(1))
    for name in ("kept", "renamed", "gone"):
        disk.close(disk.open(FOLDER / name, create=True))
    elsewhere = Path("cursors/store")
    disk.close(disk.open(elsewhere, create=True))
    disk.fsync_dir(FOLDER)
    assert elsewhere not in disk.stable_names
    disk.rename(FOLDER / "renamed", FOLDER / "new")
    disk.unlink(FOLDER / "gone")
    disk.fsync_dir(FOLDER)
    assert {path.name for path in disk.stable_names} == {"kept", "new"}
