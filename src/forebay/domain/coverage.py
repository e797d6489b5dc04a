"""What a stream has been seen to contain, and the gaps that follow from it.

Coverage is a handful of interval sets per stream. Each is a union of what arrived (absent:
of what was asked for, less what arrived), so order, repetition and lateness cannot matter, and
gaps are a pure function of the sets: nothing opens or closes a gap, it is there or it is not.

=========  ===============================================================
live       ids that reached us over a live connection
fill       ids that the venue's history (or a filtered recording) gave
absent     ids that the venue's history was seen to leave out
spanned    from the first to the last id of every connection
known      the least and greatest id that the venue said exists
=========  ===============================================================

A gap is a hole of ``live`` between the least and the greatest live or known id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from forebay.domain.intervals import IntervalSet

Origin = Literal["live", "fill"]
GapState = Literal["open", "filled", "permanent"]


class StreamKey(NamedTuple):
    """The unit of order, sequence and gap."""

    venue: str
    channel: str
    symbol: str


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """A hole in a stream's live coverage, ``first`` to ``last``, both included."""

    venue: str
    channel: str
    symbol: str
    unit: str
    first: int
    last: int
    reason: str
    """``in_connection``: ids on both sides came over one connection, so the venue or the
    network withheld it. ``between_connections``: nothing was connected, or what was received
    had not been captured yet when the collector died. ``absent_from_history``: asked for
    and not to be had."""
    state: GapState


SETS = ("live", "fill", "absent", "spanned")
EPOCHS = 8
"""Connections of a stream that may alternate without a hole's reason depending on the order."""


@dataclass(slots=True)
class StreamCoverage:
    """The interval sets of one stream; ids are the venue's own sequence numbers."""

    unit: str = "id"
    live: IntervalSet = field(default_factory=IntervalSet)
    fill: IntervalSet = field(default_factory=IntervalSet)
    absent: IntervalSet = field(default_factory=IntervalSet)
    spanned: IntervalSet = field(default_factory=IntervalSet)
    known_first: int | None = None
    known_last: int | None = None
    epochs: dict[str, int] = field(default_factory=dict)
    """How far each of the connections got that spoke last, at most :data:`EPOCHS` of them, in
    the order in which they did: see :meth:`span`."""

    def copy(self) -> StreamCoverage:
        """Answer an independent coverage with the same content."""
        return StreamCoverage(
            self.unit,
            self.live.copy(),
            self.fill.copy(),
            self.absent.copy(),
            self.spanned.copy(),
            self.known_first,
            self.known_last,
            self.epochs.copy(),
        )

    def cover(self, origin: Origin, first: int, last: int) -> None:
        """Add ids that arrived; a hole between two calls stays a hole."""
        if self.absent:
            self.absent -= IntervalSet([(first, last)])
        (self.live if origin == "live" else self.fill).add(first, last)

    def know(self, last: int) -> None:
        """Add what the venue says is its latest id, though it may not have reached us."""
        self.known_first = last if self.known_first is None else min(self.known_first, last)
        self.known_last = last if self.known_last is None else max(self.known_last, last)

    def span(self, epoch: str, first: int, last: int) -> None:
        """Note that ``epoch`` reached from ``first`` to ``last``, whatever it left out.

        What one epoch spans is in one piece of ``spanned``, so a single id of it, how far it
        got, is all that is needed to join the next piece to it.
        """
        reached = self.epochs.pop(epoch, last)
        self.spanned.add(min(first, reached), max(last, reached))
        self.epochs[epoch] = max(last, reached)
        if len(self.epochs) > EPOCHS:
            del self.epochs[next(iter(self.epochs))]

    def miss(self, first: int, last: int) -> None:
        """Note that history was asked for the range and whatever it gave is all there is."""
        for low, high in (self.live | self.fill).holes(first, last):
            self.absent.add(low, high)

    def hull(self) -> tuple[int, int] | None:
        """Answer the least and the greatest id that must exist, or None when none is known."""
        ends = [self.live.first, self.live.last] if self.live else []
        ends += [known for known in (self.known_first, self.known_last) if known is not None]
        return (min(ends), max(ends)) if ends else None

    def covered(self) -> IntervalSet:
        """Answer every id that arrived, however it came."""
        return self.live | self.fill

    def gaps(self, key: StreamKey) -> list[Gap]:
        """Answer the holes of live coverage, in order, each with its reason and state."""
        hull = self.hull()
        if hull is None:
            return []
        holes = self.live.holes(*hull)
        filled = holes & self.fill
        missing = holes - self.fill
        found: list[Gap] = []

        def declare(part: IntervalSet, reason: str, state: GapState) -> None:
            found.extend(Gap(*key, self.unit, *interval, reason, state) for interval in part)

        for part, state in ((filled, "filled"), (missing - self.absent, "open")):
            declare(part & self.spanned, "in_connection", state)  # type: ignore[arg-type]
            declare(part - self.spanned, "between_connections", state)  # type: ignore[arg-type]
        declare(missing & self.absent, "absent_from_history", "permanent")
        return sorted(found)
