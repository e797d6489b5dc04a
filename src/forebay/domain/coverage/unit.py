"""What coverage of every unit can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from forebay.domain.channels import Unit
    from forebay.domain.coverage.gaps import Gap, StreamKey
    from forebay.domain.coverage.verdict import Acceptance, Count, Look
    from forebay.domain.intervals import Interval

    Numbers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

EPOCHS = 8
"""Connections of a stream that may alternate, or were killed, without being forgotten."""


class Row(NamedTuple):
    """One interval of a stream's coverage as a store keeps it; both ends are included."""

    origin: str
    """Which of the unit's sets it is of."""
    epoch: str
    """The connection that counts, where numbers mean something within one alone."""
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """Events of one stream that came in one epoch; ``n`` of them, in arrival order."""

    epoch: str
    live: bool
    """False for history and for filtered recordings, whose neighbours say nothing."""
    numbers: Numbers
    """What the venue numbers them by, shape (n,); no matter where the unit has none."""
    received_ns: Numbers
    """Receipt, UTC nanoseconds, shape (n,)."""
    timed: bool = True
    """False for any recording: nobody knows what its connection carried beside the events, so that
    nothing is known between two of them. Two halves of it then say what the whole says."""
    outage: tuple[int, int] | None = None
    """From when to when nothing was connected before a recorded connection began."""


class Seen(NamedTuple):
    """What coverage knew of events before they arrived; both of shape (n,)."""

    before: Mask
    """Whether it had the event."""
    out_of_order: Mask
    """Whether a later one of the stream came first over this connection."""


class Coverage(Protocol):
    """A handful of interval sets: a union of what arrived, whatever the order or repetition."""

    unit: Unit

    @property
    def epochs(self) -> dict[str, int]:
        """How far each of the connections got that spoke last, in the order in which they did.

        A copy has at most :data:`EPOCHS` of them.
        """
        ...

    def copy(self) -> Self:
        """Return an independent coverage with the same content, to go on with."""
        ...

    def see(self, arrival: Arrival) -> Seen:
        """Add what arrived; ``arrival`` has at least one event."""
        ...

    def know(self, epoch: str, least: int, greatest: int) -> None:
        """Add the least and the greatest that the venue said exists, which may not have come."""
        ...

    def opened(self, epoch: str, now_ns: int) -> None:
        """Note that a live connection was accepted which carries the stream."""
        ...

    def closed(self, epoch: str, last_ns: int | None) -> None:
        """Note that a connection is over; its last frame came at ``last_ns``, if one is known."""
        ...

    def finished(
        self, first: int, last: int, absent: Iterable[Interval], look: Look | None = None
    ) -> None:
        """Note that history was asked for a whole range and does not have ``absent``.

        That is believed after enough looks; without one at once.
        """
        ...

    def accept(self, first: int, last: int, told: Acceptance) -> None:
        """Note that somebody accepted that a gap stays."""
        ...

    def looks(self, first: int, last: int) -> Count:
        """Return how many looks at a hole counted, and when the last one was."""
        ...

    def give_up(self) -> None:
        """Note that no history can be asked for what lies between connections up to now."""
        ...

    def gaps(self, key: StreamKey) -> list[Gap]:
        """Return the holes of live coverage, in order, each with its reason and state."""
        ...

    def rows(self) -> Iterator[Row]:
        """Return what a store keeps, beside :attr:`epochs`."""
        ...

    @classmethod
    def from_rows(cls, rows: Iterable[Row], epochs: Sequence[tuple[str, int]]) -> Self:
        """Return the coverage that :meth:`rows` and the epochs as they were written are of."""
        ...


def reach(epochs: dict[str, int], epoch: str, last: int) -> int:
    """Note that ``epoch`` got as far as ``last``, and return how far it had got before.

    What one epoch spans is in one piece, so a single member of it is all that is needed to join
    the next piece to it.
    """
    reached = epochs.pop(epoch, last)
    epochs[epoch] = max(last, reached)
    return reached


def remembered(epochs: dict[str, int]) -> dict[str, int]:
    """Return the epochs that spoke last; the one that was silent longest is forgotten first.

    Not at once: within a step the frames of all its connections come before their records, and
    of however many it may be, each record must find its own.
    """
    return dict(list(epochs.items())[-EPOCHS:])
