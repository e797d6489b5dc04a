"""What Kalshi answers over REST: what has happened by now, in all its lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from forebay.lab.exchanges.kalshi import candles, documents, pages
from forebay.lab.exchanges.kalshi.symbols import event_of, series_of
from forebay.lab.exchanges.kalshi.troubles import HISTORICAL, MAINTENANCE, NEWER, OLDER
from forebay.lab.exchanges.kalshi.truth import of_kalshi
from forebay.lab.exchanges.queries import BadQuery, number
from forebay.lab.truth.texts import iso_micros

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aiohttp.typedefs import Handler

    from forebay.clock import Clock
    from forebay.lab.exchanges.kalshi.account import LabAccount
    from forebay.lab.exchanges.kalshi.truth import KalshiTrades
    from forebay.lab.exchanges.market import Market
    from forebay.lab.faults import SwitchedFaults

STATUSES: Final = {
    "unopened": ("initialized",),
    "open": ("active",),
    "paused": ("inactive",),
    "closed": ("closed", "determined", "disputed", "amended"),
    "settled": ("finalized",),
}
"""By the word of a filter, those of answers."""
_SLICE = 50  # markets told before the sockets get their turn
_BATCH = 100
_DEPTH = 100
_S = 1_000_000_000
_DAY_NS = 86_400 * _S
_HOURS = [{"open_time": "00:00", "close_time": "00:00"}]
_THURSDAY = [
    {"open_time": "00:00", "close_time": "03:00"},
    {"open_time": "05:00", "close_time": "00:00"},
]


class KalshiRest:
    """Handlers; a key is wanted for what is the account's own."""

    def __init__(
        self, market: Market, clock: Clock, switched: SwitchedFaults, account: LabAccount
    ) -> None:
        self._market = market
        self._clock = clock
        self._switched = switched
        self._account = account
        self._candles: dict[str, candles.Candles] = {}

    def routes(self) -> list[web.RouteDef]:
        """What is served, and where; what is more particular comes first."""
        candlesticks = "candlesticks"
        handlers: dict[str, Handler] = {
            "/exchange/status": self._status,
            "/exchange/schedule": self._schedule,
            "/exchange/announcements": self._announcements,
            "/markets": self._markets,
            "/markets/trades": self._trades,
            "/markets/orderbooks": self._books,
            f"/markets/{candlesticks}": self._candles_of_many,
            "/markets/{ticker}": self._one_market,
            "/markets/{ticker}/orderbook": self._book,
            "/series": self._all_series,
            "/series/{series}": self._one_series,
            f"/series/{{series}}/markets/{{ticker}}/{candlesticks}": self._candles_of_one,
            "/events": self._events,
            "/events/{event}": self._one_event,
            "/historical/cutoff": self._cutoff,
            "/historical/markets": self._old_markets,
            "/historical/trades": self._old_trades,
            "/historical/markets/{ticker}": self._one_old_market,
            f"/historical/markets/{{ticker}}/{candlesticks}": self._old_candles,
            "/account/limits": self._limits,
            "/portfolio/balance": self._balance,
        }
        return [web.get(path, self._open(handler)) for path, handler in handlers.items()]

    def _open(self, handler: Handler) -> Handler:
        async def answered(request: web.Request) -> web.StreamResponse:
            if self._strikes(MAINTENANCE):
                return web.json_response(_state(active=False), status=503)
            return await handler(request)

        return answered

    def _strikes(self, name: str) -> bool:
        return self._switched.strikes(name, self._clock.monotonic_ns())

    def _json(self, document: object) -> web.Response:
        older, newer = self._strikes(OLDER), self._strikes(NEWER)
        return web.json_response(documents.as_asked(document, older=older, newer=newer))

    # -------------------------------------------------------------- what is asked for

    def _every(self) -> list[KalshiTrades]:
        return [of_kalshi(trades) for trades in self._market.trades.values()]

    def _named(self, request: web.Request) -> KalshiTrades:
        trades = self._market.trades.get(request.match_info["ticker"])
        if trades is None:
            raise web.HTTPNotFound
        return of_kalshi(trades)

    def _last(self, trades: KalshiTrades) -> int:
        return self._market.last(trades.symbol)

    def _cutoff_ns(self) -> int:
        """Venue time before which things have moved to ``/historical``."""
        if self._strikes(HISTORICAL):
            after_s = self._switched.setting(HISTORICAL, "after_s")
            moment_ns = self._market.moment_ns(self._clock.monotonic_ns())
            return (moment_ns // _S - after_s) * _S
        return (self._market.start_ns - _DAY_NS) // _S * _S

    def _is_old(self, trades: KalshiTrades) -> bool:
        settled_ns = trades.life.settled_ns
        return settled_ns is not None and settled_ns < self._cutoff_ns()

    # -------------------------------------------------------------- the exchange

    async def _status(self, _request: web.Request) -> web.Response:
        return self._json(_state(active=True))

    async def _schedule(self, _request: web.Request) -> web.Response:
        days = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
        week: dict[str, Any] = {day: _THURSDAY if day == "thursday" else _HOURS for day in days}
        week |= {"start_time": "2024-12-01T00:00:00Z", "end_time": "2200-12-01T00:00:00Z"}
        return self._json({"schedule": {"standard_hours": [week], "maintenance_windows": []}})

    async def _announcements(self, _request: web.Request) -> web.Response:
        return self._json({"announcements": []})

    async def _cutoff(self, _request: web.Request) -> web.Response:
        cutoff_ns = self._cutoff_ns()
        return self._json(
            {
                "market_settled_ts": iso_micros(cutoff_ns),
                "trades_created_ts": iso_micros(cutoff_ns),
                "orders_updated_ts": iso_micros(cutoff_ns - 14 * _DAY_NS),
            }
        )

    async def _limits(self, request: web.Request) -> web.Response:
        self._check_signed(request)
        read = {"refill_rate": 200, "bucket_capacity": 200}
        write = {"refill_rate": 100, "bucket_capacity": 200}
        told = {"usage_tier": "basic", "read": read, "write": write, "grants": []}
        return self._json({**told, "read_limit": 20, "write_limit": 10})

    async def _balance(self, request: web.Request) -> web.Response:
        self._check_signed(request)
        return self._json({"balance": 0, "portfolio_value": 0, "updated_ts": 0})

    def _check_signed(self, request: web.Request) -> None:
        wall_ns = self._clock.wall_ns()
        why = self._account.refusal(request.headers, request.method, request.path, wall_ns)
        if why:
            raise web.HTTPUnauthorized(text=why)

    # -------------------------------------------------------------- markets

    async def _markets(self, request: web.Request) -> web.Response:
        rows = [each for each in self._found(request.query) if not self._is_old(each)]
        return await self._markets_page(rows, request.query)

    async def _old_markets(self, request: web.Request) -> web.Response:
        rows = [each for each in self._found(request.query) if self._is_old(each)]
        return await self._markets_page(rows, request.query)

    async def _markets_page(
        self, rows: list[KalshiTrades], query: Mapping[str, str]
    ) -> web.Response:
        found, cursor = pages.page(rows, query, self._switched, self._clock.monotonic_ns())
        told = []
        for each in found:
            told.append(documents.market(each, self._last(each)))
            if len(told) % _SLICE == 0:
                await self._clock.sleep(0)
        return self._json({"markets": told, "cursor": cursor})

    def _found(self, query: Mapping[str, str]) -> Iterator[KalshiTrades]:
        """Return the markets that a list is asked for."""
        wanted = [word for word in query.get("status", "").split(",") if word]
        if any(word not in STATUSES for word in wanted):
            raise BadQuery("invalid status filter")
        statuses = {status for word in wanted for status in STATUSES[word]}
        tickers = {name for name in query.get("tickers", "").split(",") if name}
        events = {name for name in query.get("event_ticker", "").split(",") if name}
        series, combined = query.get("series_ticker"), query.get("mve_filter")
        if combined not in (None, "", "only", "exclude"):
            raise BadQuery("invalid mve_filter")
        for trades in self._every():
            life, ticker = trades.life, trades.symbol
            is_combined = ticker.startswith("KXMVE")
            if (
                (not statuses or life.status in statuses)
                and (not tickers or ticker in tickers)
                and (not events or event_of(ticker) in events)
                and (not series or series_of(ticker) == series)
                and (not combined or is_combined == (combined == "only"))
                and pages.between(query, "created", life.created_ns)
                and pages.between(query, "updated", life.updated_ns)
                and pages.between(query, "close", life.close_ns)
                and pages.between(query, "settled", life.settled_ns)
            ):
                yield trades

    async def _one_market(self, request: web.Request) -> web.Response:
        trades = self._named(request)
        return self._json({"market": documents.market(trades, self._last(trades))})

    async def _one_old_market(self, request: web.Request) -> web.Response:
        if not self._is_old(self._named(request)):
            raise web.HTTPNotFound
        return await self._one_market(request)

    async def _book(self, request: web.Request) -> web.Response:
        trades, depth = self._named(request), number(request.query.get("depth", "0"), "depth") or 0
        if depth > _DEPTH:
            raise BadQuery(f"depth must be between 0 and {_DEPTH}")
        return self._json(documents.book(trades, self._last(trades), depth))

    async def _books(self, request: web.Request) -> web.Response:
        tickers = _tickers(request, "tickers")
        found = [of_kalshi(self._market.trades[t]) for t in tickers if t in self._market.trades]
        told = [
            {"ticker": each.symbol, **documents.book(each, self._last(each), 0)} for each in found
        ]
        return self._json({"orderbooks": told})

    # -------------------------------------------------------------- series and events

    async def _all_series(self, request: web.Request) -> web.Response:
        names = documents.unique(series_of(ticker) for ticker in self._market.trades)
        rows = [documents.series(name) for name in names]
        category = request.query.get("category")
        found = [row for row in rows if not category or row["category"] == category]
        return self._json({"series": found, "cursor": ""})

    async def _one_series(self, request: web.Request) -> web.Response:
        name = request.match_info["series"]
        if all(series_of(ticker) != name for ticker in self._market.trades):
            raise web.HTTPNotFound
        return self._json({"series": documents.series(name)})

    async def _events(self, request: web.Request) -> web.Response:
        query = request.query
        markets: dict[str, list[KalshiTrades]] = {}
        for trades in self._found({"series_ticker": query.get("series_ticker", "")}):
            markets.setdefault(event_of(trades.symbol), []).append(trades)
        statuses = {
            s for word in query.get("status", "").split(",") for s in STATUSES.get(word, ())
        }
        rows = [
            name
            for name, each in markets.items()
            if not statuses or any(trades.life.status in statuses for trades in each)
        ]
        found, cursor = pages.page(rows, query, self._switched, self._clock.monotonic_ns())
        told = []
        for name in found:
            nested = query.get("with_nested_markets") in ("true", "True", "1")
            told.append(self._event(name, markets[name], nested=nested))
            await self._clock.sleep(0)
        return self._json({"events": told, "cursor": cursor, "milestones": []})

    def _event(self, name: str, markets: list[KalshiTrades], *, nested: bool) -> dict[str, Any]:
        told = documents.event(name)
        if nested:
            told["markets"] = [documents.market(each, self._last(each)) for each in markets]
        return told

    async def _one_event(self, request: web.Request) -> web.Response:
        name = request.match_info["event"]
        markets = [each for each in self._every() if event_of(each.symbol) == name]
        if not markets:
            raise web.HTTPNotFound
        nested = request.query.get("with_nested_markets") in ("true", "True", "1")
        told = {"event": self._event(name, markets, nested=nested)}
        rows = [documents.market(each, self._last(each)) for each in markets]
        return self._json({**told, "markets": rows})

    # -------------------------------------------------------------- trades

    async def _trades(self, request: web.Request) -> web.Response:
        window = pages.window_of(request.query)
        since_ns = max(window.since_ns, self._cutoff_ns())
        return self._trades_page(request, window._replace(since_ns=since_ns))

    async def _old_trades(self, request: web.Request) -> web.Response:
        window = pages.window_of(request.query)
        until_ns = min(window.until_ns, self._cutoff_ns() - 1)
        return self._trades_page(request, window._replace(until_ns=until_ns))

    def _trades_page(self, request: web.Request, window: pages.Window) -> web.Response:
        query = request.query
        ticker = query.get("ticker")
        wanted = [
            (each, self._last(each)) for each in self._every() if ticker in (None, "", each.symbol)
        ]
        if query.get("is_block_trade") == "true":
            wanted = []  # nobody trades blocks here
        now_ns = self._clock.monotonic_ns()
        rows, cursor = pages.trades_page(wanted, window, query, self._switched, now_ns)
        told = [documents.trade_row(row.trades, row.trade) for row in rows]
        return self._json({"trades": told, "cursor": cursor})

    # -------------------------------------------------------------- candlesticks

    async def _candles_of_one(self, request: web.Request) -> web.Response:
        trades = self._named(request)
        if series_of(trades.symbol) != request.match_info["series"]:
            raise web.HTTPNotFound
        found = await self._made(trades, request.query)
        return self._json(
            {"ticker": trades.symbol, "market_ticker": trades.symbol, "candlesticks": found}
        )

    async def _candles_of_many(self, request: web.Request) -> web.Response:
        tickers = _tickers(request, "market_tickers")
        told, total = [], 0
        for ticker in tickers:
            if ticker in self._market.trades:
                found = await self._made(of_kalshi(self._market.trades[ticker]), request.query)
                told.append({"market_ticker": ticker, "candlesticks": found})
                total += len(found)
        if total > candles.MOST:
            raise BadQuery(f"more than {candles.MOST} candlesticks requested")
        return self._json({"markets": told})

    async def _old_candles(self, request: web.Request) -> web.Response:
        trades = self._named(request)
        if not self._is_old(trades):
            raise web.HTTPNotFound
        found = await self._made(trades, request.query)
        return self._json({"ticker": trades.symbol, "candlesticks": _of_old(found)})

    async def _made(self, trades: KalshiTrades, query: Mapping[str, str]) -> list[dict[str, Any]]:
        start_s, end_s, minutes = (
            number(query.get(name), name) for name in ("start_ts", "end_ts", "period_interval")
        )
        if start_s is None or end_s is None or minutes not in candles.MINUTES:
            raise BadQuery("start_ts, end_ts and a period_interval of 1, 60 or 1440 are required")
        if (end_s - start_s) // (minutes * 60) >= candles.MOST:
            raise BadQuery(f"more than {candles.MOST} candlesticks requested")
        made = self._candles.setdefault(trades.symbol, candles.Candles(trades, self._clock))
        before = query.get("include_latest_before_start") == "true"
        return await made.between(start_s, end_s, minutes, self._last(trades), before=before)


def _state(*, active: bool) -> dict[str, object]:
    return {
        "exchange_active": active,
        "trading_active": active,
        "exchange_estimated_resume_time": None,
    }


def _tickers(request: web.Request, name: str) -> list[str]:
    """Return the tickers of a list: with commas, or the parameter several times."""
    texts = request.query.getall(name, [])
    tickers = documents.unique(part for text in texts for part in text.split(",") if part)
    if not 1 <= len(tickers) <= _BATCH:
        raise BadQuery(f"{name} must name 1 to {_BATCH} markets")
    return tickers


def _of_old(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return candlesticks as the archive spells them: without endings, and as texts."""
    spelt = []
    for row in found:
        told: dict[str, Any] = {"end_period_ts": row["end_period_ts"]}
        for name in ("yes_bid", "yes_ask", "price"):
            ends = {k for k in row[name] if not k.endswith(documents.DOLLARS)}
            told[name] = {k: row[name].get(k + documents.DOLLARS) for k in ends}
        spelt.append({**told, "volume": row["volume_fp"], "open_interest": row["open_interest_fp"]})
    return spelt
