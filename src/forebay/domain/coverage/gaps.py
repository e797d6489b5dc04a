"""Streams, what arrives of them, what a store keeps of that, and the gaps that are left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from forebay.domain.channels import Unit  # noqa: TC001 - a report with gaps is read back by it
from forebay.domain.frames import EVERY_SYMBOL

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from forebay.domain.channels import Channel

    Numbers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

GapState = Literal["open", "filled", "permanent", "accepted"]
GAP_STATES: tuple[GapState, ...] = ("open", "filled", "permanent", "accepted")
EPOCHS = 8
"""Connections of a stream that may alternate, or were killed, without being forgotten."""
FAR = FAR_AHEAD, FAR_BEHIND = "far_ahead", "far_behind"
"""Reasons of holes that nobody owes yet: see :attr:`Gap.reason`."""
NOT_STORED = "not_stored"


class StreamKey(NamedTuple):
    """The unit of order, sequence and gap."""

    venue: str
    market: str
    """Market type, such as ``spot``: the spot and the perpetual of one symbol share nothing."""
    channel: str
    symbol: str

    @property
    def name(self) -> str:
        """The stream as one word; the market is left out where it is ``spot``."""
        return "/".join(part for part in self if part != "spot")


def unit_of(key: StreamKey, channel: Channel | None) -> Unit:
    """Return what a stream of a channel counts; what all have together are numbers."""
    if key.symbol == EVERY_SYMBOL:
        return "seq"
    return channel.unit if channel else "none"


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """A hole in a stream's live coverage, ``first`` to ``last``, both included."""

    venue: str
    market: str
    channel: str
    symbol: str
    unit: Unit
    """What ``first`` and ``last`` are: ids, numbers of one connection, UTC nanoseconds."""
    epoch: str
    """The connection that numbers of the unit ``seq`` are of, otherwise empty; where it numbers
    what it tells of all symbols together, also which line of it, behind a slash."""
    first: int
    last: int
    reason: str
    """``in_connection``: both sides came over one connection, so the venue or the network
    withheld it. ``between_connections``: nothing was connected, or what was received had not
    been captured yet when the collector died. ``absent_from_history``: asked for and not to be
    had. ``not_stored``: a calendar lets expect it, and the store was found not to hold it.
    A hole of a channel that has no history is permanent at once. ``far_ahead``,
    ``far_behind``: between all others and one id that nothing else vouches for."""
    state: GapState
    accepted_by: str = field(default="", compare=False)
    """Who accepted that it stays, if it was accepted."""
    accepted_reason: str = field(default="", compare=False)

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.venue, self.market, self.channel, self.symbol)


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
