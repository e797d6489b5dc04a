"""Columns of the tables, the same names in every store, as Arrow types.

Times are UTC nanoseconds without a zone; prices and sizes are exact decimals with 18 places.
"""

from __future__ import annotations

import pyarrow as pa

DECIMAL_PLACES = 18
DECIMAL = pa.decimal128(38, DECIMAL_PLACES)
TIME = pa.timestamp("ns")

TRADES = pa.schema(
    [
        ("event_id", pa.uuid()),
        ("venue", pa.string()),
        ("symbol", pa.string()),
        ("venue_symbol", pa.string()),
        ("event_ts", TIME),
        ("exchange_ts", TIME),
        ("received_ts", TIME),
        ("trade_id", pa.string()),
        ("price", DECIMAL),
        ("size", DECIMAL),
        ("side", pa.string()),
        ("flags", pa.string()),
    ]
)
"""``side`` is the taker's. ``flags`` are names joined by commas, empty when there is none."""

DEAD_LETTERS = pa.schema(
    [
        ("letter_id", pa.uuid()),
        ("venue", pa.string()),
        ("source", pa.string()),
        ("epoch", pa.string()),
        ("log_id", pa.string()),
        ("seq", pa.int64()),
        ("item", pa.int32()),
        ("received_ts", TIME),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("parser", pa.string()),
        ("attempts", pa.int32()),
        ("payload", pa.binary()),
    ]
)
"""``log_id`` and ``seq`` say where in the journal the frame is; ``item`` which event of it."""

COVERAGE = pa.schema(
    [
        ("venue", pa.string()),
        ("channel", pa.string()),
        ("symbol", pa.string()),
        ("unit", pa.string()),
        ("origin", pa.string()),
        ("first", pa.int64()),
        ("last", pa.int64()),
    ]
)

GAPS = pa.schema(
    [
        ("venue", pa.string()),
        ("channel", pa.string()),
        ("symbol", pa.string()),
        ("unit", pa.string()),
        ("first", pa.int64()),
        ("last", pa.int64()),
        ("reason", pa.string()),
        ("state", pa.string()),
    ]
)

EVENT_TABLES = {"trades": TRADES}
"""Tables of events, each with its own ``event_id``."""

CONTENT = {
    "trades": ("venue", "symbol", "event_ts", "trade_id", "price", "size", "side"),
}
"""What two events with one id must agree on; not when or how precisely it was received."""
