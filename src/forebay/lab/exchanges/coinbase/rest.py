"""What Coinbase Exchange answers over REST: products, trades, candles and books."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from forebay.errors import ConfigError
from forebay.lab.exchanges.coinbase import messages
from forebay.lab.exchanges.queries import BadQuery, number
from forebay.lab.truth import Bars, BookTruth, parse_start
from forebay.lab.truth.bars import Sum

if TYPE_CHECKING:
    from forebay.clock import Clock
    from forebay.lab.exchanges.market import Market

MAX_PAGE: Final = 1_000
MAX_CANDLES: Final = 300
GRANULARITIES: Final = (60, 300, 900, 3_600, 21_600, 86_400)

_SECOND_NS = 1_000_000_000
_TOO_MANY = (
    "granularity too small for the requested time range. "
    f"Count of aggregations requested exceeds {MAX_CANDLES}"
)


class Rest:
    """Handlers; only what has happened by now is in the history."""

    def __init__(self, market: Market, clock: Clock) -> None:
        self._market = market
        self._clock = clock
        self._bars = {symbol: Bars(trades) for symbol, trades in market.trades.items()}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/products", self._products),
            web.get("/products/{id}/trades", self._trades),
            web.get("/products/{id}/candles", self._candles),
            web.get("/products/{id}/book", self._book),
        ]

    def _symbol(self, request: web.Request) -> str:
        symbol = request.match_info["id"]
        if symbol not in self._market.trades:
            raise web.HTTPNotFound
        return symbol

    async def _products(self, _request: web.Request) -> web.Response:
        trades = self._market.trades.values()
        return web.json_response([messages.product(t.symbol, t.price_decimals) for t in trades])

    async def _trades(self, request: web.Request) -> web.Response:
        symbol, query = self._symbol(request), request.query
        limit = number(query.get("limit"), "limit")
        limit = MAX_PAGE if limit is None else limit
        if not 1 <= limit <= MAX_PAGE:
            raise BadQuery("Invalid limit")
        page = self._market.page(
            symbol,
            before=number(query.get("before"), "before"),
            after=number(query.get("after"), "after"),
            limit=limit,
        )
        headers = {}
        if page:
            headers = {"CB-BEFORE": str(page[0].trade_id), "CB-AFTER": str(page[-1].trade_id)}
        return web.json_response([messages.history_row(trade) for trade in page], headers=headers)

    async def _candles(self, request: web.Request) -> web.Response:
        symbol, query = self._symbol(request), request.query
        granularity = number(query.get("granularity", "60"), "granularity")
        if granularity not in GRANULARITIES:
            raise BadQuery("Unsupported granularity")
        step_ns = granularity * _SECOND_NS
        last = self._market.last(symbol)
        trades = self._market.trades[symbol]
        newest_ns = trades.time_ns(last)
        if "start" in query and "end" in query:
            begin_ns, end_ns = _moment(query["start"], "start"), _moment(query["end"], "end")
        else:  # either alone is not looked at
            begin_ns, end_ns = newest_ns - (MAX_CANDLES - 1) * step_ns, newest_ns
        first, final = -(-begin_ns // step_ns), end_ns // step_ns
        if final - first >= MAX_CANDLES:
            raise BadQuery(_TOO_MANY)
        first = max(first, trades.time_ns(0) // step_ns)
        rows = []
        for number_of in range(min(final, newest_ns // step_ns), first - 1, -1):
            row = await self._candle(symbol, number_of * step_ns, step_ns)
            if row:
                rows.append(row)
        return web.Response(text=f"[{','.join(rows)}]", content_type="application/json")

    async def _candle(self, symbol: str, open_ns: int, step_ns: int) -> str:
        """One candle, empty if nothing was traded, or if not all that it will be made of was.

        A candle that is not over is given as long as everybody can see by the clock that it is not.
        """
        bars, last = self._bars[symbol], self._market.last(symbol)
        over = bars.trades.index_at(open_ns + step_ns - 1) <= last
        if not over and self._clock.wall_ns() >= open_ns + step_ns:
            return ""
        made = Sum()
        for part in bars.parts(open_ns, open_ns + step_ns, last):
            made.add(part)
            await self._clock.sleep(0)
        return messages.candle(open_ns // _SECOND_NS, bars.texts(made)) if made.volume else ""

    async def _book(self, request: web.Request) -> web.Response:
        symbol, level = self._symbol(request), request.query.get("level", "1")
        if level not in ("1", "2"):
            raise BadQuery("Invalid level")
        trade = self._market.last_trade(symbol)
        book = BookTruth(self._market.trades[symbol]).snapshot(trade.index)
        depth = 1 if level == "1" else None
        return web.json_response(messages.book(book, trade.sequence, depth))


def _moment(text: str, name: str) -> int:
    """Nanoseconds since the epoch from ISO 8601, or from seconds."""
    if text.isdecimal():
        return int(text) * _SECOND_NS
    try:
        return parse_start(text)
    except ConfigError as error:
        raise BadQuery(f"Invalid {name}") from error
