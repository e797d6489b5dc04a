"""Digests of event sets: equal for equal sets, whatever the order, in any language and in SQL.

A set's digest is three numbers over its *distinct* events:

* ``count``
* ``ids``: the sum of event ids as 128-bit integers, mod 2**128
* ``rows``: the sum over the events of MD5 of the canonical row, read as a little-endian
  128-bit integer, mod 2**128

MD5 because DuckDB, PostgreSQL and ClickHouse all compute it; it guards against accidents, not
against an adversary. Two sets that agree in ``count`` and ``ids`` but not in ``rows`` differ in
content.

The *canonical row* is the one text of an event's content that every store can make:
``event_id`` and the columns of the kind's content, joined by ``|``: an id in lower case with
dashes, a time in integer nanoseconds since the Unix epoch, a decimal with exactly 18 places, a
truth as ``true`` or ``false``, a list as its members joined by ``,``, what is absent as nothing.
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
from forebay.domain.coverage import StreamKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from forebay.domain.kinds import EventKind

MODULUS = 1 << 128
HOUR_NS = 3_600_000_000_000
MINUTE_NS = 60_000_000_000
MINUTES = HOUR_NS // MINUTE_NS
"""Of an hour."""

_DASHES = ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24))
"""Of an id's 32 hex digits: from, to, and where they stand between the dashes."""
_NOTHING = pa.scalar("", pa.string())

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


class HashedRows(NamedTuple):
    """What digests are sums of, as pairs of high and low 64 bits; shape (n, 2) each."""

    ids: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.uint64]
    """MD5 of the canonical rows."""

    @classmethod
    def of_texts(cls, ids: npt.NDArray[np.uint64], texts: pa.Array) -> HashedRows:
        """Hash one text for each of ``ids``, which are halves."""
        raw = texts.cast(pa.binary()).to_pylist()
        hashed = b"".join([hashlib.md5(text, usedforsecurity=False).digest() for text in raw])
        return cls(ids, np.frombuffer(hashed, "<u8").reshape(-1, 2)[:, ::-1])

    @classmethod
    def of_events(cls, events: pa.Table, kind: EventKind) -> HashedRows:
        """Hash ``events`` of a kind."""
        return cls.of_texts(id_halves(events), canonical_rows(events, kind))

    def where(self, wanted: npt.NDArray[np.bool_]) -> HashedRows:
        return HashedRows(self.ids[wanted], self.rows[wanted])

    def sums(self, order: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]) -> Iterator[Digest]:
        """Return the digests of runs of rows in an order."""
        counts = np.diff(np.append(starts, len(order))).tolist()
        halves = (self.ids[:, 0], self.ids[:, 1], self.rows[:, 0], self.rows[:, 1])
        for count, *of in zip(
            counts, *(_sums(half[order], starts) for half in halves), strict=True
        ):
            yield Digest.from_halves(count, (of[0], of[1]), (of[2], of[3]))

    def by_group(self, groups: npt.NDArray[np.int64]) -> dict[int, Digest]:
        """Return digests of the rows of each group; a row that is there twice counts twice."""
        if not len(groups):
            return {}
        order = np.argsort(groups, kind="stable")
        ordered = groups[order]
        starts = np.concatenate(([0], np.flatnonzero(np.diff(ordered)) + 1))
        return dict(zip(ordered[starts].tolist(), self.sums(order, starts), strict=True))


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
        codes = codes << 21 | codes_of(events.column(name))
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


def digests_by_hour(
    events: pa.Table, kind: EventKind, hashed: HashedRows | None = None
) -> dict[StreamHour, Digest]:
    """Return digests of ``events``, which must be distinct, by stream and hour."""
    if not len(events):
        return {}
    hashed = hashed or HashedRows.of_events(events, kind)
    order, starts, keys = _buckets(events, kind)
    return dict(zip(keys, hashed.sums(order, starts), strict=True))


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
    """Return digests of the first of :func:`audited_rows` of each event, by time."""
    found: dict[int, Digest] = {}
    seen: set[str] = set()
    columns = (audited[name].to_pylist() for name in ("event_id", "canonical", "event_ns"))
    for event_id, canonical, event_ns in zip(*columns, strict=True):
        if event_id not in seen:
            seen.add(event_id)
            bucket = event_ns // bucket_ns
            found[bucket] = found.get(bucket, Digest()) + Digest.of_event(event_id, canonical)
    return found


def codes_of(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return small numbers, the same for equal texts; shape (n,)."""
    coded = _whole(column.unify_dictionaries())
    if not isinstance(coded, pa.DictionaryArray):
        coded = coded.dictionary_encode()
    codes: npt.NDArray[np.int64] = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _sums(values: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64]) -> list[int]:
    """Return exact sums of runs, made of 32-bit halves so that nothing overflows."""
    low = np.add.reduceat(values & np.uint64(0xFFFF_FFFF), starts)
    high = np.add.reduceat(values >> np.uint64(32), starts)
    return [(top << 32) + bottom for top, bottom in zip(high.tolist(), low.tolist(), strict=True)]


def canonical_rows(events: pa.Table, kind: EventKind) -> pa.Array:
    """Return the canonical row of each of ``events``, which has the columns of its content."""
    texts = [id_texts(events), *(cell_texts(_whole(events[name])) for name in kind.content)]
    joined = pc.binary_join_element_wise(*texts, "|")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def difference(kind: EventKind, stored: str, right: str) -> str:
    """Say in which columns two canonical rows of a kind of event differ."""
    names = ("event_id", *kind.content)
    ours, theirs = stored.split("|"), right.split("|")
    if not len(ours) == len(theirs) == len(names):
        return f"{stored} should be {right}"
    return ", ".join(
        f"{name} is {mine} and should be {other}"
        for name, mine, other in zip(names, ours, theirs, strict=True)
        if mine != other
    )


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
    return bytes_of(_whole(events["event_id"]))


def bytes_of(ids: pa.Array) -> bytes:
    """Return the 16 bytes of each id, one behind the other."""
    storage = ids.storage if isinstance(ids, pa.ExtensionArray) else ids
    first = storage.offset * 16
    return bytes(memoryview(storage.buffers()[1] or b"")[first : first + len(storage) * 16])


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
