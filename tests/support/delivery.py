"""Frames into a store, as delivery does it, without a journal or a process."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.journal import Position
from forebay.ports import Commit, Store
from forebay.services.projection import Projected, Projection
from forebay.sources.coinbase.protocol import CoinbaseParser
from tests.support.frames import LOG

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forebay.domain.frames import FrameBatch

PARSERS = {"coinbase": CoinbaseParser()}


def commit_of(projected: Projected, seq: int = 1) -> Commit:
    rows = projected.trade_rows()
    return Commit(
        consumer="store",
        position=Position(LOG, seq),
        rows={} if rows is None else {"trades": rows},
        covered={} if rows is None else {"trades": np.concatenate(projected.covered)},
        dead_letters=projected.letter_rows(),
        coverage=projected.coverage,
    )


def deliver(store: Store, runs: Iterable[Sequence[FrameBatch]]) -> Projected:
    """Project and commit each run after what the store has; answer the sums of the account."""
    projection = Projection(PARSERS, store.load().coverage)
    total = Projected()
    for seq, batches in enumerate(runs, 1):
        projected = projection.project(batches)
        store.commit(commit_of(projected, seq))
        projection.adopt(projected)
        total.frames += Counter(projected.frames)
        total.unbuilt += projected.unbuilt
        total.reasons += projected.reasons
        total.flagged += projected.flagged
    return total


def plain_rows(table: pa.Table, *without: str) -> list[tuple[object, ...]]:
    """Answer the rows of a table in a fixed order, for comparing tables as sets.

    Stores may spell an id as a UUID or as its text.
    """
    kept = table.select([name for name in table.column_names if name not in without])
    times = [field.with_type(pa.int64()) for field in kept.schema if field.type == schema.TIME]
    for field in times:
        place = kept.column_names.index(field.name)
        kept = kept.set_column(place, field, kept[field.name].cast(field.type))
    columns = [
        [str(cell) if isinstance(cell, UUID) else cell for cell in column.to_pylist()]
        for column in kept
    ]
    return sorted(zip(*columns, strict=True), key=repr)
