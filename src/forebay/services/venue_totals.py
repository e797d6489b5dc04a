"""What each venue told, counted: by which way, how much of it again, and how it is flagged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import numpy.typing as npt

Sources = dict[tuple[str, str], str]
"""By venue and epoch, by which way its frames came: the ``source`` of their context."""


@dataclass(slots=True)
class WayTotals:
    """Counts of what came from one venue by one way."""

    told: int = 0
    """Events and dead letters, those that came again included."""
    again: int = 0
    """Events that were not stored because their id is."""
    flags: dict[str, int] = field(default_factory=dict)
    """New events by flag."""

    def add(self, other: WayTotals) -> None:
        self.told += other.told
        self.again += other.again
        plus(self.flags, other.flags)


VenueTotals: TypeAlias = dict[str, dict[str, WayTotals]]
"""By venue and source."""


def way(totals: VenueTotals, venue: str, source: str) -> WayTotals:
    """Return the counts of one way, to be added to."""
    return totals.setdefault(venue, {}).setdefault(source, WayTotals())


def plus(sums: dict[str, int], new: Mapping[str, int]) -> None:
    """Add counts to sums of the same names."""
    for name, count in new.items():
        sums[name] = sums.get(name, 0) + count


def count_letters(letters: pa.Table, totals: VenueTotals) -> None:
    """Count dead letters as told."""
    for venue, source, count in _pairs(letters, "venue", "source"):
        way(totals, venue, source).told += count


def count_again(
    rows: pa.Table, first: npt.NDArray[np.bool_], sources: Sources, totals: VenueTotals
) -> None:
    """Count the ``rows`` that the store says, in ``first`` of shape (n,), it had before."""
    if not first.all():
        for venue, epoch, count in _pairs(rows.filter(pa.array(~first)), "venue", "epoch"):
            way(totals, venue, sources.get((venue, epoch), "")).again += count


def _pairs(rows: pa.Table, *names: str) -> Iterator[tuple[str, str, int]]:
    columns = (rows[name].cast(pa.string()).to_pylist() for name in names)
    for (one, other), count in Counter(zip(*columns, strict=True)).items():
        yield one, other, count
