"""What arrives at the coverage of a stream, and what a store keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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


class PriorKnowledge(NamedTuple):
    """What coverage knew of events before they arrived; both of shape (n,)."""

    before: Mask
    """Whether it had the event."""
    out_of_order: Mask
    """Whether a later one of the stream came first over this connection."""


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
