"""Raw trades whose columns are arrays, made from lists or from the parts of a batch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from forebay.domain.parsed import RawTrades

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from forebay.domain.parsed import Numbers, Texts

    Column: TypeAlias = pa.Array | npt.NDArray[Any]


@dataclass(slots=True, kw_only=True)
class TradeArrays(RawTrades):
    """Raw trades in arrays of the same length: numpy for numbers, Arrow strings for texts."""

    frame: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    venue_symbol: pa.Array
    symbol: pa.Array
    trade_id: npt.NDArray[Any]
    """Of 64 bits, or objects if one of them needs more."""
    price: pa.Array
    size: pa.Array
    side: pa.Array
    time: pa.Array


_ARRAYS = tuple(TradeArrays.__annotations__)
_OTHERS = tuple(field.name for field in fields(RawTrades) if field.name not in _ARRAYS)


def _array(column: Texts | Numbers, name: str) -> Column:
    if isinstance(column, (np.ndarray, pa.Array)):
        return column
    if name not in {"frame", "item", "trade_id"}:
        return pa.array(column, pa.string())
    try:
        return np.array(column, dtype=np.int64)
    except OverflowError:
        return np.array(column, dtype=np.object_)


def _with_arrays(like: RawTrades, make: Callable[[str], Column]) -> TradeArrays:
    values: dict[str, Any] = {name: getattr(like, name) for name in _OTHERS}
    values |= {name: make(name) for name in _ARRAYS}
    return TradeArrays(**values)


def as_arrays(raw: RawTrades) -> TradeArrays:
    """Answer the same trades with an array for every column."""
    if isinstance(raw, TradeArrays):
        return raw
    return _with_arrays(raw, lambda name: _array(getattr(raw, name), name))


def joined(parts: Sequence[RawTrades]) -> RawTrades:
    """Answer the trades of one or more parts, all of the same channel, in the frames' order.

    The trades of a frame are all in one part, in their order.
    """
    if len(parts) == 1:
        return parts[0]
    arrays = [as_arrays(part) for part in parts]
    frame = np.concatenate([part.frame for part in arrays])
    in_order = bool((frame[1:] >= frame[:-1]).all())
    order = slice(None) if in_order else np.argsort(frame, kind="stable")

    def make(name: str) -> Column:
        columns = [getattr(part, name) for part in arrays]
        if isinstance(columns[0], np.ndarray):
            numbers = np.concatenate(columns)
            return numbers[order] if len(numbers) else numbers  # the venue may give none
        column = pa.concat_arrays(columns)
        return column if in_order else column.take(pa.array(order))

    return _with_arrays(parts[0], make)


def cells(column: Column, rows: Sequence[int]) -> list[Any]:
    """Answer some cells of an array as Python has them."""
    found: list[Any]
    if isinstance(column, np.ndarray):
        found = column[list(rows)].tolist()
    else:
        found = column.take(pa.array(rows, pa.int64())).to_pylist()
    return found
