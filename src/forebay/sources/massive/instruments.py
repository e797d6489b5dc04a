"""Massive, pure: what ``GET /v3/reference/tickers`` says there is to capture."""

from __future__ import annotations

import msgspec

from forebay.errors import Transient
from forebay.ports import Instrument
from forebay.sources.massive.channels import MARKETS


class _Ticker(msgspec.Struct):
    ticker: str
    base_currency_symbol: str = ""
    currency_symbol: str = ""
    active: bool = True


class _Tickers(msgspec.Struct):
    results: list[_Ticker] | None = None


_decode = msgspec.json.Decoder(_Tickers).decode


def parse_tickers(body: bytes) -> list[Instrument]:
    """Return the pairs of currencies and of cryptocurrencies, in the order of the answer.

    What is in neither market is left out. Raises :class:`~forebay.errors.Transient` if the answer
    is no list of tickers.
    """
    try:
        tickers = _decode(body).results or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"Massive's list of tickers cannot be read: {error}."
        raise Transient(message, hint="Check the venue's status page.") from error
    return [
        Instrument(
            symbol=f"{each.base_currency_symbol}-{each.currency_symbol}",
            venue_symbol=each.ticker,
            base=each.base_currency_symbol,
            quote=each.currency_symbol,
            status="online" if each.active else "inactive",
        )
        for each in tickers
        if each.ticker.partition(":")[0] in MARKETS
        and each.ticker.partition(":")[2] == each.base_currency_symbol + each.currency_symbol
    ]
