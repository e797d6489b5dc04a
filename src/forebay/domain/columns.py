"""Raw events whose columns are arrays, made from lists or from the parts of a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from forebay.domain.parsed import Moments, RawEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

Column: TypeAlias = "pa.Array | npt.NDArray[Any]"

_LABELS = {"symbol", "venue_symbol"}
_PLAIN = ("frame", "item", "venue_symbol", "symbol", "native", "sequence", "time")
_NUMBERS = {"frame", "item", "native", "sequence"}


def _array(column: Any) -> Column:  # noqa: ANN401 - any of the columns
    """Return a column as an array.

    Numbers of which some are missing or need more than 64 bits are objects; a column in which
    all is missing is of Arrow's type null.
    """
    if isinstance(column, (np.ndarray, pa.Array)):
        return column
    first = next((cell for cell in column if cell is not None), None)
    if first is None:
        return pa.nulls(len(column))
    if isinstance(first, str):
        return pa.array(column, pa.string())
    if isinstance(first, (list, tuple)):
        return pa.array(column, pa.list_(pa.string()))
    try:
        return np.array(column, dtype=np.int64)
    except (OverflowError, TypeError):
        return np.array(column, dtype=np.object_)


def _label(column: Any) -> pa.Array:  # noqa: ANN401 - texts in a list or an array
    array = column if isinstance(column, pa.Array) else pa.array(column, pa.string())
    return array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()


def _made(name: str, column: Any) -> Column:  # noqa: ANN401 - any of the columns
    if name in _LABELS:
        return _label(column)
    if name in _NUMBERS and not len(column):
        return np.empty(0, dtype=np.int64)
    return _array(column)


def _each(raw: RawEvents, make: Callable[[str, Any], Any]) -> RawEvents:

    def made(name: str, column: Any) -> Any:  # noqa: ANN401
        if isinstance(column, Moments):
            return Moments(make(name, column.values), column.unit_ns)
        return None if column is None else make(name, column)

    plain = {name: made(name, getattr(raw, name)) for name in _PLAIN}
    columns = {name: made(f".{name}", column) for name, column in raw.columns.items()}
    return replace(raw, **plain, columns=columns)


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
        column = _concatenated([part[name] for part in arrays])
        if order is None:
            return column
        return column[order] if isinstance(column, np.ndarray) else column.take(pa.array(order))

    return _each(parts[0], make)


def _concatenated(columns: list[Column]) -> Column:
    """Return columns of one kind one behind the other; some of them may have no value at all."""
    told = next((column for column in columns if not _is_nothing(column)), columns[0])
    if isinstance(told, np.ndarray):
        return np.concatenate(columns)  # what has no value becomes None
    return pa.concat_arrays(
        [pa.nulls(len(column), told.type) if _is_nothing(column) else column for column in columns]
    )


def _is_nothing(column: Column) -> bool:
    return isinstance(column, pa.Array) and pa.types.is_null(column.type)


def cells(column: Column, rows: Sequence[int]) -> list[Any]:
    """Return some cells of an array as Python has them."""
    found: list[Any]
    if isinstance(column, np.ndarray):
        found = column[list(rows)].tolist()
    else:
        found = column.take(pa.array(rows, pa.int64())).to_pylist()
    return found
