"""Which rows of a batch a store has already: decided here, asked in each store's own SQL.

What coverage vouches for as new is inserted without a look. Anything else is looked up around its
own time, one range of time per cluster of such rows: one range over a batch with a single late
row would read the whole table. Only an id that is known, but not at that time, is looked for
everywhere, so that one received again with another time is found too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]

CLUSTER_GAP_NS = 600_000_000_000
"""Rows further apart than this in time are looked up in ranges of their own."""
AROUND_NS = 60_000_000_000
"""How far from its own time a row is looked for: a venue that tells an id again with another time
mostly tells it a little finer or later. Further away, only coverage knows that it was told."""
MAX_CLUSTERS = 64
"""Above this, neighbouring clusters share a range: each costs a query of its own."""


def time_clusters(event_ns: Rows) -> list[tuple[int, int]]:
    """Return the ranges of time that the rows lie in, at most :data:`MAX_CLUSTERS` of them."""
    ordered = np.sort(event_ns)
    steps = ordered[1:] - ordered[:-1]
    wide = np.flatnonzero(steps > CLUSTER_GAP_NS)
    if len(wide) >= MAX_CLUSTERS:
        widest = np.argpartition(steps, -(MAX_CLUSTERS - 1))[-(MAX_CLUSTERS - 1) :]
        wide = np.sort(widest)
    firsts = ordered[np.concatenate(([0], wide + 1))]
    lasts = ordered[np.concatenate((wide, [len(ordered) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def times_of(rows: pa.Table) -> Rows:
    """Return ``event_ts`` as UTC nanoseconds, shape (n,)."""
    event_ns: Rows = rows.column("event_ts").cast(pa.int64()).to_numpy()
    return event_ns


def of_id(first: Rows, rows: Mask) -> Mask:
    """Return of each row whether any row of its id is among ``rows``."""
    ids = np.zeros(len(rows), dtype=np.bool_)
    ids[first[rows]] = True
    return ids[first]


class Lookup(ABC):
    """The rows of one batch that the table has, and what it has of those that differ."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows
        self._times = times_of(rows)
        self.found = np.zeros(len(rows), dtype=np.bool_)
        self.same_frame = np.zeros(len(rows), dtype=np.bool_)
        """Of each row, whether the stored one came with the same frame."""
        self.conflicts: dict[int, tuple[str, str]] = {}
        """By row, the content that is stored and the other one that came."""

    @abstractmethod
    def look(self, which: Rows, between: tuple[int, int] | None) -> None:
        """Note of the rows ``which`` what the table has of them, at times ``between`` or ever."""

    def known_ids(self, first: Rows, seen_before: Mask, vouched_new: Mask) -> Mask:
        """Return of each row whether its id was stored before; ``first`` is the row of its id."""
        vouched = of_id(first, vouched_new)
        self.find(np.flatnonzero(~vouched), at=None)
        owed = (seen_before | of_id(first, self.found)) & ~vouched & ~self.found
        if owed.any():
            self.look(np.flatnonzero(owed), None)
        return of_id(first, self.found)

    def find(self, which: Rows, *, at: Rows | None) -> None:
        """Look for rows around their own time, or around that of the rows ``at`` names."""
        if not len(which):
            return
        times = self._times[which if at is None else at[which]]
        order = np.argsort(times, kind="stable")
        for begin, end in time_clusters(times):
            low, high = np.searchsorted(times[order], [begin, end + 1])
            self.look(which[order[low:high]], (begin - AROUND_NS, end + AROUND_NS))
