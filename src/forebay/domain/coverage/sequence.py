"""Coverage by numbers that rise by one within a connection, and begin anew with the next.

A hole between two numbers of one connection is a gap of the unit ``seq``, named with its epoch.
Between two connections nobody can count: what is lost there is a gap in time, as it is of
:class:`~forebay.domain.coverage.time.TimeCoverage`, which this has within it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from forebay.domain.coverage.base import Coverage
from forebay.domain.coverage.gaps import Gap
from forebay.domain.coverage.ids import runs
from forebay.domain.coverage.time import TimeCoverage
from forebay.domain.coverage.unit import PriorKnowledge, Row
from forebay.domain.coverage.verdict import Verdict
from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.channels import Unit
    from forebay.domain.coverage.gaps import GapState, StreamKey
    from forebay.domain.coverage.unit import Arrival
    from forebay.domain.coverage.verdict import Acceptance, Count, Look
    from forebay.domain.intervals import Interval

_NUMBERS = "live"
_TIME = "time_"
"""Origins of rows: numbers, and what precedes the name of a set of times."""


@dataclass(slots=True)
class SequenceCoverage(Coverage):
    """The numbers of each connection of one stream, and when it was heard."""

    unit: ClassVar[Unit] = "seq"

    numbers: dict[str, IntervalSet] = field(default_factory=dict)
    """By epoch."""
    time: TimeCoverage = field(default_factory=TimeCoverage)
    verdict: Verdict = field(default_factory=Verdict)
    """Of the numbers; of times it is in :attr:`time`."""

    @property
    def epochs(self) -> dict[str, int]:
        """See :class:`~.base.Coverage`."""
        return self.time.epochs

    def copy(self) -> Self:
        """See :class:`~.base.Coverage`."""
        numbers = {epoch: numbers.copy() for epoch, numbers in self.numbers.items()}
        return type(self)(numbers, self.time.copy(), self.verdict.copy())

    def see(self, arrival: Arrival) -> PriorKnowledge:
        """See :class:`~.base.Coverage`."""
        seen = self.time.see(arrival)
        if not arrival.live:
            return seen
        numbers = arrival.numbers
        known = self.numbers.setdefault(arrival.epoch, IntervalSet())
        before = known.within(int(numbers.min()), int(numbers.max())).contains(numbers)
        earlier = known.last if known else int(numbers[0])
        greatest = np.maximum.accumulate(np.concatenate(([earlier], numbers)))[:-1]
        for run in runs(np.sort(numbers)):
            known.add(*run)
        return PriorKnowledge(before, numbers < greatest)

    def opened(self, epoch: str, now_ns: int) -> None:
        """See :class:`~.base.Coverage`."""
        self.time.opened(epoch, now_ns)

    def closed(self, epoch: str, last_ns: int | None) -> None:
        """See :class:`~.base.Coverage`."""
        self.time.closed(epoch, last_ns)

    def finished(
        self, first: int, last: int, absent: Iterable[Interval], look: Look | None = None
    ) -> None:
        """See :class:`~.base.Coverage`: history knows times, never a connection's numbers."""
        self.time.finished(first, last, absent, look)

    def accept(self, first: int, last: int, told: Acceptance) -> None:
        """See :class:`~.base.Coverage`; without an epoch it is of a gap in time."""
        if told.epoch:
            self.verdict.accept(told, IntervalSet([(first, last)]))
        else:
            self.time.accept(first, last, told)

    def looks(self, first: int, last: int) -> Count:
        """See :class:`~.base.Coverage`."""
        return self.time.looks(first, last)

    def give_up(self) -> None:
        """See :class:`~.base.Coverage`; a number that is missing stays a loss."""
        self.time.give_up()

    def gaps(self, key: StreamKey) -> list[Gap]:
        """See :class:`~.base.Coverage`."""
        found = self.time.gaps(key)
        for epoch, numbers in self.numbers.items():
            holes = numbers.holes(numbers.first, numbers.last)

            def declare(part: IntervalSet, epoch: str, state: GapState, *who: str) -> None:
                found.extend(
                    Gap(*key, "seq", epoch, *hole, "in_connection", state, *who) for hole in part
                )

            for told, members in self.verdict.accepted.items():
                if told.epoch == epoch:
                    declare(holes & members, epoch, "accepted", told.by, told.reason)
                    holes -= members
            declare(holes, epoch, "open")
        return sorted(found)

    def rows(self) -> Iterator[Row]:
        """See :class:`~.base.Coverage`."""
        for epoch, numbers in self.numbers.items():
            yield from (Row(_NUMBERS, epoch, *interval) for interval in numbers)
        yield from self.verdict.rows()
        for row in self.time.rows():
            yield row._replace(origin=f"{_TIME}{row.origin}")

    @classmethod
    def from_rows(cls, rows: Iterable[Row], epochs: Sequence[tuple[str, int]]) -> Self:
        """See :class:`~.base.Coverage`."""
        found, times = cls(), []
        for row in rows:
            if row.origin == _NUMBERS:
                found.numbers.setdefault(row.epoch, IntervalSet()).add(row.first, row.last)
            elif not found.verdict.take(row):
                times.append(row._replace(origin=row.origin.removeprefix(_TIME)))
        found.time = TimeCoverage.from_rows(times, epochs)
        return found
