"""State of streams as rows, the same in every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain import schema
from forebay.domain.coverage import COVERAGES, Row, StreamKey
from forebay.domain.flags import FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebay.domain.channels import Unit
    from forebay.domain.coverage import Coverage

AMBIGUOUS = FLAGS[-1]
CoverageRow = tuple[str, str, str, str, "Unit", str, str, int, int]
EpochRow = tuple[str, str, str, str, str, int]
EPOCHS = pa.schema([*schema.STREAM, ("epoch", pa.string()), ("last", pa.int64())])
ORDINALS = pa.schema([*schema.STREAM, ("state", pa.binary())])


def coverage_rows(coverage: Mapping[StreamKey, Coverage]) -> pa.Table:
    """Return rows of :data:`~forebay.domain.schema.COVERAGE`, one an interval."""
    rows = [(*key, held.unit, *row) for key, held in coverage.items() for row in held.rows()]
    return _table(rows, schema.COVERAGE)


def gap_rows(coverage: Mapping[StreamKey, Coverage]) -> pa.Table:
    """Return rows of :data:`~forebay.domain.schema.GAPS`."""
    gaps = [gap for key, held in coverage.items() for gap in held.gaps(key)]
    rows = [tuple(getattr(gap, name) for name in schema.GAPS.names) for gap in gaps]
    return _table(rows, schema.GAPS)


def epoch_rows(coverage: Mapping[StreamKey, Coverage]) -> pa.Table:
    """Return a row for each connection that spoke last in a stream: how far it has got."""
    rows = [(*key, *epoch) for key, held in coverage.items() for epoch in held.epochs.items()]
    return _table(rows, EPOCHS)


def ordinal_rows(ordinals: Mapping[StreamKey, bytes]) -> pa.Table:
    """Return a row for each stream: its key and its ordinals."""
    return _table([(*key, state) for key, state in ordinals.items()], ORDINALS)


def _table(rows: Iterable[tuple[object, ...]], fields: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
    return pa.Table.from_arrays(arrays, schema=fields)


def coverage_from(
    rows: Iterable[CoverageRow], epochs: Iterable[EpochRow]
) -> dict[StreamKey, Coverage]:
    """Return the coverage that :func:`coverage_rows` and :func:`epoch_rows` are of."""
    units: dict[StreamKey, Unit] = {}
    intervals: dict[StreamKey, list[Row]] = {}
    for venue, market, channel, symbol, unit, origin, epoch, first, last in rows:
        key = StreamKey(venue, market, channel, symbol)
        units[key] = unit
        intervals.setdefault(key, []).append(Row(origin, epoch, first, last))
    spoke: dict[StreamKey, list[tuple[str, int]]] = {}
    for venue, market, channel, symbol, epoch, last in sorted(epochs, key=lambda row: row[-1]):
        spoke.setdefault(StreamKey(venue, market, channel, symbol), []).append((epoch, last))
    return {
        key: COVERAGES[units[key]].from_rows(theirs, spoke.get(key, []))
        for key, theirs in intervals.items()
    }


def replayed_letters(states: str = "letter_states") -> str:
    """Return a query, in any SQL, for the letters whose frames were repeated and yielded none."""
    failed = f"SELECT letter_id, run FROM {states} WHERE state = 'failed'"  # noqa: S608 - ours
    return (
        f"SELECT letter_id FROM {states} "  # noqa: S608 - likewise
        f"WHERE state = 'replayed' AND (letter_id, run) NOT IN ({failed})"
    )
