"""Frames into a store, as delivery does it, without a journal or a process."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.journal import Position
from forebay.ports import Commit, Events, Store
from forebay.services.projection import Projected, Projection
from forebay.sources.coinbase.protocol import CoinbaseParser
from tests.support.frames import LOG, Told, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.domain.frames import FrameBatch
    from forebay.ports import Parser


class TableStore(Store, Protocol):
    """A store whose tables can be looked at whole."""

    def table(self, name: str) -> pa.Table:
        """Return all rows of a table."""
        ...


PARSERS: dict[str, Parser] = {"coinbase": CoinbaseParser()}


def events_of(
    *trades: Told,
    seen_before: Sequence[bool] = (),
    vouched_new: Sequence[bool] = (),
    first_seq: int = 1,
) -> Events:
    """Build events of a commit; coverage says nothing of them unless told otherwise."""
    return as_events(rows_of(*trades, first_seq=first_seq), seen_before, vouched_new)


def as_events(
    rows: pa.Table, seen_before: Sequence[bool] = (), vouched_new: Sequence[bool] = ()
) -> Events:
    """Build events of a commit from their rows; see :func:`events_of`."""
    nothing = [False] * len(rows)
    masks = (np.array(mask or nothing, dtype=np.bool_) for mask in (seen_before, vouched_new))
    return Events(rows, *masks)


def commit_of(projected: Projected, seq: int = 1) -> Commit:
    """Build the commit of what was projected, up to ``seq``."""
    return Commit(
        {"store": Position(LOG, seq)},
        events=projected.events,
        dead_letters=projected.letters,
        coverage=projected.coverage,
        ordinals={key: stream.encode() for key, stream in projected.ordinals.items()},
    )


def deliver(
    store: Store,
    runs: Iterable[Sequence[FrameBatch]],
    parsers: Mapping[str, Parser] | None = None,
) -> Projected:
    """Project and commit each run after what the store has; return the sums of the account."""
    state = store.load()
    projection = Projection(parsers or PARSERS, state.coverage, state.ordinals)
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
    """Return the rows of a table in a fixed order, for comparing tables as sets.

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
