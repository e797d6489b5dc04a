"""A made-up venue that numbers what it tells over a connection, whatever symbol it is of.

A frame is that of :mod:`tests.support.made_venue`, whose number is the connection's. ``#`` and a
number is a reply that has one and tells nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.channels import Channel
from forebay.domain.parsed import CountedMessages
from tests.support.frames import context
from tests.support.made_venue import FIELDS, Deal, MadeParser, frame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.domain.frames import Context, FrameBatch
    from forebay.domain.parsed import Parsed

VENUE = "numbered"
SYMBOLS = ("A-B", "A-C", "A-D")
CHANNELS = ("trade", "quote")
LINE = "7"


class NumberedParser(MadeParser):
    """Its trades can be asked for later, its quotes cannot; one line carries both."""

    def __init__(self) -> None:
        super().__init__("content", "time", history=True)
        quotes = Channel("quote", "observation", "time")
        self.channels: Mapping[str, Channel] = {"trade": self.channel, "quote": quotes}

    def parse(self, batch: FrameBatch) -> Parsed:
        parsed = super().parse(batch)
        frames, numbers = [], []
        for index, payload in enumerate(batch.payloads):
            fields = payload.split(b" ")
            if payload.startswith(b"#") or len(fields) == FIELDS:
                frames.append(index)
                numbers.append(int(payload[1:] if payload.startswith(b"#") else fields[1]))
        if frames:
            kinds = CHANNELS if parsed.events else ()  # replies alone do not say
            counted = CountedMessages(line=LINE, kinds=kinds, frames=frames, numbers=numbers)
            parsed.counted.append(counted)
        return parsed


def numbered(epoch: str = "e1", symbols: Sequence[str] = SYMBOLS) -> Context:
    """Return the context of a connection."""
    asked = {"venue": VENUE, "symbols": tuple(symbols), "channels": CHANNELS}
    return context("ws", epoch, **asked)


def reply(number: int) -> bytes:
    return b"#%d" % number


def trade(number: int, symbol: str = SYMBOLS[0], size: str = "1") -> bytes:
    """Return a frame of one trade; without a size it is a dead letter once it is looked at."""
    return frame(Deal(symbol=symbol, number=number, micros=number, size=size))


def garbage(number: int) -> bytes:
    """Return a frame that the parser cannot read."""
    return b"%d of what" % number
