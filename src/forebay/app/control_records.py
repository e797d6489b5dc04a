"""Where our own records, and frames that are repeated, stand; capture reads it, without Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

from forebay.domain.channels import kind_of
from forebay.domain.frames import Context, FrameKind, LettersSettled, encode_control
from forebay.journal import PendingBlock

if TYPE_CHECKING:
    from forebay.domain.frames import GapAccepted, RangeChecked

_WALL = (0, 0)
"""Times of frames that are repeated are wall times already."""


def context_of(venue: str, collector: str, told: GapAccepted | RangeChecked) -> Context:
    """Return in what context such a record stands in the journal."""
    return Context(
        venue=venue,
        source="rest",
        purpose="history",
        collector=collector,
        epoch=uuid4().hex,
        symbols=(told.symbol,),
        market=told.market,
        channels=(kind_of(told.channel),),
    )


class RetoldFrame(msgspec.Struct, frozen=True):
    """A frame that is repeated, as it was received."""

    context: Context
    kind: int
    received_ns: int
    payload: bytes

    def block(self) -> PendingBlock:
        """Return it as the journal takes it."""
        times = [self.received_ns]
        return PendingBlock(self.kind, self.context.encode(), [self.payload], times, _WALL)


class SettledLetters(msgspec.Struct, frozen=True):
    """What became of dead letters of one venue, and when that was said."""

    venue: str
    control: LettersSettled
    told_ns: int

    def block(self, collector: str) -> PendingBlock:
        """Return it as the journal takes it."""
        epoch = uuid4().hex
        context = Context(
            venue=self.venue, source="rest", purpose="history", collector=collector, epoch=epoch
        )
        payloads = [encode_control(self.control)]
        return PendingBlock(
            int(FrameKind.CONTROL), context.encode(), payloads, [self.told_ns], _WALL
        )
