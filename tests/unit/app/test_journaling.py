"""Opening a data folder's journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import Consumer, DataFolder
from forebay.app.wiring.journaling import open_journal
from forebay.clock import ManualClock
from forebay.journal import CursorFile, PendingBlock, Position
from forebay.telemetry import CursorUnreadable, JournalRecovered, TelemetryEvent

if TYPE_CHECKING:
    from pathlib import Path


def opened(folder: DataFolder) -> tuple[Position, list[TelemetryEvent]]:
    told: list[TelemetryEvent] = []
    with open_journal(folder, Config(), ManualClock(), told.append) as writer:
        return writer.position, told


def captured(folder: DataFolder) -> Position:
    with open_journal(folder, Config(), ManualClock(), lambda _: None) as writer:
        writer.commit([PendingBlock(1, b"{}", [b"frame"], [0], (0, 0))])
        return writer.position


def test_what_was_found_is_told(tmp_path: Path) -> None:
    position, told = opened(DataFolder(tmp_path / "d").create())

    assert told == [JournalRecovered(position.log_id, 1, 0, 0)]


def test_a_cursor_beyond_the_end_begins_a_new_log_above_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    first, _ = opened(folder)
    CursorFile(folder.cursor("store")).store(Position(first.log_id, 500))

    second, told = opened(folder)

    assert second.log_id != first.log_id
    assert second.seq > 500
    assert told == [JournalRecovered(second.log_id, second.seq, 0, 1)]


def test_a_damaged_cursor_file_does_not_keep_capture_from_starting(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    first, _ = opened(folder)
    cursor = CursorFile(folder.cursor("store"))
    cursor.store(Position(first.log_id, 1))
    cursor.close()
    folder.cursor("store").write_bytes(b"\xff" * folder.cursor("store").stat().st_size)

    second, told = opened(folder)

    assert second == first
    assert [type(event) for event in told] == [CursorUnreadable, JournalRecovered]


def damaged(folder: DataFolder, consumer: str, first: Position) -> None:
    CursorFile(folder.cursor(consumer)).store(first)
    path = folder.cursor(consumer)
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize("required", [True, False])
def test_only_a_required_consumer_that_is_lost_begins_a_new_log(
    tmp_path: Path, *, required: bool
) -> None:
    """It would pass over frames that got the numbers of those it has."""
    folder = DataFolder(tmp_path / "d").create()
    folder.remember_consumers([Consumer("second", required)])
    first = captured(folder)
    CursorFile(folder.cursor("store")).store(first)
    damaged(folder, "second", first)

    second, told = opened(folder)

    assert (second.log_id != first.log_id) is required
    assert [type(event) for event in told] == [CursorUnreadable, JournalRecovered]


def test_a_required_consumer_that_never_began_changes_nothing(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    folder.remember_consumers([Consumer("second")])
    first = captured(folder)
    assert opened(folder)[0] == first


def test_no_consumer_is_beyond_the_end_of_its_log(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    folder.remember_consumers([Consumer("second", required=False)])
    first = captured(folder)
    CursorFile(folder.cursor("store")).store(first)
    CursorFile(folder.cursor("second")).store(Position(first.log_id, 500))

    second, _ = opened(folder)

    assert second.log_id != first.log_id
    assert second.seq > 500
