"""Pages of a history that are looked at and not captured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.frames import Context, FrameKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.domain.frames import Control
    from forebay.ports import FrameSink


class PageInHand(msgspec.Struct, frozen=True, array_like=True):
    """Payloads of one context, as a journal would have them."""

    context: Context
    kind: FrameKind
    payloads: Sequence[bytes]


@dataclass(slots=True)
class _Epoch:
    hand: PagesInHand
    context: Context

    def frame(self, kind: FrameKind, payload: bytes) -> None:
        self.batch(kind, (payload,))

    def batch(self, kind: FrameKind, payloads: Sequence[bytes]) -> None:
        self.hand.pages.append(PageInHand(self.context, kind, payloads))

    def control(self, control: Control) -> None:
        """Our own records are not kept."""
        del control

    def renew(self, context: Context) -> None:
        self.context = context


class PagesInHand:
    """A :class:`~forebay.ports.FrameSink` that only holds what it is given."""

    def __init__(self) -> None:
        self.pages: list[PageInHand] = []

    def open(self, context: Context) -> _Epoch:
        """See :class:`~forebay.ports.FrameSink`."""
        return _Epoch(self, context)

    def on_pressure(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Nobody is ever told to pause."""
        del callback
        return lambda: None

    async def flushed(self) -> int:
        """There is nothing to wait for."""
        return 0

    def encoded(self) -> bytes:
        """Return the pages as :func:`hand_over` takes them."""
        return msgspec.msgpack.encode(self.pages)


def hand_over(encoded: bytes, sink: FrameSink) -> None:
    """Give a sink the pages that another process had in hand."""
    for page in msgspec.msgpack.decode(encoded, type=list[PageInHand]):
        sink.open(page.context).batch(page.kind, page.payloads)
