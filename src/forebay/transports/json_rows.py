"""Rows of a table as JSON objects, one each, and back: what transports carry events as.

A decimal is a text without needless zeros, a time ISO 8601 with nanoseconds and ``Z``, an id a
text, bytes are base64; what is null is left out. Nothing is done row by row but what is rare.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from forebay.domain.digest import id_texts
from forebay.domain.identity import uuids

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

Part: TypeAlias = "str | pa.Array"
"""Of every row the same text, or of each its own."""

_PLAIN_DECIMAL = r"^-?[0-9]{1,20}(\.[0-9]{1,18})?$"
_UTC = pa.timestamp("ns", "UTC")
_ID_DASHES = (8, 13, 18, 23)


# ------------------------------------------------------------------------------- to JSON


def spell_rows(rows: pa.Table) -> list[bytes]:
    """Return a JSON object of each of ``rows``, whose first column has the events' ids."""
    parts: list[Part] = [f'{{"{rows.column_names[0]}":"', _ids(rows), '"']
    columns = [(name, whole(rows[name])) for name in rows.column_names[1:]]
    for labels, run in itertools.groupby(columns, lambda column: _is_label(column[1])):
        if labels:
            parts += _label_parts(list(run))
        else:
            for name, column in run:
                parts += _parts(name, column)
    return listed(_joined([*parts, "}"], len(rows)))


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    found = column.unify_dictionaries().combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def listed(texts: pa.Array) -> list[bytes]:
    """Return the bytes of each text."""
    found: list[bytes] = texts.cast(pa.binary()).to_numpy(zero_copy_only=False).tolist()
    return found


def _ids(rows: pa.Table) -> pa.Array:
    return id_texts(rows.rename_columns(["event_id", *rows.column_names[1:]]))


def _is_label(column: pa.Array) -> bool:
    return isinstance(column, pa.DictionaryArray)


def _joined(parts: Iterable[Part], count: int) -> pa.Array:
    """Return the parts of each row one behind the other; what is null is nothing."""
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    if all(isinstance(part, str) for part in merged):
        return pa.repeat(pa.scalar("".join(map(str, merged)), pa.string()), count)
    return pc.binary_join_element_wise(*merged, "", null_handling="replace", null_replacement="")


def _parts(name: str, column: pa.Array) -> list[Part]:
    """Return what a column adds to each row, with the comma before it."""
    if column.null_count == len(column):
        return []
    value, quote = _value(column)
    before = f",{json.dumps(name)}:{quote}"
    if not column.null_count:
        return [before, value, quote] if quote else [before, value]
    return [pc.binary_join_element_wise(before, value, quote, "")]


def _label_parts(columns: list[tuple[str, pa.DictionaryArray]]) -> list[Part]:
    """Return what adjacent columns of labels add: spelled once for each combination of them."""
    codes, some_row = combinations([column for _, column in columns])
    parts = [
        part
        for name, column in columns
        for part in _parts(name, column.take(some_row).dictionary_decode())
    ]
    texts = _joined(parts, len(some_row))
    return [texts[0].as_py()] if len(texts) == 1 else [texts.take(pa.array(codes))]


def combinations(columns: list[pa.DictionaryArray]) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return of each row which combination of labels it has, and a row of each combination."""
    count = len(columns[0])
    codes = np.zeros(count, dtype=np.int64)
    for column in columns:
        size = len(column.dictionary)
        if size > 1 or column.null_count:
            own = pc.fill_null(column.indices, size).to_numpy()
            found = pa.array(codes * (size + 1) + own).dictionary_encode()
            codes = found.indices.to_numpy().astype(np.int64)
    some_row = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.int64)
    some_row[codes] = np.arange(count)
    return codes, pa.array(some_row)


def label(column: pa.Array) -> pa.DictionaryArray:
    """Return a column of texts as one of labels."""
    return column if _is_label(column) else column.dictionary_encode()


def _value(column: pa.Array) -> tuple[pa.Array, str]:
    """Return the cells of a column as texts, and what quotes them; null stays null."""
    kind = column.type
    if pa.types.is_string(kind):
        return _escaped(column), '"'
    if pa.types.is_decimal128(kind):
        return decimal_texts(column), '"'
    if pa.types.is_timestamp(kind):
        return _time_texts(column), '"'
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string()), ""
    if pa.types.is_list(kind):
        return _list_texts(column), ""
    if pa.types.is_binary(kind):
        cells = column.to_pylist()
        coded = [None if each is None else base64.b64encode(each) for each in cells]
        return pa.array(coded, pa.binary()).cast(pa.string()), '"'
    message = f"A column of type {kind} has no spelling in JSON."
    raise TypeError(message)


def _escaped(texts: pa.Array) -> pa.Array:
    """Return texts as they are between the quotes of JSON."""
    data = texts.buffers()[2]
    raw = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    if not ((raw < ord(" ")) | (raw == ord('"')) | (raw == ord("\\"))).any():
        return texts
    return pa.array(
        [None if each is None else json.dumps(each)[1:-1] for each in texts.to_pylist()],
        pa.string(),
    )


def decimal_texts(column: pa.Array) -> pa.Array:
    """Return decimals in plain digits without needless zeros."""
    places = column.type.scale
    texts = column.cast(pa.string())
    if not places:
        return texts
    short = pc.match_substring(texts, "E")  # below 1e-6 Arrow writes an exponent
    if pc.any(short).as_py():
        texts = pc.replace_with_mask(texts, short, _small(column.filter(short), places))
    return pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")


def _small(column: pa.Array, places: int) -> pa.Array:
    """Return decimals that are below 1e-6 in digits: they fit into their lower half."""
    raw = np.frombuffer(column.buffers()[1], "<i8")
    units = raw[2 * column.offset : 2 * (column.offset + len(column)) : 2]
    digits = pc.ascii_lpad(pa.array(np.abs(units)).cast(pa.string()), places, "0")
    sign = pa.array(np.where(units < 0, "-0.", "0."), pa.string())
    return pc.binary_join_element_wise(sign, digits, "")


def _time_texts(column: pa.Array) -> pa.Array:
    texts = column.cast(pa.timestamp("ns")).cast(pa.string())
    return pc.binary_join_element_wise(
        pc.replace_substring(texts, " ", "T", max_replacements=1), "Z", ""
    )


def _list_texts(column: pa.Array) -> pa.Array:
    members, quote = _value(column.flatten())
    if quote:
        members = pc.binary_join_element_wise(quote, members, quote, "")
    members = pc.fill_null(members, "null")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    inner = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), members), ",")
    texts = pc.binary_join_element_wise("[", inner, "]", "")
    return pc.if_else(pc.is_valid(column), texts, pa.scalar(None, pa.string()))


# ----------------------------------------------------------------------------- from JSON


def read_rows(values: Sequence[bytes], schema: pa.Schema) -> pa.Table:
    """Read what :func:`spell_rows` wrote of rows of ``schema``, in one chunk.

    Raises ``ValueError`` (Arrow's errors are some) if a value is none of them.
    """
    lines = b"\n".join(values)
    if lines.count(b"\n") != len(values) - 1:
        message = "a row is more than one line"
        raise ValueError(message)
    read = pa_json.read_json(
        pa.BufferReader(lines),
        pa_json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        pa_json.ParseOptions(
            explicit_schema=pa.schema([(field.name, _wire(field.type)) for field in schema]),
            unexpected_field_behavior="ignore",
        ),
    )
    if len(read) != len(values):
        message = f"{len(values)} rows are spelled as {len(read)}"
        raise ValueError(message)
    columns = [_read(whole(read[field.name]), field.type) for field in schema]
    rows = pa.Table.from_arrays(columns, schema=schema)
    rows.validate(full=True)
    return rows


def _wire(kind: pa.DataType) -> pa.DataType:
    """Return as what a cell is read before it is made what it is."""
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return kind
    return pa.list_(_wire(kind.value_type)) if pa.types.is_list(kind) else pa.string()


def _read(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type == kind:
        return column
    if pa.types.is_dictionary(kind):
        return column.dictionary_encode().cast(kind)
    if pa.types.is_decimal(kind):
        return _decimals(column, kind)
    if pa.types.is_timestamp(kind):
        return column.cast(_UTC).cast(kind)
    if pa.types.is_list(kind):
        members = _read(column.flatten(), kind.value_type)
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        mask = pc.is_null(column) if column.null_count else None
        return pa.ListArray.from_arrays(pa.array(offsets), members, type=kind, mask=mask)
    if pa.types.is_binary(kind):
        return pa.array([_bytes(each) for each in column.to_pylist()], kind)
    if kind == pa.uuid():
        return _uuids(column)
    message = f"A column of type {kind} has no spelling in JSON."
    raise TypeError(message)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else binascii.a2b_base64(text, strict_mode=True)


def _decimals(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return exact decimals: of longer numbers Arrow makes wrong ones without an error."""
    if not pc.all(pc.match_substring_regex(texts, _PLAIN_DECIMAL), min_count=0).as_py():
        message = "a decimal is none"
        raise ValueError(message)
    return texts.cast(kind)


def _uuids(texts: pa.Array) -> pa.Array:
    raw = b"".join(listed(texts)) if not texts.null_count else b""
    digits = np.frombuffer(raw, np.uint8)
    if len(digits) != 36 * len(texts) or pc.any(pc.not_equal(pc.binary_length(texts), 36)).as_py():
        message = "an id is none"
        raise ValueError(message)
    plain = np.delete(digits.reshape(-1, 36), _ID_DASHES, axis=1).tobytes()
    halves = np.frombuffer(bytes.fromhex(plain.decode("ascii")), ">u8").reshape(-1, 2)
    return uuids(halves)
