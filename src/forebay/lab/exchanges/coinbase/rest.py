"""What Coinbase Exchange answers over REST: products and the history of trades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from forebay.lab.exchanges.coinbase import messages
from forebay.lab.exchanges.queries import BadQuery, number

if TYPE_CHECKING:
    from forebay.clock import Clock
    from forebay.lab.exchanges.market import Market

MAX_PAGE: Final = 1_000


class Rest:
    """Handlers; only what has happened by now is in the history."""

    def __init__(self, market: Market, clock: Clock) -> None:
        self._market = market
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """What is served, and where."""
        return [
            web.get("/products", self._products),
            web.get("/products/{id}/trades", self._trades),
        ]

    def _symbol(self, request: web.Request) -> str:
        symbol = request.match_info["id"]
        if symbol not in self._market.trades:
            raise web.HTTPNotFound
        return symbol

    async def _products(self, request: web.Request) -> web.Response:
        del request
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
