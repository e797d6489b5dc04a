"""Raw events whose columns are arrays, made from lists or from the parts of a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from forebay.domain.parsed import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from forebay.domain.parsed import RawEvents

    Column: TypeAlias = pa.Array | npt.NDArray[Any]


def _array(column: Any) -> Column:  # noqa: ANN401 - any of the columns
    """Return a column as an array; numbers that need more than 64 bits are objects."""
    if isinstance(column, (np.ndarray, pa.Array)):
        return column
    first = column[0] if column else 0
    if isinstance(first, str):
        return pa.array(column, pa.string())
    if isinstance(first, (list, tuple)):
        return pa.array(column, pa.list_(pa.string()))
    try:
        return np.array(column, dtype=np.int64)
    except OverflowError:
        return np.array(column, dtype=np.object_)


def _label(column: Any) -> pa.Array:  # noqa: ANN401 - texts in a list or an array
    """Return texts of which many are the same, each text stored once."""
    array = _array(column)
    return array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()


def _made(name: str, column: Any) -> Column:  # noqa: ANN401 - any of the columns
    """Return the column of that name as an array."""
    return _label(column) if name in {"symbol", "venue_symbol"} else _array(column)


def _each(raw: RawEvents, make: Callable[[str, Any], Any]) -> RawEvents:
    """Return ``raw`` with every column, by its name, made anew."""
    time: Any = raw.time
    if isinstance(time, Moments):
        time = Moments(make("moments", time.values), time.unit_ns)
    elif time is not None:
        time = make("time", time)
    return replace(
        raw,
        frame=make("frame", raw.frame),
        item=make("item", raw.item),
        venue_symbol=make("venue_symbol", raw.venue_symbol),
        symbol=make("symbol", raw.symbol),
        native=None if raw.native is None else make("native", raw.native),
        sequence=None if raw.sequence is None else make("sequence", raw.sequence),
        time=time,
        columns={name: make(f".{name}", column) for name, column in raw.columns.items()},
    )


def as_arrays(raw: RawEvents) -> RawEvents:
    """Return the same events with an array for every column."""
    return _each(raw, _made)


def _named(raw: RawEvents) -> dict[str, Column]:
    columns: dict[str, Column] = {}

    def note(name: str, column: Any) -> Any:  # noqa: ANN401
        columns[name] = _made(name, column)
        return column

    _each(raw, note)
    return columns


def joined(parts: Sequence[RawEvents]) -> RawEvents:
    """Return the events of one or more parts, all of one channel and shape, in frames' order.

    The events of a frame are all in one part, in their order.
    """
    if len(parts) == 1:
        return parts[0]
    arrays = [_named(part) for part in parts]
    frame = np.concatenate([part["frame"] for part in arrays])
    in_order = bool((frame[1:] >= frame[:-1]).all())
    order = None if in_order else np.argsort(frame, kind="stable")

    def make(name: str, _: Any) -> Column:  # noqa: ANN401
        columns = [part[name] for part in arrays]
        if isinstance(columns[0], np.ndarray):
            numbers = np.concatenate(columns)
            return numbers if order is None else numbers[order]
        column = pa.concat_arrays(columns)
        return column if order is None else column.take(pa.array(order))

    return _each(parts[0], make)


def cells(column: Column, rows: Sequence[int]) -> list[Any]:
    """Return some cells of an array as Python has them."""
    found: list[Any]
    if isinstance(column, np.ndarray):
        found = column[list(rows)].tolist()
    else:
        found = column.take(pa.array(rows, pa.int64())).to_pylist()
    return found
