"""Trades: what changed hands, at what price, and who took."""

from __future__ import annotations

import pyarrow as pa

from forebay.domain.kinds.checks import Checks, EventKind
from forebay.domain.schema import DECIMAL

SIDES = ("buy", "sell", "unknown")


def check_trade(checks: Checks) -> None:
    """Reject trades without a positive price and size, or with a side that is none."""
    checks.native("trade_id")
    checks.positive("price", "bad_price")
    checks.positive("size", "bad_size")
    checks.choice("side", SIDES, "bad_side")


TRADE = EventKind(
    channel="trade",
    table="trades",
    topic="trade_archive",
    columns=pa.schema(
        [
            ("trade_id", pa.string()),
            ("price", DECIMAL),
            ("size", DECIMAL),
            ("side", pa.string()),
        ]
    ),
    check=check_trade,
)
"""``trade_id`` is the venue's, empty where it gives none; ``side`` is the taker's."""
