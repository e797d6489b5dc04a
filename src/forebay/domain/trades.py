"""Raw trades to checked columns: exact decimals, times, ids and flags, without an object per trade.

The fast way casts whole columns. A column that does not cast is halved until the culprits
are found, so one bad text costs its own row and never its ten thousand neighbours, and a
row's verdict does not depend on which rows stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema
from forebay.domain.columns import as_arrays, cells
from forebay.domain.event_ids import event_ids, observed
from forebay.domain.flags import FLAGS
from forebay.domain.identity import ITEM_BITS, NATIVE_ID_LIMIT, uuids
from forebay.domain.parsed import DeadLetter, RawTrades, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forebay.domain.columns import Column, TradeArrays
    from forebay.domain.frames import FrameBatch

BACKFILL, LATE, OUT_OF_ORDER, SKEWED, AMBIGUOUS = (1 << bit for bit in range(len(FLAGS)))

SECOND = 1_000_000_000
LATE_AFTER_NS = 60 * SECOND
SKEWED_AFTER_NS = 5 * SECOND
EARLIEST_NS = 1_230_768_000 * SECOND
"""2009-01-01: no venue has older trades, so an older time is a wrong unit."""
LATEST_AHEAD_NS = 86_400 * SECOND
"""A trade over a day in the future of its receipt is a wrong unit or zone."""

_FLAG_NAMES = pa.array(
    [
        ",".join(name for bit, name in enumerate(FLAGS) if mask >> bit & 1)
        for mask in range(1 << len(FLAGS))
    ]
)
_PLAIN_DECIMAL = r"^[0-9]{1,20}(\.[0-9]{1,18})?$"
SIDES = pa.array(["buy", "sell", "unknown"], pa.string())


@dataclass(slots=True)
class TradeColumns:
    """Accepted trades in arrival order; ``n`` rows."""

    table: pa.Table
    """All columns of :data:`~forebay.domain.schema.TRADES` but ``flags``."""
    symbols: list[str]
    codes: npt.NDArray[np.int64]
    """Of each row, the index of its symbol in ``symbols``; shape (n,)."""
    frames: npt.NDArray[np.int64]
    """Of each row, the index of its frame in the batch, rising; shape (n,)."""
    ids: npt.NDArray[np.int64]
    """The venue's numbers, shape (n,); 0 where it gives none."""
    flags: npt.NDArray[np.uint8]
    """Bits of :data:`FLAGS`, shape (n,)."""

    def finish(self) -> pa.Table:
        """Answer the rows with their flags by name, as the schema has them."""
        names = pa.DictionaryArray.from_arrays(pa.array(self.flags), _FLAG_NAMES)
        columns = [*self.table.columns, names.dictionary_decode()]
        return pa.Table.from_arrays(columns, schema=schema.TRADES)


def _cast(texts: pa.Array, kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Cast texts; those that cannot be are null and named by index."""
    bad: list[int] = []

    def convert(array: pa.Array, offset: int) -> pa.Array:
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:
            if len(array) == 1:
                bad.append(offset)
                return pa.nulls(1, kind)
        middle = len(array) // 2
        parts = (convert(array[:middle], offset), convert(array[middle:], offset + middle))
        return pa.concat_arrays(parts)

    return convert(texts, 0), bad


class _Verdicts:
    """The first reason against each row; rows without one are accepted."""

    def __init__(self, raw: TradeArrays) -> None:
        self.raw = raw
        self.dead: dict[int, DeadLetter] = {}

    def reject(self, rows: Sequence[int], reason: Reason, column: Column) -> None:
        if not rows:
            return
        raw, what = self.raw, reason.removeprefix("bad_")
        told = [cells(cell, rows) for cell in (raw.frame, raw.item, raw.symbol, column)]
        for row, frame, item, symbol, cell in zip(rows, *told, strict=True):
            error = f"{what} {cell!r:.200} of {symbol}"
            self.dead.setdefault(row, DeadLetter(frame, item, reason, error))

    def reject_where(self, mask: npt.NDArray[np.bool_], reason: Reason, column: Column) -> None:
        if mask.any():
            self.reject(np.flatnonzero(mask).tolist(), reason, column)


def _decimals(verdicts: _Verdicts, reason: Reason, texts: pa.Array) -> pa.Array:
    """Exact positive decimals; rejected rows are null or not positive.

    Arrow is given plain digits only: what has more than 20 of them before the point, and some
    exponents, it casts to a wrong number without an error.
    """
    plain = pc.match_substring_regex(texts, _PLAIN_DECIMAL)
    values = pc.if_else(plain, texts, pa.scalar(None, pa.string())).cast(schema.DECIMAL)
    positive = pc.greater(values, pa.scalar(0, schema.DECIMAL))
    wrong = pc.invert(pc.fill_null(positive, fill_value=False))
    verdicts.reject_where(wrong.to_numpy(zero_copy_only=False), reason, texts)
    return values


def _times(
    verdicts: _Verdicts, received_ns: npt.NDArray[np.int64]
) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """Venue times as Arrow timestamps and as integers; rejected rows have some value."""
    column = verdicts.raw.time
    values, bad = _cast(column, pa.timestamp("ns", "UTC"))
    verdicts.reject(bad, "bad_time", column)
    exchange_ns = pc.fill_null(values.cast(pa.int64()), 0).to_numpy()
    implausible = (exchange_ns < EARLIEST_NS) | (exchange_ns > received_ns + LATEST_AHEAD_NS)
    implausible[bad] = False
    verdicts.reject_where(implausible, "implausible_time", column)
    return values.cast(pa.int64()).cast(schema.TIME), exchange_ns


def _native(verdicts: _Verdicts) -> npt.NDArray[np.int64]:
    """The venue's numbers; where it gives none, what an observation is numbered by is checked."""
    raw = verdicts.raw
    if raw.identity == "observation":
        verdicts.reject_where(raw.item >> ITEM_BITS > 0, "bad_id", raw.item)
    if not raw.numbered:
        return np.zeros(len(raw), dtype=np.int64)
    bad = (raw.trade_id < 0) | (raw.trade_id >= NATIVE_ID_LIMIT)
    verdicts.reject_where(bad, "bad_id", raw.trade_id)
    return np.where(bad, 0, raw.trade_id).astype(np.int64)


def _flags(
    batch: FrameBatch, received_ns: npt.NDArray[np.int64], exchange_ns: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """Answer the flags that follow from a trade alone."""
    behind_ns = received_ns - exchange_ns
    if batch.context.source == "rest":
        flags = np.full(len(behind_ns), BACKFILL, dtype=np.uint8)
    else:
        flags = (behind_ns > LATE_AFTER_NS) * np.uint8(LATE)
    return flags | (-behind_ns > SKEWED_AFTER_NS) * np.uint8(SKEWED)


def build_trades(raw: RawTrades, batch: FrameBatch) -> tuple[TradeColumns, list[DeadLetter]]:
    """Check every trade of ``raw`` and answer the accepted ones and the dead letters."""
    return _build(as_arrays(raw), batch)


def _build(raw: TradeArrays, batch: FrameBatch) -> tuple[TradeColumns, list[DeadLetter]]:
    venue, verdicts = batch.context.venue, _Verdicts(raw)
    price = _decimals(verdicts, "bad_price", raw.price)
    size = _decimals(verdicts, "bad_size", raw.size)
    received_ns = batch.received_ns[raw.frame]
    exchange, exchange_ns = _times(verdicts, received_ns)
    ids = _native(verdicts)
    known = pc.is_in(raw.side, value_set=SIDES).to_numpy(zero_copy_only=False)
    verdicts.reject_where(~known, "bad_side", raw.side)

    coded = raw.symbol.dictionary_encode()
    symbols: list[str] = coded.dictionary.to_pylist()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    event_ns = exchange_ns // raw.time_unit_ns * raw.time_unit_ns
    numbers = ids
    if raw.identity == "observation":
        numbers = observed(batch, raw.frame, raw.item)
    content = [pa.array(event_ns), price, size, raw.side]
    columns = [
        uuids(event_ids(raw, batch, symbols, codes, numbers=numbers, content=content)),
        pa.repeat(venue, len(raw)),
        raw.symbol,
        raw.venue_symbol,
        pa.array(event_ns).cast(schema.TIME),
        exchange,
        pa.array(received_ns).cast(schema.TIME),
        pa.array(ids).cast(pa.string()) if raw.numbered else pa.repeat("", len(raw)),
        price,
        size,
        raw.side,
    ]
    table = pa.Table.from_arrays(columns, schema=schema.TRADES.remove(len(columns)))
    flags = _flags(batch, received_ns, exchange_ns)
    accepted = TradeColumns(table, symbols, codes, raw.frame, ids, flags)
    if verdicts.dead:
        accepted = _keep(accepted, verdicts.dead)
    return accepted, list(verdicts.dead.values())


def _keep(columns: TradeColumns, dead: dict[int, DeadLetter]) -> TradeColumns:
    mask = np.ones(len(columns.ids), dtype=bool)
    mask[list(dead)] = False
    table = columns.table.filter(pa.array(mask))
    places = columns.codes[mask], columns.frames[mask], columns.ids[mask]
    return TradeColumns(table, columns.symbols, *places, columns.flags[mask])
