"""What Massive answers over REST: aggregates, quotes, trades and tickers, page by page."""

from __future__ import annotations

import base64
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from forebay.lab.exchanges.massive import messages
from forebay.lab.exchanges.massive.aggregates import DAY_MS, SPANS, LiveBars, groups
from forebay.lab.exchanges.massive.spoilt import spoil
from forebay.lab.exchanges.massive.truth import CRYPTO, EXCHANGE, FOREX, market_of
from forebay.lab.exchanges.queries import BadQuery, number
from forebay.lab.truth import Tickers, parse_start
from forebay.lab.truth.histories import MINUTE_MS, BarLine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler

    from forebay.clock import Clock
    from forebay.lab.exchanges.market import Market
    from forebay.lab.faults import SwitchedFaults
    from forebay.lab.truth.histories import BarHistory

EMPTY: Final = "pages-empty"
LOOP: Final = "pages-loop"
TWICE: Final = "pages-twice"
CORRUPT: Final = "pages-corrupt"
SHORT: Final = "pages-short"
TROUBLES: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {EMPTY: {}, LOOP: {}, TWICE: {}, CORRUPT: {"every": 100}, SHORT: {"rows": 1_000}}
)
"""Nothing matches; a page that names itself as the next; a page begins with the last row of the one
before; a bar of so many cannot be; pages are shorter than was asked for."""
MOST: Final = 50_000
_USUAL_BARS, _USUAL_TICKS, _USUAL_TICKERS, _MOST_TICKERS = 5_000, 1_000, 100, 1_000
_PREFIXES: Final = {FOREX: "C", CRYPTO: "X"}
_WORDS: Final = {FOREX: "fx", CRYPTO: "crypto"}
_SLICE = 2_000  # bars made before the sockets get their turn
_MS = 1_000_000
_HOST = "https://api.massive.com"  # the venue names itself, wherever it is asked


class MassiveRest:
    """Handlers; only what has happened by now is in the history, and a key is wanted for all."""

    def __init__(self, market: Market, clock: Clock, switched: SwitchedFaults) -> None:
        self._market = market
        self._clock = clock
        self._switched = switched
        self._live: dict[tuple[str, int], LiveBars] = {}

    def routes(self) -> list[web.RouteDef]:
        """What is served, and where."""
        path = "/v2/aggs/ticker/{ticker}/range/{multiplier}/{span}/{first}/{last}"
        handlers: dict[str, Handler] = {
            path: self._aggregates,
            "/v3/quotes/{ticker}": self._quotes,
            "/v3/trades/{ticker}": self._trades,
            "/v3/reference/tickers": self._tickers,
        }
        return [web.get(where, self._keyed(handler)) for where, handler in handlers.items()]

    def _keyed(self, handler: Handler) -> Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if messages.KEY in (shown, request.query.get("apiKey")):
                return await handler(request)
            body = {"status": "ERROR", "request_id": "0" * 32, "error": "Unknown API Key"}
            return web.json_response(body, status=401)

        return checked

    # -------------------------------------------------------------- what is asked for

    def _symbol(self, request: web.Request, dash: str) -> str:
        for symbol in self._market.trades:
            name = f"{_PREFIXES[market_of(symbol)]}:{symbol.replace('-', dash)}"
            if name == request.match_info["ticker"]:
                return symbol
        raise web.HTTPNotFound

    def _limit(self, query: Mapping[str, str], usual: int) -> int:
        limit = _limit(query, usual, MOST)
        rows = self._switched.setting(SHORT, "rows")
        return max(1, min(limit, rows)) if self._strikes(SHORT) else limit

    def _strikes(self, name: str) -> bool:
        return self._switched.strikes(name, self._clock.monotonic_ns())

    def _history(self, symbol: str, step_ms: int) -> BarHistory:
        if symbol in self._market.config.bars:
            return self._market.config.bars[symbol]
        at = (symbol, MINUTE_MS if step_ms % MINUTE_MS == 0 else 1_000)
        if at not in self._live:
            self._live[at] = LiveBars(self._market, *at)
        return self._live[at]

    # -------------------------------------------------------------------- aggregates

    async def _aggregates(self, request: web.Request) -> web.Response:
        symbol, query, info = self._symbol(request, ""), _query(request), request.match_info
        multiplier = number(info["multiplier"], "multiplier")
        if not multiplier or info["span"] not in SPANS:
            raise BadQuery("Could not parse the time span")
        size_ms = multiplier * SPANS[info["span"]]
        limit = self._limit(query, _USUAL_BARS)
        adjusted = query.get("adjusted", "true")
        if adjusted not in ("true", "false") or query.get("sort", "asc") != "asc":
            raise BadQuery("Could not parse adjusted or sort")
        first_ms, last_ms = _day(info["first"]), _day(info["last"], DAY_MS - 1)
        begin_ms = first_ms
        if "cursor" in request.query and self._strikes(TWICE):
            begin_ms = first_ms - size_ms
        lines, next_ms = await self._page(symbol, size_ms, begin_ms, last_ms, limit)
        if self._strikes(EMPTY):
            lines, next_ms = [], None
        rows = [self._row(symbol, line, size_ms) for line in lines]
        told = f',"results":[{",".join(rows)}]' if rows else ""
        if next_ms is not None:
            where = str(request.rel_url.path).split("/")
            where[-2] = str(first_ms if self._strikes(LOOP) else next_ms)
            told += f',"next_url":"{self._next("/".join(where), query)}"'
        text = (
            f'{{"ticker":"{info["ticker"]}","queryCount":{len(rows)},"resultsCount":{len(rows)}'
            f',"adjusted":{adjusted}{told},"status":"OK","request_id":"6a7e","count":{len(rows)}}}'
        )
        return web.Response(text=text, content_type="application/json")

    async def _page(
        self, symbol: str, size_ms: int, first_ms: int, last_ms: int, limit: int
    ) -> tuple[list[BarLine], int | None]:
        """Return the bars of a page, whose limit counts those they are made of."""
        lines: list[BarLine] = []
        looked, whole_days = 0, size_ms % DAY_MS == 0
        history = self._history(symbol, size_ms)
        for line, count in groups(history, size_ms, first_ms, last_ms):
            if looked >= limit:
                return lines, line.open_ms
            looked += size_ms // DAY_MS if whole_days else count
            lines.append(line)
            if len(lines) % _SLICE == 0:
                await self._clock.sleep(0)
        return lines, None

    def _row(self, symbol: str, line: BarLine, size_ms: int) -> str:
        opened, high, low, close, volume = map(messages.number, line[1:])
        cells = {"v": volume, "o": opened, "c": close, "h": high, "l": low, "t": str(line.open_ms)}
        if market_of(symbol) == CRYPTO:
            cells["vw"] = close
        if self._switched.on(CORRUPT):
            turn = line.open_ms // size_ms
            every = max(1, self._switched.setting(CORRUPT, "every"))
            if turn % every == 0 and self._strikes(CORRUPT):
                spoil(cells, turn // every)
        return "{" + ",".join(f'"{name}":{cell}' for name, cell in cells.items()) + "}"

    # ----------------------------------------------------------------- quotes, trades

    async def _quotes(self, request: web.Request) -> web.Response:
        symbol = self._symbol(request, "-")
        if market_of(symbol) != FOREX:
            raise web.HTTPNotFound
        tickers = Tickers(self._market.trades[symbol])

        def row(index: int) -> str | None:
            told = tickers.quote(index)
            if told is None:
                return None
            ask, bid = messages.number(told.ask_price), messages.number(told.bid_price)
            return (
                f'{{"ask_exchange":48,"ask_price":{ask},"bid_exchange":48,"bid_price":{bid}'
                f',"participant_timestamp":{told.event_ts}}}'
            )

        return await self._ticks(request, symbol, row)

    async def _trades(self, request: web.Request) -> web.Response:
        symbol = self._symbol(request, "-")
        if market_of(symbol) != CRYPTO:
            raise web.HTTPNotFound
        trades = self._market.trades[symbol]

        def row(index: int) -> str:
            told = trades.event(index)
            price, size = messages.number(told.price), messages.number(told.size)
            condition = 2 if told.side == "buy" else 1
            return (
                f'{{"conditions":[{condition}],"exchange":{EXCHANGE},"id":"{told.trade_id}"'
                f',"participant_timestamp":{told.event_ts},"price":{price},"size":{size}}}'
            )

        return await self._ticks(request, symbol, row)

    async def _ticks(self, request: web.Request, symbol: str, row: Any) -> web.Response:  # noqa: ANN401
        """Return the rows of a range of times, rising; ``row`` makes that of an index, or None."""
        query = _query(request)
        limit = self._limit(query, _USUAL_TICKS)
        if query.get("order", "asc") != "asc":
            raise BadQuery("Only rising order is simulated")
        first, last = self._range(symbol, query)
        rows: list[str] = []
        index = first
        while index <= last and len(rows) < limit:
            if (told := row(index)) is not None:
                rows.append(told)
            index += 1
            if index % _SLICE == 0:
                await self._clock.sleep(0)
        more = ""
        if index <= last:
            after = {**query, "after": str(first if self._strikes(LOOP) else index)}
            more = f',"next_url":"{self._next(request.rel_url.path, after)}"'
        told = f',"results":[{",".join(rows)}]' if rows else ""
        text = f'{{"status":"OK","request_id":"6a7e"{told}{more}}}'
        return web.Response(text=text, content_type="application/json")

    def _range(self, symbol: str, query: Mapping[str, str]) -> tuple[int, int]:
        """Return the first and the last index that a question is about."""
        trades, first, last = self._market.trades[symbol], 0, self._market.last(symbol)
        for name, given in query.items():
            if not name.startswith("timestamp"):
                continue
            ns, way = number(given, name) or 0, name.partition(".")[2]
            if way in ("gt", "gte", ""):
                first = max(first, trades.index_at(ns - (way != "gt")) + 1)
            if way in ("lt", "lte", ""):
                last = min(last, trades.index_at(ns - (way == "lt")))
        return number(query.get("after"), "after") or first, last

    # ----------------------------------------------------------------------- tickers

    async def _tickers(self, request: web.Request) -> web.Response:
        query = _query(request)
        limit = _limit(query, _USUAL_TICKERS, _MOST_TICKERS)
        after = number(query.get("after", "0"), "after") or 0
        wanted = query.get("market")
        found = [each for each in self._market.trades if wanted in (None, _WORDS[market_of(each)])]
        body: dict[str, object] = {"status": "OK", "request_id": "6a7e", "count": len(found)}
        if rows := [_ticker(symbol) for symbol in found[after : after + limit]]:
            body["results"] = rows
        if after + limit < len(found):
            more = {**query, "after": str(after + limit)}
            body["next_url"] = self._next(request.rel_url.path, more)
        return web.json_response(body)

    def _next(self, path: str, query: Mapping[str, str]) -> str:
        """Return the address of the next page: the rest of the question is its cursor."""
        rest = urlencode({name: each for name, each in query.items() if name != "apiKey"})
        cursor = base64.urlsafe_b64encode(rest.encode()).decode().rstrip("=")
        return f"{_HOST}{path}?cursor={cursor}"


def _query(request: web.Request) -> dict[str, str]:
    """Return the question, what its cursor holds included."""
    query = dict(request.query)
    if cursor := query.pop("cursor", ""):
        try:
            rest = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        except ValueError:
            raise BadQuery("Invalid cursor") from None
        query |= dict(parse_qsl(rest))
    return query


def _limit(query: Mapping[str, str], usual: int, most: int) -> int:
    limit = number(query.get("limit", str(usual)), "limit") or 0
    if not 1 <= limit <= most:
        raise BadQuery("Invalid limit")
    return limit


def _day(text: str, more_ms: int = 0) -> int:
    """Return milliseconds from such, or from a date, whose last one is ``more_ms`` later."""
    if text.isdecimal():
        return number(text, "from") or 0
    return parse_start(f"{text}T00:00:00Z") // _MS + more_ms


def _ticker(symbol: str) -> dict[str, object]:
    base, quote = symbol.split("-")
    market = market_of(symbol)
    return {
        "ticker": f"{_PREFIXES[market]}:{base}{quote}",
        "name": f"{base} - {quote}",
        "market": _WORDS[market],
        "locale": "global",
        "active": True,
        "base_currency_symbol": base,
        "currency_symbol": quote,
    }
