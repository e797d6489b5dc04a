"""Coverage and gaps as rows, the same in every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.coverage import SETS, Gap, StreamCoverage, StreamKey
from forebay.domain.flags import FLAGS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    import numpy.typing as npt

AMBIGUOUS = FLAGS[-1]
CoverageRow = tuple[str, str, str, str, str, int, int]
EpochRow = tuple[str, str, str, str, int]
_STREAMS = pa.schema([(name, pa.string()) for name in StreamKey._fields])
_ORDINALS = pa.schema([*_STREAMS, ("state", pa.binary())])
_EPOCHS = pa.schema([*_STREAMS, ("epoch", pa.string()), ("last", pa.int64())])


def coverage_rows(coverage: Mapping[StreamKey, StreamCoverage]) -> pa.Table:
    """Answer rows of :data:`~forebay.domain.schema.COVERAGE`, one an interval."""
    rows: list[CoverageRow] = []
    for key, stream in coverage.items():
        for origin in SETS:
            rows += [(*key, stream.unit, origin, *interval) for interval in getattr(stream, origin)]
        if stream.known_first is not None and stream.known_last is not None:
            rows.append((*key, stream.unit, "known", stream.known_first, stream.known_last))
    return _table(rows, schema.COVERAGE)


def gap_rows(coverage: Mapping[StreamKey, StreamCoverage]) -> pa.Table:
    """Answer rows of :data:`~forebay.domain.schema.GAPS`."""
    gaps = [gap for key, stream in coverage.items() for gap in stream.gaps(key)]
    return _table([_gap_row(gap) for gap in gaps], schema.GAPS)


def epoch_rows(coverage: Mapping[StreamKey, StreamCoverage]) -> pa.Table:
    """Answer a row for each connection that spoke last in a stream: how far it has got."""
    rows = [(*key, *epoch) for key, stream in coverage.items() for epoch in stream.epochs.items()]
    return _table(rows, _EPOCHS)


def _gap_row(gap: Gap) -> tuple[object, ...]:
    return tuple(getattr(gap, name) for name in schema.GAPS.names)


def _table(rows: Iterable[tuple[object, ...]], fields: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
    return pa.Table.from_arrays(arrays, schema=fields)


def coverage_from(
    rows: Iterable[CoverageRow], epochs: Iterable[EpochRow]
) -> dict[StreamKey, StreamCoverage]:
    """Read back what :func:`coverage_rows` and the epochs table say."""
    streams: dict[StreamKey, StreamCoverage] = {}
    for venue, channel, symbol, unit, origin, first, last in rows:
        stream = streams.setdefault(StreamKey(venue, channel, symbol), StreamCoverage(unit))
        if origin == "known":
            stream.known_first, stream.known_last = first, last
        else:
            getattr(stream, origin).add(first, last)
    for venue, channel, symbol, epoch, last in sorted(epochs, key=lambda row: row[-1]):
        stream = streams.setdefault(StreamKey(venue, channel, symbol), StreamCoverage())
        # Written only when a stream has a new connection. What one connection spans is in
        # one piece, so the piece that holds the place it began from tells how far it got.
        stream.epochs[epoch] = stream.spanned.end_of(last)
    return streams


def merged_flags(stored: str, told: str) -> str:
    """Answer the flags of a stored row of which the same event is told again.

    They stay, but it is ``ambiguous`` if any telling is; that flag is the last by name.
    """
    ambiguous = AMBIGUOUS in told.split(",") and AMBIGUOUS not in stored.split(",")
    return ",".join(filter(None, (stored, AMBIGUOUS))) if ambiguous else stored


def ordinal_rows(ordinals: Mapping[StreamKey, bytes]) -> pa.Table:
    """Answer a row for each stream: its key and its ordinals."""
    return _table([(*key, state) for key, state in ordinals.items()], _ORDINALS)


def first_of_each_id(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Answer of each row the index of the first row with its ``event_id``; shape (n,)."""
    column = rows.column("event_id").combine_chunks()
    storage = column.storage if not isinstance(column, pa.ChunkedArray) else column.chunk(0).storage
    halves = np.frombuffer(storage.buffers()[1], dtype=">u8")
    halves = halves[2 * storage.offset : 2 * (storage.offset + len(storage))].reshape(-1, 2)
    high, low = halves[:, 0].astype(np.uint64), halves[:, 1].astype(np.uint64)
    order = np.lexsort((low, high))  # stable: the first to arrive stays first
    differ = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    begins = np.concatenate(([0], np.flatnonzero(differ) + 1))
    first = np.empty(len(order), dtype=np.int64)
    first[order] = np.repeat(order[begins], np.diff(begins, append=len(order)))
    return first


def vouched_new(
    rows: pa.Table, covered: npt.NDArray[np.bool_], numbered: Container[tuple[str, str]]
) -> npt.NDArray[np.bool_]:
    """Answer of each row whether coverage says that no row before had its id; shape (n,).

    It says so of the streams whose ids it keeps: ``numbered`` has their venue and symbol.
    """
    venues, symbols = (
        rows.column(name).combine_chunks().dictionary_encode() for name in ("venue", "symbol")
    )
    kept = np.array(
        [
            [(venue, symbol) in numbered for symbol in symbols.dictionary.to_pylist()]
            for venue in venues.dictionary.to_pylist()
        ],
        dtype=np.bool_,
    )
    new: npt.NDArray[np.bool_] = kept[venues.indices.to_numpy(), symbols.indices.to_numpy()]
    return new & ~covered
