"""A venue in virtual time that many connections reach, and whose subscriptions can be changed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Self, cast

from picows import WSMsgType

from forebay.resilience import CircuitBreaker, presets
from forebay.sources.live import Addresses, LiveSource, Timings, Wiring
from forebay.sources.roster import Roster
from forebay.sources.venue import (
    NOTHING,
    ConnectionPurpose,
    Limits,
    MessageVerdict,
    PlainSession,
    Venue,
)
from forebay.sources.websocket import Timeouts
from forebay.sources.websocket.upgrade import UpgradeRefused
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.support.made_venue import MadeParser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from picows import WSFrame, WSTransport

    from forebay.clock import Clock
    from forebay.ports import FrameSink
    from forebay.sources.websocket import ConnectionPlan
    from forebay.sources.websocket.connection import Connection
    from forebay.telemetry import TelemetryEvent


CALM = Timings(feed=Timeouts(settle_s=2.0, stale_s=1e6))
"""The venue says nothing by itself."""


class StiffSession(PlainSession):
    """``add A B`` is answered by ``ok A`` or ``no A`` for each; what is not wanted goes on."""

    def opened(self, now_ns: int) -> Sequence[bytes]:
        del now_ns
        return (f"add {' '.join(self.asked.symbols)}".encode(),)

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        del now_ns
        word, _, symbol = payload.decode().partition(" ")
        streams = frozenset((kind, symbol) for kind in self.asked.channels)
        if word == "ok":
            return MessageVerdict(accepted=streams)
        if word == "no":
            return MessageVerdict(refused=dict.fromkeys(streams, "it is unknown"))
        if word == "gone":
            return MessageVerdict(released=frozenset({symbol}))
        return MessageVerdict(listed=frozenset({symbol})) if word == "new" else NOTHING


class SuppleSession(StiffSession):
    """It can also say ``drop A B``, which is answered by ``gone A``."""

    def change(self, added: Sequence[str], removed: Sequence[str], now_ns: int) -> Sequence[bytes]:
        del now_ns
        said = [f"drop {' '.join(removed)}"] if removed else []
        said += [f"add {' '.join(added)}"] if added else []
        return [each.encode() for each in said]


class _Text:
    """A whole text message as the driver hands it over."""

    fin = True
    rsv1 = rsv2 = rsv3 = False
    tail_size = 1  # something always waits behind it, so the driver is not taken over
    msg_type = WSMsgType.TEXT

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def get_payload_as_bytes(self) -> bytes:
        return self._payload


class Line:
    """One connection of the venue, which is a transport to the product."""

    close_handshake = None

    def __init__(self, venue: ChangingVenue, connection: Connection) -> None:
        self._venue = venue
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self.symbols: set[str] = set()
        self.heard: list[str] = []

    def say(self, words: str) -> None:
        """Send a message, which arrives a moment later."""
        self._loop.call_later(0.01, self._arrive, words.encode())

    def drop(self) -> None:
        """Break the connection, seen on both sides."""
        self._venue.lines.pop(self, None)
        if not self._over.done():
            self._over.set_result(None)
            self._connection.on_ws_disconnected(cast("WSTransport", self))

    def _arrive(self, payload: bytes) -> None:
        if not self._over.done():
            text = cast("WSFrame", _Text(payload))
            self._connection.on_ws_frame(cast("WSTransport", self), text)

    def _answer(self, words: str) -> None:
        word, *symbols = words.split()
        if word == "drop":
            self.symbols -= set(symbols)
            for symbol in symbols:
                self.say(f"gone {symbol}")
        for symbol in symbols if word == "add" and not self._venue.mute else ():
            bad = symbol in self._venue.bad
            if not bad:
                self.symbols.add(symbol)
            self.say(f"{'no' if bad else 'ok'} {symbol}")

    @property
    def underlying_transport(self) -> Self:
        return self

    def send(self, kind: WSMsgType, message: bytes) -> None:
        del kind
        self.heard.append(message.decode())
        self._loop.call_later(0.01, self._answer, message.decode())

    def send_close(self, *_: object) -> None:
        """It learns of the end by :meth:`disconnect`."""

    def disconnect(self, *, graceful: bool = True) -> None:
        del graceful
        self.drop()

    async def wait_disconnected(self) -> None:
        await asyncio.shield(self._over)


class ChangingVenue:
    """Its ``way`` is what a dial meets: ``up``, ``refused`` at once, or ``silent``.

    Who waits in silence when the venue comes back gets through then.
    """

    def __init__(self, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.way = "up"
        self.back = asyncio.Event()
        self.bad: set[str] = set()
        self.mute = False
        self.lines: dict[Line, None] = {}
        self.dialled: list[float] = []
        """When, in virtual seconds."""
        self.connected: list[float] = []

    async def dial(
        self, connection: Connection, plan: ConnectionPlan, clock: Clock, within_s: float
    ) -> None:
        """Bring ``connection`` up, as :func:`forebay.sources.websocket.upgrade.connect` does."""
        loop = asyncio.get_running_loop()
        self.dialled.append(loop.time())
        if self.way == "silent":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.back.wait(), within_s)
        await clock.sleep(self.rng.uniform(0.02, 0.1))
        if self.way != "up":
            raise UpgradeRefused(f"{plan.url} cannot be reached.")
        line = Line(self, connection)
        self.lines[line] = None
        self.connected.append(loop.time())
        connection.on_ws_connected(cast("WSTransport", line))

    def go(self, way: str) -> None:
        """Break every connection, and be ``way`` from now on."""
        self.way = way
        self.back.clear()
        for line in list(self.lines):
            line.drop()

    def come_back(self) -> None:
        """Serve again."""
        self.way = "up"
        self.back.set()

    @property
    def carried(self) -> list[str]:
        """Symbols of all connections, in order, those that two carry twice."""
        return sorted(symbol for line in self.lines for symbol in line.symbols)


class ChangingRig:
    """A live source of that venue."""

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        session: type[StiffSession] = SuppleSession,
        timings: Timings = CALM,
        size: int = 100,
        connections: int = 0,
        limits: Limits | None = None,
    ) -> None:
        loop = cast("VirtualLoop", asyncio.get_running_loop())
        self.clock = VirtualClock(loop)
        self.venue = ChangingVenue()
        self.said: list[TelemetryEvent] = []
        self.listed: list[frozenset[str]] = []
        self.roster = Roster(self.clock)
        rng = random.Random(5)
        self.breaker = CircuitBreaker(
            "made-websocket", presets.WEBSOCKET, clock=self.clock, rng=rng
        )
        described = Venue(
            name="made",
            title="Made",
            parser=MadeParser("native"),
            session=session,
            default_channels=("trade",),
            limits=limits or Limits(),
        )
        self.source = LiveSource(
            described,
            ConnectionPurpose(tuple(symbols), ("trade",)),
            Wiring(
                "c1",
                self.clock,
                rng,
                self.said.append,
                websocket_breaker=self.breaker,
                dial=self.venue.dial,
                roster=self.roster,
                listed=self.listed.append,
            ),
            addresses=Addresses("ws://made.test/"),
            timings=timings,
            symbols_per_connection=size,
            connections=connections,
            changing=True,
        )

    @contextlib.asynccontextmanager
    async def running(self, sink: FrameSink) -> AsyncIterator[None]:
        """Capture while the block runs."""
        task = asyncio.create_task(self.source.run(sink))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled(), task.exception()


def in_virtual_time(script: Callable[[], Awaitable[None]]) -> None:
    """Run ``script`` on a loop where waiting takes no time."""
    loop = VirtualLoop(random.Random(2))
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(script())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
