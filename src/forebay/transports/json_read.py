"""Rows of a table from JSON objects: what :mod:`~forebay.transports.json_rows` wrote."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from forebay.domain.identity import uuids
from forebay.transports.json_rows import listed, listed_as, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

_ID_SIZE = 36
_DASHES = (8, 13, 18, 23)
_DIGITS = [place for place in range(_ID_SIZE) if place not in _DASHES]
_PLAIN_DECIMAL = r"^-?[0-9]{1,20}(\.[0-9]{1,18})?$"
_UTC = pa.timestamp("ns", "UTC")


def read_rows(values: Sequence[bytes], schema: pa.Schema) -> pa.Table:
    """Return the rows of ``schema`` that are spelled by ``values``, in one chunk.

    Raises ``ValueError`` (Arrow's errors are some) if a value is no row.
    """
    lines = b"\n".join(values)
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
    columns = [_cells(whole(read[field.name]), field.type) for field in schema]
    rows = pa.Table.from_arrays(columns, schema=schema)
    rows.validate(full=True)
    return rows


def _wire(kind: pa.DataType) -> pa.DataType:
    """Return as what a cell is read before it is made what it is."""
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return kind
    return pa.list_(_wire(kind.value_type)) if pa.types.is_list(kind) else pa.string()


def _cells(read: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        read = _checked_decimals(read)
    elif pa.types.is_timestamp(kind):
        read = read.cast(_UTC)
    elif pa.types.is_list(kind):
        read = listed_as(read, _cells(read.flatten(), kind.value_type))
    elif pa.types.is_binary(kind):
        read = pa.array([_bytes(each) for each in read.to_pylist()], kind)
    elif pa.types.is_dictionary(kind):
        read = read.dictionary_encode()
    elif kind == pa.uuid():
        return _uuids(read)
    return read if read.type == kind else read.cast(kind)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else binascii.a2b_base64(text, strict_mode=True)


def _checked_decimals(texts: pa.Array) -> pa.Array:
    """Return texts that are decimals: of longer ones Arrow makes others without an error."""
    if not pc.all(pc.match_substring_regex(texts, _PLAIN_DECIMAL), min_count=0).as_py():
        message = "a decimal is none"
        raise ValueError(message)
    return texts


def _uuids(texts: pa.Array) -> pa.Array:
    lengths = pc.binary_length(texts)
    if texts.null_count or pc.any(pc.not_equal(lengths, _ID_SIZE)).as_py():
        message = "an id is none"
        raise ValueError(message)
    cells = np.frombuffer(b"".join(listed(texts)), np.uint8).reshape(len(texts), _ID_SIZE)
    if (cells[:, _DASHES] != ord("-")).any():
        message = "an id has no dashes"
        raise ValueError(message)
    digits = bytes.fromhex(cells[:, _DIGITS].tobytes().decode("ascii"))
    return uuids(np.frombuffer(digits, ">u8").reshape(len(texts), 2))
