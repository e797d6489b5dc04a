"""Tables of events of any kind, drawn at random, and their canonical rows in plain Python."""

from __future__ import annotations

from decimal import Decimal
from operator import neg
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = dict[str, Any]
"""Cells by column: decimals as whole 10**-18, times as nanoseconds."""

LEVELS = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
CONTENT = {
    "trade": ("trade_id", "price", "size", "side"),
    "quote": ("bid_price", "bid_size", "ask_price", "ask_size"),
    "ticker": (
        *("price", "size", "bid_size", "ask_size", "volume_24h"),
        *("bid_price", "ask_price", "open_24h", "high_24h", "low_24h", "vwap_24h"),
    ),
    "bar": (
        *("timeframe", "session", "of", "adjusted", "open_ts", "close_ts"),
        *("open", "high", "low", "close", "volume", "trades", "vwap", "state", "revision"),
    ),
    "book_snapshot": LEVELS,
    "book_delta": LEVELS,
    **{
        kind.channel: tuple(
            name for name in kind.columns.names if name not in {"unknown", "impossible"}
        )
        for kind in KINDS.values()
        if kind.holds
    },
}
"""What of its own tells an event of each kind, behind venue, market, symbol and time."""

_UNIT = 10**18
_TEXTS = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=6)
_DECIMALS = st.one_of(st.integers(0, 10**38 - 1), st.integers(0, 10**13))
_TIMES = st.integers(1_230_768_000 * 10**9, 4_000_000_000 * 10**9)
_CELLS: dict[Any, st.SearchStrategy[Any]] = {
    schema.DECIMAL: st.none() | _DECIMALS,
    schema.DECIMALS: st.lists(_DECIMALS | _DECIMALS.map(neg), max_size=3),
    schema.TIME: _TIMES,
    schema.LABEL: _TEXTS,
    pa.string(): _TEXTS,
    pa.bool_(): st.booleans(),
    pa.int64(): st.none() | st.integers(0, 2**63 - 1),
    pa.uuid(): st.binary(min_size=16, max_size=16),
}


def rows_of(kind: str, *, most: int = 8) -> st.SearchStrategy[list[Row]]:
    """Draw rows of the table of ``kind``, of different events."""
    cells = {field.name: _CELLS[field.type] for field in KINDS[kind].schema}
    if KINDS[kind].holds:
        cells |= {name: st.none() | cells[name] for name in CONTENT[kind]}
    cells |= {"seq": st.integers(1, 2**62), "event_ts": _TIMES, "exchange_ts": st.none() | _TIMES}
    return st.lists(
        st.fixed_dictionaries(cells), max_size=most, unique_by=lambda row: row["event_id"]
    )


def table_of(kind: str, rows: Sequence[Row]) -> pa.Table:
    """Build the table that has ``rows``."""
    fields = KINDS[kind].schema
    columns = [
        pa.array([_cell(row[field.name], field.type) for row in rows], field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(columns, schema=fields)


def canonical(kind: str, row: Row) -> str:
    """Return the canonical row as the contract words it."""
    names = ("venue", "market", "symbol", "event_ts", *CONTENT[kind])
    types = KINDS[kind].schema
    texts = [_spelled(row[name], types.field(name).type) for name in names]
    return "|".join([str(UUID(bytes=row["event_id"])), *texts])


def _cell(cell: Any, kind: pa.DataType) -> Any:  # noqa: ANN401
    if cell is None:
        return None
    if kind == schema.DECIMALS:
        return [_exact(units) for units in cell]
    return _exact(cell) if kind == schema.DECIMAL else cell


def _exact(units: int) -> Decimal:
    return Decimal(_plain(units))


def _plain(units: int) -> str:
    whole, part = divmod(abs(units), _UNIT)
    return f"{'-' * (units < 0)}{whole}.{part:018d}"


def _spelled(cell: Any, kind: pa.DataType) -> str:  # noqa: ANN401
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if kind == schema.DECIMALS:
        return ",".join(map(_plain, cell))
    return _plain(cell) if kind == schema.DECIMAL else str(cell)
