"""Between the venue and a process: connections and requests that take virtual time and fail.

The product's own feed, connection and REST client run; what is simulated is the driver below.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

import aiohttp
from picows import WSCloseCode, WSMsgType

from forebay.resilience import CircuitBreaker, RetryConfig, presets
from forebay.sources import coinbase
from forebay.sources.coinbase.protocol import CoinbaseParser
from forebay.sources.live import Addresses, LiveSource, Timings, Wiring
from forebay.sources.rest import RestClient, RestPolicy
from forebay.sources.venue import ConnectionPurpose
from forebay.sources.websocket import Timeouts
from forebay.sources.websocket.lots import Lot
from forebay.sources.websocket.upgrade import UpgradeRefused

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

    from picows import WSFrame, WSTransport

    from forebay.clock import Clock
    from forebay.sources.websocket import ConnectionPlan, Feeds
    from forebay.sources.websocket.connection import Connection
    from forebay.telemetry import Observer
    from tests.simulation.machine import Life
    from tests.simulation.venue import Venue
    from tests.simulation.weather import Weather

PATIENCE = Timeouts(
    connect_s=1.5,
    accept_s=1.5,
    stale_s=3.0,
    backoff_base_s=0.2,
    backoff_cap_s=2.0,
    settle_s=2.0,
    retry_after_cap_s=5.0,
)
REST = RestPolicy(RetryConfig(attempts=3, base=0.2, cap=2.0, longest_asked=2.0))
REST_BREAKER = replace(presets.EXCHANGE_API, recovery_timeout=2.0)
FEED_BREAKER = replace(presets.WEBSOCKET, recovery_timeout=1.0)
URL = "wss://venue.test"


class _Parser(CoinbaseParser):
    """The product's, of a venue that is believed within seconds to lack something."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = {
            kind: replace(channel, believed_after_s=(1, 2, 4))
            for kind, channel in CoinbaseParser.channels.items()
        }


SIMULATED = replace(coinbase.VENUE, parser=_Parser())
"""Whose code runs."""


class _Frame:
    """A whole text message as the driver hands it over."""

    fin = True
    rsv1 = rsv2 = rsv3 = False
    tail_size = 1  # something always waits behind it, so the driver is not taken over
    msg_type = WSMsgType.TEXT

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def get_payload_as_bytes(self) -> bytes:
        return self._payload


class Wire:
    """One connection: a line to the venue, a transport to the product."""

    close_handshake = None

    def __init__(self, network: Network, connection: Connection, latency_s: float) -> None:
        self._network = network
        self._connection = connection
        self._latency_s = latency_s
        self._loop = asyncio.get_running_loop()
        self._free_at = 0.0
        self._paused = False
        self._waiting: list[bytes] = []
        self._over: asyncio.Future[None] = self._loop.create_future()
        self.mute = False
        self.accepted = False
        self.symbols: tuple[str, ...] = ()

    # ------------------------------------------------------------- the venue's side

    def say(self, payload: bytes, late_s: float = 0.0) -> None:
        """Send a text message; only a late one is overtaken by those after it."""
        at = self._loop.time() + self._latency_s
        if late_s:
            at += late_s
        else:
            at = self._free_at = max(at, self._free_at)
        self._loop.call_at(at, self._arrive, payload)

    def drop(self) -> None:
        """The connection breaks, seen on both sides."""
        self._network.forget(self)
        self._loop.call_soon(self._lost)

    def _arrive(self, payload: bytes) -> None:
        if self._over.done() or self.mute or not self._network.life.alive:
            return
        if self._paused:
            self._waiting.append(payload)
            return
        self.accepted = True
        self._connection.on_ws_frame(cast("WSTransport", self), cast("WSFrame", _Frame(payload)))

    def _lost(self) -> None:
        if self._over.done():
            return
        self._over.set_result(None)
        self._connection.on_ws_disconnected(cast("WSTransport", self))

    # ---------------------------------------------------------- the product's side

    @property
    def underlying_transport(self) -> Self:
        """What can be paused."""
        return self

    def send(self, kind: WSMsgType, message: bytes) -> None:
        """The subscription goes out."""
        del kind
        self.symbols = tuple(json.loads(message)["product_ids"])
        self._loop.call_later(self._latency_s, self._network.subscribe, self)

    def send_pong(self, payload: bytes) -> None:
        """The simulated venue does not ping."""

    def send_close(self, code: WSCloseCode, message: bytes) -> None:
        """The venue learns of the end by :meth:`disconnect`."""

    def disconnect(self, *, graceful: bool = True) -> None:
        """Close."""
        del graceful
        self.drop()

    async def wait_disconnected(self) -> None:
        """Wait until the connection is over."""
        await asyncio.shield(self._over)

    def pause_reading(self) -> None:
        """Leave what arrives in the socket."""
        self._paused = True

    def resume_reading(self) -> None:
        """Take what has arrived."""
        self._paused = False
        waiting, self._waiting = self._waiting, []
        for payload in waiting:
            self._arrive(payload)


class Network:
    """The connections of one process's life."""

    def __init__(self, life: Life, venue: Venue, weather: Weather, rng: random.Random) -> None:
        self.life = life
        self.wires: dict[Wire, None] = {}
        self.venue = venue
        self.weather = weather
        self.rng = rng
        life.on_death.append(self._cut)

    async def dial(
        self, connection: Connection, plan: ConnectionPlan, clock: Clock, within_s: float
    ) -> None:
        """Bring ``connection`` up, as :func:`forebay.sources.websocket.upgrade.connect` does."""
        if self.weather.strikes("unanswered"):
            await clock.sleep(within_s)
            raise UpgradeRefused(f"No answer from {plan.url} within {within_s:g} s.")
        await clock.sleep(self.rng.uniform(0.01, 0.2))
        flapping = self.weather.lasts("flap", asyncio.get_running_loop().time())
        if flapping or self.weather.strikes("refused"):
            raise UpgradeRefused(f"{plan.url} cannot be reached.")
        self.life.check()
        wire = Wire(self, connection, self.rng.uniform(0.001, 0.15))
        self.wires[wire] = None
        connection.on_ws_connected(cast("WSTransport", wire))

    def subscribe(self, wire: Wire) -> None:
        """The subscription has arrived."""
        if wire in self.wires and not wire.mute:
            self.venue.subscribed(wire)

    def forget(self, wire: Wire) -> None:
        """A connection is over."""
        self.wires.pop(wire, None)
        self.venue.gone(wire)

    def drop_all(self) -> int:
        """Every connection breaks; answers how many there were."""
        wires = list(self.wires)
        for wire in wires:
            wire.drop()
        return len(wires)

    def mute_all(self) -> int:
        """Every connection goes half-open: silent, and not closed."""
        for wire in self.wires:
            wire.mute = True
        return len(self.wires)

    def _cut(self) -> None:
        for wire in list(self.wires):
            self.forget(wire)


class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        del size
        yield self._body


class _Response:
    """An answer that comes after its latency."""

    def __init__(self, network: Network, target: str) -> None:
        self._network = network
        self._target = target
        self.status = 200
        self.headers: dict[str, str] = {}
        self.content_type = "application/json"
        self.content = _Body(b"")

    async def __aenter__(self) -> Self:
        network = self._network
        weather = network.weather
        await asyncio.sleep(network.rng.uniform(0.02, 0.4))
        network.life.check()
        down = weather.lasts("history_down", asyncio.get_running_loop().time())
        if down or weather.strikes("rest_timeout"):
            await asyncio.sleep(1.0)
            raise aiohttp.ServerTimeoutError
        if weather.strikes("rate_limited"):
            self.status, self.headers = 429, {"Retry-After": "1"}
        elif weather.strikes("server_error"):
            self.status = 503
        else:
            self.content = _Body(network.venue.page(self._target))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to release."""


class _Session:
    def __init__(self, network: Network) -> None:
        self._network = network

    def request(self, method: str, url: Any, **_: Any) -> _Response:  # noqa: ANN401 - as aiohttp
        del method
        return _Response(self._network, str(url))

    async def close(self) -> None:
        """Nothing to release."""


class _SimRest(RestClient):
    def __init__(self, network: Network, **options: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__("https://history.test", **options)
        self._network = network

    def _pool(self) -> aiohttp.ClientSession:
        return cast("aiohttp.ClientSession", _Session(self._network))


class SimSource(LiveSource):
    """The product's source of the simulated venue over a simulated network."""

    def __init__(
        self,
        network: Network,
        symbols: tuple[str, ...],
        *,
        clock: Clock,
        rng: random.Random,
        observer: Observer,
    ) -> None:
        self._network = network
        made: dict[str, Any] = {"clock": clock, "rng": rng, "listener": observer}
        breaker = CircuitBreaker(f"{SIMULATED.name}-rest", REST_BREAKER, **made)
        super().__init__(
            SIMULATED,
            ConnectionPurpose(symbols, SIMULATED.default_channels),
            Wiring(
                "sim",
                clock,
                rng,
                observer,
                rest_breaker=breaker,
                websocket_breaker=CircuitBreaker(
                    f"{SIMULATED.name}-websocket", FEED_BREAKER, **made
                ),
                dial=network.dial,
            ),
            addresses=Addresses(ws_url=URL),
            timings=Timings(PATIENCE, REST),
        )
        self._rest = _SimRest(
            network,
            policy=REST,
            limits=SIMULATED.limits,
            breaker=breaker,
            clock=clock,
            rng=rng,
            observer=observer,
        )

    def _connections(self, connections: int) -> Feeds:
        feeds = super()._connections(connections)
        (lot,) = feeds.lots.lots
        feeds.lots.lots = [Lot(lot.asked) for _ in range(self._network.weather.feeds)]
        return feeds
