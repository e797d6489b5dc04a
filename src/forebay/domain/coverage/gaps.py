"""Streams, and the gaps in what has been seen of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from forebay.domain.channels import Unit  # noqa: TC001 - a report with gaps is read back by it

GapState = Literal["open", "filled", "permanent", "accepted"]
GAP_STATES: tuple[GapState, ...] = ("open", "filled", "permanent", "accepted")
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
    """The connection that numbers of the unit ``seq`` are of, otherwise empty."""
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
        """The stream."""
        return StreamKey(self.venue, self.market, self.channel, self.symbol)
