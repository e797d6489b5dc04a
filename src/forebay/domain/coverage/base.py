"""What coverage of every unit can do, and what those have in common that are sets of intervals.

That history lacks something is believed when it said so several times, with growing waits between:
it may lag behind, or leave something out for a while. Looks count in the order of the journal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np

from forebay.domain.coverage.gaps import Arrival, Gap, PriorKnowledge, Row, StreamKey, remembered
from forebay.domain.intervals import Interval, IntervalSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.channels import Unit
    from forebay.domain.frames import MissedNumbers

LOOKED, ACCEPTED = "looked", "accepted"
"""Origins of rows; their ``epoch`` is the text of a :class:`Count` or an :class:`Acceptance`."""
BETWEEN = "\x1f"
"""Between the parts of what rows have in the place of an epoch."""


class Look(NamedTuple):
    """One time that history was asked."""

    at_ns: int
    """UTC nanoseconds."""
    waits_s: tuple[int, ...]
    """How long after one look that counted the next one counts; one more than these is enough."""
    renews: bool = False
    """Whether it is also kept when history was last asked for what is believed already."""


class Count(NamedTuple):
    """How many looks counted, and when the last one was."""

    looks: int
    at_ns: int

    @classmethod
    def of(cls, text: str) -> Count:
        looks, at_ns = text.split(BETWEEN)
        return cls(int(looks), int(at_ns))


class Acceptance(NamedTuple):
    """That somebody accepted a hole."""

    at_ns: int
    epoch: str
    """The connection that numbers of the unit ``seq`` are of, otherwise empty."""
    by: str
    reason: str

    @classmethod
    def of(cls, text: str) -> Acceptance:
        at_ns, epoch, by, reason = text.split(BETWEEN, 3)
        return cls(int(at_ns), epoch, by, reason)


def _row(origin: str, head: tuple[object, ...], interval: tuple[int, int]) -> Row:
    return Row(origin, BETWEEN.join(map(str, head)), *interval)


@dataclass(slots=True)
class Verdict:
    """Looks at holes and acceptances of one stream, in its unit."""

    looked: dict[Count, IntervalSet] = field(default_factory=dict)
    accepted: dict[Acceptance, IntervalSet] = field(default_factory=dict)

    def copy(self) -> Verdict:
        looked = {count: members.copy() for count, members in self.looked.items()}
        return Verdict(looked, {told: members.copy() for told, members in self.accepted.items()})

    def look(self, lacking: IntervalSet, look: Look) -> IntervalSet:
        """Count a look that history lacked something; return what is now to be believed.

        One that is too early does not count; after a clock went back it is waited for anew.
        """
        believed, fresh = IntervalSet(), lacking
        for count, members in sorted(self.looked.items()):
            again = members & lacking
            fresh -= again
            if not again:
                continue
            if count.looks > len(look.waits_s):
                if look.renews and look.at_ns > count.at_ns:
                    self.looked[count] = members - again
                    self._count(Count(count.looks, look.at_ns), again)
                continue
            since_ns = look.at_ns - count.at_ns
            counts = since_ns >= look.waits_s[count.looks - 1] * 10**9
            if counts or since_ns < 0:
                self.looked[count] = members - again
                self._count(Count(count.looks + counts, look.at_ns), again)
            if counts and count.looks == len(look.waits_s):
                believed |= again
        self._count(Count(1, look.at_ns), fresh)
        return believed if look.waits_s else lacking

    def _count(self, count: Count, members: IntervalSet) -> None:
        self.looked[count] = self.looked.get(count, IntervalSet()) | members
        self.looked = {told: held for told, held in self.looked.items() if held}

    def arrived(self, members: IntervalSet) -> None:
        """Forget looks at what is no hole any more."""
        if self.looked:
            held = {count: looked - members for count, looked in self.looked.items()}
            self.looked = {count: looked for count, looked in held.items() if looked}

    def count(self, first: int, last: int) -> Count:
        """Return the fewest looks that counted at some part of a hole."""
        seen = [count for count, held in self.looked.items() if held.within(first, last)]
        return min(seen, default=Count(0, 0))

    def accept(self, told: Acceptance, members: IntervalSet) -> None:
        """Note an acceptance; whoever was first stands."""
        for earlier, held in self.accepted.items():
            if earlier.epoch == told.epoch:
                members -= held
        if members:
            self.accepted[told] = self.accepted.get(told, IntervalSet()) | members

    def rows(self) -> Iterator[Row]:
        for count, members in self.looked.items():
            yield from (_row(LOOKED, count, each) for each in members)
        for told, members in self.accepted.items():
            yield from (_row(ACCEPTED, told, each) for each in members)

    def take(self, row: Row) -> bool:
        """Read one row; return whether it was one of these."""
        if row.origin == LOOKED:
            self.looked.setdefault(Count.of(row.epoch), IntervalSet()).add(row.first, row.last)
        elif row.origin == ACCEPTED:
            held = self.accepted.setdefault(Acceptance.of(row.epoch), IntervalSet())
            held.add(row.first, row.last)
        return row.origin in (LOOKED, ACCEPTED)


@dataclass(slots=True)
class Coverage:
    """What a stream is owed and has, whatever the order or repetition of what arrived.

    This one is of a stream that nothing counts, so nothing is ever missing. Others replace what
    means something in their unit.
    """

    unit: ClassVar[Unit] = "none"

    @property
    def epochs(self) -> dict[str, int]:
        """How far each of the connections got that spoke last, in the order in which they did.

        A copy has at most :data:`~.gaps.EPOCHS` of them.
        """
        return {}

    @property
    def vouched(self) -> bool:
        """Whether somebody beside the connection says that the stream is, and it was listened to.

        Then that nothing came of it is what happened.
        """
        return False

    def copy(self) -> Self:
        """Return an independent coverage with the same content, to go on with."""
        return type(self)()

    def see(self, arrival: Arrival) -> PriorKnowledge:
        """Add what arrived; ``arrival`` has at least one event."""
        nothing = np.zeros(len(arrival.received_ns), dtype=np.bool_)
        return PriorKnowledge(nothing, nothing)

    def know(self, epoch: str, least: int, greatest: int) -> None:
        """Add the least and the greatest that the venue said exists, which may not have come."""

    def opened(self, epoch: str, now_ns: int) -> None:
        """Note that a live connection was accepted which carries the stream."""

    def closed(self, epoch: str, last_ns: int | None) -> None:
        """Note that a connection is over; its last frame came at ``last_ns``, if one is known."""

    def finished(
        self, first: int, last: int, absent: Iterable[Interval], look: Look | None = None
    ) -> None:
        """Note that history was asked for a whole range and does not have ``absent``.

        That is believed after enough looks; without one at once.
        """

    def checked(
        self, first: int, last: int, missing: Iterable[Interval], stored: Iterable[Interval]
    ) -> None:
        """Note that a store lacks ``missing`` of a range in which a calendar expects it.

        Of what was missing once it has ``stored`` now; nothing else is expected any more.
        """

    def accept(self, first: int, last: int, told: Acceptance) -> None:
        """Note that somebody accepted that a gap stays."""

    def miss(
        self, line: str, missed: Iterable[MissedNumbers], over: Iterable[MissedNumbers]
    ) -> None:
        """Note what is missing, and what is not any more, of a line that carries the stream."""

    def owe(self, told_ns: int, since_ns: int | None, until_ns: int | None) -> None:
        """Note from when to when the stream is owed, as was said at ``told_ns``."""

    def looks(self, first: int, last: int) -> Count:
        """Return how many looks at a hole counted, and when the last one was."""
        del first, last
        return Count(0, 0)

    def give_up(self) -> None:
        """Note that no history can be asked for what lies between connections up to now."""

    def arrived(self) -> dict[tuple[Unit, str], IntervalSet]:
        """Return what arrived, however it came, by unit and, of the unit ``seq``, by epoch."""
        return {}

    def gaps(self, key: StreamKey) -> list[Gap]:
        """Return the holes of live coverage, in order, each with its reason and state."""
        del key
        return []

    def rows(self) -> Iterator[Row]:
        """Return what a store keeps, beside :attr:`epochs`."""
        return iter(())

    @classmethod
    def from_rows(cls, rows: Iterable[Row], epochs: Sequence[tuple[str, int]]) -> Self:
        """Return the coverage that :meth:`rows` and the epochs as they were written are of."""
        del rows, epochs
        return cls()


@dataclass(slots=True)
class SetCoverage(Coverage):
    """Coverage that is a handful of interval sets of one unit."""

    sets: ClassVar[tuple[str, ...]]
    """The names of the sets; rows are told by them."""

    live: IntervalSet = field(default_factory=IntervalSet)
    fill: IntervalSet = field(default_factory=IntervalSet)
    absent: IntervalSet = field(default_factory=IntervalSet)
    verdict: Verdict = field(default_factory=Verdict)
    epochs: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Self:
        made = type(self)(verdict=self.verdict.copy(), epochs=remembered(self.epochs))
        for name in self.sets:
            setattr(made, name, getattr(self, name).copy())
        return made

    def accept(self, first: int, last: int, told: Acceptance) -> None:
        self.verdict.accept(told, IntervalSet([(first, last)]))

    def looks(self, first: int, last: int) -> Count:
        return self.verdict.count(first, last)

    def rows(self) -> Iterator[Row]:
        for origin in self.sets:
            yield from (Row(origin, "", *interval) for interval in getattr(self, origin))
        yield from self.verdict.rows()

    @classmethod
    def from_rows(cls, rows: Iterable[Row], epochs: Sequence[tuple[str, int]]) -> Self:
        """See :class:`Coverage`.

        Epochs are written only when a stream has a new connection. How far one got since does not
        matter: any moment of its piece joins the next one to it.
        """
        found = cls(epochs=dict(epochs))
        for row in rows:
            if not found.verdict.take(row):
                getattr(found, row.origin).add(row.first, row.last)
        return found
