"""Group commit: order, durability, pressure, and a disk that is full for a while."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING, Self

import pytest
from msgspec.structs import replace

from forebay.clock import ManualClock, SystemClock
from forebay.domain.frames import (
    Context,
    EpochAccepted,
    EpochClosed,
    EpochOpened,
    FrameKind,
    StreamsEnded,
    decode_control,
)
from forebay.errors import Corrupt, JournalFull, Unreachable
from forebay.services.group_commit import FRAME_OVERHEAD, REST_TIMES, GroupCommit, GroupLimits
from forebay.telemetry import JournalFullBegan, JournalFullEnded
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.support.fake_journal import FakeJournal

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.clock import Clock
    from forebay.telemetry import TelemetryEvent

TEXT, BINARY, CONTROL = FrameKind.TEXT, FrameKind.BINARY, FrameKind.CONTROL
QUANTUM = 64 << 10
NEVER = GroupLimits(linger_s=1e6)


def context(epoch: str = "e1") -> Context:
    return Context(venue="v", source="ws", purpose="live", collector="c", epoch=epoch)


class Rig:
    def __init__(self, limits: GroupLimits | None = None, clock: Clock | None = None) -> None:
        self.journal = FakeJournal()
        self.said: list[TelemetryEvent] = []
        self.pressed: list[bool] = []
        self.clock = clock or SystemClock()
        self.group = GroupCommit(
            self.journal,
            clock=self.clock,
            rng=random.Random(1),
            limits=limits,
            observer=self.said.append,
        )
        self.group.on_pressure(self.pressed.append)

    async def __aenter__(self) -> Self:
        await self.group.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.journal.gate.set()
        await self.group.close()


async def until(condition: Callable[[], bool], clock: ManualClock | None = None) -> None:
    """Let everybody run until ``condition()``; a manual clock moves meanwhile."""
    async with asyncio.timeout(20):
        while not condition():
            if clock is not None:
                clock.advance(0.05)
            await asyncio.sleep(0)


@pytest.mark.parametrize(("frames", "silent_ns"), [(0, None), (2, 2_500_000_000)])
async def test_the_end_of_an_epoch_says_how_long_ago_its_last_frame_came(
    frames: int, silent_ns: int | None
) -> None:
    clock = ManualClock()
    async with Rig(clock=clock) as rig:
        take = rig.group.open(context())
        for _ in range(frames):
            clock.advance(1)
            take.frame(TEXT, b"frame")
        clock.advance(2)
        take.control(EpochAccepted())
        clock.advance(0.5)
        take.control(EpochClosed("gone"))
        await rig.group.flushed()
        last = decode_control(rig.journal.drafts[-1].payloads[-1])
    assert last == EpochClosed("gone", silent_ns=silent_ns)


async def test_frames_are_committed_in_order_with_their_context_kind_and_time() -> None:
    clock = ManualClock()
    async with Rig(clock=clock) as rig:
        take = rig.group.open(context())
        take.control(EpochOpened())
        for n in range(5):
            clock.advance(0.000_001)
            take.frame(TEXT, b"t%d" % n)
        take.frame(BINARY, b"b")
        take.frame(TEXT, b"t5")
        assert await rig.group.flushed() == 9
    drafts = rig.journal.drafts
    assert [draft.kind for draft in drafts] == [CONTROL, TEXT, BINARY, TEXT]
    assert [draft.context for draft in drafts] == [context().encode()] * 4
    assert rig.journal.payloads == [b"t0", b"t1", b"t2", b"t3", b"t4", b"b", b"t5"]
    assert drafts[1].mono_ns == [1000, 2000, 3000, 4000, 5000]
    assert decode_control(drafts[0].payloads[0]) == EpochOpened()
    assert all(draft.anchor is None for draft in drafts)
    assert all(len(draft.payloads) == len(draft.mono_ns) for draft in drafts)


async def test_a_context_that_is_renewed_is_carried_by_what_comes_from_then_on() -> None:
    clock, more = ManualClock(), replace(context(), symbols=("A-B", "C-D"))
    async with Rig(clock=clock) as rig:
        take = rig.group.open(context())
        take.control(EpochAccepted())
        take.frame(TEXT, b"before")
        clock.advance(2)
        take.renew(more)
        take.control(EpochAccepted((("trade", "C-D"),)))
        take.frame(TEXT, b"behind")
        clock.advance(1)
        take.control(StreamsEnded((("trade", "A-B"),)))
        await rig.group.flushed()
        take.control(EpochClosed("gone"))
    drafts = rig.journal.drafts
    assert [draft.context for draft in drafts[:2]] == [context().encode()] * 2
    assert {draft.context for draft in drafts[2:]} == {more.encode()}
    assert rig.journal.payloads == [b"before", b"behind"]
    ended = decode_control(drafts[4].payloads[0])
    assert ended == StreamsEnded((("trade", "A-B"),), silent_ns=1_000_000_000)
    assert rig.group.counters.subscribed == 0, "one connection, however often it was accepted"


async def test_a_commit_never_runs_in_the_loop_and_always_in_one_thread() -> None:
    async with Rig() as rig:
        take = rig.group.open(context())
        for n in range(20):
            take.frame(TEXT, b"%d" % n)
            await rig.group.flushed()
    assert len(rig.journal.threads) == 1
    assert threading.get_ident() not in rig.journal.threads


async def test_frames_gather_for_the_linger_time() -> None:
    clock = ManualClock()
    async with Rig(GroupLimits(linger_s=0.01), clock) as rig:
        take = rig.group.open(context())
        take.frame(TEXT, b"1")
        for _ in range(20):
            await asyncio.sleep(0)
        clock.advance(0.009)
        take.frame(TEXT, b"2")
        for _ in range(20):
            await asyncio.sleep(0)
        assert rig.journal.tries == 0
        clock.advance(0.001)
        await until(lambda: rig.group.counters.captured == 2)
        assert [draft.payloads for draft in rig.journal.drafts] == [[b"1", b"2"]]


async def test_what_gathered_during_a_commit_does_not_linger_again() -> None:
    clock = ManualClock()
    async with Rig(GroupLimits(linger_s=0.01 / REST_TIMES), clock) as rig:
        rig.journal.gate.clear()
        take = rig.group.open(context())
        take.frame(TEXT, b"1")
        await until(lambda: rig.journal.tries == 1, clock)
        take.frame(TEXT, b"2")
        clock.advance(0.004)
        take.frame(BINARY, b"3")
        clock.advance(0.004)
        slept = len(clock.slept)
        rig.journal.gate.set()
        await until(lambda: len(clock.slept) > slept)
        assert clock.slept[-1] == pytest.approx(0.002)
        rig.journal.gate.clear()
        clock.advance(0.002)
        await until(lambda: rig.journal.tries == 2)
        take.frame(TEXT, b"4")
        clock.advance(0.01)
        rig.journal.gate.set()
        slept = len(clock.slept)
        await until(lambda: rig.group.counters.captured == 4)
        assert len(clock.slept) == slept, "it has waited long enough"


@pytest.mark.parametrize(("rate", "least", "most"), [(200, 50, 75), (5000, 120, 200)])
def test_commits_a_second_at_rest_are_fewer_and_frames_wait_no_longer_than_promised(
    rate: int, least: int, most: int
) -> None:
    loop = VirtualLoop(random.Random(1))
    clock, seconds = VirtualClock(loop), 4

    async def traffic() -> tuple[int, float]:
        async with Rig(clock=clock) as rig:
            take = rig.group.open(context())
            for _ in range(rate * seconds):
                take.frame(TEXT, b"x")
                await clock.sleep(1 / rate)
            await rig.group.flushed()
            return rig.group.counters.commits, rig.group.latency.read().p50_ms

    commits, p50_ms = loop.run_until_complete(traffic())
    loop.close()
    assert least <= commits / seconds <= most
    assert p50_ms <= 15, "a draw of the loop is slow now and then"


async def test_a_big_group_does_not_linger() -> None:
    async with Rig(GroupLimits(linger_s=1e6, group_bytes=1 << 20)) as rig:
        take = rig.group.open(context())
        size = 1000
        few = (1 << 20) // (size + FRAME_OVERHEAD) - 100
        for _ in range(few):
            take.frame(TEXT, b"x" * size)
        for _ in range(50):
            await asyncio.sleep(0)
        assert rig.journal.tries == 0
        for _ in range(200):
            take.frame(TEXT, b"x" * size)
        await until(lambda: rig.group.counters.captured == few + 200)
        assert rig.group.counters.commits == 1


async def test_frames_of_a_commit_in_flight_form_the_next_group() -> None:
    async with Rig() as rig:
        rig.journal.gate.clear()
        take = rig.group.open(context())
        take.frame(TEXT, b"first")
        await until(lambda: rig.journal.tries == 1)
        for n in range(100):
            take.frame(TEXT, b"%d" % n)
            await asyncio.sleep(0)
        assert rig.group.received == 101
        assert rig.group.counters.captured == 0
        rig.journal.gate.set()
        assert await rig.group.flushed() == 102
        assert [len(group[0].payloads) for group in rig.journal.groups] == [1, 100]


async def test_flushed_waits_for_what_was_taken_and_for_no_more() -> None:
    async with Rig(NEVER) as rig:
        take = rig.group.open(context())
        assert await rig.group.flushed() == 1, "nothing taken: nothing to wait for"
        rig.journal.gate.clear()
        take.frame(TEXT, b"1")
        first = asyncio.create_task(rig.group.flushed())
        await until(lambda: rig.journal.tries == 1)
        in_flight = asyncio.create_task(rig.group.flushed())
        await asyncio.sleep(0)
        take.frame(TEXT, b"2")
        assert not first.done()
        assert not in_flight.done()
        rig.journal.gate.set()
        assert await first == 2
        assert await in_flight == 2
        assert rig.group.counters.captured == 1
        assert await rig.group.flushed() == 3


async def test_a_cancelled_flush_disturbs_nobody() -> None:
    async with Rig(NEVER) as rig:
        rig.journal.gate.clear()
        take = rig.group.open(context())
        take.frame(TEXT, b"1")
        one, two = (asyncio.create_task(rig.group.flushed()) for _ in range(2))
        await until(lambda: rig.journal.tries == 1)
        one.cancel()
        await asyncio.wait({one})
        rig.journal.gate.set()
        assert await two == 2


async def test_pressure_begins_above_the_limit_and_ends_below_half() -> None:
    limit = 10 * QUANTUM
    async with Rig(GroupLimits(linger_s=1e6, group_bytes=limit // 2, max_pending=limit)) as rig:
        rig.journal.gate.clear()
        take = rig.group.open(context())
        taken = 0
        while not rig.pressed:
            take.frame(TEXT, b"x" * 904)
            taken += 904 + FRAME_OVERHEAD
            assert taken <= limit + 1000, "memory is not bounded"
            await asyncio.sleep(0)
        assert taken > limit
        assert rig.pressed == [True]
        assert rig.group.pending_bytes == taken
        late: list[bool] = []
        unsubscribe = rig.group.on_pressure(late.append)
        assert late == [True], "who comes later must know at once"
        unsubscribe()
        rig.journal.gate.set()
        await rig.group.flushed()
        assert rig.pressed == [True, False]
        assert late == [True]
        assert rig.group.pending_bytes == 0


async def test_a_full_journal_loses_nothing_and_keeps_the_order() -> None:
    clock = ManualClock()
    async with Rig(clock=clock) as rig:
        one, two = rig.group.open(context("e1")), rig.group.open(context("e2"))
        rig.journal.errors = [JournalFull("No space.") for _ in range(7)]
        sent: dict[bytes, list[bytes]] = {b"e1": [], b"e2": []}
        for n in range(300):
            for name, take in ((b"e1", one), (b"e2", two)):
                payload = b"%b %d" % (name, n)
                take.frame(TEXT if n % 7 else BINARY, payload)
                sent[name].append(payload)
            clock.advance(0.01)
            await asyncio.sleep(0)
        await until(lambda: rig.journal.tries >= 3, clock)
        states = [rig.group.full]
        assert rig.pressed == [True]
        assert rig.group.counters.captured == 0
        flush = asyncio.create_task(rig.group.flushed())
        await until(flush.done, clock)
        assert [*states, rig.group.full] == [True, False]
        assert rig.pressed == [True, False]
        assert rig.group.counters.captured == rig.group.received == 600
    for name, payloads in sent.items():
        assert [p for p in rig.journal.payloads if p.startswith(name)] == payloads
    began, ended = rig.said
    assert isinstance(began, JournalFullBegan)
    assert "No space." in began.reason
    assert isinstance(ended, JournalFullEnded)
    assert ended.lasted_s > 0


async def test_any_transient_failure_of_the_journal_is_waited_for() -> None:
    clock = ManualClock()
    async with Rig(clock=clock) as rig:
        rig.journal.errors = [Unreachable("The disk is away.")]
        rig.group.open(context()).frame(TEXT, b"1")
        await until(lambda: rig.group.counters.captured == 1, clock)
    assert rig.journal.payloads == [b"1"]


@pytest.mark.parametrize("error", [Corrupt("Bad disk."), OSError(5, "I/O error")])
async def test_a_journal_beyond_waiting_says_so_to_everybody(error: Exception) -> None:
    rig = Rig()
    rig.group.start()
    rig.journal.errors = [error]
    rig.group.open(context()).frame(TEXT, b"1")
    with pytest.raises(type(error)):
        await rig.group.flushed()
    assert rig.group.broken.is_set()
    assert rig.group.error is error
    assert rig.pressed == [True]
    with pytest.raises(type(error)):
        await rig.group.flushed()
    await rig.group.close()


async def test_close_captures_what_was_taken() -> None:
    rig = Rig(NEVER)
    rig.group.start()
    take = rig.group.open(context())
    take.frame(TEXT, b"1")
    await asyncio.sleep(0)
    take.frame(TEXT, b"2")
    await rig.group.close()
    assert rig.journal.payloads == [b"1", b"2"]
    empty = Rig()
    empty.group.start()
    await empty.group.close()
    assert empty.journal.groups == []


async def test_what_comes_while_closing_is_captured_too() -> None:
    rig = Rig(NEVER)
    rig.group.start()
    rig.journal.gate.clear()
    take = rig.group.open(context())
    take.frame(TEXT, b"1")
    closing = asyncio.create_task(rig.group.close())
    await until(lambda: rig.journal.tries == 1)
    take.frame(TEXT, b"2")
    rig.journal.gate.set()
    await closing
    assert rig.journal.payloads == [b"1", b"2"]


async def test_close_can_be_given_up_while_the_journal_stays_full() -> None:
    rig = Rig(clock=ManualClock())
    rig.group.start()
    rig.journal.errors = [JournalFull("No space.") for _ in range(100)]
    rig.group.open(context()).frame(TEXT, b"1")
    closing = asyncio.create_task(rig.group.close())
    await until(lambda: rig.journal.tries == 1)
    closing.cancel()
    await asyncio.wait({closing})
    assert closing.cancelled()
    assert rig.group.counters.captured == 0


async def test_counters_follow_the_epochs() -> None:
    async with Rig() as rig:
        take = rig.group.open(context())
        counters = rig.group.counters
        take.control(EpochOpened())
        assert (counters.opened, counters.subscribed, counters.closed) == (1, 0, 0)
        take.control(EpochAccepted())
        take.control(EpochAccepted())
        assert counters.subscribed == 1
        take.control(EpochClosed("over"))
        assert (counters.subscribed, counters.closed) == (0, 1)
        other = rig.group.open(context("e2"))
        other.control(EpochOpened())
        other.control(EpochClosed("never accepted"))
        assert counters.subscribed == 0
        take.frame(TEXT, b"abc")
        take.frame(TEXT, b"")
        before = sum(len(p) for d in rig.group._drafts for p in d.payloads)
        await rig.group.flushed()
        assert counters.bytes == before
        assert counters.received == counters.captured == rig.group.received == 8


async def test_latency_is_from_receipt_to_captured() -> None:
    clock = ManualClock()
    async with Rig(GroupLimits(linger_s=0.01), clock) as rig:
        rig.journal.gate.clear()
        rig.group.open(context()).frame(TEXT, b"1")
        for _ in range(10):
            await asyncio.sleep(0)
        clock.advance(0.01)
        await until(lambda: rig.journal.tries == 1)
        clock.advance(0.02)
        rig.journal.gate.set()
        await rig.group.flushed()
        latency = rig.group.latency.read(reset=True)
        assert (latency.count, latency.max_ms) == (1, 30.0)
        assert rig.group.latency.read().count == 0


@pytest.mark.parametrize("seed", range(5))
async def test_random_traffic_is_captured_once_in_each_epochs_order(seed: int) -> None:
    rng = random.Random(seed)
    async with Rig(GroupLimits(linger_s=0.0, group_bytes=QUANTUM, max_pending=4 * QUANTUM)) as rig:
        sent: dict[str, list[tuple[int, bytes]]] = {}
        for n in range(3000):
            epoch = f"e{rng.randrange(4)}"
            if epoch not in sent:
                sent[epoch] = []
            take = rig.group.open(context(epoch)) if n % 50 == 0 else None
            if take is not None:
                for m in range(rng.randrange(40)):
                    kind = rng.choice([TEXT, TEXT, TEXT, BINARY])
                    payload = b"%d %d " % (n, m) + b"x" * rng.randrange(300)
                    take.frame(kind, payload)
                    sent[epoch].append((kind, payload))
            if rng.random() < 0.02:
                rig.journal.errors = [JournalFull("No space.")]
            await asyncio.sleep(0)
        await rig.group.flushed()
    got: dict[str, list[tuple[int, bytes]]] = {epoch: [] for epoch in sent}
    for draft in rig.journal.drafts:
        name = Context.decode(draft.context).epoch
        got[name].extend((draft.kind, payload) for payload in draft.payloads)
    assert got == sent


async def test_frames_read_together_keep_their_order_and_share_their_time() -> None:
    clock = ManualClock()
    async with Rig(clock=clock) as rig:
        take = rig.group.open(context())
        take.frame(TEXT, b"0")
        clock.advance(0.000_001)
        take.batch(TEXT, [b"1", b"2", b"3"])
        clock.advance(0.000_001)
        take.batch(BINARY, (b"4", b"5"))
        take.batch(TEXT, [])
        take.frame(TEXT, b"6")
        assert rig.group.received == 7
        assert await rig.group.flushed() == 8
    assert rig.journal.payloads == [b"%d" % n for n in range(7)]
    drafts = rig.journal.drafts
    assert [draft.kind for draft in drafts] == [TEXT, BINARY, TEXT]
    assert [draft.mono_ns for draft in drafts] == [[0, 1000, 1000, 1000], [2000, 2000], [2000]]


async def test_every_byte_counts_at_once_for_both_limits() -> None:
    size = 1000 + FRAME_OVERHEAD
    limits = GroupLimits(linger_s=1e6, group_bytes=1 << 30, max_pending=10 * size)
    async with Rig(limits) as rig:
        rig.journal.gate.clear()
        take = rig.group.open(context())
        take.batch(TEXT, [b"x" * 1000] * 10)
        assert rig.pressed == []
        assert rig.group.pending_bytes == 10 * size
        take.frame(TEXT, b"")
        assert rig.pressed == [True]


async def test_small_frames_of_many_epochs_are_counted_too() -> None:
    async with Rig(GroupLimits(linger_s=1e6, group_bytes=1 << 30, max_pending=1 << 20)) as rig:
        rig.journal.gate.clear()
        takes = [rig.group.open(context(f"e{n}")) for n in range(10)]
        taken = 0
        while not rig.pressed:
            for take in takes:
                take.frame(TEXT, b"x")
                taken += 1 + FRAME_OVERHEAD
        assert taken <= (1 << 20) + len(takes) * (1 + FRAME_OVERHEAD)
        assert rig.group.pending_bytes == taken
