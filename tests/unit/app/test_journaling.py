"""Opening a data folder's journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.app.config import Config
from forebay.app.data_folder import DataFolder
from forebay.app.journaling import open_journal
from forebay.clock import ManualClock
from forebay.journal import CursorFile, Position
from forebay.telemetry import CursorUnreadable, Happening, JournalRecovered

if TYPE_CHECKING:
    from pathlib import Path


def opened(folder: DataFolder) -> tuple[Position, list[Happening]]:
    told: list[Happening] = []
    with open_journal(folder, Config(), ManualClock(), told.append) as writer:
        return writer.position, told


def test_what_was_found_is_told(tmp_path: Path) -> None:
    position, told = opened(DataFolder(tmp_path / "d").create())

    assert told == [JournalRecovered(position.log_id, 1, 0, 0)]


def test_a_cursor_beyond_the_end_begins_a_new_log_above_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    first, _ = opened(folder)
    CursorFile(folder.store_cursor).store(Position(first.log_id, 500))

    second, told = opened(folder)

    assert second.log_id != first.log_id
    assert second.seq > 500
    assert told == [JournalRecovered(second.log_id, second.seq, 0, 1)]


def test_a_damaged_cursor_file_does_not_keep_capture_from_starting(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    first, _ = opened(folder)
    cursor = CursorFile(folder.store_cursor)
    cursor.store(Position(first.log_id, 1))
    cursor.close()
    folder.store_cursor.write_bytes(b"\xff" * folder.store_cursor.stat().st_size)

    second, told = opened(folder)

    assert second == first
    assert [type(happening) for happening in told] == [CursorUnreadable, JournalRecovered]
