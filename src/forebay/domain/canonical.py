"""Canonical rows: the one text of an event's content that every store can make.

``event_id`` and the columns of the kind's content, joined by ``|``: an id in lower case with
dashes, a time in integer nanoseconds since the Unix epoch, a decimal with exactly 18 places, a
truth as ``true`` or ``false``, a list as its members joined by ``,``, what is absent as nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema

if TYPE_CHECKING:
    import numpy.typing as npt

    from forebay.domain.kinds import EventKind

_DASHES = ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24))
"""Of an id's 32 hex digits: from, to, and where they stand between the dashes."""
_NOTHING = pa.scalar("", pa.string())


def canonical_rows(events: pa.Table, kind: EventKind) -> pa.Array:
    """Return the canonical row of each of ``events``, which has the columns of its content."""
    texts = [id_texts(events), *(cell_texts(_whole(events[name])) for name in kind.content)]
    joined = pc.binary_join_element_wise(*texts, "|")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def cell_texts(column: pa.Array) -> pa.Array:
    """Return the cells of a column as canonical rows have them."""
    kind = column.type
    if pa.types.is_list(kind):
        members = cell_texts(column.flatten())
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        texts = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), members), ",")
    elif pa.types.is_decimal(kind):
        texts = _decimal_texts(column)
    elif pa.types.is_timestamp(kind):
        texts = column.cast(pa.int64()).cast(pa.string())
    else:
        texts = column.cast(pa.string())
    return pc.fill_null(texts, _NOTHING) if texts.null_count else texts


def id_halves(events: pa.Table) -> npt.NDArray[np.uint64]:
    """Return event ids as pairs of their high and low 64 bits; shape (n, 2)."""
    return np.frombuffer(id_bytes(events), ">u8").reshape(-1, 2).astype(np.uint64)


def id_texts(events: pa.Table) -> pa.Array:
    """Return event ids in lower case with dashes."""
    digits = np.frombuffer(id_bytes(events).hex().encode("ascii"), np.uint8).reshape(-1, 32)
    texts = np.full((len(digits), 36), ord("-"), np.uint8)
    for start, end, at in _DASHES:
        texts[:, at : at + end - start] = digits[:, start:end]
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(36), len(texts), [None, pa.py_buffer(texts)]
    )
    return fixed.cast(pa.binary()).cast(pa.string())


def first_of_each_id(events: pa.Table) -> npt.NDArray[np.int64]:
    """Return of each row the index of the first row with its ``event_id``; shape (n,)."""
    halves = id_halves(events)
    high, low = halves[:, 0], halves[:, 1]
    order = np.lexsort((low, high))  # stable: the first to arrive stays first
    differ = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    begins = np.flatnonzero(np.concatenate(([True], differ)))[: len(order)]
    first = np.empty(len(order), dtype=np.int64)
    first[order] = np.repeat(order[begins], np.diff(begins, append=len(order)))
    return first


def id_bytes(events: pa.Table) -> bytes:
    """Return the 16 bytes of each event id, one behind the other."""
    ids = _whole(events["event_id"])
    storage = ids.storage if isinstance(ids, pa.ExtensionArray) else ids
    raw = storage.buffers()[1] if len(storage) else b""
    return bytes(raw)[16 * storage.offset : 16 * (storage.offset + len(storage))]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def _decimal_texts(column: pa.Array) -> pa.Array:
    """Return decimals with all their places; Arrow writes those below 1e-6 with an exponent."""
    texts = column.cast(pa.string())
    short = pc.match_substring(texts, "E")
    if not pc.any(short).as_py():
        return texts
    plain = [
        f"{value:.{schema.DECIMAL_PLACES}f}"
        for value in map(Decimal, texts.filter(short).to_pylist())
    ]
    return pc.replace_with_mask(texts, short, pa.array(plain, pa.string()))
