"""Quotes: best bid and ask, as the venue states them."""

from __future__ import annotations

import pyarrow as pa

from forebay.domain.flags import CROSSED
from forebay.domain.kinds.checks import Checks, EventKind
from forebay.domain.schema import DECIMAL


def check_quote(checks: Checks) -> None:
    """Reject quotes without a positive price; flag those whose bid is not below their ask.

    Venues that tell no sizes exist, and those are null then, never 0.
    """
    bid = checks.positive("bid_price", "bad_price")
    ask = checks.positive("ask_price", "bad_price")
    checks.not_negative("bid_size", "bad_size", optional=True)
    checks.not_negative("ask_size", "bad_size", optional=True)
    checks.flag_crossed(bid, ask, CROSSED)


QUOTE = EventKind(
    channel="quote",
    table="quotes",
    topic="quote_archive",
    columns=pa.schema(
        [
            ("bid_price", DECIMAL),
            ("bid_size", DECIMAL),
            ("ask_price", DECIMAL),
            ("ask_size", DECIMAL),
        ]
    ),
    check=check_quote,
    idempotent=True,
)
