"""Housekeeping: recorded, then sealed, then removed; never sooner, and never stuck."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import Corrupt, Transient
from forebay.journal import (
    JournalReader,
    JournalWriter,
    Position,
    ensure_durable,
    fsck,
    inspect,
)
from forebay.journal.housekeeping import Housekeeper
from forebay.journal.retention import Rules
from forebay.journal.segments import list_segments, remove_segment
from forebay.telemetry import HousekeepingRefused, SegmentRemoved, TelemetryEvent
from tests.support.sim_disk import FailNext
from tests.unit.journal.helpers import (
    FOLDER,
    draft,
    drain,
    forget_watermark,
    frames_of,
    losses_of,
    numbered,
    open_writer,
    overwrite,
    random_ids,
    read_all,
    segment_files,
    sim,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from forebay.journal import Block

DAY_S = 86_400
WEEK = Rules(7 * DAY_S * 10**9)


class KilledError(BaseException):
    """The process is gone in the middle of an operation."""


class MemoryLedger:
    """What was recorded, as a ledger on a disk of its own would have it."""

    def __init__(self) -> None:
        self.frames: dict[int, bytes] = {}
        self.losses: list[tuple[int, int]] = []
        self.ends: list[Position] = []
        self.error: Exception | None = None

    def reached(self) -> Position | None:
        return self.ends[-1] if self.ends else None

    def record(self, blocks: Iterable[Block], end: Position) -> None:
        taken = list(blocks)
        if self.error is not None:
            raise self.error
        assert max(block.next_seq for block in taken) == end.seq
        self.frames |= frames_of(taken)
        self.losses += losses_of(taken)
        self.ends.append(end)


class Rig:
    """A journal of small segments, a consumer and a housekeeper."""

    def __init__(self, rules: Rules = WEEK, *, frames: int = 100, seed: int = 0) -> None:
        self.disk = sim(seed)
        self.clock = ManualClock()
        self.ledger = MemoryLedger()
        self.told: list[TelemetryEvent] = []
        self.rules = rules
        self.cursors: list[Position] = []
        with self.writer() as writer:
            self.append(writer, frames)
        self.end = ensure_durable(FOLDER, self.clock, disk=self.disk)
        self.consumed(self.end.seq)
        self.keeper = self.open()

    def writer(self) -> JournalWriter:
        return open_writer(self.disk, segment_bytes=900, clock=self.clock)

    def append(self, writer: JournalWriter, frames: int) -> None:
        for first in range(writer.position.seq, writer.position.seq + frames, 4):
            payloads = numbered(first, 4, size=40).payloads
            made = draft(*payloads)
            made.mono_ns = [self.clock.monotonic_ns()] * 4
            writer.commit([made])

    def consumed(self, seq: int) -> None:
        self.cursors = [Position(self.end.log_id, seq)]

    def open(self) -> Housekeeper:
        return Housekeeper(
            FOLDER,
            clock=self.clock,
            cursors=lambda: self.cursors,
            ledger=self.ledger,
            rules=self.rules,
            disk=self.disk,
            observer=self.told.append,
            random_id=random_ids(7),
        )

    def steps(self, keeper: Housekeeper | None = None) -> list[str]:
        """Everything that is to be done, up to where nothing is."""
        done = []
        while (step := (keeper or self.keeper).step()) is not None:
            done.append(f"{step.action} {step.first_seq}")
            assert len(done) < 1000, "it never comes to rest"
        return done

    @property
    def firsts(self) -> list[int]:
        return list_segments(self.disk, FOLDER)

    @property
    def sealed(self) -> list[bool]:
        return [each.sealed for each in inspect(FOLDER, disk=self.disk)]

    @property
    def refusals(self) -> list[str]:
        return [each.action for each in self.told if isinstance(each, HousekeepingRefused)]


def test_each_segment_is_recorded_then_sealed_and_the_last_one_is_left() -> None:
    rig = Rig()
    firsts = rig.firsts
    assert len(firsts) > 8
    done = rig.steps()
    assert done == [f"record {n}" for n in firsts[:-1]] + [f"seal {n}" for n in firsts[:-1]]
    assert rig.sealed == [True] * (len(firsts) - 1) + [False]
    assert rig.told == []
    assert list(rig.ledger.frames) == list(range(1, firsts[-1]))
    assert [end.seq for end in rig.ledger.ends] == firsts[1:]
    assert list(frames_of(read_all(rig.disk))) == list(range(1, rig.end.seq))


def test_it_goes_no_further_than_the_slowest_consumer() -> None:
    rig = Rig()
    firsts = rig.firsts
    rig.consumed(firsts[2])
    assert rig.steps() == [f"{act} {n}" for act in ("record", "seal") for n in firsts[:2]]
    rig.cursors += [Position(rig.end.log_id, rig.end.seq)]
    assert rig.steps() == []
    rig.consumed(rig.end.seq)
    assert len(rig.steps()) == 2 * (len(firsts) - 3)


@pytest.mark.parametrize("cursors", [[], [Position("f" * 32, 10**6)]])
def test_without_a_cursor_of_this_log_nothing_is_touched(cursors: list[Position]) -> None:
    rig = Rig(Rules(0))
    rig.cursors = cursors
    assert rig.steps() == []
    assert rig.ledger.ends == []


def test_what_is_old_goes_and_what_is_younger_stays() -> None:
    rig = Rig()
    rig.steps()
    old = rig.firsts
    rig.clock.advance(5 * DAY_S)
    with rig.writer() as writer:
        rig.append(writer, 40)
        rig.consumed(writer.position.seq)
        rig.clock.advance(2 * DAY_S)
        done = rig.steps()
    # The segment that both days are in is as old as its latest frame.
    assert [each for each in done if each[:3] == "rem"] == [f"remove {n}" for n in old[:-1]]
    assert rig.firsts[0] == old[-1]
    assert not any(rig.sealed[-1:])
    assert [each.segment for each in rig.told if isinstance(each, SegmentRemoved)] == [
        f"{n:020d}.fbj" for n in old[:-1]
    ]


def test_a_cap_removes_the_oldest_until_it_fits() -> None:
    rig = Rig()
    sizes = [each.bytes for each in inspect(FOLDER, disk=rig.disk)]
    rig.rules = Rules(WEEK.retain_ns, sum(sizes[3:]))
    firsts = rig.firsts
    done = rig.steps(rig.open())
    assert done[:2] == [f"record {firsts[0]}", f"remove {firsts[0]}"]
    kept = sum(each.bytes for each in inspect(FOLDER, disk=rig.disk))
    assert kept <= rig.rules.cap_bytes  # type: ignore[operator]
    assert fsck(FOLDER, disk=rig.disk).ok


def test_kept_for_no_time_means_removed_as_soon_as_recorded_and_not_sealed() -> None:
    rig = Rig(Rules(0))
    firsts = rig.firsts
    done = rig.steps()
    assert done == [f"{act} {n}" for n in firsts[:-1] for act in ("record", "remove")]
    assert rig.firsts == firsts[-1:]
    assert list(rig.ledger.frames) == list(range(1, firsts[-1]))
    blocks = read_all(rig.disk, start=Position(rig.end.log_id, 1))
    assert losses_of(blocks) == [(1, firsts[-1] - 1)]
    assert list(frames_of(blocks)) == list(range(firsts[-1], rig.end.seq))
    assert losses_of(read_all(rig.disk)) == []


def test_nothing_goes_that_the_ledger_has_not() -> None:
    rig = Rig(Rules(0, 1))
    rig.ledger.error = Transient("The ledger's disk is full.", hint="Wait.")
    before = rig.firsts
    assert rig.steps() == []
    assert rig.firsts == before
    assert set(rig.refusals) == {"record"}
    rig.ledger.error = None
    assert rig.steps()
    assert rig.firsts == before[-1:]


def test_a_ledger_that_refuses_does_not_hold_up_what_it_has_already() -> None:
    rig = Rig()
    firsts = rig.firsts
    for _ in range(3):
        rig.keeper.step()
    rig.ledger.error = Corrupt("The ledger is damaged.", hint="Look at it.")
    assert rig.steps() == [f"seal {n}" for n in firsts[:3]]
    assert rig.refusals


def test_a_ledger_that_takes_nothing_is_not_asked_without_end() -> None:
    class Deaf(MemoryLedger):
        def record(self, blocks: Iterable[Block], end: Position) -> None:
            del blocks, end

    rig = Rig()
    rig.ledger = Deaf()
    assert rig.steps(rig.open()) == []
    assert rig.refusals == ["record"]


def test_a_ledger_may_record_more_than_one_segment_at_once() -> None:
    class Eager(MemoryLedger):
        def record(self, blocks: Iterable[Block], end: Position) -> None:
            super().record(blocks, end)
            self.ends.append(rig.end)

    rig = Rig()
    first, *others = rig.firsts[:-1]
    rig.ledger = Eager()
    assert rig.steps(rig.open()) == [f"record {first}", *(f"seal {n}" for n in (first, *others))]


def test_a_ledger_of_another_journal_records_nothing_of_this_one() -> None:
    class Foreign(MemoryLedger):
        def record(self, blocks: Iterable[Block], end: Position) -> None:
            del blocks, end

        def reached(self) -> Position:
            return Position("f" * 32, 10**6)

    rig = Rig(Rules(0))
    rig.ledger = Foreign()
    assert rig.steps(rig.open()) == []
    assert rig.refusals == ["record"]


def test_a_damaged_segment_is_recorded_with_its_loss_kept_raw_and_removed_in_its_turn() -> None:
    rig = Rig()
    firsts = rig.firsts
    rig.disk.flip(segment_files(rig.disk)[1], 8 * 300)
    done = rig.steps()
    assert done.count(f"record {firsts[1]}") == 1
    assert len(rig.ledger.losses) == 1
    assert rig.refusals == ["seal"], "told once"
    assert rig.sealed == [True, False, *[True] * (len(firsts) - 3), False]
    rig.clock.advance(7 * DAY_S)
    assert rig.steps() == [f"remove {n}" for n in firsts[:-1]]


def test_a_segment_without_a_readable_frame_is_as_old_as_the_one_behind_it() -> None:
    rig = Rig()
    path = segment_files(rig.disk)[0]
    overwrite(rig.disk, path, b"\0" * len(rig.disk.names[path].data))
    rig.steps()
    rig.clock.advance(7 * DAY_S - 1)
    assert rig.steps() == []
    rig.clock.advance(1)
    rig.steps()
    assert len(rig.firsts) == 1


@pytest.mark.parametrize(
    ("operation", "action"),
    [("rename", "seal"), ("fdatasync", "seal"), ("create", "seal"), ("unlink", "remove")],
)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_what_the_disk_refuses_is_told_and_done_later(
    operation: str, action: str, number: int
) -> None:
    rig = Rig()
    rig.keeper.step()
    rig.cursors = [Position(rig.end.log_id, rig.firsts[1])]
    if action == "remove":
        rig.clock.advance(7 * DAY_S)
        rig.ledger.ends = rig.cursors
        rig.keeper = rig.open_again() if hasattr(rig, "open_again") else rig.keeper
    rig.disk.fault = FailNext(operation, number, times=1)
    first = rig.keeper.step()
    assert rig.refusals == [action]
    rest = ([f"{first.action}"] if first else []) + [e.split()[0] for e in rig.steps()]
    assert action in rest
    assert fsck(FOLDER, disk=rig.disk).ok


def test_two_do_not_keep_one_house() -> None:
    rig = Rig()
    rig.keeper.step()
    with pytest.raises(Transient, match="Another process keeps house"):
        rig.open().step()
    rig.keeper.close()
    assert rig.open().step() is not None


def test_what_a_crash_left_is_removed() -> None:
    rig = Rig()
    left = FOLDER / ("c" * 32 + ".seal")
    rig.disk.close(rig.disk.open(left, create=True))
    rig.keeper.step()
    assert left not in rig.disk.names


def test_a_disk_that_refuses_a_look_is_told_by_an_error() -> None:
    rig = Rig()
    rig.disk.fault = FailNext("pread", errno.EACCES, times=1)
    with pytest.raises(Exception, match="keep house"):
        rig.keeper.step()
    assert rig.steps()


def test_a_journal_that_nobody_recovered_is_left_for_later() -> None:
    rig = Rig()
    forget_watermark(rig.disk)
    assert rig.steps() == []
    assert rig.refusals == ["record"]


def test_a_log_that_another_one_continues_is_recorded_up_to_where_that_begins() -> None:
    rig = Rig()
    ahead = Position(rig.end.log_id, rig.end.seq + 50)
    with open_writer(rig.disk, segment_bytes=900, clock=rig.clock, floor=[ahead]) as writer:
        rig.append(writer, 40)
        rig.end = writer.position
        rig.consumed(rig.end.seq)
        done = rig.steps()
    assert rig.ledger.ends[-1].log_id == rig.end.log_id != ahead.log_id
    assert [end.seq for end in rig.ledger.ends] == rig.firsts[1:]
    assert len(done) == 2 * (len(rig.firsts) - 1)
    assert rig.refusals == ["seal"], "frames are missing at the end of the log that broke off"
    assert rig.steps() == []


def test_readers_bear_what_is_removed_before_their_eyes() -> None:
    rig = Rig(Rules(0))
    firsts = rig.firsts
    for taken in (1, 9, 30):
        rig = Rig(Rules(0))
        with JournalReader(FOLDER, disk=rig.disk) as reader:
            blocks = reader.read(max_frames=taken)
            rig.steps()
            blocks += drain(reader)
        found, losses = frames_of(blocks), losses_of(blocks)
        assert len(losses) == 1
        first, last = losses[0]
        assert list(found) == [*range(1, first), *range(last + 1, rig.end.seq)]
        assert last == firsts[-1] - 1
        assert first > taken, "the segment that is open is read to its end"


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("rules", [WEEK, Rules(0)], ids=["seal", "remove"])
def test_a_crash_at_any_operation_loses_nothing_that_is_not_recorded(
    rules: Rules, power: bool
) -> None:
    number, crashed = 0, True
    while crashed:
        rig = Rig(rules, frames=24, seed=number)
        left = number

        def fault(_: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError

        rig.disk.fault = fault
        crashed = False
        try:
            rig.steps()
        except KilledError:
            crashed = True
        rig.disk.fault = lambda _: None
        if power:
            rig.disk.lose_power()
        else:
            rig.disk.kill()
        ensure_durable(FOLDER, rig.clock, disk=rig.disk)
        found = frames_of(read_all(rig.disk))
        assert list(found) == list(range(rig.firsts[0], rig.end.seq)), "no hole in the middle"
        assert {**rig.ledger.frames, **found}.keys() == set(range(1, rig.end.seq))
        assert fsck(FOLDER, disk=rig.disk).ok
        rig.steps(rig.open())
        assert (rig.firsts[0] == 1) == (rules is WEEK)
        assert all(rig.sealed[:-1])
        number += 1 + number // 40
    assert number > 40


@pytest.mark.parametrize("seed", range(8))
def test_what_is_removed_stays_removed_after_a_power_cut(seed: int) -> None:
    rig = Rig(Rules(0), seed=seed)
    firsts = rig.firsts
    assert [rig.keeper.step(), rig.keeper.step()][1] is not None
    assert rig.firsts == firsts[1:]
    rig.disk.lose_power()
    assert rig.firsts == firsts[1:]


def test_a_power_cut_after_a_failed_sync_of_the_folder_leaves_no_hole() -> None:
    """What is not surely gone is made so before the next one goes."""
    left = set()
    for seed in range(40):
        rig = Rig(seed=seed)
        first, second, third, *_ = rig.firsts
        rig.disk.fault = FailNext("fsync_dir", errno.EIO, times=1, skip=1)
        with pytest.raises(OSError, match="Input/output"):
            remove_segment(rig.disk, FOLDER, first)
        rig.disk.fault = die_after_unlink()
        with pytest.raises(KilledError):
            remove_segment(rig.disk, FOLDER, second)
        rig.disk.lose_power()
        assert rig.firsts[0] in {second, third}
        left.add(rig.firsts[0] == second)
    assert left == {True, False}


def die_after_unlink() -> Callable[[str], None]:
    before: list[str] = []

    def fault(operation: str) -> None:
        if before and before[-1] == "unlink":
            raise KilledError
        before.append(operation)

    return fault
