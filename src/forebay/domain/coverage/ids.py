"""Coverage by the venue's own ids, which rise by one and mean the same on every path.

=========  ===============================================================
live       ids that reached us over a live connection
fill       ids that the venue's history (or a filtered recording) gave
absent     ids that the venue's history was seen to leave out
spanned    from the first to the last id of every connection
known      the least and greatest id that the venue said exists
=========  ===============================================================

A gap is a hole of ``live`` between the least and the greatest live or known id: a pure function
of the sets, so nothing opens or closes a gap, it is there or it is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from forebay.domain.coverage.gaps import Gap
from forebay.domain.coverage.unit import Row, Seen, reach, remembered
from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.channels import Unit
    from forebay.domain.coverage.gaps import GapState, StreamKey
    from forebay.domain.coverage.unit import Arrival, Numbers
    from forebay.domain.intervals import Interval

SETS = ("live", "fill", "absent", "spanned")


@dataclass(slots=True)
class IdCoverage:
    """The interval sets of one stream; see the module and :class:`~.unit.Coverage`."""

    unit: Unit = field(default="id", init=False)
    live: IntervalSet = field(default_factory=IntervalSet)
    fill: IntervalSet = field(default_factory=IntervalSet)
    absent: IntervalSet = field(default_factory=IntervalSet)
    spanned: IntervalSet = field(default_factory=IntervalSet)
    known_first: int | None = None
    known_last: int | None = None
    epochs: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Self:
        """See :class:`~.unit.Coverage`."""
        return type(self)(
            live=self.live.copy(),
            fill=self.fill.copy(),
            absent=self.absent.copy(),
            spanned=self.spanned.copy(),
            known_first=self.known_first,
            known_last=self.known_last,
            epochs=remembered(self.epochs),
        )

    def see(self, arrival: Arrival) -> Seen:
        """See :class:`~.unit.Coverage`."""
        ids = arrival.numbers
        rising = bool((ids[1:] >= ids[:-1]).all())
        pieces = runs(ids if rising else np.sort(ids))
        first, last = pieces[0][0], pieces[-1][1]
        before = self.live.within(first, last).contains(ids)
        before |= self.fill.within(first, last).contains(ids)
        out_of_order = np.zeros(len(ids), dtype=np.bool_)
        if arrival.live:
            reached = self._reached(arrival.epoch, ids)
            if not rising or reached > ids[0]:
                greatest = np.maximum.accumulate(np.concatenate(([reached], ids)))[:-1]
                out_of_order = ids < greatest
            self.span(arrival.epoch, first, last)
        arrived = self.live if arrival.live else self.fill
        if self.absent:
            self.absent -= IntervalSet(pieces)
        for piece in pieces:
            arrived.add(*piece)
        return Seen(before, out_of_order)

    def _reached(self, epoch: str, ids: Numbers) -> int:
        """Return the greatest id before ``ids`` that can make one of them out of order.

        Only events count: a heartbeat may run ahead of them and moves what it reached.
        """
        if (reached := self.epochs.get(epoch)) is not None:
            earlier = self.live.within(int(ids.min()), reached)
            if earlier:
                return earlier.last
        return int(ids[0])

    def know(self, epoch: str, least: int, greatest: int) -> None:
        """See :class:`~.unit.Coverage`."""
        self.known_first = least if self.known_first is None else min(self.known_first, least)
        self.known_last = greatest if self.known_last is None else max(self.known_last, greatest)
        self.span(epoch, least, greatest)

    def span(self, epoch: str, first: int, last: int) -> None:
        """Note that ``epoch`` reached from ``first`` to ``last``, whatever it left out."""
        reached = reach(self.epochs, epoch, last)
        self.spanned.add(min(first, reached), max(last, reached))

    def opened(self, epoch: str, now_ns: int) -> None:
        """Nothing: that a connection was accepted says nothing of ids."""

    def closed(self, epoch: str, last_ns: int | None) -> None:
        """Nothing: that a connection is over says nothing of ids."""

    def finished(self, first: int, last: int, absent: Iterable[Interval]) -> None:
        """See :class:`~.unit.Coverage`; what arrived all the same is not absent."""
        del first, last  # what history gave has arrived
        for hole in absent:
            for low, high in self.covered().holes(*hole):
                self.absent.add(low, high)

    def give_up(self) -> None:
        """Nothing: an id that a venue counts exists, and another path may know it."""

    def hull(self) -> tuple[int, int] | None:
        """Return the least and the greatest id that must exist, or None when none is known."""
        ends = [self.live.first, self.live.last] if self.live else []
        ends += [known for known in (self.known_first, self.known_last) if known is not None]
        return (min(ends), max(ends)) if ends else None

    def covered(self) -> IntervalSet:
        """Return every id that arrived, however it came."""
        return self.live | self.fill

    def gaps(self, key: StreamKey) -> list[Gap]:
        """See :class:`~.unit.Coverage`."""
        hull = self.hull()
        if hull is None:
            return []
        holes = self.live.holes(*hull)
        filled = holes & self.fill
        missing = holes - self.fill
        found: list[Gap] = []

        def declare(part: IntervalSet, reason: str, state: GapState) -> None:
            found.extend(Gap(*key, self.unit, "", *hole, reason, state) for hole in part)

        states: list[tuple[IntervalSet, GapState]] = [
            (filled, "filled"),
            (missing - self.absent, "open"),
        ]
        for part, state in states:
            declare(part & self.spanned, "in_connection", state)
            declare(part - self.spanned, "between_connections", state)
        declare(missing & self.absent, "absent_from_history", "permanent")
        return sorted(found)

    def rows(self) -> Iterator[Row]:
        """See :class:`~.unit.Coverage`."""
        for origin in SETS:
            yield from (Row(origin, "", *interval) for interval in getattr(self, origin))
        if self.known_first is not None and self.known_last is not None:
            yield Row("known", "", self.known_first, self.known_last)

    @classmethod
    def from_rows(cls, rows: Iterable[Row], epochs: Sequence[tuple[str, int]]) -> Self:
        """See :class:`~.unit.Coverage`.

        Epochs are written only when a stream has a new connection. What one connection spans is
        in one piece, so the piece that holds the place it began from tells how far it got.
        """
        found = cls()
        for row in rows:
            if row.origin == "known":
                found.known_first, found.known_last = row.first, row.last
            else:
                getattr(found, row.origin).add(row.first, row.last)
        found.epochs = {epoch: found.spanned.end_of(last) for epoch, last in epochs}
        return found


def runs(ids: Numbers) -> list[Interval]:
    """Return the maximal runs of consecutive ids among rising ones, in order."""
    breaks = np.flatnonzero(ids[1:] > ids[:-1] + 1)
    firsts = [int(ids[0]), *ids[breaks + 1].tolist()]
    lasts = [*ids[breaks].tolist(), int(ids[-1])]
    return list(zip(firsts, lasts, strict=True))
