"""What was promised: every frame that somebody was told is CAPTURED, as told."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from forebay.domain.frames import EpochClosed, FrameKind, decode_control, encode_control
from forebay.journal import JournalWriter
from tests.simulation.network import SimSource
from tests.simulation.venue import SYMBOLS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from forebay.clock import Clock
    from forebay.domain.frames import Context, Control
    from forebay.journal import PendingBlock
    from forebay.ports import EpochSink, FrameSink, HistoryRequest
    from forebay.telemetry import Observer
    from tests.simulation.network import Network


class Frame(NamedTuple):
    """One frame, wherever it is met."""

    context: bytes
    kind: int
    payload: bytes

    def as_given(self) -> Frame:
        """Return the frame as it was given to the sink, which adds to an epoch's end."""
        if self.kind != FrameKind.CONTROL:
            return self
        control = decode_control(self.payload)
        if isinstance(control, EpochClosed):
            control = msgspec.structs.replace(control, silent_ns=None)
        return self._replace(payload=encode_control(control))


class Witness:
    """Remembers over all lives of capture what the writer and the sink acknowledged."""

    def __init__(self) -> None:
        self.durable: dict[int, Frame] = {}
        """By sequence number, what ``commit`` returned for."""
        self.flushed: Counter[Frame] = Counter()
        """What was taken before a ``flushed()`` that returned."""
        self.forgiven: Counter[Frame] = Counter()
        """Was durable until bit rot hit the end of the log, see :meth:`forgive`."""
        self.taken = 0

    def forgive(self, seq: int) -> int:
        """Forget promises from ``seq`` on: rot and a power cut together are beyond proof."""
        lost = [number for number in self.durable if number >= seq]
        for number in lost:
            self.forgiven[self.durable.pop(number).as_given()] += 1
        return len(lost)


class WatchedWriter(JournalWriter):
    """A journal's writer, and a note of each commit that it acknowledged."""

    def __init__(
        self, writer: JournalWriter, witness: Witness, told: Callable[[str], None]
    ) -> None:
        self._writer = writer
        self._witness = witness
        self._told = told

    def commit(self, drafts: Sequence[PendingBlock]) -> int:
        """See :meth:`forebay.journal.JournalWriter.commit`."""
        seq = self._writer.position.seq
        after = self._writer.commit(drafts)
        for draft in drafts:
            for payload in draft.payloads:
                self._witness.durable[seq] = Frame(draft.context, draft.kind, payload)
                seq += 1
        self._told("commit")
        return after

    def close(self) -> None:
        """Release the journal."""
        self._writer.close()


class WatchedSink:
    """A :class:`forebay.ports.FrameSink` that notes what was taken before each flush."""

    def __init__(self, sink: FrameSink, witness: Witness) -> None:
        self._sink = sink
        self._witness = witness
        self._taken: list[Frame] = []

    def open(self, context: Context) -> EpochSink:
        """Begin an epoch."""
        return _WatchedEpoch(self._sink.open(context), context.encode(), self._taken)

    def on_pressure(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Pass it on."""
        return self._sink.on_pressure(callback)

    async def flushed(self) -> int:
        """Wait, and hold the sink to its answer."""
        taken = len(self._taken)
        seq = await self._sink.flushed()
        if taken:
            self._witness.flushed.update(self._taken[:taken])
            self._witness.taken += taken
            # Somebody else's flush may have ended meanwhile and have taken these off.
            del self._taken[:taken]
        return seq


class _WatchedEpoch:
    def __init__(self, take: EpochSink, context: bytes, taken: list[Frame]) -> None:
        self._take = take
        self._context = context
        self._taken = taken

    def frame(self, kind: FrameKind, payload: bytes) -> None:
        self._taken.append(Frame(self._context, int(kind), payload))
        self._take.frame(kind, payload)

    def batch(self, kind: FrameKind, payloads: Sequence[bytes]) -> None:
        self._taken += [Frame(self._context, int(kind), payload) for payload in payloads]
        self._take.batch(kind, payloads)

    def control(self, control: Control) -> None:
        payload = encode_control(control)
        self._taken.append(Frame(self._context, int(FrameKind.CONTROL), payload))
        self._take.control(control)

    def renew(self, context: Context) -> None:
        self._context = context.encode()
        self._take.renew(context)


class WatchedSource(SimSource):
    """The product's source, whose sink is held to what ``flushed()`` says."""

    def __init__(
        self,
        network: Network,
        witness: Witness,
        *,
        clock: Clock,
        rng: random.Random,
        observer: Observer,
    ) -> None:
        super().__init__(network, SYMBOLS, clock=clock, rng=rng, observer=observer)
        self._witness = witness
        self._clock = clock
        self._rng = rng
        self._sink: WatchedSink | None = None

    async def run(self, sink: FrameSink) -> None:
        """Capture, and flush now and then to have something to hold the sink to."""
        watched = self._watch(sink)
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run(watched))
            group.create_task(self._flush(watched))

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        """Fill through the same watched sink."""
        await super().fill(request, self._watch(sink))

    def _watch(self, sink: FrameSink) -> WatchedSink:
        if self._sink is None:
            self._sink = WatchedSink(sink, self._witness)
        return self._sink

    async def _flush(self, sink: WatchedSink) -> None:
        while True:
            await self._clock.sleep(self._rng.uniform(0.1, 1.5))
            await sink.flushed()
