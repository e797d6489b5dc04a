"""The hot path of capture: the frames of one read in, two lists longer, back to the socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from forebay.domain.frames import EpochAccepted, EpochClosed, EpochOpened, FrameKind, encode_control
from forebay.journal import Draft

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.frames import Control

FRAME_OVERHEAD = 96
"""Bytes of memory that a frame costs beside its payload: object headers, list slots, time."""


@dataclass(slots=True)
class Counters:
    """What went through, since the start."""

    received: int = 0
    """Frames of the groups taken so far; the open group is not in it."""
    captured: int = 0
    bytes: int = 0
    """Payload bytes CAPTURED."""
    commits: int = 0
    opened: int = 0
    """Epochs opened by a connection; a fill has none."""
    closed: int = 0
    subscribed: int = 0
    """Epochs that are accepted and not closed."""


class Group(Protocol):
    """What an epoch needs of the group that its drafts join."""

    counters: Counters

    def begin(self, take: EpochTake, draft: Draft) -> None:
        """A new draft joins the open group."""
        ...

    def grow(self, size: int) -> None:
        """The open group holds ``size`` more bytes of memory: look at the limits."""
        ...


class EpochTake:
    """One context's way into the group; implements :class:`forebay.ports.EpochSink`."""

    __slots__ = (
        "_accepted",
        "_context",
        "_group",
        "_kind",
        "_last_ns",
        "_mono_ns",
        "_now",
        "_payloads",
    )

    def __init__(self, group: Group, context: bytes, now: Callable[[], int]) -> None:
        self._group = group
        self._context = context
        self._now = now
        self._accepted = False
        self._kind: FrameKind | None = None
        self._payloads: list[bytes] = []
        self._mono_ns: list[int] = []
        self._last_ns: int | None = None
        """When the last frame of the venue was received, on the monotonic clock."""

    def frame(self, kind: FrameKind, payload: bytes) -> None:
        """Take one frame as RECEIVED now."""
        self.batch(kind, (payload,))

    def batch(self, kind: FrameKind, payloads: Sequence[bytes]) -> None:
        """Take frames that were read together, in their order, all as RECEIVED now.

        The hot path: what is done for each frame is done by list and sum, in C.
        """
        if kind is not self._kind:
            self._begin(kind)
        self._last_ns = now_ns = self._now()
        self._payloads += payloads
        self._mono_ns += [now_ns] * len(payloads)
        self._group.grow(sum(map(len, payloads)) + len(payloads) * FRAME_OVERHEAD)

    def control(self, control: Control) -> None:
        """Record something about the connection, in order with its frames."""
        last_ns = self._last_ns
        if isinstance(control, EpochClosed) and last_ns is not None:
            control = msgspec.structs.replace(control, silent_ns=max(0, self._now() - last_ns))
        self.frame(FrameKind.CONTROL, encode_control(control))
        self._last_ns = last_ns  # a record of ours is no frame of the venue
        counters = self._group.counters
        if isinstance(control, EpochOpened):
            counters.opened += 1
        elif isinstance(control, EpochAccepted) and not self._accepted:
            self._accepted = True
            counters.subscribed += 1
        elif isinstance(control, EpochClosed):
            counters.closed += 1
            counters.subscribed -= self._accepted
            self._accepted = False

    def detach(self) -> None:
        """The draft was taken away: the next frame begins another."""
        self._kind = None

    def _begin(self, kind: FrameKind) -> None:
        """Begin a draft: a draft has one kind, so that a kind's change keeps the order."""
        draft = Draft(kind=int(kind), context=self._context, payloads=[], mono_ns=[])
        self._group.begin(self, draft)
        self._kind = kind
        self._payloads = draft.payloads
        self._mono_ns = draft.mono_ns
