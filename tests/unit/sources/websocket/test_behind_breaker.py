"""Feeds behind the breaker of their venue, over real sockets and a clock that the test moves."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.resilience import CircuitBreaker, State, presets
from forebay.sources.websocket import ConnectionPlan, Timeouts, WebSocketFeed
from forebay.sources.websocket.feed import QUICK, SHORT_LIVED_CAP_S
from forebay.telemetry import BreakerMoved, ConnectionFailed, ReconnectScheduled, TelemetryEvent
from tests.support.feed_rig import ASKED, Rig, YesOrNo, running, sends
from tests.support.sinks import RecordingSink
from tests.support.ws_server import TEXT, Peer, WsServer, encode, http

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER_LATE = {"connect_s": 1e6, "accept_s": 1e6, "stale_s": 1e6}
PATIENCE = Timeouts(**NEVER_LATE)
TICKING = Timeouts(connect_s=1e6, accept_s=6, stale_s=1e6)
"""Connections are looked at each second and a half, so that a life of 10 s is noticed."""
STEPS = 40
"""Turns of the loop for each move of the clock: an upgrade takes about ten."""
DATA = encode(TEXT, b"data")
BUSY = http("503 Service Unavailable")


async def until(condition: Callable[[], bool], clock: ManualClock, step: float = 0.25) -> float:
    """Move the clock until ``condition``; answer the seconds that took."""
    began = clock.monotonic_ns()
    async with asyncio.timeout(30):
        while not condition():
            clock.advance(step)
            for _ in range(STEPS):
                await asyncio.sleep(0)
    return (clock.monotonic_ns() - began) / 1e9


def moves(rig: Rig) -> list[str]:
    return [said.now for said in rig.said if isinstance(said, BreakerMoved)]


def delays(rig: Rig) -> list[float]:
    return [said.delay_s for said in rig.said if isinstance(said, ReconnectScheduled)]


async def test_refused_upgrades_trip_it_and_it_closes_without_a_person() -> None:
    clock = ManualClock()
    async with running(
        sends(DATA),
        lambda request: BUSY if request <= 3 else None,
        clock=clock,
        timeouts=TICKING,
        breaker=presets.WEBSOCKET,
    ) as (rig, server):
        await until(lambda: rig.breaker.state is State.OPEN, clock)
        assert server.requests == 3
        await until(lambda: len(delays(rig)) == 4, clock)
        assert 26 < delays(rig)[3] < 33.1, "the wait is the breaker's"
        await until(lambda: server.requests == 4, clock)
        await rig.sink.until(lambda: len(rig.sink.first) == 2)  # real sockets, whatever our clock
        took = await until(lambda: rig.breaker.state is State.CLOSED, clock)
        assert server.requests == 4, "more than the probe was let through"
        assert 10 <= took < 10 + 2 * TICKING.tick_s + 1, "two successes, 10 s of life apart"
        assert len(rig.sink.epochs) == 1
        assert rig.sink.epochs[0].reason is None, "the probe's connection lives on"
    assert moves(rig) == ["open", "half_open", "closed"]


@pytest.mark.parametrize("ends", ["unaccepted", "accepted", "refused"])
async def test_connections_that_end_before_they_settle_trip_it(ends: str) -> None:
    async def script(peer: Peer) -> None:
        if ends != "unaccepted":
            await peer.text(b"yes" if ends == "accepted" else b"no")
        peer.writer.close()

    clock = ManualClock()
    async with running(script, clock=clock, timeouts=PATIENCE, breaker=presets.WEBSOCKET) as (
        rig,
        server,
    ):
        await until(lambda: rig.breaker.state is State.OPEN, clock)
        assert server.requests == 3
        assert rig.breaker.snapshot().cause == "Unsettled"


async def test_half_open_sockets_that_never_speak_trip_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    clock = ManualClock()
    timeouts = Timeouts(connect_s=1e6)
    async with running(script, clock=clock, timeouts=timeouts, breaker=presets.WEBSOCKET) as (
        rig,
        server,
    ):
        await until(lambda: rig.breaker.state is State.OPEN, clock)
        assert server.requests == 3


async def test_connections_that_gave_data_may_end_as_often_as_they_like() -> None:
    async def script(peer: Peer) -> None:
        await peer.text(b"yes")
        await peer.text(b"data")
        peer.writer.close()

    clock = ManualClock()
    clock.advance(1000.0)  # a life is counted from its own beginning
    async with running(script, clock=clock, timeouts=PATIENCE, breaker=presets.WEBSOCKET) as (
        rig,
        server,
    ):
        await until(lambda: server.requests >= 20, clock)
        assert rig.breaker.state is State.CLOSED
        assert rig.breaker.snapshot().failed == 0
        waits = delays(rig)
        assert max(waits[:QUICK]) <= PATIENCE.backoff_base_s, "a drop is followed by little waiting"
        assert PATIENCE.backoff_base_s * 2 < max(waits) <= SHORT_LIVED_CAP_S, (
            "a row of them by more"
        )


class Longest(random.Random):
    """Dice that always show the most."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


NOWHERE = ConnectionPlan("v", "c", "ws://127.0.0.1:9", ASKED, YesOrNo)


async def test_a_connection_that_lived_ends_the_row_of_those_that_did_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, waits = ManualClock(), list[float]()
    lives = [1.0] * (QUICK + 2) + [PATIENCE.settle_s, 1.0]

    def told(said: TelemetryEvent) -> None:
        waits.append(getattr(said, "delay_s"))  # noqa: B009 - of whatever is told here

    feed = WebSocketFeed(
        NOWHERE,
        clock=clock,
        rng=Longest(),
        timeouts=PATIENCE,
        breaker=CircuitBreaker("testex", clock=clock),
        observer=told,
    )

    async def attempt(*_: object) -> float:
        if not lives:
            raise asyncio.CancelledError
        return lives.pop(0)

    monkeypatch.setattr(feed, "_attempt", attempt)
    running = asyncio.create_task(feed.run(RecordingSink()))
    await until(running.done, clock)
    base = PATIENCE.backoff_base_s
    assert waits == [*[base] * QUICK, 2 * base, 4 * base, base, base]


def test_the_pause_after_short_lives_grows_to_a_cap() -> None:
    feed = WebSocketFeed(
        NOWHERE,
        clock=ManualClock(),
        rng=random.Random(1),
        timeouts=PATIENCE,
        breaker=CircuitBreaker("testex"),
    )
    longest = [feed._longest_pause_s(short) for short in range(QUICK + 8)]
    assert longest[: QUICK + 1] == [PATIENCE.backoff_base_s] * (QUICK + 1)
    assert longest == sorted(longest)
    assert longest[-1] == SHORT_LIVED_CAP_S


async def test_a_stop_at_any_moment_gives_the_probe_back_and_says_nothing() -> None:
    """Each run is cancelled one step of the loop later than the one before."""
    reached = 0
    for steps in range(60):
        async with running(sends(DATA), breaker=presets.WEBSOCKET) as (rig, _):
            for _ in range(3):
                rig.breaker.acquire().failure(OSError())
            rig.breaker.force_half_open("now")
            for _ in range(steps):
                await asyncio.sleep(0)
            failed = 3 + len(rig.heard(ConnectionFailed))  # of whatever was not the stop
        seen = rig.breaker.snapshot()
        assert (seen.probes, seen.failed) == (0, failed), f"after {steps} steps"
        reached += seen.neutral
    assert reached > 0, "no run was cancelled on trial"


async def test_a_pause_of_our_own_does_not_count_against_the_venue() -> None:
    async def script(peer: Peer) -> None:
        await peer.text(b"yes")
        await peer.gone()

    clock = ManualClock()
    timeouts = Timeouts(connect_s=1e6, accept_s=1e6, stale_s=4, settle_s=1e6)
    async with running(script, clock=clock, timeouts=timeouts, breaker=presets.WEBSOCKET) as (
        rig,
        _,
    ):
        for epochs in range(1, 6):
            await until(lambda n=epochs: len(rig.sink.epochs) == n, clock, 0.1)  # type: ignore[misc]
            await until(lambda: bool(rig.sink.epochs[-1].data), clock, 0.001)
            rig.sink.press(True)
            await until(lambda: rig.sink.epochs[-1].reason is not None, clock)
            assert str(rig.sink.epochs[-1].reason).startswith("paused")
            rig.sink.press(False)
        assert rig.breaker.snapshot().failed == 0


async def test_the_breakers_time_out_shortens_the_wait_for_an_upgrade() -> None:
    clock = ManualClock()
    config = replace(presets.WEBSOCKET, timeout=2.0)
    async with running(sends(), lambda _: b"", clock=clock, timeouts=PATIENCE, breaker=config) as (
        rig,
        server,
    ):
        await until(lambda: server.requests == 1, clock, 0.001)
        took = await until(lambda: rig.breaker.snapshot().failed == 1, clock, 0.1)
        assert 1.5 < took < 3


class Fleet:
    """Feeds of one venue that share its breaker."""

    def __init__(self, url: str, size: int) -> None:
        self.clock = ManualClock()
        first = Rig(url, clock=self.clock, timeouts=PATIENCE, breaker=presets.WEBSOCKET)
        self.breaker = first.breaker
        self.sinks = [RecordingSink() for _ in range(size)]
        plan = ConnectionPlan("testex", "c1", url, ASKED, YesOrNo)
        self.feeds = [
            WebSocketFeed(
                plan,
                clock=self.clock,
                rng=random.Random(number),
                timeouts=TICKING,
                breaker=self.breaker,
            )
            for number in range(size)
        ]

    @property
    def connected(self) -> int:
        return sum(bool(sink.epochs) for sink in self.sinks)


async def test_a_probe_that_lives_on_does_not_starve_the_other_connections() -> None:
    """Twenty connections after a trip: all are up although no connection ever ends."""
    async with WsServer(sends(DATA), lambda request: BUSY if request <= 20 else None) as server:
        fleet = Fleet(server.url, 20)
        tasks = [
            asyncio.create_task(feed.run(sink))
            for feed, sink in zip(fleet.feeds, fleet.sinks, strict=True)
        ]
        try:
            await until(lambda: fleet.breaker.state is State.OPEN, fleet.clock)
            took = await until(lambda: fleet.connected == 20, fleet.clock)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert fleet.breaker.state is State.CLOSED
        assert took < 33 + 60, "the last one waited longer than the breaker and two back-offs"
        assert fleet.breaker.snapshot().probes == 0
