"""Rows of a table as JSON objects, one each: what transports carry events as.

A decimal is a text without needless zeros, a time ISO 8601 with nanoseconds and ``Z``, an id a
text, bytes are base64; what is null is left out. Nothing is done row by row but what is rare.
"""

from __future__ import annotations

import base64
import itertools
import json
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.digest import id_texts
from forebay.domain.schema import DECIMAL_PLACES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

Part: TypeAlias = "str | pa.Array"
"""Of every row the same text, or of each its own."""
Named: TypeAlias = "tuple[str, pa.Array]"
"""A column and its name."""

_EMPTY, _NULL, _COMMA = (pa.scalar(text, pa.string()) for text in ("", "null", ","))
_BEFORE_HOURS = 10
_SMALL = 10**12
"""Of the units of a decimal: what has fewer is below 1e-6."""
_FEW = 1 << 12
_SLICE = 1 << 12
"""Rows that are put together at once: more do not stay in a processor's cache."""


def spell_rows(rows: pa.Table, ids: pa.Array) -> Iterator[bytes]:
    """Return a JSON object of each of ``rows``; ``ids`` is their first column as texts."""
    parts: list[Part] = [f'{{"{rows.column_names[0]}":"', ids, '"']
    columns = [(name, whole(rows[name])) for name in rows.column_names[1:]]
    for spell, run in itertools.groupby(columns, lambda column: _speller(column[1])):
        parts += spell([*run])
    merged = _merged([*parts, "}"])
    for at in range(0, len(rows), _SLICE):
        yield from listed(_joined(*(_slice(part, at) for part in merged)))


def _slice(part: Part, at: int) -> Part:
    return part if isinstance(part, str) else part.slice(at, _SLICE)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    if column.num_chunks == 1:
        return column.chunk(0)
    found = column.unify_dictionaries().combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def listed(texts: pa.Array) -> list[bytes]:
    """Return the bytes of each text."""
    found: list[bytes] = texts.cast(pa.binary()).to_numpy(zero_copy_only=False).tolist()
    return found


def row_ids(rows: pa.Table) -> pa.Array:
    """Return the first column of ``rows``, which has their ids, as texts."""
    return id_texts(rows.rename_columns(["event_id", *rows.column_names[1:]]))


def _merged(parts: Iterable[Part]) -> list[Part]:
    """Return the parts with those that are the same text in every row put together."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, str) and isinstance(last, str):
            merged[-1] = last + part
        else:
            merged.append(part)
    return merged


def _joined(*parts: Part) -> pa.Array:
    """Return the parts of each row one behind the other; null if one of its own is."""
    return pc.binary_join_element_wise(*map(_as_arrow, parts), _EMPTY)


def _as_arrow(part: Part) -> pa.Array | pa.Scalar:
    # Of a text whose type it is not told, Arrow looks for a library that knows dates; each time.
    return pa.scalar(part, pa.string()) if isinstance(part, str) else part


def _speller(column: pa.Array) -> Callable[[list[Named]], list[Part]]:
    """Return what spells adjacent columns that are like this one."""
    if not isinstance(column, pa.DictionaryArray):
        return _cell_parts
    return _label_parts if len(column.dictionary) > 1 or column.null_count else _constant_parts


def _cell_parts(columns: list[Named]) -> list[Part]:
    """Return what columns add to each row, each with the comma before it."""
    return [part for name, column in columns for part in _parts(name, column)]


def _parts(name: str, column: pa.Array) -> list[Part]:
    if column.null_count == len(column):
        return []
    value, begin, end = _value(column)
    before = f",{json.dumps(name)}:{begin}"
    if not column.null_count:
        return [before, value, end]
    return [pc.fill_null(_joined(before, value, end), _EMPTY)]


def _constant_parts(columns: list[Named]) -> list[Part]:
    """Return what columns of one label each add to every row."""
    parts = _cell_parts([(name, column.dictionary) for name, column in columns])
    return [part if isinstance(part, str) else part[0].as_py() for part in parts]


def _label_parts(columns: list[Named]) -> list[Part]:
    """Return what columns of labels add, spelled once for each combination of them."""
    codes, some_row = combinations([column for _, column in columns])
    cells = [(name, column.take(some_row).dictionary_decode()) for name, column in columns]
    parts = _cell_parts(cells)
    return [_joined(*parts).take(pa.array(codes))] if parts else []


def combinations(columns: list[pa.DictionaryArray]) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return of each row which combination of labels it has, and a row of each combination."""
    count = len(columns[0])
    codes, most = np.zeros(count, dtype=np.int64), 1
    for column in columns:
        size = len(column.dictionary)
        if size > 1 or column.null_count:
            own = pc.fill_null(column.indices, size).to_numpy()
            codes, most = _compacted(codes * (size + 1) + own, most * (size + 1))
    some_row = np.zeros(most, dtype=np.int64)
    some_row[codes] = np.arange(count)
    return codes, pa.array(some_row)


def _compacted(codes: npt.NDArray[np.int64], most: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return codes without any that no row has, and how many are left; they are below ``most``."""
    if most > 4 * len(codes) + _FEW:
        found = pa.array(codes).dictionary_encode()
        return found.indices.to_numpy().astype(np.int64), len(found.dictionary)
    there = np.zeros(most, dtype=np.int64)
    there[codes] = 1
    return (np.cumsum(there) - 1)[codes], int(there.sum())


def label(column: pa.Array) -> pa.DictionaryArray:
    """Return a column of texts as one of labels."""
    return column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()


def _value(column: pa.Array) -> tuple[pa.Array, str, str]:
    """Return the cells of a column as texts, and what stands around each; null stays null."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return time_texts(column), '"', 'Z"'
    if pa.types.is_decimal128(kind):
        return decimal_texts(column), '"', '"'
    if pa.types.is_string(kind):
        return _escaped(column), '"', '"'
    if pa.types.is_binary(kind):
        return _base64(column), '"', '"'
    if pa.types.is_list(kind):
        return _list_texts(column), "[", "]"
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string()), "", ""
    message = f"A column of type {kind} has no spelling in JSON."
    raise TypeError(message)


def _escaped(texts: pa.Array) -> pa.Array:
    """Return texts as they are between the quotes of JSON."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    raw = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    if not ((raw < ord(" ")) | (raw == ord('"')) | (raw == ord("\\"))).any():
        return texts
    return pa.array(
        [None if each is None else json.dumps(each)[1:-1] for each in texts.to_pylist()],
        pa.string(),
    )


def _base64(column: pa.Array) -> pa.Array:
    coded = [None if each is None else base64.b64encode(each) for each in column.to_pylist()]
    return pa.array(coded, pa.binary()).cast(pa.string())


def decimal_texts(column: pa.Array) -> pa.Array:
    """Return decimals in plain digits without needless zeros."""
    texts = column.cast(pa.string())
    units = np.frombuffer(column.buffers()[1], "<i8").reshape(-1, 2)
    low, high = units[column.offset : column.offset + len(column)].T
    small = (high == low >> 63) & (low > -_SMALL) & (low < _SMALL)  # Arrow writes an exponent
    if column.null_count:
        small &= column.is_valid().to_numpy(zero_copy_only=False)
    if small.any():
        digits = pc.ascii_lpad(pa.array(np.abs(low[small])).cast(pa.string()), DECIMAL_PLACES, "0")
        sign = pa.array(np.where(low[small] < 0, "-0.", "0."), pa.string())
        texts = pc.replace_with_mask(texts, pa.array(small), _joined(sign, digits))
    return pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")


def time_texts(column: pa.Array) -> pa.Array:
    """Return times without their zone, in ISO 8601; Arrow puts a space before the hours."""
    texts = column.cast(pa.string())
    valid, offsets, data = texts.buffers()
    begins = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts)]
    if texts.null_count:
        begins = begins[texts.is_valid().to_numpy(zero_copy_only=False)]
    written = np.array(np.frombuffer(data, np.uint8))
    written[begins + _BEFORE_HOURS] = ord("T")
    return pa.StringArray.from_buffers(
        len(texts), offsets, pa.py_buffer(written), valid, texts.null_count, texts.offset
    )


def _list_texts(column: pa.Array) -> pa.Array:
    """Return the members of each list with commas between them."""
    members, begin, end = _value(column.flatten())
    texts = pc.fill_null(_joined(begin, members, end), _NULL)
    return pc.binary_join(listed_as(column, texts), _COMMA)


def listed_as(column: pa.Array, members: pa.Array) -> pa.Array:
    """Return lists as they are in a column, of other members."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    mask = column.is_null() if column.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), members, mask=mask)
