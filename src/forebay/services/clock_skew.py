"""Whose clock is off: what the times of live events say of it, and what they cannot.

``received - exchange`` is the way from the venue to us and how far our clock is ahead of the
venue's, in one number. No way takes less than no time, so the least of many is never less than the
skew. One below 0 is skew, and at least so much. One above 0 is as well a way on which every event
takes so long: that cannot be told apart by what comes one way.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebay.clock import Clock

MINUTE_NS = 60_000_000_000
MINUTES = 3
"""So many minutes, the one that runs included, are looked at together."""
LEAST_EVENTS = 10
"""Fewer say nothing, nor do those of one minute alone: what a venue tells a new connection first is
as old as it may be, and on a quiet market it is all that comes."""
AGREE_S = 1.0
"""Skews this near to each other are the same: each has the shortest way of its venue in it."""
_NS = 1e9


class Delays(NamedTuple):
    """From the venue's time of some events to their receipt."""

    events: int
    least_ns: int

    def __or__(self, other: Delays) -> Delays:
        return Delays(self.events + other.events, min(self.least_ns, other.least_ns))


NO_DELAYS = Delays(0, (1 << 63) - 1)


class SkewWatch:
    """The least delays of each venue in the last minutes; of any thread.

    Minutes are those of the monotonic clock in which events are added: the other is in question.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._minutes: dict[str, deque[tuple[int, Delays]]] = {}

    def add(self, delays: Mapping[str, Delays]) -> None:
        """Take in what came live, by venue."""
        minute = self._clock.monotonic_ns() // MINUTE_NS
        with self._lock:
            for venue, new in delays.items():
                minutes = self._minutes.setdefault(venue, deque(maxlen=MINUTES))
                if minutes and minutes[-1][0] == minute:
                    new |= minutes.pop()[1]  # noqa: PLW2901 - the sum is what is kept
                minutes.append((minute, new))

    def skews(self) -> dict[str, float]:
        """Return by venue how far our clock seems to be ahead, in seconds; see :func:`skew_s`."""
        since = self._clock.monotonic_ns() // MINUTE_NS - MINUTES
        with self._lock:
            recent = {
                venue: [delays for minute, delays in minutes if minute > since]
                for venue, minutes in self._minutes.items()
            }
        found = {venue: skew_s(delays) for venue, delays in recent.items()}
        return {venue: skew for venue, skew in found.items() if skew is not None}


def skew_s(minutes: Iterable[Delays]) -> float | None:
    """Return how far our clock seems to be ahead of a venue's, by the delays of some minutes.

    None if they say too little. A positive one has the shortest way in it.
    """
    told = [*minutes]
    if len(told) < 2 or sum(each.events for each in told) < LEAST_EVENTS:  # noqa: PLR2004
        return None
    return min(each.least_ns for each in told) / _NS


def host_skew_s(skews: Mapping[str, float]) -> float | None:
    """Return how far this host's clock is ahead, as all venues agree; 0 if they do not.

    None with fewer than two of them: one says as well that its own clock is off.
    """
    if len(skews) < 2:  # noqa: PLR2004
        return None
    least, most = min(skews.values()), max(skews.values())
    return least if most - least <= AGREE_S else 0.0


def skew_within(told_ns: int, asked_ns: int, answered_ns: int) -> float:
    """Return how many seconds another clock is ahead that was read between two looks at ours.

    As far as is certain: 0 if what it said lies between them, however long the answer took.
    """
    first, last = sorted((asked_ns, answered_ns))
    return (told_ns - min(max(told_ns, first), last)) / _NS
