"""Kalshi, pure: which pages to ask for.

Facts from the venue's published OpenAPI document. ``min_ts`` and ``max_ts`` are whole seconds. What
was traded before ``trades_created_ts`` of ``/historical/cutoff`` is under ``/historical`` alone,
and likewise the candles of markets that were settled before ``market_settled_ts``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import msgspec

from forebay.errors import ConfigError, Unusable
from forebay.sources.history import ByBars, ByToken
from forebay.sources.kalshi.protocol import PERIODS_MIN, SECOND, SESSION_OF
from forebay.times import to_ns

if TYPE_CHECKING:
    from collections.abc import Generator

    from forebay.ports import HistoryRequest
    from forebay.sources.venue import Pages, PollRound

MOST_TRADES = 1000
"""Of a page."""
MOST_CANDLES = 5000
"""Of an answer on one market."""
MOST_MARKETS = 100
"""Of an answer on several, by candles and by books."""
EARLIER_S, LATER_S = 60, 10
"""A gap is in receipts, history in the venue's own time: by so much it is asked for more. The last
message of a connection that got behind may have been sent long before it came."""
CUTOFF = "/historical/cutoff"
OVERLAP_S = 86_400
"""What is so near to the cutoff is asked for on both of its sides: it moves."""


class _Following(msgspec.Struct):
    """Paging needs no more: a row that is poison must not stop a fill."""

    trades: list[msgspec.Raw] | None
    cursor: str | None = None


class _Moved(msgspec.Struct):
    """Times before which things are elsewhere."""

    trades_created_ts: str | int
    market_settled_ts: str | int = 0


class _Ticker(msgspec.Struct):
    ticker: str


class _OldMarkets(msgspec.Struct):
    markets: list[_Ticker] | None


_following = msgspec.json.Decoder(_Following).decode
_moved = msgspec.json.Decoder(_Moved).decode
_old_markets = msgspec.json.Decoder(_OldMarkets).decode


def next_cursor(body: bytes) -> str:
    """Return what names the page of trades that follows, empty after the last.

    Raises ``ValueError`` if the page is none.
    """
    return _following(body).cursor or ""


def _cutoff_s(told: str | int) -> int:
    """Return a cutoff in Unix seconds; a number counts them."""
    try:
        return told if isinstance(told, int) else to_ns(told) // SECOND
    except (ConfigError, OverflowError) as error:
        raise Unusable(f"Kalshi's cutoff cannot be read: {told!r:.200}.") from error


def _asked_cutoff() -> Generator[str, bytes, _Moved]:
    body = yield CUTOFF
    try:
        return _moved(body)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"Kalshi's cutoff cannot be read: {error}.") from error


def trades_path(
    symbol: str, first_s: int, last_s: int, cursor: str = "", *, old: bool = False
) -> str:
    """Return path and query of the trades of a market between two seconds, both included."""
    span = f"ticker={symbol}&min_ts={first_s}&max_ts={last_s}&limit={MOST_TRADES}"
    following = f"&cursor={quote(cursor, safe='')}" if cursor else ""
    return f"/{'historical' if old else 'markets'}/trades?{span}{following}"


@dataclass(frozen=True, slots=True)
class PagedTrades:
    """Trades by time: those before the cutoff are asked for where they were moved to."""

    cost: int = 1
    unit: Literal["id", "time"] = "time"

    def plan(self, request: HistoryRequest) -> Pages:
        """See :class:`~forebay.sources.venue.History`."""
        cutoff_s = _cutoff_s((yield from _asked_cutoff()).trades_created_ts)
        first = request.first // SECOND - EARLIER_S
        last = -(-request.last // SECOND) + LATER_S
        if last >= cutoff_s - OVERLAP_S:
            yield from _paged(request, max(first, cutoff_s - OVERLAP_S), last, old=False)
        # After that, since what is moved meanwhile was in neither list before.
        if first <= cutoff_s + OVERLAP_S:
            yield from _paged(request, first, min(last, cutoff_s + OVERLAP_S), old=True)
        return ()


def _paged(request: HistoryRequest, first_s: int, last_s: int, *, old: bool) -> Pages:
    def path(asked: HistoryRequest, cursor: str) -> str:
        return trades_path(asked.symbol, first_s, last_s, cursor, old=old)

    return (yield from ByToken(path=path, token=next_cursor).plan(request))


# ----------------------------------------------------------------------------- candles


def candles_path(request: HistoryRequest, begin_ns: int, end_ns: int) -> str:
    """Return path and query of the candles of a series that begin in a range, its end excluded.

    The venue is asked for those that *end* in a range, both ends included.
    """
    minutes = PERIODS_MIN[request.series]
    bend = 3600 if request.series in SESSION_OF else 0  # a day may have 23 or 25 hours
    first = -(-begin_ns // SECOND) + minutes * 60 - bend
    last = (end_ns - 1) // SECOND + minutes * 60 + bend
    series = request.symbol.partition("-")[0]
    span = f"start_ts={first}&end_ts={last}&period_interval={minutes}"
    return f"/series/{series}/markets/{request.symbol}/candlesticks?{span}"


def old_candles_path(request: HistoryRequest, begin_ns: int, end_ns: int) -> str:
    """Return the same of a market that was settled before the cutoff."""
    query = candles_path(request, begin_ns, end_ns).partition("?")[2]
    return f"/historical/markets/{request.symbol}/candlesticks?{query}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedBars(ByBars):
    """Bars by time: those of markets that were settled before the cutoff are elsewhere."""

    def plan(self, request: HistoryRequest) -> Pages:
        """See :class:`~forebay.sources.venue.History`."""
        old = yield from self._has_moved(request)
        pages = replace(self, path=old_candles_path) if old else self
        return (yield from ByBars.plan(pages, request))

    def _has_moved(self, request: HistoryRequest) -> Generator[str, bytes, bool]:
        cutoff_s = _cutoff_s((yield from _asked_cutoff()).market_settled_ts)
        if request.first > cutoff_s * SECOND:
            return False  # it was not settled by then
        body = yield f"/historical/markets?tickers={request.symbol}&limit=1"
        try:
            listed = _old_markets(body).markets or ()
        except (ValueError, RecursionError) as error:
            raise Unusable(f"Kalshi's old markets cannot be read: {error}.") from error
        return any(each.ticker == request.symbol for each in listed)


def bar_times(request: HistoryRequest, body: bytes) -> list[tuple[int, int]]:
    """Return when the bars of a page began and ended; raises ``ValueError`` if it is none."""
    from forebay.sources.kalshi.pages import begin_of, candles_of  # noqa: PLC0415 - Arrow

    ends = [candle.end_period_ts for candle in candles_of(body) if candle.traded]
    begun = ((begin_of(request.series, end), end) for end in ends)
    return [(begin * SECOND, end * SECOND) for begin, end in begun if begin is not None]


# ------------------------------------------------------------------------------- polls

_AGAIN_S = 30
"""What is asked for overlaps with what was: nothing is late by more."""
_CANDLES = 5
"""So many closed candles are asked for: one poll in five is enough."""


def latest_trades_path(asked: PollRound) -> str:
    """Return path and query of what a market traded since it was asked for last."""
    first = asked.since_ns // SECOND - _AGAIN_S
    return trades_path(asked.symbols[0], first, asked.now_ns // SECOND + _AGAIN_S)


def following_trades(target: str, body: bytes) -> str:
    """Return path and query of the page of trades that follows; ``ValueError`` if this is none."""
    cursor = next_cursor(body)
    begun = target.partition("&cursor=")[0]
    return f"{begun}&cursor={quote(cursor, safe='')}" if cursor else ""


def books_path(asked: PollRound) -> str:
    """Return path and query of the books of some markets."""
    return "/markets/orderbooks?" + "&".join(f"tickers={each}" for each in asked.symbols)


def latest_candles_path(asked: PollRound) -> str:
    """Return path and query of the last minutes of some markets that are over."""
    last = asked.now_ns // SECOND // 60 * 60
    span = f"start_ts={last - (_CANDLES - 1) * 60}&end_ts={last}&period_interval=1"
    return f"/markets/candlesticks?market_tickers={','.join(asked.symbols)}&{span}"


def probe_path(symbol: str) -> str:
    """Return path and query of next to nothing."""
    del symbol
    return "/exchange/status"
