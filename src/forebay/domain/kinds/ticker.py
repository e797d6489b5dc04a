"""Tickers: the last price and what a venue says of the last 24 hours."""

from __future__ import annotations

import pyarrow as pa

from forebay.domain.flags import CROSSED
from forebay.domain.kinds.checks import Checks, EventKind
from forebay.domain.schema import DECIMAL

_PRICES = ("bid_price", "ask_price", "open_24h", "high_24h", "low_24h", "vwap_24h")
_SIZES = ("size", "bid_size", "ask_size", "volume_24h")


def check_ticker(checks: Checks) -> None:
    """Reject tickers without a positive last price; flag those whose bid is not below their ask.

    All else may be absent, and is null then, never 0.
    """
    checks.positive("price", "bad_price")
    prices = {name: checks.positive(name, "bad_price", optional=True) for name in _PRICES}
    for name in _SIZES:
        checks.not_negative(name, "bad_size", optional=True)
    checks.flag_crossed(prices["bid_price"], prices["ask_price"], CROSSED)


TICKER = EventKind(
    channel="ticker",
    table="tickers",
    topic="ticker_archive",
    columns=pa.schema([(name, DECIMAL) for name in ("price", *_SIZES, *_PRICES)]),
    check=check_ticker,
    idempotent=True,
)
"""``price`` and ``size`` are of the last trade."""
