"""One connection kept up for ever.

Connect, send the subscription, give every message to the sink, end the epoch when the
connection is over, wait with full jitter, connect again. What a message is decides
:mod:`.messages`, when a connection is over :mod:`.liveness`; this module only awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from picows import WSProtocolError

from forebay.resilience.backoff import Backoff
from forebay.sources.websocket.connection import Connection
from forebay.sources.websocket.liveness import Patience, settled
from forebay.sources.websocket.upgrade import Refused, connect
from forebay.telemetry import ConnectionFailed, Observer, ReconnectScheduled, ignore

if TYPE_CHECKING:
    import random

    from forebay.clock import Clock
    from forebay.ports import FrameSink
    from forebay.sources.websocket.plan import FeedPlan

Dial = Callable[[Connection, "FeedPlan", "Clock", float], Awaitable[None]]
"""Brings a connection up; raises :class:`~forebay.sources.websocket.upgrade.Refused`."""


class WebSocketFeed:
    """One connection at a time, for as long as :meth:`run` runs."""

    def __init__(
        self,
        plan: FeedPlan,
        *,
        clock: Clock,
        rng: random.Random,
        patience: Patience | None = None,
        observer: Observer = ignore,
        dial: Dial = connect,
    ) -> None:
        self._dial = dial
        self._plan = plan
        self._clock = clock
        self._rng = rng
        self._patience = patience or Patience()
        self._observe = observer
        self._backoff = Backoff(
            rng, base=self._patience.backoff_base_s, cap=self._patience.backoff_cap_s
        )

    async def run(self, sink: FrameSink) -> None:
        """Capture until cancelled; no failure of the venue or the network ends it."""
        flowing = asyncio.Event()
        flowing.set()

        def pressed(on: bool) -> None:
            if on:
                flowing.clear()
            else:
                flowing.set()

        unsubscribe = sink.on_pressure(pressed)
        try:
            while True:
                await flowing.wait()
                least_s = await self._attempt(sink)
                delay_s = max(self._backoff.next(), least_s)
                self._observe(ReconnectScheduled(self._plan.venue, delay_s, self._backoff.attempt))
                await self._clock.sleep(delay_s)
        finally:
            unsubscribe()

    async def _attempt(self, sink: FrameSink) -> float:
        """One connection from start to end; the answer is the least wait, in seconds."""
        connection = Connection(
            self._plan,
            sink,
            clock=self._clock,
            epoch=f"{self._rng.getrandbits(128):032x}",
            patience=self._patience,
            observer=self._observe,
        )
        try:
            await self._dial(connection, self._plan, self._clock, self._patience.connect_s)
            await self._live(connection)
        except Refused as refused:
            self._observe(ConnectionFailed(self._plan.venue, self._plan.url, str(refused)))
            asked = refused.retry_after_s or 0.0
            return min(asked, self._patience.retry_after_cap_s)
        finally:
            connection.end("stopped")
        now = self._clock.monotonic_ns()
        if settled(connection.vitals, self._patience, now, data=connection.data):
            self._backoff.reset()
        return 0.0

    async def _live(self, connection: Connection) -> None:
        """Wait until the connection is over, and look at it each tick meanwhile."""
        watch = asyncio.create_task(self._watch(connection), name="forebay-watch")
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

    async def _watch(self, connection: Connection) -> None:
        while True:
            await self._clock.sleep(self._patience.tick_s)
            connection.examine()


async def _disconnected(connection: Connection) -> None:
    """Wait for the transport's end; raises what our own callbacks raised, if they did."""
    try:
        await connection.transport.wait_disconnected()
    except WSProtocolError:
        return  # the peer's fault, and already the epoch's reason
