"""Digests of event sets: equal for equal sets, whatever the order, in any language and in SQL.

A set's digest is three numbers over its *distinct* events:

* ``count``
* ``ids``: the sum of event ids as 128-bit integers, mod 2**128
* ``rows``: the sum over the events of MD5 of the canonical row, read as a little-endian
  128-bit integer, mod 2**128; see :mod:`forebay.domain.canonical`

MD5 because DuckDB, PostgreSQL and ClickHouse all compute it; it guards against accidents, not
against an adversary. Two sets that agree in ``count`` and ``ids`` but not in ``rows`` differ in
content.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from forebay.domain.canonical import canonical_rows, id_halves, id_texts
from forebay.domain.coverage import StreamKey

if TYPE_CHECKING:
    import numpy.typing as npt

    from forebay.domain.kinds import EventKind

MODULUS = 1 << 128
HOUR_NS = 3_600_000_000_000
MINUTE_NS = 60_000_000_000
MINUTES = HOUR_NS // MINUTE_NS
"""Of an hour."""

StreamHour = tuple[StreamKey, int]
"""A stream, and hours since the Unix epoch of ``event_ts``."""


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

    def __sub__(self, part: Digest) -> Digest:
        """Return the digest of what is not in ``part``, which is part of this one."""
        ids, rows = (self.ids - part.ids) % MODULUS, (self.rows - part.rows) % MODULUS
        return Digest(self.count - part.count, ids, rows)

    @classmethod
    def of_event(cls, event_id: str, canonical: str) -> Digest:
        """Return the digest of one event, by its id and its canonical row."""
        hashed = hashlib.md5(canonical.encode(), usedforsecurity=False).digest()
        return cls(1, int(event_id.replace("-", ""), 16), int.from_bytes(hashed, "little"))

    @classmethod
    def from_hex(cls, count: int, ids: str, rows: str) -> Digest:
        """Read what :meth:`hex` wrote."""
        return cls(count, int(ids, 16), int(rows, 16))

    def hex(self) -> tuple[int, str, str]:
        """Return the count, and the sums as 32 hexadecimal digits each."""
        return self.count, f"{self.ids:032x}", f"{self.rows:032x}"

    @classmethod
    def from_halves(cls, count: int, ids: tuple[int, int], rows: tuple[int, int]) -> Digest:
        """Combine sums of the high and of the low 64-bit halves, as SQL engines can add them."""
        return cls(
            count,
            ((ids[0] << 64) + ids[1]) % MODULUS,
            ((rows[0] << 64) + rows[1]) % MODULUS,
        )


class _Buckets(NamedTuple):
    """Rows in the order of stream and hour, and where each of those begins."""

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    keys: list[StreamHour]


def _buckets(events: pa.Table, kind: EventKind) -> _Buckets:
    times = events.column("event_ts").cast(pa.int64()).to_numpy() // HOUR_NS
    names = ("venue", "market", "symbol")
    codes = np.zeros(len(times), dtype=np.int64)
    for name in names:
        codes = codes << 21 | _codes(events.column(name))
    order = np.lexsort((times, codes))
    codes, times = codes[order], times[order]
    changes = (codes[1:] != codes[:-1]) | (times[1:] != times[:-1])
    starts = np.concatenate(([0], np.flatnonzero(changes) + 1))
    firsts = pa.array(order[starts])
    told = zip(*(events.column(name).take(firsts).to_pylist() for name in names), strict=True)
    streams = [StreamKey(venue, market, kind.channel, symbol) for venue, market, symbol in told]
    return _Buckets(order, starts, list(zip(streams, times[starts].tolist(), strict=True)))


def hours_of(events: pa.Table, kind: EventKind) -> list[StreamHour]:
    """Return the streams and hours that ``events`` are of, each once."""
    return _buckets(events, kind).keys if len(events) else []


def digests_by_hour(events: pa.Table, kind: EventKind) -> dict[StreamHour, Digest]:
    """Return digests of ``events``, which must be distinct, by stream and hour."""
    if not len(events):
        return {}
    texts = canonical_rows(events, kind).cast(pa.binary()).to_pylist()
    hashed = b"".join([hashlib.md5(text, usedforsecurity=False).digest() for text in texts])
    rows = np.frombuffer(hashed, "<u8").reshape(-1, 2)
    ids = id_halves(events)
    order, starts, keys = _buckets(events, kind)
    counts = np.diff(np.append(starts, len(order))).tolist()
    halves = (ids[:, 0], ids[:, 1], rows[:, 1], rows[:, 0])
    sums = zip(*(_sums(half[order], starts) for half in halves), strict=True)
    return {
        key: Digest.from_halves(count, (ids_high, ids_low), (rows_high, rows_low))
        for key, count, (ids_high, ids_low, rows_high, rows_low) in zip(
            keys, counts, sums, strict=True
        )
    }


def audited_rows(events: pa.Table, kind: EventKind) -> pa.Table:
    """Return what an audit compares of each event; see :data:`forebay.ports.AUDIT_COLUMNS`."""
    columns = {
        "event_id": id_texts(events),
        "canonical": canonical_rows(events, kind),
        **{name: events[name].cast(pa.string()) for name in ("venue", "market", "symbol")},
        "event_ns": events["event_ts"].cast(pa.int64()),
        "received_ns": events["received_ts"].cast(pa.int64()),
        "venue_seq": events["venue_seq"],
        "seq": events["seq"],
    }
    return pa.table(columns)


def digests_by(audited: pa.Table, bucket_ns: int) -> dict[int, Digest]:
    """Return digests of the first row of each event, by so many nanoseconds of its time.

    ``audited`` are rows as :func:`audited_rows` gives them.
    """
    found: dict[int, Digest] = {}
    seen: set[str] = set()
    columns = (audited[name].to_pylist() for name in ("event_id", "canonical", "event_ns"))
    for event_id, canonical, event_ns in zip(*columns, strict=True):
        if event_id not in seen:
            seen.add(event_id)
            bucket = event_ns // bucket_ns
            found[bucket] = found.get(bucket, Digest()) + Digest.of_event(event_id, canonical)
    return found


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    coded = column.unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0)
    if not isinstance(coded, pa.DictionaryArray):
        coded = coded.dictionary_encode()
    codes: npt.NDArray[np.int64] = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _sums(values: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64]) -> list[int]:
    """Return exact sums of runs, made of 32-bit halves so that nothing overflows."""
    low = np.add.reduceat(values & np.uint64(0xFFFF_FFFF), starts)
    high = np.add.reduceat(values >> np.uint64(32), starts)
    return [(top << 32) + bottom for top, bottom in zip(high.tolist(), low.tolist(), strict=True)]
