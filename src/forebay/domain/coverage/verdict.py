"""What becomes of a hole that stays: how often history left it out, and who accepted it.

That history lacks something is believed when it said so several times, with growing waits between:
it may lag behind, or leave something out for a while. Looks count in the order of the journal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.coverage.unit import Row
from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOKED, ACCEPTED = "looked", "accepted"
"""Origins of rows; their ``epoch`` is the text of a :class:`Count` or an :class:`Acceptance`."""
_BETWEEN = "\x1f"


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
        """Read what was written as two numbers."""
        looks, at_ns = text.split(_BETWEEN)
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
        """Read what was written as four texts."""
        at_ns, epoch, by, reason = text.split(_BETWEEN, 3)
        return cls(int(at_ns), epoch, by, reason)


def _row(origin: str, head: tuple[object, ...], interval: tuple[int, int]) -> Row:
    return Row(origin, _BETWEEN.join(map(str, head)), *interval)


@dataclass(slots=True)
class Verdict:
    """Looks at holes and acceptances of one stream, in its unit."""

    looked: dict[Count, IntervalSet] = field(default_factory=dict)
    accepted: dict[Acceptance, IntervalSet] = field(default_factory=dict)

    def copy(self) -> Verdict:
        """Return an independent one with the same content."""
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
        """Return what a store keeps."""
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
