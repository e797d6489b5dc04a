"""What coverage of every unit can do, and what those have in common that are sets of intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from forebay.domain.coverage.unit import PriorKnowledge, Row, remembered
from forebay.domain.coverage.verdict import Count, Verdict
from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.channels import Unit
    from forebay.domain.coverage.gaps import Gap, StreamKey
    from forebay.domain.coverage.unit import Arrival
    from forebay.domain.coverage.verdict import Acceptance, Look
    from forebay.domain.intervals import Interval


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

        A copy has at most :data:`~.unit.EPOCHS` of them.
        """
        return {}

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

    def looks(self, first: int, last: int) -> Count:
        """Return how many looks at a hole counted, and when the last one was."""
        del first, last
        return Count(0, 0)

    def give_up(self) -> None:
        """Note that no history can be asked for what lies between connections up to now."""

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
        """See :class:`Coverage`."""
        made = type(self)(verdict=self.verdict.copy(), epochs=remembered(self.epochs))
        for name in self.sets:
            setattr(made, name, getattr(self, name).copy())
        return made

    def accept(self, first: int, last: int, told: Acceptance) -> None:
        """See :class:`Coverage`."""
        self.verdict.accept(told, IntervalSet([(first, last)]))

    def looks(self, first: int, last: int) -> Count:
        """See :class:`Coverage`."""
        return self.verdict.count(first, last)

    def rows(self) -> Iterator[Row]:
        """See :class:`Coverage`."""
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
