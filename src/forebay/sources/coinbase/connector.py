"""Coinbase Exchange, live: trades by websocket, holes in them by REST."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import msgspec

from forebay.domain.frames import Context, FillFinished, FrameKind
from forebay.errors import ConfigError, Permanent, Transient
from forebay.sources.coinbase.instruments import parse_products
from forebay.sources.coinbase.protocol import (
    VENUE,
    accepts,
    smallest_trade_id,
    subscribe_message,
    trades_path,
)
from forebay.sources.rest import RestClient, RestPolicy
from forebay.sources.websocket import FeedPlan, Patience, WebSocketFeed
from forebay.telemetry import Observer, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from forebay.clock import Clock
    from forebay.ports import EpochSink, FillRequest, FrameSink, Instrument

WS_URL = "wss://ws-feed.exchange.coinbase.com"
REST_URL = "https://api.exchange.coinbase.com"
PAGE_ROWS = 1000
"""Most rows of one page of trades (Exchange REST API, "Pagination")."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How long to wait for what; the defaults are for the real venue."""

    feed: Patience = field(default_factory=Patience)
    """The ``heartbeat`` channel speaks each second, so 10 s of silence are no quiet market."""
    rest: RestPolicy = field(default_factory=RestPolicy)
    """The venue allows 10 calls a second and address, 15 at once."""
    symbols_per_connection: int = 100
    pages_per_flush: int = 4
    """A fill waits for its pages to be CAPTURED each so many, which bounds its memory."""


class CoinbaseSource:
    """Implements :class:`forebay.ports.Source`; use ``async with``, which closes its REST pool."""

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        collector: str,
        clock: Clock,
        rng: random.Random,
        ws_url: str = WS_URL,
        rest_url: str = REST_URL,
        observer: Observer = ignore,
        timings: Timings | None = None,
    ) -> None:
        self._timings = timings or Timings()
        self._collector = collector
        self._rng = rng
        self._rest_url = rest_url
        self._rest = RestClient(
            rest_url, clock=clock, rng=rng, policy=self._timings.rest, observer=observer
        )
        self._feeds = [
            WebSocketFeed(
                FeedPlan(
                    venue=VENUE,
                    collector=collector,
                    url=ws_url,
                    messages=(subscribe_message(chunk),),
                    accepts=accepts,
                    symbols=chunk,
                ),
                clock=clock,
                rng=rng,
                patience=self._timings.feed,
                observer=observer,
            )
            for chunk in _chunks(symbols, self._timings.symbols_per_connection)
        ]

    async def run(self, sink: FrameSink) -> None:
        """Capture every symbol until cancelled, each connection on its own."""
        async with asyncio.TaskGroup() as group:
            for feed in self._feeds:
                group.create_task(feed.run(sink), name="forebay-coinbase-feed")

    async def fill(self, request: FillRequest, sink: FrameSink) -> None:
        """Page the trade history from ``request.last`` down to ``request.first``.

        Pages may hold more than was asked for. Raises :class:`~forebay.errors.Transient` if
        the venue does not answer now, :class:`~forebay.errors.Permanent` if it knows no such
        product; what was answered until then is captured either way.
        """
        if request.channel != "trade":
            message = f"Coinbase's history has no {request.channel!r} to fill from."
            raise Permanent(message)
        epoch = f"{self._rng.getrandbits(128):032x}"
        after = request.last + 1
        pages = 0
        while True:
            rows = min(PAGE_ROWS, after - request.first)
            take, oldest = await self._page(request.symbol, after, rows, epoch, sink)
            if oldest is None or oldest <= request.first:
                break
            if oldest >= after:
                message = f"Coinbase answered ids from {oldest} when asked for less than {after}."
                raise Transient(message, hint="The venue does not page; the fill is tried again.")
            after = oldest
            pages += 1
            if pages % self._timings.pages_per_flush == 0:
                await sink.flushed()
        take.control(FillFinished(request.channel, request.symbol, request.first, request.last))

    async def instruments(self) -> list[Instrument]:
        """What the venue lists; raises :class:`~forebay.errors.Transient`."""
        answer = await self._rest.get("/products")
        return parse_products(answer.body)

    async def close(self) -> None:
        """Close the REST pool."""
        await self._rest.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _page(
        self, symbol: str, after: int, rows: int, epoch: str, sink: FrameSink
    ) -> tuple[EpochSink, int | None]:
        """Capture one page; return where it went and its smallest id."""
        target = trades_path(symbol, after, rows)
        answer = await self._rest.get(target)
        take = sink.open(
            Context(
                venue=VENUE,
                source="rest",
                collector=self._collector,
                epoch=epoch,
                url=self._rest_url,
                symbols=(symbol,),
                request=f"GET {target}",
            )
        )
        take.frame(FrameKind.REST, answer.body)
        try:
            return take, smallest_trade_id(answer.body)
        except msgspec.DecodeError as error:
            message = f"Coinbase's page of trades cannot be read: {error}."
            raise Transient(message, hint="It is kept as a dead letter.") from error


def _chunks(symbols: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Symbols in order, each once, at most ``size`` together."""
    distinct = tuple(dict.fromkeys(symbols))
    if not distinct:
        message = "No symbols to capture from coinbase."
        raise ConfigError(message, hint="Name some with --symbols BTC-USD,ETH-USD.")
    return [distinct[start : start + size] for start in range(0, len(distinct), size)]
