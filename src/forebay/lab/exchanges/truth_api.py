"""The truth server: what the simulated exchange did, for an audit to ask, and its troubles.

``PUT /troubles/NAME`` switches a trouble on, with its settings as a JSON object, ``DELETE`` off;
``GET /troubles`` says how often each struck. ``POST /close`` ends the market.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import web

from forebay.errors import ConfigError
from forebay.lab.exchanges.queries import BadQuery, number
from forebay.lab.truth import CHANNEL, MARKET, Digest

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from forebay.clock import Clock
    from forebay.lab.exchanges.exchange import Exchange
    from forebay.lab.truth import Trade, Trades

_SLICE = 250  # events computed before the sockets get their turn
_EVER_NS = 1 << 63


class TruthApi:
    """Handlers; every range is ``from`` included to ``to`` excluded, as on the command line."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock

    def app(self) -> web.Application:
        """The application to be served."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._status)
        app.router.add_get("/withheld", self._withheld)
        app.router.add_get("/events", self._events)
        app.router.add_get("/digest", self._digest)
        app.router.add_get("/digests", self._digests)
        app.router.add_get("/troubles", self._troubles)
        app.router.add_put("/troubles/{name}", self._switch)
        app.router.add_delete("/troubles/{name}", self._switch)
        app.router.add_post("/close", self._close)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (BadQuery, ConfigError) as error:
            return web.json_response({"message": str(error)}, status=400)

    async def _status(self, request: web.Request) -> web.Response:
        del request
        told = {"market": MARKET, "channel": CHANNEL, **self._exchange.status()}
        return web.json_response(told)

    async def _withheld(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(self._exchange.withheld())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        trades, first, end = self._range(request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for low in range(first, end, _SLICE):
            part = trades.events(low, min(low + _SLICE, end))
            lines = "".join(json.dumps(_told(trade)) + "\n" for trade in part)
            await response.write(lines.encode())
            await self._clock.sleep(0)
        await response.write_eof()
        return response

    async def _digest(self, request: web.Request) -> web.Response:
        digests = await self._summed(request, _EVER_NS)
        return web.json_response(digests.get(0, Digest()).document())

    async def _digests(self, request: web.Request) -> web.Response:
        """Answer digests by ``by`` nanoseconds of venue time, counted from the epoch."""
        bucket_ns = number(request.query.get("by"), "by")
        if not bucket_ns:
            raise BadQuery("Give by, in nanoseconds")
        digests = await self._summed(request, bucket_ns)
        return web.json_response({bucket: each.document() for bucket, each in digests.items()})

    async def _summed(self, request: web.Request, bucket_ns: int) -> dict[int, Digest]:
        trades, first, end = self._range(request)
        digests: dict[int, Digest] = {}
        for low in range(first, end, _SLICE):
            for trade in trades.events(low, min(low + _SLICE, end)):
                digests.setdefault(trade.event_ts // bucket_ns, Digest()).add(trade)
            await self._clock.sleep(0)
        return digests

    async def _troubles(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(self._exchange.troubles.document())

    async def _switch(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            settings = json.loads(body) if body else {}
        except ValueError:
            settings = None
        if not isinstance(settings, dict):
            raise BadQuery("The settings of a trouble are a JSON object")
        on = request.method == "PUT"
        now_ns = self._clock.monotonic_ns()
        self._exchange.switch(request.match_info["name"], now_ns, on=on, settings=settings)
        return await self._troubles(request)

    async def _close(self, request: web.Request) -> web.Response:
        self._exchange.close_market()
        return await self._status(request)

    def _range(self, request: web.Request) -> tuple[Trades, int, int]:
        symbol = request.query.get("symbol", "")
        trades = self._exchange.market.trades.get(symbol)
        if trades is None:
            raise BadQuery(f"There is no symbol {symbol!r} in this market")
        first = number(request.query.get("from"), "from")
        end = number(request.query.get("to"), "to")
        if first is None or end is None:
            raise BadQuery("Give both from (included) and to (excluded)")
        if end > self._exchange.market.last(symbol) + 1:
            raise BadQuery(f"{symbol} has not come to index {end - 1} yet")
        return trades, first, end


def _told(trade: Trade) -> dict[str, int | str]:
    """What ``/events`` says of one: its facts, and what an audit of any kind of event reads."""
    return {**trade.document(), "number": trade.trade_id, "row": trade.row()}
