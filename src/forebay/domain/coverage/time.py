"""Coverage by time: when a connection that carries the stream was heard.

It is what a stream without numbers can honestly claim: from the acceptance of a connection to its
last frame nothing was cut off, though the venue may have left something out.

=========  ===============================================================
live       from acceptance to the last frame of each live connection
fill       times that the venue's history was asked for, and answered
absent     times of which the venue's history says that it has nothing
lost       holes of a channel that has no history to be asked
outage     times between two connections of a recording, the later of which carries the stream
owed       times of which a calendar said that the store lacked something
missed     by its name, from when to when a hole in a connection's numbers was
owing      from when to when the stream is owed at all
=========  ===============================================================

Times are receipts, UTC nanoseconds; of a series, such as bars of a minute, they are the market's.
A gap is a hole of ``live``, or an outage that no live connection bridged, or what is owed. A
connection that ended without a word, since its collector was killed, counts
up to the last event of the stream.

Where a venue numbers what it tells over a whole connection, a hole in these numbers may be of any
of its streams, so none of them counts as heard meanwhile, whoever else heard it.

A stream is owed from the first connection that was accepted for it, as long as one is heard. If it
is said from when on it is owed, it is missing from then to that acceptance. If it is said until
when, then from the last hearing up to there, once that was over when it was said.

Where a venue numbers what it tells over a connection, one by one and anew with the next, a hole
between two numbers of one connection is a gap of the unit ``seq`` besides, named with its epoch.
Between two connections nobody can count: what is lost there is a gap in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np

from forebay.domain.coverage.base import BETWEEN, Acceptance, Look, SetCoverage, Verdict
from forebay.domain.coverage.gaps import (
    NOT_STORED,
    Arrival,
    Gap,
    GapState,
    PriorKnowledge,
    Row,
    StreamKey,
    reach,
)
from forebay.domain.coverage.ids import runs
from forebay.domain.frames import EVERY_SYMBOL
from forebay.domain.intervals import Interval, IntervalSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.channels import Unit
    from forebay.domain.frames import MissedNumbers

_NUMBERS = "live"
_TIME = "time_"
"""Origins of rows: numbers, and what precedes the name of a set of times."""
_MISSED, _OWING = "missed", "owing"
"""Origins of rows; their ``epoch`` is a :class:`MissedName`, or when it was said."""
_DAWN, _DUSK = -(1 << 62), 1 << 62
"""Stand for no bound."""


class MissedName(NamedTuple):
    """A hole in the numbers of a connection."""

    line: str
    first: int
    last: int

    @property
    def text(self) -> str:
        return BETWEEN.join(map(str, self))

    @classmethod
    def of(cls, text: str) -> MissedName:
        line, first, last = text.rsplit(BETWEEN, 2)
        return cls(line, int(first), int(last))


class Owing(NamedTuple):
    """From when to when a stream is owed, both included, and when that was said."""

    told_ns: int
    since_ns: int = _DAWN
    until_ns: int = _DUSK


_ALWAYS = Owing(_DAWN)
"""Nobody said so."""


@dataclass(slots=True)
class TimeCoverage(SetCoverage):
    """The interval sets of one stream; see the module."""

    unit: ClassVar[Unit] = "time"
    sets = ("live", "fill", "absent", "lost", "outage", "owed")

    lost: IntervalSet = field(default_factory=IntervalSet)
    outage: IntervalSet = field(default_factory=IntervalSet)
    owed: IntervalSet = field(default_factory=IntervalSet)
    missed: dict[MissedName, Interval] = field(default_factory=dict)
    owing: Owing = _ALWAYS

    @property
    def vouched(self) -> bool:
        return self.owing != _ALWAYS and bool(self.live)

    def copy(self) -> Self:
        made = super(TimeCoverage, self).copy()
        made.missed, made.owing = self.missed.copy(), self.owing
        return made

    def see(self, arrival: Arrival) -> PriorKnowledge:
        """See :class:`~.base.Coverage`; it cannot tell one event from another."""
        if arrival.live and arrival.timed:
            times = arrival.received_ns
            self.heard(arrival.epoch, int(times.min()), int(times.max()))
        elif arrival.outage is not None:  # though what was filtered says nothing else
            self.outage.add(*arrival.outage)
        return super(TimeCoverage, self).see(arrival)

    def heard(self, epoch: str, first_ns: int, last_ns: int) -> None:
        """Note that ``epoch`` was heard from ``first_ns`` to ``last_ns``, and since before."""
        reached = reach(self.epochs, epoch, last_ns)
        self.live.add(min(first_ns, reached), max(last_ns, reached))

    def opened(self, epoch: str, now_ns: int) -> None:
        self.heard(epoch, now_ns, now_ns)

    def closed(self, epoch: str, last_ns: int | None) -> None:
        if epoch in self.epochs and last_ns is not None:
            self.heard(epoch, last_ns, last_ns)
        self.epochs.pop(epoch, None)

    def finished(
        self, first: int, last: int, absent: Iterable[Interval], look: Look | None = None
    ) -> None:
        lacking = IntervalSet(absent)
        self.fill |= IntervalSet([(first, last)]) - lacking
        self.verdict.arrived(self.fill)
        lacking -= self.fill
        believed = lacking if look is None else self.verdict.look(lacking, look)
        self.absent = (self.absent | believed) - self.fill

    def checked(
        self, first: int, last: int, missing: Iterable[Interval], stored: Iterable[Interval]
    ) -> None:
        """See :class:`~.base.Coverage`; what the store holds counts, not what history listed."""
        lacking = IntervalSet(missing).within(first, last)
        arrived = (self.owed & IntervalSet(stored)).within(first, last) - lacking
        withdrawn = self.owed.within(first, last) - lacking - arrived
        self.owed = (self.owed | lacking) - withdrawn
        self.fill = (self.fill | arrived) - lacking
        self.absent -= arrived
        self.verdict.arrived(arrived)

    def give_up(self) -> None:
        self.lost = self._holes() - self.fill - self.absent

    def miss(
        self, line: str, missed: Iterable[MissedNumbers], over: Iterable[MissedNumbers]
    ) -> None:
        for hole in over:
            self.missed.pop(MissedName(line, hole.first, hole.last), None)
        for hole in missed:
            name = MissedName(line, hole.first, hole.last)
            self.missed[name] = hole.since_ns, hole.until_ns

    def owe(self, told_ns: int, since_ns: int | None, until_ns: int | None) -> None:
        """See :class:`~.base.Coverage`; of several, what was said last holds."""
        ends = _DAWN if since_ns is None else since_ns, _DUSK if until_ns is None else until_ns
        self.owing = max(self.owing, Owing(told_ns, *ends))

    def arrived(self) -> dict[tuple[Unit, str], IntervalSet]:
        return {("time", ""): self._heard() | self.fill}

    def _carried(self) -> IntervalSet:
        """Return when a connection carried the stream: also up to a hole in an open one's numbers.

        What is behind the hole came over it, though it is of other streams.
        """
        reached = self.epochs
        spans = (
            (reached.get(name.line.rpartition("/")[0], _DUSK), until_ns)
            for name, (_, until_ns) in self.missed.items()
        )
        return self.live | IntervalSet(spans) if self.missed else self.live

    def _heard(self) -> IntervalSet:
        return self._carried() - IntervalSet(self.missed.values()) if self.missed else self.live

    def _ends(self) -> Interval | None:
        """Return from when to when the stream must have been heard; None: nobody knows."""
        carried = self._carried()
        told_ns, since_ns, until_ns = self.owing
        first = since_ns if since_ns > _DAWN else carried.first if carried else _DUSK
        last = carried.last if carried else _DAWN
        last = until_ns if until_ns <= told_ns else last
        return (first, last) if first <= last else None

    def _holes(self) -> IntervalSet:
        heard, ends = self._heard(), self._ends()
        holes = heard.holes(*ends) if ends else IntervalSet()
        holes |= (self.outage - heard) | self.owed
        return holes.within(self.owing.since_ns, self.owing.until_ns)

    def gaps(self, key: StreamKey) -> list[Gap]:
        holes, missed = self._holes(), IntervalSet(self.missed.values())
        lacking = holes - self.fill
        found: list[Gap] = []

        def declare(part: IntervalSet, reason: str, state: GapState, *who: str) -> None:
            found.extend(Gap(*key, "time", "", *hole, reason, state, *who) for hole in part)

        def because(part: IntervalSet, state: GapState, *who: str) -> None:
            declare(part & self.owed, NOT_STORED, state, *who)
            part -= self.owed
            declare(part & missed, "in_connection", state, *who)
            declare(part - missed, "between_connections", state, *who)

        because(holes & self.fill, "filled")
        for told, members in self.verdict.accepted.items():
            part, who = lacking & members, (told.by, told.reason)
            declare(part & self.absent, "absent_from_history", "accepted", *who)
            because(part - self.absent, "accepted", *who)
            lacking -= members
        unasked = lacking - self.absent
        because(unasked - self.lost, "open")
        because(unasked & self.lost, "permanent")
        declare(lacking & self.absent, "absent_from_history", "permanent")
        return sorted(found)

    def rows(self) -> Iterator[Row]:
        for name, times in self.missed.items():
            yield Row(_MISSED, name.text, *times)
        if self.owing != _ALWAYS:
            yield Row(_OWING, str(self.owing.told_ns), *self.owing[1:])
        yield from super(TimeCoverage, self).rows()

    @classmethod
    def from_rows(cls, rows: Iterable[Row], epochs: Sequence[tuple[str, int]]) -> Self:
        missed, owing, others = dict[MissedName, Interval](), _ALWAYS, []
        for row in rows:
            if row.origin == _MISSED:
                missed[MissedName.of(row.epoch)] = row.first, row.last
            elif row.origin == _OWING:
                owing = Owing(int(row.epoch), row.first, row.last)
            else:
                others.append(row)
        found = super(TimeCoverage, cls).from_rows(others, epochs)
        found.missed, found.owing = missed, owing
        return found


@dataclass(slots=True)
class SequenceCoverage(TimeCoverage):
    """The numbers of each connection of one stream, and when it was heard.

    History knows times, never a connection's numbers; one that is missing stays a loss. What is
    missing of those that a connection has over all its streams is told of
    :data:`~forebay.domain.frames.EVERY_SYMBOL`. Nobody can be asked for it either, and whether an
    event was lost with it is said by the streams.
    """

    unit: ClassVar[Unit] = "seq"

    numbers: dict[str, IntervalSet] = field(default_factory=dict)
    """By epoch."""
    of_numbers: Verdict = field(default_factory=Verdict)
    """Beside that of times."""

    def copy(self) -> Self:
        made = super(SequenceCoverage, self).copy()
        made.numbers = {epoch: numbers.copy() for epoch, numbers in self.numbers.items()}
        made.of_numbers = self.of_numbers.copy()
        return made

    def see(self, arrival: Arrival) -> PriorKnowledge:
        seen = super(SequenceCoverage, self).see(arrival)
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

    def accept(self, first: int, last: int, told: Acceptance) -> None:
        """See :class:`~.base.Coverage`; without an epoch it is of a gap in time."""
        if told.epoch:
            self.of_numbers.accept(told, IntervalSet([(first, last)]))
        else:
            super(SequenceCoverage, self).accept(first, last, told)

    def arrived(self) -> dict[tuple[Unit, str], IntervalSet]:
        times = super(SequenceCoverage, self).arrived()
        return {**{("seq", epoch): held for epoch, held in self.numbers.items()}, **times}

    def gaps(self, key: StreamKey) -> list[Gap]:
        found = super(SequenceCoverage, self).gaps(key)
        left: GapState = "permanent" if key.symbol == EVERY_SYMBOL else "open"
        for epoch, holes in self._left_out(key).items():

            def declare(part: IntervalSet, epoch: str, state: GapState, *who: str) -> None:
                found.extend(
                    Gap(*key, "seq", epoch, *hole, "in_connection", state, *who) for hole in part
                )

            rest = holes
            for told, members in self.of_numbers.accepted.items():
                if told.epoch == epoch:
                    declare(rest & members, epoch, "accepted", told.by, told.reason)
                    rest -= members
            declare(rest, epoch, left)
        return sorted(found)

    def _left_out(self, key: StreamKey) -> dict[str, IntervalSet]:
        """Return the holes in numbers by connection, or by the line of one."""
        found = {epoch: each.holes(each.first, each.last) for epoch, each in self.numbers.items()}
        for name in self.missed if key.symbol == EVERY_SYMBOL else ():
            found.setdefault(name.line, IntervalSet()).add(name.first, name.last)
        return found

    def rows(self) -> Iterator[Row]:
        for epoch, numbers in self.numbers.items():
            yield from (Row(_NUMBERS, epoch, *interval) for interval in numbers)
        yield from self.of_numbers.rows()
        for row in super(SequenceCoverage, self).rows():
            yield row._replace(origin=f"{_TIME}{row.origin}")

    @classmethod
    def from_rows(cls, rows: Iterable[Row], epochs: Sequence[tuple[str, int]]) -> Self:
        numbers: dict[str, IntervalSet] = {}
        verdict, times = Verdict(), []
        for row in rows:
            if row.origin == _NUMBERS:
                numbers.setdefault(row.epoch, IntervalSet()).add(row.first, row.last)
            elif not verdict.take(row):
                times.append(row._replace(origin=row.origin.removeprefix(_TIME)))
        found = super(SequenceCoverage, cls).from_rows(times, epochs)
        found.numbers, found.of_numbers = numbers, verdict
        return found
