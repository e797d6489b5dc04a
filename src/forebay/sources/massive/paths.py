"""Which pages to ask for, and which one follows: pure, and shared by who asks and who reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from forebay.sources.massive.channels import (
    CRYPTO,
    FOREX,
    MILLISECOND,
    SECONDS,
    SPANS,
    TIMEFRAMES,
    pair_of,
    ticker_of,
)

if TYPE_CHECKING:
    from forebay.ports import HistoryRequest

BASE_BARS = 50_000
"""Most of a page, counted in the bars of a minute, or of a day, that it is made of."""
TICKS = 50_000
"""Most rows of a page of quotes or trades."""
ADJUSTED = "adjusted"
"""What the name of a series says of bars that are restated for what came later."""
MARGIN_NS = 1_000_000_000
"""A gap is in receipts, history in the venue's own time."""
_TICKERS = "/v3/reference/tickers"
_MARKET_WORDS = {FOREX: "market=fx&", CRYPTO: "market=crypto&"}
_NEXT = re.compile(r"(?:[a-z]+://[^/?#]*)?(/[^?#\s]*)(\?[^#\s]*)?", re.ASCII)
_KEY = re.compile(r"(?<=[?&])apiKey=[^&]*&?")
_BARS = re.compile(
    r"/v2/aggs/ticker/([CX]:[A-Z0-9]+)/range/([0-9]{1,9})/([a-z]+)/([0-9]{1,19})/([0-9]{1,19})"
)
_TICKS = re.compile(r"/v3/(quotes|trades)/([CX]:[A-Z0-9]+-[A-Z0-9]+)")


@dataclass(frozen=True, slots=True)
class AskedBars:
    """What a page of aggregates was asked for; both ends are included."""

    ticker: str
    timeframe: str
    first_ms: int
    last_ms: int

    def within(self, begin_ms: int) -> bool:
        """Return whether a bar that begins then is asked for; the one that ``from`` is in is."""
        return self.first_ms - SECONDS[self.timeframe] * 1000 < begin_ms <= self.last_ms


def asked_bars(target: str) -> AskedBars | None:
    """Return what path and query ask for; None if these are not bars that have a name here."""
    found = _BARS.fullmatch(target.partition("?")[0])
    timeframe = found and TIMEFRAMES.get((int(found[2]), found[3]))
    if not (found and timeframe):
        return None
    return AskedBars(found[1], timeframe, int(found[4]), int(found[5]))


def asked_ticks(target: str) -> tuple[str, str] | None:
    """Return kind and pair of path and query; None if they ask for neither quotes nor trades."""
    found = _TICKS.fullmatch(target.partition("?")[0])
    return (found[1].removesuffix("s"), found[2]) if found else None


# --------------------------------------------------------------------- what to ask for


def bars_path(request: HistoryRequest, begin_ns: int, end_ns: int) -> str:
    """Return path and query of the bars of a series that begin in a range, its end not included.

    The limit counts bars of the base, so a page may have fewer rows and need not be the last.
    """
    timeframe, adjusted = series_of(request.series)
    multiplier, span = SPANS[timeframe]
    first, last = -(-begin_ns // MILLISECOND), (end_ns - 1) // MILLISECOND
    ticker = ticker_of(request.market, request.symbol)
    where = f"{multiplier}/{span}/{first}/{last}"
    asked = f"adjusted={'true' if adjusted else 'false'}&sort=asc&limit={BASE_BARS}"
    return f"/v2/aggs/ticker/{ticker}/range/{where}?{asked}"


def series_of(name: str) -> tuple[str, bool]:
    """Return time frame of a series, and whether its bars are adjusted."""
    timeframe, _, option = name.partition(",")
    return timeframe, option == ADJUSTED


def quotes_path(request: HistoryRequest, token: str) -> str:
    """Return path and query of quotes; there is no history of a cryptocurrency's."""
    return token or _ticks_path("quotes", request)


def trades_path(request: HistoryRequest, token: str) -> str:
    """Return path and query of trades."""
    return token or _ticks_path("trades", request)


def _ticks_path(what: str, request: HistoryRequest) -> str:
    first, last = request.first - MARGIN_NS, request.last + MARGIN_NS
    span = f"timestamp.gte={first}&timestamp.lte={last}"
    pair = pair_of(request.market, request.symbol)
    return f"/v3/{what}/{pair}?{span}&order=asc&sort=timestamp&limit={TICKS}"


# ------------------------------------------------------------------------ what follows


class _Following(msgspec.Struct):
    """Paging needs no more: a row that is poison must not stop a fill."""

    results: list[msgspec.Raw] | None = None
    next_url: str | None = None
    status: str = ""


_decode = msgspec.json.Decoder(_Following).decode
ANSWERED = ("", "OK", "DELAYED")
"""What ``status`` says of a page that is one."""


def next_page(body: bytes) -> str:
    """Return path and query of the page that follows, empty after the last.

    The host that ``next_url`` names is not looked at: it would be given the key. Nor is a key.
    Raises ``ValueError`` if the page is none, or what follows is no page of a history.
    """
    try:
        page = _decode(body)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if page.status not in ANSWERED:
        raise ValueError(f"its status is {page.status!r:.200}")
    if not page.next_url:
        return ""
    target = _target(page.next_url)
    if asked_bars(target) is None and asked_ticks(target) is None:
        raise ValueError(f"it goes on at {page.next_url!r:.200}")
    return target


def tickers_path(market: str) -> str:
    """Return path and query of the first page of a market's tickers; of all, if it is none."""
    return f"{_TICKERS}?{_MARKET_WORDS.get(market, '')}active=true&limit=1000"


def next_tickers(body: bytes) -> str:
    """Return path and query of the page of tickers that follows; empty after the last."""
    target = _target(_decode(body).next_url or "")
    return target if target.partition("?")[0] == _TICKERS else ""


def _target(url: str) -> str:
    """Return path and query of an address without the key; empty if it is none."""
    found = _NEXT.fullmatch(url)
    return f"{found[1]}{_KEY.sub('', found[2] or '').rstrip('?&')}" if found else ""
