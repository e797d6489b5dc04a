"""One connection kept up for ever.

Connect, let the session talk, give every message to the sink, end the epoch when the connection is
over, wait with full jitter, connect again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from picows import WSProtocolError

from forebay.errors import Transient, Unreachable
from forebay.resilience import CircuitBreaker, CircuitOpen, Retry, State, presets
from forebay.resilience.retry import asked_wait
from forebay.sources.websocket.connection import Connection
from forebay.sources.websocket.ear import Ear
from forebay.sources.websocket.timeouts import Timeouts, settled
from forebay.sources.websocket.upgrade import ConnectionPlan, UpgradeRefused, connect
from forebay.telemetry import CallRetried, ConnectionFailed, Observer, ReconnectScheduled, ignore

if TYPE_CHECKING:
    import random
    from contextlib import AbstractAsyncContextManager

    from forebay.clock import Clock
    from forebay.ports import FrameSink
    from forebay.resilience import Permit
    from forebay.sources.venue import ConnectionPurpose
    from forebay.telemetry import TelemetryEvent

Dial = Callable[[Connection, ConnectionPlan, "Clock", float], Awaitable[None]]
"""Brings a connection up; raises :class:`~forebay.sources.websocket.upgrade.UpgradeRefused`."""
_EARLY_S = 0.01
"""A timer of the event loop may be a millisecond early, and who is early at a breaker that is
about to let somebody through waits a whole back-off more."""
_PROVES = {State.CLOSED, State.HALF_OPEN}
"""In the other states a connection that lives proves nothing: others could not be made."""

QUICK = 3
"""So many connections in a row may live shortly and be followed by the next one at once."""
SHORT_LIVED_CAP_S = 5.0
"""The longest pause between those after them; a connection that gives data is worth having."""


class Unsettled(Unreachable):
    """A connection ended before it had settled."""


class Probation:
    """A connection until it has settled, which is the call that the breaker counts; see ADR 19.

    Then the permit goes back, so that a probe which lives on does not keep the others from theirs,
    and every further ``settle_s`` of life is one more success: a single connection closes a breaker
    that wants two of them, and what failed beside it does not add up for hours.
    """

    def __init__(self, breaker: CircuitBreaker, timeouts: Timeouts, clock: Clock) -> None:
        """Ask for the call. Raises :class:`~forebay.resilience.CircuitOpen`."""
        self._breaker = breaker
        self._timeouts = timeouts
        self._clock = clock
        self._permit: Permit | None = breaker.acquire()
        self._next_ns = 0
        self.settled = False

    def look(self, connection: Connection) -> None:
        """Say so if the connection has settled, or has lived on for as long again."""
        now = self._clock.monotonic_ns()
        if self.settled:
            if now >= self._next_ns:
                self._next_ns = self._after(now)
                if self._breaker.state in _PROVES:
                    with contextlib.suppress(CircuitOpen):  # its probe is somebody else's
                        self._breaker.acquire().success()
        elif settled(connection.times, self._timeouts, now, data=connection.data):
            self.settled = True
            self._next_ns = self._after(now)
            if permit := self._taken():
                permit.success()

    def end(self, connection: Connection, url: str) -> None:
        """The connection is over. Raises :class:`Unsettled` if it had not settled."""
        self.look(connection)
        if connection.times.paused_ns is not None:
            self.drop()  # the journal took no frames, which says nothing about the venue
        if not self.settled:
            raise Unsettled(f"The connection to {url} ended before it had settled.")

    def fail(self, error: Exception) -> None:
        """The connection was not made, or ended too early. Nothing happens after a verdict."""
        if permit := self._taken():
            permit.failure(error)

    def drop(self) -> None:
        """Nothing follows: we stopped, or it was our own doing. Nothing happens after a verdict."""
        if permit := self._taken():
            permit.release()

    def _taken(self) -> Permit | None:
        permit, self._permit = self._permit, None
        return permit

    def _after(self, now: int) -> int:
        return now + round(self._timeouts.settle_s * 1e9)


class WebSocketFeed:
    """One connection at a time; ``breaker`` is shared by all of one venue."""

    def __init__(
        self,
        plan: ConnectionPlan,
        *,
        clock: Clock,
        rng: random.Random,
        timeouts: Timeouts,
        breaker: CircuitBreaker,
        observer: Observer = ignore,
        dial: Dial = connect,
        ear: Ear | None = None,
        turn: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """``turn`` is entered for each dial."""
        self._dial = dial
        self._turn = turn
        self._ear = ear or Ear()
        self._plan = plan
        self._clock = clock
        self._rng = rng
        self._timeouts = timeouts
        self._breaker = breaker
        self._observe = observer
        config = replace(
            presets.ENDLESS,
            on=Transient,
            base=timeouts.backoff_base_s,
            cap=timeouts.backoff_cap_s,
            longest_asked=timeouts.retry_after_cap_s,
            asked=_asked,
        )
        self._connection: Connection | None = None
        self._retry = Retry(config, name=plan.venue, rng=rng, clock=clock, listener=self._told)

    async def run(self, sink: FrameSink) -> None:
        """Capture until cancelled, or until the ear says ``last``; no other failure ends it."""
        flowing = asyncio.Event()
        flowing.set()

        def pressed(on: bool) -> None:
            if on:
                flowing.clear()
            else:
                flowing.set()

        unsubscribe = sink.on_pressure(pressed)
        try:
            short = 0
            while True:
                lived_s = await self._retry.acall(self._attempt, sink, flowing)
                # It had settled, so the row of failures begins anew: back without much waiting.
                # One that gives a message and closes, again and again, is not dialled ever faster.
                if lived_s is None:
                    return
                short = 0 if lived_s >= self._timeouts.settle_s else short + 1
                delay_s = self._rng.uniform(0.0, self._longest_pause_s(short))
                self._observe(ReconnectScheduled(self._plan.venue, delay_s, 1))
                await self._clock.sleep(delay_s)
        finally:
            unsubscribe()

    @property
    def changeable(self) -> bool:
        """Whether it can ask for other symbols without a new connection."""
        return self._connection is None or self._connection.changeable

    def change(self, asked: ConnectionPurpose) -> None:
        """Ask for ``asked`` from here on; a connection that cannot change is left as it is."""
        self._plan = replace(self._plan, asked=asked)
        if self._connection is not None:
            self._connection.change(asked)

    def _longest_pause_s(self, short: int) -> float:
        """Seconds, after so many connections in a row that settled and did not live long."""
        grown = self._timeouts.backoff_base_s * 2.0 ** min(max(0, short - QUICK), 32)
        return min(grown, max(SHORT_LIVED_CAP_S, self._timeouts.backoff_base_s))

    async def _attempt(self, sink: FrameSink, flowing: asyncio.Event) -> float | None:
        """One connection from start to end; return the seconds it lived, None if it was the last.

        Raises Transient unless it had settled.
        """
        await flowing.wait()
        async with contextlib.AsyncExitStack() as turn:
            await turn.enter_async_context(self._turn())
            probation = Probation(self._breaker, self._timeouts, self._clock)
            self._connection = connection = Connection(
                self._plan,
                sink,
                clock=self._clock,
                epoch=f"{self._rng.getrandbits(128):032x}",
                timeouts=self._timeouts,
                observer=self._observe,
                ear=self._ear,
            )
            try:
                connect_s = self._timeouts.connect_s
                within_s = min(connect_s, self._breaker.config.timeout or connect_s)
                await self._dial(connection, self._plan, self._clock, within_s)
                await turn.aclose()
                if not await self._lived(connection, probation):
                    return None
            except (UpgradeRefused, Unsettled) as failed:
                if isinstance(failed, UpgradeRefused):
                    self._observe(ConnectionFailed(self._plan.venue, self._plan.url, str(failed)))
                probation.fail(failed)
                raise
            finally:
                connection.end("stopped")
                self._connection = None
                probation.drop()
            return (self._clock.monotonic_ns() - connection.times.opened_ns) / 1e9

    async def _lived(self, connection: Connection, probation: Probation) -> bool:
        """See a connection to its end; return whether another is to follow. Raises Unsettled."""
        await self._live(connection, probation)
        fate = self._ear.over(connection)
        if fate != "venue":
            probation.drop()
        if fate == "last":
            return False
        probation.end(connection, self._plan.url)
        return True

    def _told(self, event: TelemetryEvent) -> None:
        if isinstance(event, CallRetried):
            delay_s, attempt = event.delay_s, event.attempt
            event = ReconnectScheduled(self._plan.venue, delay_s, attempt)
        self._observe(event)

    async def _live(self, connection: Connection, probation: Probation) -> None:
        """Wait until the connection is over, and look at it each tick meanwhile."""
        watch = asyncio.create_task(self._watch(connection, probation), name="forebay-watch")
        over = asyncio.create_task(_disconnected(connection), name="forebay-connection")
        try:
            await asyncio.wait({watch, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.end("stopped")
            watch.cancel()
            await asyncio.wait({watch, over})
        for task in (over, watch):
            if not task.cancelled():
                task.result()

    async def _watch(self, connection: Connection, probation: Probation) -> None:
        tick_s = min(self._timeouts.tick_s, connection.session.tick_s or self._timeouts.tick_s)
        while True:
            await self._clock.sleep(tick_s)
            connection.tick()
            connection.examine()
            probation.look(connection)


async def _disconnected(connection: Connection) -> None:
    """Wait for the transport's end; raises what our own callbacks raised, if they did."""
    try:
        await connection.transport.wait_disconnected()
    except WSProtocolError:
        return  # the peer's fault, and already the epoch's reason


def _asked(error: BaseException) -> float | None:
    asked = asked_wait(error)
    return asked + _EARLY_S if asked is not None and isinstance(error, CircuitOpen) else asked
