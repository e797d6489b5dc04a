"""A sink that keeps everything, for tests of sources."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.domain.frames import EpochClosed, FrameKind, decode_control, encode_control

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.frames import Context, Control


@dataclass
class RecordedEpoch:
    """What one ``open`` took, in order."""

    sink: RecordingSink
    context: Context
    frames: list[tuple[FrameKind, bytes]] = field(default_factory=list)
    renewed: list[tuple[int, Context]] = field(default_factory=list)
    """Behind so many frames, what was said instead of :attr:`context`."""

    def frame(self, kind: FrameKind, payload: bytes) -> None:
        self.batch(kind, (payload,))

    def batch(self, kind: FrameKind, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            self.frames.append((kind, payload))
            self.sink.notice()

    def control(self, control: Control) -> None:
        self.frame(FrameKind.CONTROL, encode_control(control))

    def renew(self, context: Context) -> None:
        assert context.epoch == self.context.epoch
        self.renewed.append((len(self.frames), context))

    @property
    def data(self) -> list[tuple[FrameKind, bytes]]:
        """Frames of the venue, without our own records."""
        return [frame for frame in self.frames if frame[0] is not FrameKind.CONTROL]

    @property
    def controls(self) -> list[Control]:
        return [decode_control(raw) for kind, raw in self.frames if kind is FrameKind.CONTROL]

    @property
    def reason(self) -> str | None:
        """Why the epoch was closed; None while it is open."""
        closed = [control for control in self.controls if isinstance(control, EpochClosed)]
        assert len(closed) <= 1, "an epoch was closed twice"
        assert not closed or self.controls[-1] == closed[0], "taken after the epoch's end"
        return closed[0].reason if closed else None


class RecordingSink:
    """Implements :class:`forebay.ports.FrameSink`; captures at once."""

    def __init__(self) -> None:
        self.epochs: list[RecordedEpoch] = []
        self.flushes: list[int] = []
        """How many frames there were at each ``flushed``."""
        self.callbacks: list[Callable[[bool], None]] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def open(self, context: Context) -> RecordedEpoch:
        self.epochs.append(RecordedEpoch(self, context))
        return self.epochs[-1]

    def on_pressure(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    async def flushed(self) -> int:
        await asyncio.sleep(0)
        self.flushes.append(self.count)
        return self.count + 1

    @property
    def count(self) -> int:
        return sum(len(epoch.frames) for epoch in self.epochs)

    @property
    def first(self) -> list[tuple[FrameKind, bytes]]:
        """The venue's frames of the first epoch, so far."""
        return self.epochs[0].data if self.epochs else []

    def press(self, on: bool) -> None:
        for callback in list(self.callbacks):
            callback(on)

    def notice(self) -> None:
        for condition, future in self._waiting:
            if not future.done() and condition():
                future.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, looked at after each frame, is true."""
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, future))
        async with asyncio.timeout(20):
            await future

    async def closed(self, number: int = 1) -> str:
        """Wait until ``number`` epochs are closed; return the reason of the last of them."""
        await self.until(lambda: sum(e.reason is not None for e in self.epochs) >= number)
        reason = self.epochs[number - 1].reason
        assert reason is not None
        return reason
