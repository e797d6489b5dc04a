"""What a venue says of its series, events and markets, and of what becomes of them."""

from __future__ import annotations

import pyarrow as pa

from forebay.domain.kinds.statement import statement
from forebay.domain.schema import DECIMAL, TIME

_TEXT, _TRUTH = pa.string(), pa.bool_()

MARKET_SERIES = statement(
    "market_series",
    "market_series",
    [
        *((name, _TEXT) for name in ("title", "category", "tags", "frequency", "fee_type")),
        ("fee_multiplier", DECIMAL),
        *((name, _TEXT) for name in ("terms_url", "settlement_sources", "extra")),
    ],
)
"""What comes again and again, an event at a time. ``tags``, ``settlement_sources`` and ``extra``
are JSON."""

MARKET_EVENT = statement(
    "market_event",
    "market_events",
    [
        *((name, _TEXT) for name in ("series_symbol", "title", "subtitle", "category", "status")),
        ("mutually_exclusive", _TRUTH),
        ("collateral_return_type", _TEXT),
        ("strike_ts", TIME),
        *((name, _TEXT) for name in ("strike_period", "settlement_sources", "extra")),
    ],
)
"""What one or more markets are about."""

MARKET = statement(
    "market",
    "markets",
    [
        *((name, _TEXT) for name in ("series_symbol", "event_symbol", "market_type")),
        *((name, _TEXT) for name in ("title", "subtitle", "yes_title", "no_title")),
        *((name, _TEXT) for name in ("status", "result")),
        *((name, TIME) for name in ("created_ts", "open_ts", "close_ts")),
        *((name, TIME) for name in ("expected_expiration_ts", "latest_expiration_ts")),
        *((name, TIME) for name in ("determined_ts", "settled_ts")),
        ("can_close_early", _TRUTH),
        ("early_close_condition", _TEXT),
        ("price_level_structure", _TEXT),
        ("price_ranges", _TEXT),
        ("tick_size", DECIMAL),
        ("notional_value", DECIMAL),
        ("strike_type", _TEXT),
        ("floor_strike", DECIMAL),
        ("cap_strike", DECIMAL),
        ("custom_strike", _TEXT),
        ("settlement_value", DECIMAL),
        ("expiration_value", _TEXT),
        ("settlement_delay_s", pa.int64()),
        *((name, _TEXT) for name in ("rules_primary", "rules_secondary", "extra")),
    ],
    ("open_ts", "close_ts"),
    ("open_ts", "determined_ts"),
    ("open_ts", "settled_ts"),
    ("floor_strike", "cap_strike"),
    begins="created_ts",
)
"""What can be traded, as its symbol. ``price_ranges``, ``custom_strike`` and ``extra`` are JSON,
``tick_size`` is the smallest step of the ranges; how much one contract pays is ``notional_value``,
and how much of it each paid is ``settlement_value``."""
