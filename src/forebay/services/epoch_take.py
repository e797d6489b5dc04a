"""The hot path of capture: one frame in, two appends, back to the socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from forebay.domain.frames import EpochAccepted, EpochClosed, EpochOpened, FrameKind, encode_control
from forebay.journal import Draft

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.domain.frames import Control

FRAME_OVERHEAD = 96
"""Bytes of memory that a frame costs beside its payload: object headers, list slots, time."""

UNLOOKED = 255
"""How many frames an epoch takes between two looks at the limits. Bytes are counted then and
not for each frame, which costs as much as taking it; CPython keeps integers up to 256 ready,
so counting this far costs next to nothing."""

BIG = 4096
"""A payload of more bytes is looked at at once: 255 frames must stay about a megabyte."""


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

    def measure(self) -> None:
        """Enough was taken: look at the limits."""
        ...


class EpochTake:
    """One context's way into the group; implements :class:`forebay.ports.EpochSink`."""

    __slots__ = (
        "_accepted",
        "_append",
        "_context",
        "_group",
        "_kind",
        "_left",
        "_now",
        "_payloads",
        "_stamp",
        "_weighed",
    )

    def __init__(self, group: Group, context: bytes, now: Callable[[], int]) -> None:
        self._group = group
        self._context = context
        self._now = now
        self._accepted = False
        self._append: Callable[[bytes], None]
        self._stamp: Callable[[int], None]
        self._kind: FrameKind | None = None
        self._left = UNLOOKED
        self._payloads: list[bytes] = []
        self._weighed = 0

    def frame(self, kind: FrameKind, payload: bytes) -> None:
        """Take one frame as RECEIVED now. The hot path: it must stay this short."""
        if kind is not self._kind:
            self._begin(kind)
        self._append(payload)
        self._stamp(self._now())
        self._left -= 1
        if not self._left or len(payload) > BIG:
            self._group.measure()

    def control(self, control: Control) -> None:
        """Record something about the connection, in order with its frames."""
        self.frame(FrameKind.CONTROL, encode_control(control))
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

    def weigh(self) -> int:
        """Bytes of memory taken by the draft since the last call, payload and overhead."""
        fresh = self._payloads[self._weighed :]
        self._weighed += len(fresh)
        self._left = UNLOOKED
        return sum(map(len, fresh)) + len(fresh) * FRAME_OVERHEAD

    def detach(self) -> None:
        """The draft was taken away: the next frame begins another."""
        self._kind = None
        self._payloads = []
        self._weighed = 0

    def _begin(self, kind: FrameKind) -> None:
        """Begin a draft: a draft has one kind, so that a kind's change keeps the order."""
        draft = Draft(kind=int(kind), context=self._context, payloads=[], mono_ns=[])
        self._group.begin(self, draft)
        self._kind = kind
        self._payloads = draft.payloads
        self._weighed = 0
        self._append = draft.payloads.append
        self._stamp = draft.mono_ns.append
