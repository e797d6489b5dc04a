"""Columns that tables share, the same names in every store, as Arrow types.

Times are UTC nanoseconds without a zone; prices and sizes are exact decimals with 18 places. What
is an event's own is with its kind, in :mod:`forebay.domain.kinds`.
"""

from __future__ import annotations

import pyarrow as pa

DECIMAL_PLACES = 18
DECIMAL = pa.decimal128(38, DECIMAL_PLACES)
DECIMALS = pa.list_(DECIMAL)
TIME = pa.timestamp("ns")
LABEL = pa.dictionary(pa.int32(), pa.string())
"""A text that most rows of a batch have in common."""

ENVELOPE = pa.schema(
    [
        ("event_id", pa.uuid()),
        ("venue", LABEL),
        ("market", LABEL),
        ("symbol", LABEL),
        ("venue_symbol", LABEL),
        ("collector", LABEL),
        ("epoch", LABEL),
        ("log_id", LABEL),
        ("seq", pa.int64()),
        ("venue_seq", pa.int64()),
        ("event_ts", TIME),
        ("exchange_ts", TIME),
        ("received_ts", TIME),
    ]
)
"""First columns of every event; behind its own come ``flags``.

``collector``, ``epoch``, ``log_id`` and ``seq`` say whose frame told the event first, and where it
is in the journal. ``venue_seq`` is the number that coverage counts, null where it counts none.
"""
FLAGS = pa.field("flags", pa.string())
"""Names joined by commas, empty when there is none."""

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

LETTER_STATES = pa.schema(
    [
        ("letter_id", pa.uuid()),
        ("state", pa.string()),
        ("run", pa.string()),
        ("told_ts", TIME),
        ("by", pa.string()),
        ("reason", pa.string()),
    ]
)
"""What became of dead letters: ``replayed`` and ``failed``, both by a ``run`` of a replay, or
``discarded``. A letter is replayed if it did not fail in the same run; each row is there once."""

BOOK_CHECKPOINTS = pa.schema(
    [
        *((name, pa.string()) for name in ("venue", "market", "symbol")),
        *((name, pa.string()) for name in ("collector", "epoch", "log_id")),
        ("seq", pa.int64()),
        *((name, TIME) for name in ("event_ts", "exchange_ts", "received_ts", "began_ts")),
        *((name, DECIMALS) for name in ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")),
    ]
)
"""Whole books that were folded from events, so that reading one need not begin at a snapshot:
as of the change at ``seq``, since the snapshot that was received at ``began_ts``. They are no
events, and can be deleted and made again."""

STREAM = pa.schema([(name, pa.string()) for name in ("venue", "market", "channel", "symbol")])

COVERAGE = pa.schema(
    [
        *STREAM,
        ("unit", pa.string()),
        ("origin", pa.string()),
        ("epoch", pa.string()),
        ("first", pa.int64()),
        ("last", pa.int64()),
    ]
)

GAPS = pa.schema(
    [
        *STREAM,
        ("unit", pa.string()),
        ("epoch", pa.string()),
        ("first", pa.int64()),
        ("last", pa.int64()),
        ("reason", pa.string()),
        ("state", pa.string()),
    ]
)
