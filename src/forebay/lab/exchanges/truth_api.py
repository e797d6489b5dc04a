"""The truth server: what the simulated exchange did, for an audit to ask, and its switched faults.

Every range takes ``channel``: ``trade`` if none is named, ``ticker``, ``quote``, ``book_delta``,
``book_snapshot`` or ``bar``; it is of the market's indices, or of nanoseconds of venue time from
``since`` included to ``until`` excluded, and gives what belongs to them.
``GET /book`` is a book as of a moment.

``GET /markets`` says what has become of each symbol's market, where a venue has such lives, and
``POST /markets/SYMBOL`` has something become of it: ``{"do": "close"}`` and the like.

``PUT /faults/NAME`` switches a fault on, with its settings as a JSON object, ``DELETE`` off;
``GET /faults`` says how often each struck. ``GET /connections`` says when each was accepted, and
``POST /close`` ends the market.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from forebay.errors import ConfigError
from forebay.lab.exchanges.model import CHANNELS
from forebay.lab.exchanges.queries import BadQuery, number
from forebay.lab.truth import CHANNEL, Trade, TruthDigest, events

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from forebay.clock import Clock
    from forebay.lab.exchanges.exchange import Exchange
    from forebay.lab.truth import Source, Trades, TruthEvent

_SLICE = 250  # events computed before the sockets get their turn
_EVER_NS = 1 << 63
_FEEDS: Final = {
    each: feed for feed, carried in CHANNELS.items() for each in (feed, *carried) if carried
}
"""By channel or their own name, the messages that carry it."""


class TruthApi:
    """Handlers; every range is ``from`` included to ``to`` excluded, as on the command line."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock
        self._sources: dict[tuple[str, str], Source] = {}

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._status)
        app.router.add_get("/withheld", self._withheld)
        app.router.add_get("/events", self._events)
        app.router.add_get("/digest", self._digest)
        app.router.add_get("/digests", self._digests)
        app.router.add_get("/book", self._book)
        app.router.add_get("/faults", self._switched)
        app.router.add_put("/faults/{name}", self._switch)
        app.router.add_delete("/faults/{name}", self._switch)
        app.router.add_post("/close", self._close)
        app.router.add_get("/connections", self._connections)
        app.router.add_get("/markets", self._lives)
        app.router.add_post("/markets/{symbol}", self._change)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (BadQuery, ConfigError) as error:
            return web.json_response({"message": str(error)}, status=400)

    async def _status(self, _request: web.Request) -> web.Response:
        status = self._exchange.status()
        channel = CHANNEL if self._exchange.venue.numbered else ""
        market = self._exchange.market_type
        return web.json_response({"market": market, "channel": channel, **status})

    async def _withheld(self, request: web.Request) -> web.Response:
        channel = request.query.get("channel", CHANNEL)
        feed = _FEEDS.get(channel)
        if feed is None:
            raise BadQuery(f"Nothing is withheld of {channel!r}")
        return web.json_response(self._exchange.withheld(feed))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        source, first, end = self._range(request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for low in range(first, end, _SLICE):
            part = events(source, low, min(low + _SLICE, end))
            lines = "".join(json.dumps(_told(event)) + "\n" for event in part)
            await response.write(lines.encode())
            await self._clock.sleep(0)
        await response.write_eof()
        return response

    async def _digest(self, request: web.Request) -> web.Response:
        digests = await self._summed(request, _EVER_NS)
        return web.json_response(digests.get(0, TruthDigest()).document())

    async def _digests(self, request: web.Request) -> web.Response:
        """Return digests by ``by`` nanoseconds of venue time, counted from the epoch."""
        bucket_ns = number(request.query.get("by"), "by")
        if not bucket_ns:
            raise BadQuery("Give by, in nanoseconds")
        digests = await self._summed(request, bucket_ns)
        return web.json_response({bucket: each.document() for bucket, each in digests.items()})

    async def _summed(self, request: web.Request, bucket_ns: int) -> dict[int, TruthDigest]:
        source, first, end = self._range(request)
        digests: dict[int, TruthDigest] = {}
        for low in range(first, end, _SLICE):
            for event in events(source, low, min(low + _SLICE, end)):
                digests.setdefault(event.event_ts // bucket_ns, TruthDigest()).add(event)
            await self._clock.sleep(0)
        return digests

    async def _book(self, request: web.Request) -> web.Response:
        """Return the whole book as of ``at``, nanoseconds of venue time, best first."""
        trades = self._symbol(request)
        at = number(request.query.get("at"), "at")
        if at is None:
            raise BadQuery("Give at, in nanoseconds")
        index = min(trades.index_at(at), self._exchange.market.last(trades.symbol))
        if index < 0:
            raise BadQuery(f"{trades.symbol} had no book yet at {at}")
        book = self._source(trades, "book_snapshot")(index)
        bids, asks = getattr(book, "bids", ()), getattr(book, "asks", ())
        if trades.halted_ns is not None and at >= trades.halted_ns:
            bids, asks = (), ()
        told = {"symbol": trades.symbol, "at": at, "index": index, "bids": bids, "asks": asks}
        return web.json_response(told)

    async def _switched(self, _request: web.Request) -> web.Response:
        return web.json_response(self._exchange.switched.document())

    async def _switch(self, request: web.Request) -> web.Response:
        settings = await _object(request)
        name, now_ns = request.match_info["name"], self._clock.monotonic_ns()
        self._exchange.switch(name, now_ns, on=request.method == "PUT", settings=settings)
        return await self._switched(request)

    async def _connections(self, _request: web.Request) -> web.Response:
        return web.json_response({"opened_ns": list(self._exchange.opened_ns)})

    async def _lives(self, _request: web.Request) -> web.Response:
        return web.json_response(self._exchange.venue.lives(self._exchange.market))

    async def _change(self, request: web.Request) -> web.Response:
        wanted, symbol = await _object(request), request.match_info["symbol"]
        self._exchange.change(symbol, wanted, self._clock.monotonic_ns())
        return web.json_response(self._exchange.venue.lives(self._exchange.market)[symbol])

    async def _close(self, request: web.Request) -> web.Response:
        self._exchange.market.close()
        return await self._status(request)

    def _symbol(self, request: web.Request) -> Trades:
        symbol = request.query.get("symbol", "")
        trades = self._exchange.market.trades.get(symbol)
        if trades is None:
            raise BadQuery(f"There is no symbol {symbol!r} in this market")
        return trades

    def _range(self, request: web.Request) -> tuple[Source, int, int]:
        trades = self._symbol(request)
        channel = request.query.get("channel", CHANNEL)
        source = self._source(trades, channel)
        first, end = self._indices(request, trades)
        return source, first, end

    def _source(self, trades: Trades, channel: str) -> Source:
        sources = self._exchange.venue.sources
        if channel not in sources:
            raise BadQuery(f"There is no channel {channel!r}; there are {', '.join(sources)}")
        source = self._sources.get((channel, trades.symbol))
        if source is None:
            source = self._sources[channel, trades.symbol] = sources[channel](trades)
        return source

    def _indices(self, request: web.Request, trades: Trades) -> tuple[int, int]:
        since, until, first, end = (
            number(request.query.get(name), name) for name in ("since", "until", "from", "to")
        )
        happened = self._exchange.market.last(trades.symbol) + 1
        if since is not None and until is not None:
            return trades.index_at(since - 1) + 1, min(trades.index_at(until - 1) + 1, happened)
        if first is None or end is None:
            raise BadQuery("Give both from (included) and to (excluded)")
        if end > happened:
            raise BadQuery(f"{trades.symbol} has not come to index {end - 1} yet")
        return first, end


async def _object(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of a body, empty if there is none."""
    try:
        document = json.loads(await request.read() or "{}")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise BadQuery("The body is to be a JSON object")
    return document


def _told(event: TruthEvent) -> dict[str, Any]:
    """What ``/events`` says of one: its facts, and what an audit of any kind of event reads."""
    number_of = {"number": event.trade_id} if isinstance(event, Trade) else {}
    return {**event.document(), **number_of, "row": event.row()}
