"""Digests of event sets: equal for equal sets, whatever the order, in any language and in SQL.

A set's digest is three numbers over its *distinct* events:

* ``count``
* ``ids``: the sum of event ids as 128-bit integers, mod 2**128
* ``rows``: the sum over the events of MD5 of the canonical row, read as a little-endian
  128-bit integer, mod 2**128

The canonical row of a trade is the text
``event_id|venue|symbol|event_ts|trade_id|price|size|side`` with the id in lower case with
dashes, the time in integer nanoseconds since the Unix epoch, and price and size with exactly
18 decimals. MD5 because DuckDB, PostgreSQL and ClickHouse all compute it; it guards against
accidents, not against an adversary. Two sets that agree in ``count`` and ``ids`` but not in
``rows`` differ in content.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

MODULUS = 1 << 128
HOUR_NS = 3_600_000_000_000
Bucket = tuple[str, str, int]
"""Venue, symbol, and hours since the Unix epoch of ``event_ts``."""
_DASHES = ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24))
"""Of an id's 32 hex digits: from, to, and where they stand between the dashes."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Digest of a set of events; the sum of two is the digest of their disjoint union."""

    count: int = 0
    ids: int = 0
    rows: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(
            self.count + other.count,
            (self.ids + other.ids) % MODULUS,
            (self.rows + other.rows) % MODULUS,
        )

    @classmethod
    def from_halves(cls, count: int, ids: tuple[int, int], rows: tuple[int, int]) -> Digest:
        """Combine sums of the high and of the low 64-bit halves, as SQL engines can add them."""
        return cls(
            count,
            ((ids[0] << 64) + ids[1]) % MODULUS,
            ((rows[0] << 64) + rows[1]) % MODULUS,
        )


def id_halves(trades: pa.Table) -> npt.NDArray[np.uint64]:
    """Event ids as pairs of their high and low 64 bits; shape (n, 2)."""
    return np.frombuffer(_id_bytes(trades), ">u8").reshape(-1, 2).astype(np.uint64)


def _id_bytes(trades: pa.Table) -> bytes:
    ids = trades.column("event_id").combine_chunks()
    storage = ids.storage if isinstance(ids, pa.ExtensionArray) else ids
    raw = storage.buffers()[1] if len(storage) else b""
    return bytes(raw)[16 * storage.offset : 16 * (storage.offset + len(storage))]


def _id_texts(trades: pa.Table) -> pa.Array:
    digits = np.frombuffer(_id_bytes(trades).hex().encode("ascii"), np.uint8).reshape(-1, 32)
    texts = np.full((len(digits), 36), ord("-"), np.uint8)
    for start, end, at in _DASHES:
        texts[:, at : at + end - start] = digits[:, start:end]
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(36), len(texts), [None, pa.py_buffer(texts)]
    )
    return fixed.cast(pa.binary()).cast(pa.string())


def _decimal_texts(column: pa.ChunkedArray) -> pa.Array:
    """Decimals with all their places; Arrow writes those below 1e-6 with an exponent."""
    texts = column.cast(pa.string()).combine_chunks()
    short = pc.match_substring(texts, "E")
    if not pc.any(short).as_py():
        return texts
    plain = [
        f"{value:.{schema.DECIMAL_PLACES}f}"
        for value in map(Decimal, texts.filter(short).to_pylist())
    ]
    return pc.replace_with_mask(texts, short, pa.array(plain, pa.string()))


def canonical_rows(trades: pa.Table) -> pa.Array:
    """Canonical rows of ``trades``, a table with the columns of their content, as texts."""
    texts = [
        _id_texts(trades),
        trades.column("venue").cast(pa.string()),
        trades.column("symbol").cast(pa.string()),
        trades.column("event_ts").cast(pa.int64()).cast(pa.string()),
        trades.column("trade_id").cast(pa.string()),
        _decimal_texts(trades.column("price")),
        _decimal_texts(trades.column("size")),
        trades.column("side").cast(pa.string()),
    ]
    joined = pc.binary_join_element_wise(*texts, "|")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


class _Buckets(NamedTuple):
    """Rows in the order of stream and hour, and where each of those begins."""

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    keys: list[Bucket]


def _buckets(trades: pa.Table) -> _Buckets:
    hours = trades.column("event_ts").cast(pa.int64()).to_numpy() // HOUR_NS
    codes = _codes(trades.column("venue")) << 32 | _codes(trades.column("symbol"))
    order = np.lexsort((hours, codes))
    codes, hours = codes[order], hours[order]
    changes = (codes[1:] != codes[:-1]) | (hours[1:] != hours[:-1])
    starts = np.concatenate(([0], np.flatnonzero(changes) + 1))
    firsts = pa.array(order[starts])
    names = (trades.column(name).take(firsts).to_pylist() for name in ("venue", "symbol"))
    return _Buckets(order, starts, list(zip(*names, hours[starts].tolist(), strict=True)))


def hours_of(trades: pa.Table) -> list[Bucket]:
    """Streams and hours that ``trades`` are of, each once."""
    return _buckets(trades).keys if len(trades) else []


def digests_by_hour(trades: pa.Table) -> Mapping[Bucket, Digest]:
    """Digests of ``trades``, which must be distinct, by stream and hour."""
    if not len(trades):
        return {}
    texts = canonical_rows(trades).cast(pa.binary()).to_pylist()
    hashed = b"".join([hashlib.md5(text, usedforsecurity=False).digest() for text in texts])
    rows = np.frombuffer(hashed, "<u8").reshape(-1, 2)
    ids = id_halves(trades)
    order, starts, keys = _buckets(trades)
    counts = np.diff(np.append(starts, len(order))).tolist()
    halves = (ids[:, 0], ids[:, 1], rows[:, 1], rows[:, 0])
    sums = zip(*(_sums(half[order], starts) for half in halves), strict=True)
    return {
        key: Digest.from_halves(count, (ids_high, ids_low), (rows_high, rows_low))
        for key, count, (ids_high, ids_low, rows_high, rows_low) in zip(
            keys, counts, sums, strict=True
        )
    }


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Small numbers, the same for equal texts."""
    coded = column.combine_chunks().dictionary_encode()
    codes: npt.NDArray[np.int64] = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _sums(values: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64]) -> list[int]:
    """Exact sums of runs, made of 32-bit halves so that nothing overflows."""
    low = np.add.reduceat(values & np.uint64(0xFFFF_FFFF), starts)
    high = np.add.reduceat(values >> np.uint64(32), starts)
    return [(top << 32) + bottom for top, bottom in zip(high.tolist(), low.tolist(), strict=True)]
