"""Channels that are polled: when, what an epoch is, and what a failure costs."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from forebay.clock import ManualClock
from forebay.domain.frames import EpochAccepted, EpochClosed, EpochOpened, StreamsEnded
from forebay.errors import ConfigError
from forebay.resilience import RetryConfig
from forebay.sources.live import LiveSource, Timings
from forebay.sources.polls import next_round
from forebay.sources.rest import RestPolicy
from forebay.sources.venue import Poll
from forebay.telemetry import PollFailed, StreamRefused
from tests.support.http_server import serving
from tests.support.live_source import UNPACED, live
from tests.support.sinks import RecordingSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay.telemetry import TelemetryEvent

MINUTE = 60_000_000_000
POLL = Poll(lambda asked: f"/bars/{asked.symbols[0]}?at={asked.now_ns}", every_s=60.0, after_s=2.0)
VENUE = replace(UNPACED, name="polled", polls={"bar": POLL})
SEVERAL = Poll(
    lambda asked: f"/bars/{','.join(asked.symbols)}?since={asked.since_ns}",
    60.0,
    2.0,
    at_once=3,
    following=lambda target, body: target + "&more" if body == b"more" else "",
)
ONCE = Timings(rest=RestPolicy(RetryConfig(attempts=1)))


@given(st.integers(0, 10**19))
def test_a_round_begins_shortly_behind_each_whole_period(now_ns: int) -> None:
    due = next_round(POLL, now_ns)
    assert now_ns < due <= now_ns + MINUTE
    assert due % MINUTE == 2_000_000_000


class Bars:
    """Answers polls; ``status`` by symbol, otherwise 200."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status: dict[str, int] = {}
        self.slow: set[str] = set()
        self.pages = 1
        """Of each answer."""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.raw_path)
        named = request.path.rpartition("/")[2]
        symbols = named.split(",")
        if not self.slow.isdisjoint(symbols):
            await asyncio.Event().wait()
        status = max(self.status.get(symbol, 200) for symbol in symbols)
        more = self.pages > request.raw_path.count("more") + 1
        return web.Response(status=status, text="more" if more else f"bar of {named}")


class Rig:
    def __init__(self, url: str, bars: Bars, *symbols: str, poll: Poll = POLL) -> None:
        self.bars = bars
        self.clock = ManualClock(wall_ns=100 * MINUTE + 30_000_000_000)
        self.sink = RecordingSink()
        self.said: list[TelemetryEvent] = []
        self.source = live(
            symbols,
            venue=replace(VENUE, polls={"bar": poll}),
            channels=("bar",),
            rest_url=url,
            clock=self.clock,
            observer=self.said.append,
            timings=ONCE,
        )

    async def round(self, number: int) -> None:
        """Wait until round ``number`` is over."""
        flushes = number * sum(len(polls.pollers) for polls in self.source._polls)
        async with asyncio.timeout(20):
            while len(self.sink.flushes) < flushes or not self.clock._sleepers:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)

    def controls(self, symbol: str = "") -> list[object]:
        return [
            each
            for epoch in self.sink.epochs
            if symbol in epoch.context.symbols or not symbol
            for each in epoch.controls
        ]


@contextlib.asynccontextmanager
async def running(*symbols: str, poll: Poll = POLL) -> AsyncIterator[Rig]:
    bars = Bars()
    async with serving(bars.answer) as url:
        rig = Rig(url, bars, *symbols, poll=poll)
        async with rig.source as source:
            task = asyncio.create_task(source.run(rig.sink))
            try:
                yield rig
            finally:
                task.cancel()
                await asyncio.wait({task})


async def test_every_symbol_is_asked_for_at_once_and_then_on_time() -> None:
    async with running("A", "B") as rig:
        await rig.round(1)
        rig.clock.advance(31.9)
        await asyncio.sleep(0)
        assert len(rig.bars.asked) == 2, "nobody is early"
        rig.clock.advance(0.1)
        await rig.round(2)
    moments = [100 * MINUTE + 30_000_000_000] * 2 + [101 * MINUTE + 2_000_000_000] * 2
    wanted = [f"/bars/{symbol}?at={at}" for symbol, at in zip("ABAB", moments, strict=True)]
    assert sorted(rig.bars.asked) == sorted(wanted)
    pages = [epoch for epoch in rig.sink.epochs if epoch.data]
    assert {page.context.request for page in pages} == {f"GET {path}" for path in wanted}
    for page in pages:
        context = page.context
        assert (context.source, context.purpose, context.channels) == ("rest", "live", ("bar",))
        assert context.symbols == (page.data[0][1].decode()[-1],)
    assert len({epoch.context.epoch for epoch in rig.sink.epochs}) == 2, "each has its own"
    for symbol in "AB":
        assert rig.controls(symbol) == [
            EpochOpened(),
            EpochAccepted((("bar", symbol),)),
            EpochClosed("stopped"),
        ]


async def test_an_answer_that_failed_ends_the_epoch_of_its_symbol_alone() -> None:
    async with running("A", "B") as rig:
        rig.bars.status["A"] = 503
        await rig.round(1)
        rig.clock.advance(32)
        await rig.round(2)
    assert [type(each) for each in rig.controls("B")] == [EpochOpened, EpochAccepted, EpochClosed]
    assert EpochAccepted((("bar", "A"),)) not in rig.controls()


async def test_a_symbol_that_is_not_answered_holds_nobody_up() -> None:
    answered = EpochAccepted((("bar", "B"),))
    async with running("A", "B") as rig:
        rig.bars.slow.add("A")
        async with asyncio.timeout(20):
            while answered not in rig.controls("B"):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
    assert [type(each) for each in rig.controls("A")] == [EpochOpened, EpochClosed]


async def test_an_answer_that_failed_ends_the_epoch_and_the_next_begins_another() -> None:
    async with running("A") as rig:
        await rig.round(1)
        rig.bars.status["A"] = 503
        rig.clock.advance(32)
        await rig.round(2)
        rig.bars.status.clear()
        rig.clock.advance(60)
        await rig.round(3)
    told = [each for each in rig.said if isinstance(each, PollFailed)]
    assert [(each.channel, each.symbol) for each in told] == [("bar", "A")]
    kinds = [type(each).__name__ for each in rig.controls()]
    assert kinds == ["EpochOpened", "EpochAccepted", "EpochClosed"] * 2
    assert len({epoch.context.epoch for epoch in rig.sink.epochs}) == 2


async def test_a_symbol_that_is_refused_is_asked_for_ever_more_seldom() -> None:
    async with running("A", "B") as rig:
        rig.bars.status["A"] = 403
        for number in range(1, 9):
            await rig.round(number)
            rig.clock.advance(60)
        assert EpochAccepted((("bar", "A"),)) not in rig.controls()
        rig.bars.status.clear()
        for number in range(9, 14):
            await rig.round(number)
            rig.clock.advance(60)
        rounds = [
            int(path.partition("=")[2]) // MINUTE for path in rig.bars.asked if path[6] == "A"
        ]
        asked = "".join(path[6] for path in rig.bars.asked)
    assert [number - 100 for number in rounds] == [0, 2, 5, 10, 11, 12], "ever more seldom"
    assert asked.count("B") == 13, "the others are not held up"
    told = [each for each in rig.said if isinstance(each, StreamRefused)]
    assert {(each.channel, each.symbol) for each in told} == {("bar", "A")}
    assert EpochAccepted((("bar", "A"),)) in rig.controls()
    assert [type(each) for each in rig.controls("B")].count(EpochClosed) == 1


async def test_rounds_that_were_slept_through_are_not_made_up() -> None:
    async with running("A") as rig:
        await rig.round(1)
        rig.clock.advance(3600)
        await rig.round(2)
        rig.clock.advance(60)
        await rig.round(3)
    assert len(rig.bars.asked) == 3


def test_a_channel_that_is_polled_is_no_part_of_a_connection() -> None:
    only, both = (
        live(["A"], venue=VENUE, channels=channels) for channels in (("bar",), ("trade", "bar"))
    )
    assert (only.connections, both.connections) == (1, 2)
    assert both._feeds.lots.lots[0].asked.channels == ("trade",)


def test_a_poll_needs_an_address() -> None:
    nowhere = replace(VENUE, rest_url="")
    source = live(["A"], venue=nowhere, channels=("trade",))
    with pytest.raises(ConfigError, match="Set rest_url"):
        LiveSource(nowhere, replace(source._asked, channels=("bar",)), source._wiring)


# ------------------------------------------------------------------- several symbols together


def paths(rig: Rig) -> list[str]:
    return [path.partition("?")[0].removeprefix("/bars/") for path in rig.bars.asked]


async def test_symbols_are_asked_for_together_and_since_the_last_answer() -> None:
    async with running(*"ABCD", poll=SEVERAL) as rig:
        await rig.round(1)
        rig.clock.advance(32)
        await rig.round(2)
        assert rig.source.connections == 2
    assert sorted(paths(rig)) == ["A,B,C", "A,B,C", "D", "D"]
    begun = 100 * MINUTE + 30_000_000_000
    since = {int(path.partition("=")[2]) for path in rig.bars.asked}
    assert since == {begun - MINUTE, begun}, "a period before, and when it was asked for last"
    together = EpochAccepted((("bar", "A"), ("bar", "B"), ("bar", "C")))
    assert rig.controls("A") == [EpochOpened(), together, EpochClosed("stopped")]


async def test_a_symbol_that_is_refused_is_found_among_others_and_costs_them_nothing() -> None:
    async with running(*"ABC", poll=SEVERAL) as rig:
        await rig.round(1)
        rig.bars.status["B"] = 404
        rig.clock.advance(32)
        await rig.round(2)
        rig.clock.advance(60)
        await rig.round(3)
        rig.bars.status.clear()
        rig.clock.advance(60)
        await rig.round(4)
        rig.clock.advance(60)
        await rig.round(5)
    assert paths(rig) == [
        *("A,B,C", "A,B,C", "A", "B,C", "B", "C", "A,C", "A,C", "B", "A,B,C"),
    ], "one that is given again is asked for with the others"
    assert rig.controls()[2:4] == [StreamsEnded((("bar", "B"),)), EpochAccepted((("bar", "B"),))]
    assert [type(each) for each in rig.controls()].count(EpochClosed) == 1
    told = [each for each in rig.said if isinstance(each, StreamRefused)]
    assert [each.symbol for each in told] == ["B"]


async def test_pages_are_followed_to_their_end_and_no_page_is_asked_for_twice() -> None:
    async with running("A", poll=SEVERAL) as rig:
        rig.bars.pages = 3
        async with asyncio.timeout(20):
            while EpochAccepted((("bar", "A"),)) not in rig.controls():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        assert [path.count("more") for path in rig.bars.asked] == [0, 1, 2]
        assert len(rig.sink.flushes) == 2, "each is captured before the next is asked for"
    around = replace(SEVERAL, following=lambda target, _: target)
    async with running("A", poll=around) as rig:
        await rig.round(1)
        assert len(rig.bars.asked) == 1
        assert [type(each) for each in rig.said if isinstance(each, PollFailed)] == [PollFailed]


async def test_what_is_wanted_changes_while_it_is_polled() -> None:
    async with running(*"ABCD", poll=SEVERAL) as rig:
        await rig.round(1)
        rig.source.want("ACEF")
        async with asyncio.timeout(20):
            while "E,F" not in paths(rig) or len(rig.sink.flushes) < 3:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        rig.bars.asked.clear()
        rig.clock.advance(32)
        async with asyncio.timeout(20):
            while len(rig.bars.asked) < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
    assert sorted(paths(rig)) == ["A,C", "E,F"]
    assert StreamsEnded((("bar", "B"),)) in rig.controls()
    assert rig.controls("D")[-1] == EpochClosed("stopped")


def test_a_kind_that_a_connection_brings_too_is_polled_only_if_that_is_asked_for() -> None:
    either = replace(VENUE, polls={"trade": replace(POLL, optional=True)})
    source = live(["A"], venue=either, channels=("trade",))
    assert not source._polls
    asked = replace(source._asked, polled=("trade",))
    polling = LiveSource(either, asked, source._wiring)
    assert len(polling._polls) == 1
    assert polling.connections == 1
