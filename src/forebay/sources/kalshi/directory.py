"""Kalshi, pure: how its list of markets is asked for some of them, and what it says of each.

Facts from the venue's OpenAPI document ("Get Markets") and recorded answers. The list can be
asked by names, by series or by status; statuses that are asked for are other words than those of
answers. The series of a market is what its name has before the first dash. An expiry that is
scheduled stays as it was when a market settles early.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from forebay.domain.listing import Directory, ListedMarket, ListPage, ListQuery
from forebay.errors import ConfigError
from forebay.sources.kalshi.words import STATES, unknown_words
from forebay.times import to_ns

KINDS = ("market_series", "market_event", "market")
PUSHED = ("market", "market_event")
ROWS = 1000
"""Most rows of a page."""
NAMES = 100
"""So many are asked for by name together: a path must not become too long."""
_ASKED_AS = {"coming": "unopened", "open": "open"}
_SECOND = 1_000_000_000

Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Listed(msgspec.Struct):
    """What the registry needs; a row that is poison in another field is stored all the same."""

    ticker: Text
    event_ticker: Any = ""
    status: Any = ""
    result: Any = ""
    market_type: Any = ""
    price_level_structure: Any = ""
    strike_type: Any = ""
    open_time: Any = ""
    close_time: Any = ""
    settlement_ts: Any = ""


class _Page(msgspec.Struct):
    markets: list[msgspec.Raw] | None
    cursor: str | None = None


class _Cursor(msgspec.Struct):
    cursor: str | None = None


_decode_page = msgspec.json.Decoder(_Page).decode
_decode_cursor = msgspec.json.Decoder(_Cursor).decode
_decode_market = msgspec.json.Decoder(_Listed).decode


def first_page(query: ListQuery) -> str:
    """Return path and query of the first page of what ``query`` asks for."""
    if query.names:
        return _path({"tickers": ",".join(query.names)})
    series, dash, _ = query.head.partition("-")
    some = {"series_ticker": series} if dash else {}
    if query.state != "ended":
        return _path({**some, "status": _ASKED_AS[query.state]})
    # Of no status, since what ended may be closed, determined or settled by now.
    since_s, until_s = query.since_ns // _SECOND, -(-query.until_ns // _SECOND)
    return _path({**some, "min_close_ts": str(since_s), "max_close_ts": str(until_s)})


def next_page(target: str, body: bytes) -> str:
    """Return path and query of the page that follows; empty after the last."""
    cursor = _decode_cursor(body).cursor
    if not cursor:
        return ""
    asked = dict(parse_qsl(target.partition("?")[2]))
    return _path({**{name: asked[name] for name in asked if name != "limit"}, "cursor": cursor})


def read_page(body: bytes) -> ListPage:
    """Return what a page says of its markets; raises ``ValueError`` if it is none."""
    markets, unreadable = [], []
    for row in _decode_page(body).markets or ():
        try:
            markets.append(_market(_decode_market(row)))
        except (ValueError, RecursionError) as error:
            unreadable.append(str(error))
    return ListPage(tuple(markets), tuple(unreadable))


def _market(row: _Listed) -> ListedMarket:
    opens, closes, settled = map(_time, (row.open_time, row.close_time, row.settlement_ts))
    wrong = opens is not None and closes is not None and closes < opens
    event = _text(row.event_ticker)
    series = event.partition("-")[0]
    names = ("status", "result", "market_type", "price_level_structure", "strike_type")
    return ListedMarket(
        symbol=row.ticker,
        # A new word is no reason to stop capturing.
        state=STATES.get(_text(row.status), "open"),
        open_ns=opens,
        ends_ns=tuple(end for end in (closes, settled) if end is not None),
        belongs=(f"/series/{_quoted(series)}", f"/events/{_quoted(event)}") if event else (),
        unknown=tuple(unknown_words({name: _text(getattr(row, name)) for name in names})),
        impossible="close_ts" if wrong else "",
    )


def _text(cell: object) -> str:
    return cell if isinstance(cell, str) else ""


def _time(cell: object) -> int | None:
    """Return UTC nanoseconds; None for what is no time, and for the zero that stands for none."""
    try:
        moment_ns = to_ns(_text(cell))
    except (ConfigError, ValueError, OverflowError):
        return None
    return moment_ns if moment_ns > 0 else None


def _path(asked: dict[str, str]) -> str:
    return "/markets?" + urlencode({"limit": str(ROWS), **asked}, quote_via=quote, safe=",")


def _quoted(name: str) -> str:
    return quote(name, safe="")


DIRECTORY = Directory(
    first=first_page,
    read=read_page,
    following=next_page,
    kinds=KINDS,
    pushed=PUSHED,
    names=NAMES,
)
