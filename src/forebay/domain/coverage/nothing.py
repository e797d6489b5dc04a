"""No coverage: of a stream that nothing can be said to be owed of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from forebay.domain.coverage.unit import Seen
from forebay.domain.coverage.verdict import Count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.channels import Unit
    from forebay.domain.coverage.gaps import Gap, StreamKey
    from forebay.domain.coverage.unit import Arrival, Row
    from forebay.domain.coverage.verdict import Acceptance, Look
    from forebay.domain.intervals import Interval


@dataclass(slots=True)
class NoCoverage:
    """Nothing is counted, so nothing is ever missing; see :class:`~.unit.Coverage`."""

    unit: Unit = field(default="none", init=False)
    epochs: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Self:
        """See :class:`~.unit.Coverage`."""
        return type(self)()

    def see(self, arrival: Arrival) -> Seen:
        """See :class:`~.unit.Coverage`."""
        nothing = np.zeros(len(arrival.received_ns), dtype=np.bool_)
        return Seen(nothing, nothing)

    def know(self, epoch: str, least: int, greatest: int) -> None:
        """Nothing."""

    def opened(self, epoch: str, now_ns: int) -> None:
        """Nothing."""

    def closed(self, epoch: str, last_ns: int | None) -> None:
        """Nothing."""

    def finished(
        self, first: int, last: int, absent: Iterable[Interval], look: Look | None = None
    ) -> None:
        """Nothing."""

    def accept(self, first: int, last: int, told: Acceptance) -> None:
        """Nothing."""

    def looks(self, first: int, last: int) -> Count:
        """Return none."""
        del first, last
        return Count(0, 0)

    def give_up(self) -> None:
        """Nothing."""

    def gaps(self, key: StreamKey) -> list[Gap]:
        """Return none."""
        del key
        return []

    def rows(self) -> Iterator[Row]:
        """Return none."""
        return iter(())

    @classmethod
    def from_rows(cls, rows: Iterable[Row], epochs: Sequence[tuple[str, int]]) -> Self:
        """See :class:`~.unit.Coverage`."""
        del rows, epochs
        return cls()
