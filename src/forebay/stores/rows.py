"""Coverage and gaps as rows, the same in every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.coverage import SETS, Gap, StreamCoverage, StreamKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

CoverageRow = tuple[str, str, str, str, str, int, int]
EpochRow = tuple[str, str, str, str, int]
_EPOCHS = pa.schema(
    [
        *((name, pa.string()) for name in ("venue", "channel", "symbol", "epoch")),
        ("last", pa.int64()),
    ]
)


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
    """Answer one row a stream: which connection spoke last, and how far it has got."""
    rows = [(*key, stream.epoch, stream.epoch_last) for key, stream in coverage.items()]
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
    for venue, channel, symbol, epoch, last in epochs:
        stream = streams.setdefault(StreamKey(venue, channel, symbol), StreamCoverage())
        stream.epoch = epoch
        # Written only when a stream changes its connection. What one connection spans is in
        # one piece, so the piece that holds the place it began from tells how far it got.
        stream.epoch_last = stream.spanned.end_of(last)
    return streams


def repeated_in_batch(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Answer the indices of rows whose ``event_id`` an earlier row of the same batch has."""
    column = rows.column("event_id").combine_chunks()
    storage = column.storage if not isinstance(column, pa.ChunkedArray) else column.chunk(0).storage
    halves = np.frombuffer(storage.buffers()[1], dtype=">u8")
    halves = halves[2 * storage.offset : 2 * (storage.offset + len(storage))].reshape(-1, 2)
    high, low = halves[:, 0].astype(np.uint64), halves[:, 1].astype(np.uint64)
    order = np.lexsort((low, high))  # stable: the first to arrive stays first
    same = (high[order][1:] == high[order][:-1]) & (low[order][1:] == low[order][:-1])
    return np.sort(order[1:][same])
