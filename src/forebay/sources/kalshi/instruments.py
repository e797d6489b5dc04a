"""Kalshi, pure: what ``GET /markets`` says there is to capture."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from forebay.ports import Instrument

_MARKETS = "/markets?limit=1000"
QUOTE = "USD"
STATUSES = {word: f"&status={word}" for word in ("unopened", "open", "closed", "settled")}
"""What can be asked for; answers say it in other words, and more finely."""


class _Market(msgspec.Struct):
    ticker: str
    event_ticker: str = ""
    status: str = ""


class _Markets(msgspec.Struct):
    markets: list[_Market] | None
    cursor: str | None = None


_decode = msgspec.json.Decoder(_Markets).decode


def parse_markets(body: bytes) -> list[Instrument]:
    """Return the contracts in the order of the answer, with the venue's own word for their state.

    What is traded is an outcome of an event, in dollars.
    """
    return [
        Instrument(
            symbol=each.ticker,
            venue_symbol=each.ticker,
            base=each.event_ticker,
            quote=QUOTE,
            status=each.status,
        )
        for each in _decode(body).markets or ()
    ]


def markets_path(market: str) -> str:
    """Return path and query of the first page of all markets."""
    del market
    return _MARKETS


def next_markets(body: bytes) -> str:
    """Return path and query of the page that follows; empty after the last."""
    cursor = _decode(body).cursor
    return f"{_MARKETS}&cursor={quote(cursor, safe='')}" if cursor else ""


def series_of(head: str) -> str:
    """Return what asks for the markets of one series, where symbols begin with all of its name."""
    series, dash, _ = head.partition("-")
    return f"&series_ticker={quote(series, safe='')}" if dash else ""
