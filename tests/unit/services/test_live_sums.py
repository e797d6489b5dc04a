"""The ledger is written from what delivery has in hand; frames are read again only if they must."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import ManualClock
from forebay.errors import JournalFull
from forebay.journal import OS_DISK, JournalWriter, OsDisk, Position
from forebay.services.ledger import open_ledger, read_ledger
from forebay.services.ledger_builder import LiveSums
from tests.support.made_venue import Deal, MadeParser, Rig, rig
from tests.support.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.domain.frames import FrameBatch
    from forebay.domain.ledger import SegmentEntry
    from forebay.domain.parsed import Parsed
    from forebay.journal import Disk
    from forebay.services.ledger import Ledger


class Counting(MadeParser):
    """Counts the frames that it is given."""

    frames = 0

    def parse(self, batch: FrameBatch) -> Parsed:
        self.frames += len(batch)
        return super().parse(batch)


@pytest.fixture
def parser() -> Counting:
    return Counting("native")


@pytest.fixture
def made(tmp_path: Path, parser: Counting) -> Iterator[Rig]:
    store = MemoryStore()
    with rig(tmp_path, "native", lambda: store, parser) as made:
        yield made


def opened(made: Rig, folder: Path, disk: Disk = OS_DISK) -> Ledger:
    told = made.store.first_told
    return open_ledger(
        folder / "ledger",
        made.parsers,
        ManualClock(),
        first_told=told,
        live=made.sums,
        disk=disk,
    )


def entries(folder: Path) -> list[SegmentEntry]:
    return read_ledger(folder / "ledger", ManualClock())


def told(made: Rig, *numbers: int) -> None:
    """Have trades captured and stored, a step each."""
    for number in numbers:
        made.tell("e1", Deal(number=number, micros=number))
        made.drain()


def reached(made: Rig) -> Position:
    position = made.delivered
    assert position is not None
    return position


def counts(folder: Path) -> list[tuple[int, int, int]]:
    """Return where each entry begins and ends, and how many new events it has."""
    return [
        (entry.first, entry.end, sum(hour.count for each in entry.streams for hour in each.hours))
        for entry in entries(folder)
    ]


def test_a_frame_is_parsed_once_for_store_and_ledger(
    made: Rig, tmp_path: Path, parser: Counting
) -> None:
    with opened(made, tmp_path) as ledger:
        told(made, 1, 2, 3)
        ledger.record(made.blocks(), reached(made))
        told(made, 4, 5)
        ledger.record(made.blocks(), reached(made))
    assert counts(tmp_path) == [(1, 4, 3), (4, 6, 2)]
    assert parser.frames == 5


def test_an_entry_may_reach_further_than_was_asked_for(made: Rig, tmp_path: Path) -> None:
    with opened(made, tmp_path) as ledger:
        told(made, 1, 2, 3)
        ledger.record(made.blocks(), Position(reached(made).log_id, 2))
        assert ledger.reached() == reached(made)
        ledger.record(made.blocks(), Position(reached(made).log_id, 3))
    assert counts(tmp_path) == [(1, 4, 3)]


def test_what_a_process_took_with_it_is_made_up_from_frames(
    made: Rig, tmp_path: Path, parser: Counting
) -> None:
    with opened(made, tmp_path) as ledger:
        told(made, 1)
        ledger.record(made.blocks(), reached(made))
        told(made, 2, 3)
    made.kill()
    parser.frames = 0
    with opened(made, tmp_path) as ledger:
        told(made, 4, 5)
        assert made.sums.begins == 4
        ledger.record(made.blocks(), reached(made))
    assert counts(tmp_path) == [(1, 2, 1), (2, 4, 2), (4, 6, 2)]
    assert parser.frames == 2 + 2, "the new ones, and once more those that were lacking"


def test_a_segment_that_the_sums_do_not_reach_back_to_is_told_by_frames_alone(
    made: Rig, tmp_path: Path
) -> None:
    told(made, 1, 2, 3)
    made.kill()
    with opened(made, tmp_path) as ledger:
        told(made, 4)
        ledger.record(made.blocks(), Position(reached(made).log_id, 3))
        assert counts(tmp_path) == [(1, 3, 2)]
        ledger.record(made.blocks(), reached(made))
    assert counts(tmp_path) == [(1, 3, 2), (3, 4, 1), (4, 5, 1)]


def test_a_ledger_that_is_ahead_of_its_store_goes_on_from_frames(made: Rig, tmp_path: Path) -> None:
    """An older copy of the store was put back: what it is told again is in the ledger."""
    with opened(made, tmp_path) as ledger:
        told(made, 1, 2, 3)
        ledger.record(made.blocks(), reached(made))
    made.sums.begin(Position(reached(made).log_id, 2))
    with opened(made, tmp_path) as ledger:
        told(made, 4)
        ledger.record(made.blocks(), reached(made))
    assert counts(tmp_path) == [(1, 4, 3), (4, 5, 1)]


class Full(OsDisk):
    """Refuses to write once it is told to."""

    full = False

    def pwritev(self, fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:  # noqa: ANN401
        if self.full:
            raise OSError(errno.ENOSPC, "full")
        return super().pwritev(fd, buffers, offset, flags)


def test_what_a_full_disk_refused_is_the_same_entry_next_time(
    made: Rig, tmp_path: Path, parser: Counting
) -> None:
    disk = Full()
    with opened(made, tmp_path, disk) as ledger:
        told(made, 1, 2)
        disk.full = True
        for _ in range(2):
            with pytest.raises(JournalFull):
                ledger.record(made.blocks(), reached(made))
            assert ledger.reached() is None
        told(made, 3)
        disk.full = False
        ledger.record(made.blocks(), reached(made))
    assert counts(tmp_path) == [(1, 3, 2), (3, 4, 1)]
    assert parser.frames == 3


# ------------------------------------------------------------------ a journal that began anew


def begin_anew(made: Rig, folder: Path, *numbers: int) -> None:
    """Lose the journal, and capture into another one."""
    made.writer.close()
    for file in (folder / "journal").iterdir():
        file.unlink()
    made.writer = JournalWriter.open(folder / "journal", clock=ManualClock())
    for number in numbers:
        made.tell("e2", Deal(number=number, micros=number))


def test_sums_end_when_the_journal_began_anew_between_two_processes(
    made: Rig, tmp_path: Path
) -> None:
    told(made, 1, 2, 3)
    begin_anew(made, tmp_path, 3, 4)
    made.kill()
    made.drain()
    assert made.sums.begins is None
    assert made.sums.cut() is None
    with opened(made, tmp_path) as ledger:
        ledger.record(made.blocks(), reached(made))
    assert counts(tmp_path) == [(1, 3, 2)], "all that this journal has"


def test_sums_end_when_the_journal_begins_anew_under_delivery(made: Rig, tmp_path: Path) -> None:
    told(made, 1, 2, 3)
    made.writer.close()
    for file in (tmp_path / "journal").iterdir():
        file.unlink()
    made.kill()
    made.step()
    made.writer = JournalWriter.open(tmp_path / "journal", clock=ManualClock())
    made.tell("e2", Deal(number=4, micros=4))
    made.drain()
    assert made.sums.begins is None
    assert made.sums.cut() is None
    with opened(made, tmp_path) as ledger:
        ledger.record(made.blocks(), reached(made))
    assert counts(tmp_path) == [(1, 2, 1)]


def test_sums_that_ended_begin_no_more() -> None:
    sums = LiveSums()
    sums.begin(Position("a" * 32, 7))
    begun = [sums.begins]
    sums.stop()
    sums.begin(Position("a" * 32, 7))
    begun.append(sums.begins)
    assert begun == [7, None]
    assert sums.cut() is None
