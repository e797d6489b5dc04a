"""Coinbase Exchange, live: trades by websocket, holes in them by REST."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import msgspec

from forebay.domain.frames import Context, FillFinished, FrameKind
from forebay.domain.intervals import IntervalSet
from forebay.errors import ConfigError, Permanent, Transient
from forebay.resilience import CircuitBreaker, presets
from forebay.sources.coinbase.instruments import parse_products
from forebay.sources.coinbase.protocol import (
    TRADES,
    VENUE,
    accepts,
    subscribe_message,
    trade_ids,
    trades_path,
)
from forebay.sources.rest import RestClient, RestPolicy
from forebay.sources.websocket import FeedPlan, Patience, WebSocketFeed
from forebay.telemetry import Observer, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from forebay.clock import Clock
    from forebay.ports import FillRequest, FrameSink, Instrument

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
    """Implements :class:`forebay.ports.Source`; use ``async with``, which closes its REST pool.

    All connections share ``websocket_breaker`` and all calls ``rest_breaker``; without them it
    has its own, by the presets WEBSOCKET and EXCHANGE_API.
    """

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
        rest_breaker: CircuitBreaker | None = None,
        websocket_breaker: CircuitBreaker | None = None,
    ) -> None:
        self._timings = timings or Timings()
        self._collector = collector
        self._rng = rng
        self._symbols = tuple(symbols)
        self._rest_url = rest_url
        self._rest = RestClient(
            rest_url,
            clock=clock,
            rng=rng,
            policy=self._timings.rest,
            breaker=rest_breaker,
            observer=observer,
        )
        shared = websocket_breaker or CircuitBreaker(
            f"{VENUE}-websocket", presets.WEBSOCKET, clock=clock, rng=rng, listener=observer
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
                    channels=(TRADES.kind,),
                ),
                clock=clock,
                rng=rng,
                patience=self._timings.feed,
                breaker=shared,
                observer=observer,
            )
            for chunk in _chunks(symbols, self._timings.symbols_per_connection)
        ]

    @property
    def connections(self) -> int:
        """One for each :attr:`Timings.symbols_per_connection` symbols."""
        return len(self._feeds)

    async def run(self, sink: FrameSink) -> None:
        """Capture every symbol until cancelled, each connection on its own."""
        async with asyncio.TaskGroup() as group:
            for feed in self._feeds:
                group.create_task(feed.run(sink), name="forebay-coinbase-feed")

    async def fill(self, request: FillRequest, sink: FrameSink) -> None:
        """Page the trade history from ``request.last`` down to ``request.first``.

        Pages hold an id more on each side. Raises :class:`~forebay.errors.Transient` if
        the venue does not answer now, :class:`~forebay.errors.Permanent` if it knows no such
        product; what was answered until then is captured either way.
        """
        if (request.channel, request.unit) != (TRADES.kind, "id"):
            message = f"Coinbase's history has no {request.channel!r} to fill from."
            raise Permanent(message)
        epoch = f"{self._rng.getrandbits(128):032x}"
        # One id on each side is asked for as well: what lies between two that history lists
        # and is not listed itself does not exist; what lies beyond may only be late.
        listed, after, pages, ended = IntervalSet(), request.last + 2, 0, False
        while not ended and (not listed or listed.first >= request.first):
            rows = min(PAGE_ROWS, after - request.first + 1)
            ids = await self._page(request.symbol, after, rows, epoch, sink)
            ended = not ids
            for number in ids:
                listed.add(number)
            after = ids[-1] if ids else after
            pages += 1
            if pages % self._timings.pages_per_flush == 0:
                await sink.flushed()
        if not listed:
            message = f"Coinbase's history of {request.symbol} is empty below {after}."
            raise Transient(message, hint="It may lag behind; the fill is tried again.")
        absent = []
        floor = request.first if ended else max(request.first, listed.first)
        for hole in listed.holes(floor, min(request.last, listed.last)):
            again = await self._page(request.symbol, hole[1] + 1, 1, epoch, sink)
            if not again or again[0] < hole[0]:
                absent.append(hole)
        take = sink.open(self._context(request.symbol, "", epoch))
        take.control(
            FillFinished(
                request.channel, request.symbol, request.first, request.last, tuple(absent)
            )
        )

    async def instruments(self) -> list[Instrument]:
        """What the venue lists; raises :class:`~forebay.errors.Transient`."""
        answer = await self._rest.get("/products")
        return parse_products(answer.body)

    async def probe(self) -> None:
        """Ask the history for next to nothing, past the breaker.

        For a recovery that holds the permit of ``rest_breaker`` itself. Raises
        :class:`~forebay.errors.ForebayError`.
        """
        await self._rest.probe(trades_path(self._symbols[0], 2, 1))

    async def close(self) -> None:
        """Close the REST pool."""
        await self._rest.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _page(
        self, symbol: str, after: int, rows: int, epoch: str, sink: FrameSink
    ) -> list[int]:
        """Capture one page; return its ids, newest first."""
        target = trades_path(symbol, after, rows)
        answer = await self._rest.get(target)
        take = sink.open(self._context(symbol, f"GET {target}", epoch))
        take.frame(FrameKind.REST, answer.body)
        try:
            ids = trade_ids(answer.body)
        except msgspec.DecodeError as error:
            message = f"Coinbase's page of trades cannot be read: {error}."
            raise Transient(message, hint="It is kept as a dead letter.") from error
        if any(newer <= older for newer, older in pairwise([after, *ids])):
            message = f"Coinbase's page of trades below {after} is not in falling order of ids."
            raise Transient(message, hint="Nothing follows from it; the fill is tried again.")
        return ids

    def _context(self, symbol: str, request: str, epoch: str) -> Context:
        return Context(
            venue=VENUE,
            source="rest",
            purpose="history",
            collector=self._collector,
            epoch=epoch,
            url=self._rest_url,
            symbols=(symbol,),
            channels=(TRADES.kind,),
            request=request,
        )


def _chunks(symbols: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Symbols in order, each once, at most ``size`` together."""
    distinct = tuple(dict.fromkeys(symbols))
    if not distinct:
        message = "No symbols to capture from coinbase."
        raise ConfigError(message, hint="Name some with --symbols BTC-USD,ETH-USD.")
    return [distinct[start : start + size] for start in range(0, len(distinct), size)]
