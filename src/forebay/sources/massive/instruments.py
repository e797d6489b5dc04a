"""Massive, pure: what ``GET /v3/reference/tickers`` says there is to capture."""

from __future__ import annotations

import msgspec

from forebay.ports import Instrument
from forebay.sources.massive.connector import target_of
from forebay.sources.massive.protocol import CRYPTO, FOREX, PREFIXES

_TICKERS = "/v3/reference/tickers"
_MARKET_WORDS = {FOREX: "market=fx&", CRYPTO: "market=crypto&"}


class _Ticker(msgspec.Struct):
    ticker: str
    base_currency_symbol: str = ""
    currency_symbol: str = ""
    active: bool = True


class _Tickers(msgspec.Struct):
    results: list[_Ticker] | None = None
    next_url: str | None = None


_decode = msgspec.json.Decoder(_Tickers).decode


def parse_tickers(body: bytes) -> list[Instrument]:
    """Return the pairs of currencies and of cryptocurrencies, in the order of the answer."""
    return [
        Instrument(
            symbol=f"{each.base_currency_symbol}-{each.currency_symbol}",
            venue_symbol=each.ticker,
            base=each.base_currency_symbol,
            quote=each.currency_symbol,
            status="online" if each.active else "inactive",
        )
        for each in _decode(body).results or ()
        if each.ticker.partition(":")[0] in PREFIXES.values()
        and each.ticker.partition(":")[2] == each.base_currency_symbol + each.currency_symbol
    ]


def tickers_path(market: str) -> str:
    """Return path and query of the first page of a market's tickers; of all, if it is none."""
    return f"{_TICKERS}?{_MARKET_WORDS.get(market, '')}active=true&limit=1000"


def next_tickers(body: bytes) -> str:
    """Return path and query of the page of tickers that follows; empty after the last."""
    target = target_of(_decode(body).next_url or "")
    return target if target.partition("?")[0] == _TICKERS else ""
