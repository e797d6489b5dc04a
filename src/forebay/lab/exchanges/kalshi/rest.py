"""What Kalshi answers over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from forebay.lab.exchanges.kalshi import messages, truth
from forebay.lab.exchanges.queries import number
from forebay.lab.truth.texts import iso_micros

if TYPE_CHECKING:
    from forebay.clock import Clock
    from forebay.lab.exchanges.kalshi.account import Account
    from forebay.lab.exchanges.market import Market
    from forebay.lab.faults import SwitchedFaults

MOST: Final = 1_000
USUAL: Final = 100
_S = 1_000_000_000


class KalshiRest:
    def __init__(
        self, market: Market, clock: Clock, switched: SwitchedFaults, account: Account
    ) -> None:
        self._market = market
        self._clock = clock
        self._switched = switched
        self._account = account

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/markets/trades", self._trades),
            web.get("/markets/{ticker}/orderbook", self._book),
        ]

    async def _trades(self, request: web.Request) -> web.Response:
        query = request.query
        limit = number(query.get("limit", str(USUAL)), "limit") or USUAL
        low, high = number(query.get("min_ts"), "min_ts"), number(query.get("max_ts"), "max_ts")
        wanted = query.get("ticker") or next(iter(self._market.trades))
        if wanted not in self._market.trades:
            return web.json_response({"trades": [], "cursor": ""})
        trades, last = self._market.trades[wanted], self._market.last(wanted)
        first = 0
        if low is not None:
            first = max(first, trades.index_at(low * _S - 1) + 1)
        if high is not None:
            last = min(last, trades.index_at(high * _S + _S - 1))
        if query.get("cursor"):
            last = min(last, int(query["cursor"]))
        rows = []
        for index in range(last, max(first, last - limit + 1) - 1, -1):
            trade = trades.event(index)
            outcome, side = ("yes", "bid") if trade.side == "buy" else ("no", "ask")
            rows.append(
                {
                    "trade_id": trade.maker_order_id,
                    "ticker": wanted,
                    "count_fp": trade.size,
                    "yes_price_dollars": trade.price,
                    "no_price_dollars": truth.complement(trade.price),
                    "taker_side": outcome,
                    "taker_outcome_side": outcome,
                    "taker_book_side": side,
                    "created_time": iso_micros(trade.event_ts),
                    "is_block_trade": False,
                }
            )
        cursor = str(last - limit) if last - limit >= first else ""
        return web.json_response({"trades": rows, "cursor": cursor})

    async def _book(self, request: web.Request) -> web.Response:
        ticker = request.match_info["ticker"]
        if ticker not in self._market.trades:
            raise web.HTTPNotFound
        book = truth.KalshiBook(truth.of_kalshi(self._market.trades[ticker]))
        yes, no = messages.levels(book.snapshot(self._market.last(ticker)))
        return web.json_response({"orderbook_fp": {"yes_dollars": yes, "no_dollars": no}})
