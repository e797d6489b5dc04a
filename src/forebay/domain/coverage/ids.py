"""Coverage by the venue's own ids, which rise by one and mean the same on every path.

=========  ===============================================================
live       ids that reached us over a live connection
fill       ids that the venue's history (or a filtered recording) gave
absent     ids that the venue's history was seen to leave out
spanned    from the first to the last id of every connection
known      ids that the venue said exist, those nearer than a million joined
=========  ===============================================================

A gap is a hole of ``live`` between the least and the greatest live or known id: a pure function
of the sets, so nothing opens or closes a gap, it is there or it is not. One id alone, far from all
others, proves no hole: that between it and the others is told apart until something vouches for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from forebay.domain.coverage.base import Look, SetCoverage
from forebay.domain.coverage.gaps import FAR_AHEAD, FAR_BEHIND, Gap, PriorKnowledge, Row, reach
from forebay.domain.intervals import FAR, Interval, IntervalSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.channels import Unit
    from forebay.domain.coverage.gaps import Arrival, GapState, Numbers, StreamKey


@dataclass(slots=True)
class IdCoverage(SetCoverage):
    """The interval sets of one stream; see the module."""

    unit: ClassVar[Unit] = "id"
    sets = ("live", "fill", "absent", "spanned", "known")

    spanned: IntervalSet = field(default_factory=IntervalSet)
    known: IntervalSet = field(default_factory=IntervalSet)

    def see(self, arrival: Arrival) -> PriorKnowledge:
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
                out_of_order = (ids < greatest) & (greatest - ids < FAR)
            self.span(arrival.epoch, first, last)
        arrived = self.live if arrival.live else self.fill
        if self.absent:
            self.absent -= IntervalSet(pieces)
        if self.verdict.looked:
            self.verdict.arrived(IntervalSet(pieces))
        for piece in pieces:
            arrived.add(*piece)
        return PriorKnowledge(before, out_of_order)

    def _reached(self, epoch: str, ids: Numbers) -> int:
        """Return the greatest id before ``ids`` that can make one of them out of order.

        Only events count: a heartbeat may run ahead of them and moves what it reached.
        """
        if (reached := self.epochs.get(epoch)) is not None:
            earlier = self.live.within(int(ids.min()), min(reached, int(ids.max()) + FAR))
            if earlier:
                return earlier.last
        return int(ids[0])

    def know(self, epoch: str, least: int, greatest: int) -> None:
        self.known.add(least, greatest, reach=FAR - 1)
        self.span(epoch, least, greatest)

    def span(self, epoch: str, first: int, last: int) -> None:
        """Note that ``epoch`` reached from ``first`` to ``last``, whatever it left out."""
        reached = reach(self.epochs, epoch, last)
        self.spanned.add(min(first, reached), max(last, reached))

    def finished(
        self, first: int, last: int, absent: Iterable[Interval], look: Look | None = None
    ) -> None:
        """See :class:`~.base.Coverage`; what arrived all the same is not absent."""
        del first, last  # what history gave has arrived
        lacking = IntervalSet(absent) - self.live - self.fill
        self.absent |= lacking if look is None else self.verdict.look(lacking, look)

    def hull(self) -> Interval | None:
        """Return the least and the greatest id that must exist, or None when none is known.

        One id that is far from all others, and that nothing else vouches for, counts for nothing:
        neither another id near it, nor the venue saying that it exists and sending it. Ahead of the
        others, its history may vouch for it too; behind them, it always has older ids.
        """
        told = [*(self.live | self.known).joined(FAR - 1)]
        sure = [at for at, each in enumerate(told) if self._vouched(each)] or [0]
        last = max([at for at in range(len(told)) if self._listed(told[at])], default=0)
        return (told[sure[0]][0], told[max(sure[-1], last)][1]) if told else None

    def _vouched(self, near: Interval) -> bool:
        first, last = near
        return first < last or (first in self.live and first in self.known)

    def _listed(self, near: Interval) -> bool:
        return bool(self.fill.within(near[0] - FAR + 1, near[1] + FAR - 1))

    def arrived(self) -> dict[tuple[Unit, str], IntervalSet]:
        return {("id", ""): self.live | self.fill}

    def gaps(self, key: StreamKey) -> list[Gap]:
        hull = self.hull()
        if hull is None:
            return []
        ends = self.live | self.known
        holes = self.live.holes(ends.first, ends.last)
        missing = holes - self.fill
        owed, spanned = missing.within(*hull), self.spanned
        absent = owed & self.absent
        found: list[Gap] = []

        def declare(part: IntervalSet, reason: str, state: GapState, *who: str) -> None:
            found.extend(Gap(*key, self.unit, "", *hole, reason, state, *who) for hole in part)

        def because(part: IntervalSet, state: GapState, *who: str) -> None:
            declare(part & spanned, "in_connection", state, *who)
            declare(part - spanned, "between_connections", state, *who)

        because(holes & self.fill, "filled")
        for told, members in self.verdict.accepted.items():
            who = told.by, told.reason
            declare(absent & members, "absent_from_history", "accepted", *who)
            because((owed & members) - absent, "accepted", *who)
            owed, absent = owed - members, absent - members
        declare(absent, "absent_from_history", "permanent")
        because(owed - absent, "open")
        found += self._far(key, missing, hull)
        return sorted(found)

    def _far(self, key: StreamKey, missing: IntervalSet, hull: Interval) -> Iterator[Gap]:
        """Return the holes beside the hull; what is accepted of one is that its far end stays."""
        sides = (
            (FAR_BEHIND, missing.within(missing.first, hull[0] - 1) if missing else ()),
            (FAR_AHEAD, missing.within(hull[1] + 1, missing.last) if missing else ()),
        )
        for reason, holes in sides:
            for hole in holes:
                end = hole[reason == FAR_AHEAD]
                who = [
                    (told.by, told.reason)
                    for told, members in self.verdict.accepted.items()
                    if end in members
                ]
                state: GapState = "accepted" if who else "open"
                yield Gap(*key, self.unit, "", *hole, reason, state, *(who[0] if who else ()))

    @classmethod
    def from_rows(cls, rows: Iterable[Row], epochs: Sequence[tuple[str, int]]) -> Self:
        """See :class:`~.base.Coverage`.

        Epochs are written only when a stream has a new connection. What one connection spans is
        in one piece, so the piece that holds the place it began from tells how far it got.
        """
        found = super(IdCoverage, cls).from_rows(rows, epochs)
        found.epochs = {epoch: found.spanned.end_of(last) for epoch, last in epochs}
        return found


def runs(ids: Numbers) -> list[Interval]:
    """Return the maximal runs of consecutive ids among rising ones, in order."""
    breaks = np.flatnonzero(ids[1:] > ids[:-1] + 1)
    firsts = [int(ids[0]), *ids[breaks + 1].tolist()]
    lasts = [*ids[breaks].tolist(), int(ids[-1])]
    return list(zip(firsts, lasts, strict=True))
