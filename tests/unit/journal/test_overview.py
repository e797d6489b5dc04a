"""How large a journal is and how fast it grows."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.journal import PendingBlock, Position, inspect
from forebay.journal.overview import JournalOverview, overview
from forebay.journal.seal import seal
from forebay.journal.segments import list_segments
from forebay.journal.survey import GLANCE, survey
from tests.support.sim_disk import SimDisk
from tests.unit.journal.helpers import (
    FOLDER,
    forget_watermark,
    open_writer,
    overwrite,
    random_ids,
    segment_files,
    sim,
)

if TYPE_CHECKING:
    from pathlib import Path

HOUR_S = 3600
START_NS = ManualClock().wall_ns()


def hourly(disk: SimDisk, hours: int, *, size: int = 4000) -> Position:
    """One frame an hour, each in a segment of its own."""
    clock = ManualClock()
    with open_writer(disk, segment_bytes=500, clock=clock) as writer:
        for hour in range(hours):
            if hour:
                clock.advance(HOUR_S)
            writer.commit([PendingBlock(1, b"c", [b"x" * size], [clock.monotonic_ns()])])
        return writer.position


def seal_first(disk: SimDisk, count: int) -> None:
    firsts = list_segments(disk, FOLDER)
    for index in range(count):
        seal(disk, FOLDER, firsts[index], firsts[index + 1], random_id=random_ids(index))


def test_an_empty_folder_is_a_journal_of_nothing() -> None:
    seen = overview(FOLDER, disk=sim())
    assert (seen.bytes, seen.segments, seen.sealed, seen.oldest_ns) == (0, 0, 0, None)
    assert (seen.raw_per_day, seen.disk_per_day, seen.days_left) == (None, None, None)


def test_a_journal_without_frames() -> None:
    disk = sim()
    open_writer(disk).close()
    seen = overview(FOLDER, disk=disk)
    assert (seen.segments, seen.oldest_ns, seen.days_left) == (1, None, None)


def test_one_moment_is_no_rate() -> None:
    disk = sim()
    hourly(disk, 1)
    seen = overview(FOLDER, disk=disk)
    assert (seen.oldest_ns, seen.raw_per_day) == (START_NS, None)


@pytest.mark.parametrize("hours", [2, 4, 5, 30])
def test_the_rate_is_that_of_the_last_segments_and_the_oldest_that_of_the_first(
    hours: int,
) -> None:
    disk = sim()
    hourly(disk, hours)
    seen = overview(FOLDER, disk=disk)
    recent = min(hours, 4)
    block = 88 + 1 + 12 + 4000
    assert seen.segments == hours
    assert seen.oldest_ns == START_NS
    assert seen.raw_per_day == (block * recent + 88) * 24 // (recent - 1)
    assert seen.disk_per_day == seen.raw_per_day
    assert seen.bytes == sum(each.bytes for each in inspect(FOLDER, disk=disk))
    assert seen.free_bytes == disk.free(FOLDER)
    assert seen.days_left == seen.free_bytes / seen.disk_per_day


def test_sealed_segments_tell_how_much_stays() -> None:
    disk = sim()
    hourly(disk, 4)
    raw = overview(FOLDER, disk=disk)
    seal_first(disk, 2)
    seen = overview(FOLDER, disk=disk)
    assert seen.sealed == 2
    assert (seen.raw_per_day, seen.oldest_ns) == (raw.raw_per_day, raw.oldest_ns)
    assert seen.raw_per_day
    assert seen.disk_per_day
    sealed = inspect(FOLDER, disk=disk)[0]
    assert seen.disk_per_day / seen.raw_per_day == pytest.approx(
        sealed.bytes / (sealed.raw_bytes - 64), rel=0.03
    )
    assert seen.bytes < raw.bytes


def test_what_is_not_durable_yet_is_not_counted() -> None:
    disk, clock = sim(), ManualClock()
    with open_writer(disk, clock=clock) as writer:
        before, seen = b"", overview(FOLDER, disk=disk)
        for _ in range(3):
            before = bytes(disk.names[FOLDER / "watermark"].data)
            seen = overview(FOLDER, disk=disk)
            writer.commit([PendingBlock(1, b"c", [b"x" * 100], [clock.monotonic_ns()])])
            clock.advance(HOUR_S)
        after = overview(FOLDER, disk=disk)
        overwrite(disk, FOLDER / "watermark", before)
        assert seen.raw_per_day
        assert after.raw_per_day != seen.raw_per_day
        assert overview(FOLDER, disk=disk).raw_per_day == seen.raw_per_day


def test_without_a_watermark_it_is_seen_all_the_same() -> None:
    disk = sim()
    hourly(disk, 3)
    before = overview(FOLDER, disk=disk)
    forget_watermark(disk)
    after = overview(FOLDER, disk=disk)
    assert (after.segments, after.oldest_ns) == (before.segments, before.oldest_ns)
    assert after.raw_per_day


def test_the_span_of_a_segment_is_the_same_raw_and_sealed() -> None:
    disk = sim()
    clock = ManualClock()
    with open_writer(disk, segment_bytes=900, clock=clock) as writer:
        for _ in range(6):
            times = [clock.monotonic_ns() + 5, clock.monotonic_ns() - 7]
            writer.commit([PendingBlock(1, b"c", [b"x" * 100, b"y" * 100], times)])
            clock.advance(1)
    raw = survey(disk, FOLDER, 1, times=True)
    assert raw.first_ns == START_NS - 7
    assert raw.last_ns is not None
    assert raw.last_ns % 10**9 == 5
    assert survey(disk, FOLDER, 1, limit=GLANCE).sealed is False
    seal_first(disk, 1)
    sealed = survey(disk, FOLDER, 1, times=True)
    for name in ("blocks", "frames", "next_seq", "block_bytes", "raw_bytes", "first_ns", "last_ns"):
        assert getattr(sealed, name) == getattr(raw, name), name
    assert (sealed.sealed, raw.sealed) == (True, False)
    assert survey(disk, FOLDER, 1, limit=GLANCE).sealed is True


def test_a_segment_in_which_nothing_can_be_read() -> None:
    disk = sim()
    hourly(disk, 2)
    path = segment_files(disk)[0]
    overwrite(disk, path, bytes(500))
    for limit in (None, GLANCE):
        found = survey(disk, FOLDER, 1, limit=limit, times=True)
        assert (found.block_bytes, found.first_ns, found.last_ns) == (0, None, None)
        assert (found.log_id, found.bytes, found.sealed) == ("", 500, False)
    assert overview(FOLDER, disk=disk).oldest_ns is None


def test_nobody_can_tell_when_a_journal_that_does_not_grow_is_full() -> None:
    assert JournalOverview(1, 1, 0, 1, 0, 0, 100).days_left is None


@pytest.mark.parametrize(("seconds", "days"), [(15, None), (599, None), (600, 4.0)])
def test_a_few_seconds_do_not_tell_when_the_disk_is_full(seconds: int, days: float | None) -> None:
    assert JournalOverview(1, 1, 0, 1, 25, 25, 100, seconds * 10**9).days_left == days


def test_a_segment_that_is_removed_meanwhile_is_borne() -> None:
    class Busy(SimDisk):
        def listdir(self, folder: Path) -> list[str]:
            names = super().listdir(folder)
            if removed:
                self.unlink(removed.pop())
            return names

    disk = Busy(random.Random(1))
    removed: list[Path] = []
    hourly(disk, 6)
    removed.append(segment_files(disk)[0])
    assert overview(FOLDER, disk=disk).segments == 5
    assert removed == []
