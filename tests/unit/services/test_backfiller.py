"""The filler's loop: it fills, it survives, it stops."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Self

import pytest

from forebay.clock import ManualClock
from forebay.errors import Permanent, Transient, Unusable
from forebay.ports import FrameSink, HistoryRequest, Instrument
from forebay.resilience import CircuitOpen
from forebay.services.backfiller import LONGEST_WAIT_S, Backfiller, BackfillPlanner
from forebay.telemetry import (
    FillDone,
    FillFailed,
    FillStarted,
    GapsUnknown,
    WorkResumed,
    WorkShed,
)
from tests.support.sinks import RecordingSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.telemetry import TelemetryEvent


def gap(first: int, last: int) -> HistoryRequest:
    return HistoryRequest("trade", "BTC-USD", first, last)


class FakeSource:
    """A source whose fills wait for the test."""

    def __init__(self) -> None:
        self.asked: list[HistoryRequest] = []
        self.running = 0
        self.most_running = 0
        self.answers: asyncio.Queue[Exception | None] = asyncio.Queue()

    connections = 0

    async def run(self, sink: FrameSink) -> None:
        raise AssertionError(sink)

    async def instruments(self) -> Sequence[Instrument]:
        raise AssertionError

    async def probe(self) -> None:
        raise AssertionError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        del sink
        self.asked.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            answer = await self.answers.get()
        finally:
            self.running -= 1
        if answer is not None:
            raise answer


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.source = FakeSource()
        self.gaps: list[HistoryRequest] | Exception = []
        self.cursor = 0
        self.polls = 0
        self.trouble = ""
        self.said: list[TelemetryEvent] = []
        self.filler = Backfiller(
            self.source,
            RecordingSink(),
            self.open_gaps,
            planner=BackfillPlanner(random.Random(1), settle_s=0),
            clock=self.clock,
            observer=self.said.append,
            sheds=lambda: self.trouble,
        )

    async def open_gaps(self) -> tuple[list[HistoryRequest], int]:
        self.polls += 1
        if isinstance(self.gaps, Exception):
            raise self.gaps
        return self.gaps, self.cursor

    async def __aenter__(self) -> Self:
        self.before = asyncio.all_tasks()
        self.task = asyncio.create_task(self.filler.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        assert self.source.running == 0, "a fill outlived the filler"
        assert asyncio.all_tasks() - self.before == set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.clock.advance(0.1)
                await asyncio.sleep(0)

    def heard(self, kind: type[TelemetryEvent]) -> list[TelemetryEvent]:
        return [event for event in self.said if isinstance(event, kind)]


async def test_a_gap_is_filled_once_until_deliver_has_read_the_answers() -> None:
    async with Rig() as rig:
        rig.gaps = [gap(5, 9)]
        await rig.until(lambda: len(rig.source.asked) == 1)
        rig.source.answers.put_nowait(None)
        await rig.until(lambda: bool(rig.heard(FillDone)))
        polls = rig.polls
        await rig.until(lambda: rig.polls > polls + 100)
        assert rig.source.asked == [gap(5, 9)], "asked again without evidence"
        rig.cursor = 1
        await rig.until(lambda: len(rig.source.asked) == 2)
        assert rig.heard(FillStarted) == [FillStarted("trade", "BTC-USD", 5, 9)] * 2
        assert rig.heard(FillDone) == [FillDone("trade", "BTC-USD", 5, 9, 1)]


@pytest.mark.parametrize("error", [Transient("Away."), Permanent("HTTP 404.")])
async def test_a_failed_fill_is_told_and_tried_again(error: Exception) -> None:
    async with Rig() as rig:
        rig.gaps = [gap(5, 9)]
        for tries in range(1, 6):
            await rig.until(lambda tries=tries: len(rig.source.asked) == tries)  # type: ignore[misc]
            rig.source.answers.put_nowait(error)
        await rig.until(lambda: len(rig.heard(FillFailed)) == 5)
        assert str(error) in rig.heard(FillFailed)[0].reason  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [Permanent("HTTP 404."), Unusable("A row has no id.")])
async def test_a_gap_whose_history_refuses_it_is_asked_for_ever_more_seldom(
    error: Exception,
) -> None:
    async with Rig() as rig:
        rig.gaps = [gap(5, 9)]
        for tries in range(1, 11):
            await rig.until(lambda tries=tries: len(rig.source.asked) == tries)  # type: ignore[misc]
            rig.source.answers.put_nowait(error)
        await rig.until(lambda: len(rig.heard(FillFailed)) == 10)
    delays = [each.delay_s for each in rig.heard(FillFailed)]  # type: ignore[attr-defined]
    assert delays == sorted(delays)
    assert delays[-1] > 100


async def test_deliver_being_away_is_waited_for() -> None:
    async with Rig() as rig:
        rig.gaps = Transient("Deliver does not answer.")
        await rig.until(lambda: rig.polls == 5)
        assert len(rig.heard(GapsUnknown)) == 1, "it is said once"
        rig.gaps = [gap(1, 1)]
        await rig.until(lambda: rig.source.asked == [gap(1, 1)])
        rig.gaps = Transient("Deliver does not answer.")
        await rig.until(lambda: len(rig.heard(GapsUnknown)) == 2)


async def test_only_so_many_fills_run_and_the_next_begins_when_one_ends() -> None:
    async with Rig() as rig:
        gaps = [gap(n * 10_000, n * 10_000) for n in range(6)]
        rig.gaps = list(gaps)
        for ended in range(5):
            await rig.until(lambda ended=ended: len(rig.source.asked) == 2 + min(ended, 4))  # type: ignore[misc]
            rig.gaps.pop(0)
            rig.source.answers.put_nowait(None)
            await rig.until(lambda ended=ended: len(rig.heard(FillDone)) == ended + 1)  # type: ignore[misc]
        assert rig.source.asked == gaps
        assert rig.source.most_running == 2


async def test_a_poll_comes_early_when_a_fill_has_ended() -> None:
    async with Rig() as rig:
        rig.gaps = [gap(1, 1)]
        await rig.until(lambda: rig.source.running == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        polls = rig.polls
        rig.source.answers.put_nowait(None)
        for _ in range(20):
            await asyncio.sleep(0)  # the clock stands still
        assert rig.polls == polls + 1


async def test_an_error_of_ours_ends_the_filler_and_its_fills() -> None:
    rig = Rig()
    rig.gaps = [gap(1, 1), gap(90_000, 90_000)]
    task = asyncio.create_task(rig.filler.run())
    await rig.until(lambda: rig.source.running == 2)
    rig.source.answers.put_nowait(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await task
    assert rig.source.running == 0


# ------------------------------------------------------ a venue that is down, a system in trouble


async def test_a_breaker_that_is_open_is_waited_for_and_no_other_gap_is_tried() -> None:
    async with Rig() as rig:
        rig.gaps = [gap(n * 10_000, n * 10_000) for n in range(50)]
        rig.source.answers.put_nowait(CircuitOpen("coinbase-rest", 60.0, "Unreachable"))
        rig.source.answers.put_nowait(CircuitOpen("coinbase-rest", 59.0, "Unreachable"))
        await rig.until(lambda: len(rig.heard(FillFailed)) == 2)
        began, polls, asked = rig.clock.monotonic_ns(), rig.polls, len(rig.source.asked)
        await rig.until(lambda: len(rig.source.asked) > asked)
        assert asked == 2
        assert 59.8 <= (rig.clock.monotonic_ns() - began) / 1e9 < 62
        assert rig.polls == polls + 1, "deliver was asked although nothing could be done"
        told = rig.heard(FillFailed)[0]
        assert told.delay_s == 60.0  # type: ignore[attr-defined]
        assert "is not called for another 60.0 s" in told.reason  # type: ignore[attr-defined]


async def test_a_wait_that_a_venue_asks_for_is_bounded() -> None:
    async with Rig() as rig:
        rig.gaps = [gap(1, 1)]
        rig.source.answers.put_nowait(CircuitOpen("coinbase-rest", 1e9, ""))
        await rig.until(lambda: bool(rig.heard(FillFailed)))
        rig.clock.advance(LONGEST_WAIT_S)
        await rig.until(lambda: len(rig.source.asked) == 2)


async def test_a_failure_that_says_nothing_of_when_stops_only_its_own_gap() -> None:
    async with Rig() as rig:
        rig.gaps = [gap(1, 1), gap(90_000, 90_000), gap(190_000, 190_000)]
        rig.source.answers.put_nowait(CircuitOpen("coinbase-rest", None, ""))
        await rig.until(lambda: len(rig.source.asked) == 3)
        assert (rig.clock.monotonic_ns()) / 1e9 < 2


async def test_in_trouble_no_fill_begins_those_under_way_go_on_and_both_are_told_once() -> None:
    async with Rig() as rig:
        rig.gaps = [gap(1, 1)]
        await rig.until(lambda: rig.source.running == 1)
        rig.trouble = "critical"
        rig.gaps = [gap(1, 1), gap(90_000, 90_000)]
        await rig.until(lambda: bool(rig.heard(WorkShed)))
        rig.trouble = "emergency"
        rig.source.answers.put_nowait(None)
        await rig.until(lambda: bool(rig.heard(FillDone)))
        ends = rig.clock.monotonic_ns() + 120 * 10**9
        await rig.until(lambda: rig.clock.monotonic_ns() >= ends)
        assert rig.source.asked == [gap(1, 1)]
        assert rig.heard(WorkShed) == [WorkShed("gap fills", "critical")]
        assert rig.heard(WorkResumed) == []
        rig.trouble = ""
        await rig.until(lambda: len(rig.source.asked) == 2)
        assert rig.heard(WorkResumed) == [WorkResumed("gap fills")]
