"""What a calendar is, and those that need no rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from forebay.domain.intervals import IntervalSet


class Calendar(Protocol):
    """When a market is open."""

    def open(self, begin_ns: int, end_ns: int) -> IntervalSet:
        """Return the open moments from ``begin_ns`` up to ``end_ns``, which is not included.

        UTC nanoseconds; the end of an interval is the last open nanosecond.
        """
        ...


class Always:
    """A market that never closes."""

    def open(self, begin_ns: int, end_ns: int) -> IntervalSet:
        """See :class:`Calendar`."""
        return IntervalSet([(begin_ns, end_ns - 1)])


ALWAYS = Always()


@dataclass(frozen=True, slots=True)
class GivenHours:
    """Hours that somebody handed in, such as a venue; at all other times nothing is expected."""

    hours: IntervalSet

    def open(self, begin_ns: int, end_ns: int) -> IntervalSet:
        """See :class:`Calendar`."""
        return self.hours.within(begin_ns, end_ns - 1)
