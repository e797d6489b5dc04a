"""Rough traffic of a venue, in chunks as they become durable: whatever may come is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.frames import (
    Context,
    EpochAccepted,
    EpochClosed,
    EpochOpened,
    FrameKind,
    HistoryFinished,
    encode_control,
)
from forebay.journal import PendingBlock
from tests.support.frames import PRODUCT, SECOND, T0, as_json, context, heartbeat, match, rest_row

if TYPE_CHECKING:
    from forebay.domain.frames import Control
    from tests.support.crossing import Chunk


class Traffic:
    """Drafts with receipts that rise."""

    def __init__(self) -> None:
        self._now = T0 + SECOND

    def frames(self, origin: Context, *payloads: bytes, kind: int = FrameKind.TEXT) -> PendingBlock:
        times = [self._now + place * 1_000_000 for place in range(len(payloads))]
        self._now = times[-1] + 1_000_000
        return PendingBlock(int(kind), origin.encode(), list(payloads), times, (0, 0))

    def say(self, origin: Context, *controls: Control) -> PendingBlock:
        return self.frames(origin, *map(encode_control, controls), kind=FrameKind.CONTROL)


def rough_chunks() -> list[Chunk]:
    """Return what two collectors capture: two connections of one, fills, damage, repetition."""
    traffic = Traffic()
    frames, say = traffic.frames, traffic.say
    first = context(epoch="e1", symbols=(PRODUCT,))
    second = context(epoch="e2", symbols=(PRODUCT,))
    other = context(epoch="o1", collector="c2", symbols=(PRODUCT,))
    history = context("rest", epoch="h1")
    nobody = Context(venue="nobody", source="ws", purpose="live", collector="c1", epoch="n1")
    page = as_json([rest_row(number) for number in (13, 11, 8)])
    return [
        [say(first, EpochOpened(), EpochAccepted()), frames(first, *map(match, range(1, 6)))],
        [frames(first, heartbeat(5)), frames(first, match(6), match(9), match(7), match(7))],
        [frames(other, match(9, price="7"), match(10)), frames(first, match(9), b"junk", b"{")],
        [frames(first, match(10, price="NaN"), match(10)), frames(other, match(3), heartbeat(13))],
        [say(first, EpochClosed("killed", silent_ns=5)), say(second, EpochOpened())],
        [say(second, EpochAccepted()), frames(second, match(15), match(14), match(16))],
        [frames(history, page, kind=FrameKind.REST), frames(second, match(18))],
        [say(history, HistoryFinished("trade", PRODUCT, 8, 13, absent=((12, 12),)))],
        [frames(second, b"\0", kind=FrameKind.BINARY), frames(second, b"?", kind=77)],
        [frames(second, b'{"type":"epoch_none"}', kind=FrameKind.CONTROL), frames(nobody, b"x")],
        [frames(first, match(2, price="8")), frames(second, heartbeat(21), match(20))],
        [say(second, EpochClosed("done", silent_ns=None)), say(other, EpochClosed("done"))],
    ]
