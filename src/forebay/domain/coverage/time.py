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
=========  ===============================================================

Times are receipts, UTC nanoseconds; of a series, such as bars of a minute, they are the market's.
A gap is a hole of ``live``, or an outage that no live connection bridged, or what is owed. A
connection that ended without a word, since its collector was killed, counts
up to the last event of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from forebay.domain.coverage.base import SetCoverage
from forebay.domain.coverage.gaps import NOT_STORED, Gap
from forebay.domain.coverage.unit import PriorKnowledge, reach
from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.domain.channels import Unit
    from forebay.domain.coverage.gaps import GapState, StreamKey
    from forebay.domain.coverage.unit import Arrival
    from forebay.domain.coverage.verdict import Look
    from forebay.domain.intervals import Interval


@dataclass(slots=True)
class TimeCoverage(SetCoverage):
    """The interval sets of one stream; see the module."""

    unit: ClassVar[Unit] = "time"
    sets = ("live", "fill", "absent", "lost", "outage", "owed")

    lost: IntervalSet = field(default_factory=IntervalSet)
    outage: IntervalSet = field(default_factory=IntervalSet)
    owed: IntervalSet = field(default_factory=IntervalSet)

    def see(self, arrival: Arrival) -> PriorKnowledge:
        """See :class:`~.base.Coverage`; it cannot tell one event from another."""
        if arrival.live and arrival.timed:
            times = arrival.received_ns
            self.heard(arrival.epoch, int(times.min()), int(times.max()))
        elif arrival.live and arrival.outage is not None:
            self.outage.add(*arrival.outage)
        return super(TimeCoverage, self).see(arrival)

    def heard(self, epoch: str, first_ns: int, last_ns: int) -> None:
        """Note that ``epoch`` was heard from ``first_ns`` to ``last_ns``, and since before."""
        reached = reach(self.epochs, epoch, last_ns)
        self.live.add(min(first_ns, reached), max(last_ns, reached))

    def opened(self, epoch: str, now_ns: int) -> None:
        """See :class:`~.base.Coverage`."""
        self.heard(epoch, now_ns, now_ns)

    def closed(self, epoch: str, last_ns: int | None) -> None:
        """See :class:`~.base.Coverage`."""
        if epoch in self.epochs and last_ns is not None:
            self.heard(epoch, last_ns, last_ns)
        self.epochs.pop(epoch, None)

    def finished(
        self, first: int, last: int, absent: Iterable[Interval], look: Look | None = None
    ) -> None:
        """See :class:`~.base.Coverage`."""
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
        """See :class:`~.base.Coverage`."""
        self.lost = self._holes() - self.fill - self.absent

    def _holes(self) -> IntervalSet:
        live = self.live
        holes = live.holes(live.first, live.last) if live else IntervalSet()
        return holes | (self.outage - live) | self.owed

    def gaps(self, key: StreamKey) -> list[Gap]:
        """See :class:`~.base.Coverage`."""
        holes = self._holes()
        lacking = holes - self.fill
        found: list[Gap] = []

        def declare(part: IntervalSet, reason: str, state: GapState, *who: str) -> None:
            found.extend(Gap(*key, self.unit, "", *hole, reason, state, *who) for hole in part)

        def because(part: IntervalSet, state: GapState, *who: str) -> None:
            declare(part - self.owed, "between_connections", state, *who)
            declare(part & self.owed, NOT_STORED, state, *who)

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
