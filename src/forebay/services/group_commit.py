"""Group commit: many frames, one ``fdatasync``; the line between RECEIVED and CAPTURED.

Sources call ``EpochWriter.batch`` on the event loop: it appends to a draft and returns.
One task lets drafts gather for the linger time, hands them to one thread that writes and
syncs them, and then publishes what is CAPTURED. Frames that arrive meanwhile form the next
group. The journal is the only place that can refuse, and nothing received is dropped then:
the group is kept, sources are told to pause, and the same group is tried again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import msgspec

from forebay.domain.frames import (
    EpochAccepted,
    EpochClosed,
    EpochOpened,
    FrameKind,
    StreamsEnded,
    encode_control,
)
from forebay.errors import Transient
from forebay.journal import JournalWriter, PendingBlock
from forebay.resilience.backoff import Backoff
from forebay.services.latency import LatencyHistogram
from forebay.services.one_thread import OneThread
from forebay.telemetry import JournalFullBegan, JournalFullEnded, Observer, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from forebay.clock import Clock
    from forebay.domain.frames import Context, Control


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """When a group is closed, and when sources must pause."""

    linger_s: float = 0.005
    """How long the first frame of a group waits for company; :data:`REST_TIMES` that at rest."""
    group_bytes: int = 1 << 20
    """A group of this size does not linger."""
    max_pending: int = 32 << 20
    """Sources pause above this many bytes of memory not CAPTURED, and go on below half."""
    full_backoff_s: float = 0.25
    full_cap_s: float = 2.0
    """Base and cap of the wait between two tries at a full journal."""


FEW_FRAMES = 8
"""It is at rest while the group before held no more than these: then a commit costs more than what
it commits, and syncs too little at once to take long itself."""
REST_TIMES = 2
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


class EpochWriter:
    """One context's way into the group; implements :class:`forebay.ports.EpochSink`."""

    def __init__(self, group: GroupCommit, context: bytes, now: Callable[[], int]) -> None:
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
        self.batch(kind, (payload,))

    def batch(self, kind: FrameKind, payloads: Sequence[bytes]) -> None:
        """The hot path: what is done for each frame is done by list and sum, in C."""
        if kind is not self._kind:
            self._begin(kind)
        self._last_ns = now_ns = self._now()
        self._payloads += payloads
        self._mono_ns += [now_ns] * len(payloads)
        self._group.grow(sum(map(len, payloads)) + len(payloads) * FRAME_OVERHEAD)

    def control(self, control: Control) -> None:
        last_ns = self._last_ns
        if isinstance(control, EpochClosed | StreamsEnded) and last_ns is not None:
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

    def renew(self, context: Context) -> None:
        self._context = context.encode()
        self.detach()

    def detach(self) -> None:
        """The draft was taken away: the next frame begins another."""
        self._kind = None

    def _begin(self, kind: FrameKind) -> None:
        """Begin a draft: a draft has one kind, so that a kind's change keeps the order."""
        draft = PendingBlock(kind=int(kind), context=self._context, payloads=[], mono_ns=[])
        self._group.begin(self, draft)
        self._kind = kind
        self._payloads = draft.payloads
        self._mono_ns = draft.mono_ns


class GroupCommit:
    """Implements :class:`forebay.ports.FrameSink` over a blocking journal.

    Use as ``async with``, or call :meth:`start` and :meth:`close`. All methods belong to the
    event loop's thread; only ``journal.commit`` runs elsewhere.
    """

    def __init__(
        self,
        journal: JournalWriter,
        *,
        clock: Clock,
        rng: random.Random,
        next_seq: int = 1,
        limits: GroupLimits | None = None,
        observer: Observer = ignore,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._limits = limits or GroupLimits()
        self._observe = observer
        self._backoff = Backoff(rng, base=self._limits.full_backoff_s, cap=self._limits.full_cap_s)
        self._drafts: list[PendingBlock] = []
        self._open: dict[EpochWriter, None] = {}
        self._open_bytes = 0
        self._flight: list[PendingBlock] = []
        self._flight_bytes = 0
        self._group = 0
        self._waiters: deque[tuple[int, asyncio.Future[int]]] = deque()
        self._pressure_callbacks: dict[int, Callable[[bool], None]] = {}
        self._callback_id = 0
        self.latency = LatencyHistogram()
        """Waits from receipt to CAPTURED."""
        self._begun = asyncio.Event()
        self._begun_ns = 0
        """When the open group got its first frame."""
        self._resting = False
        self._hurried = False
        """Whether the open group is to be committed without lingering."""
        self._lingering: asyncio.Task[None] | None = None
        """The task that commits, while it lingers."""
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._thread: OneThread | None = None
        self.broken = asyncio.Event()
        """Set when the journal fails in a way that waiting cannot heal; ``error`` says how."""
        self.error: Exception | None = None
        self.counters = Counters()
        self.next_seq = next_seq
        self.pressure = False
        self.full = False
        """True while the journal refuses to take frames."""

    # -------------------------------------------------------- what sources see

    def open(self, context: Context) -> EpochWriter:
        return EpochWriter(self, context.encode(), self._clock.monotonic_ns)

    def on_pressure(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        self._callback_id += 1
        key = self._callback_id
        self._pressure_callbacks[key] = callback
        if self.pressure:
            callback(True)

        def unsubscribe() -> None:
            self._pressure_callbacks.pop(key, None)

        return unsubscribe

    async def flushed(self) -> int:
        if self.error is not None:
            raise self.error
        if not self._drafts and not self._flight:
            return self.next_seq
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._group + bool(self._drafts), waiter))
        if self._drafts:
            self._hurry()
        return await waiter

    # ------------------------------------------------------- what operators see

    @property
    def received(self) -> int:
        """Frames taken since the start, CAPTURED or not."""
        return self.counters.received + sum(len(draft.payloads) for draft in self._drafts)

    @property
    def pending_bytes(self) -> int:
        """Memory of what is RECEIVED and not CAPTURED, in bytes, payload and overhead."""
        return self._open_bytes + self._flight_bytes

    def again(self, block: PendingBlock) -> None:
        """Take frames that were received before, with the times that they have."""
        self._join(block)
        self.grow(sum(len(payload) + FRAME_OVERHEAD for payload in block.payloads))

    # --------------------------------------------------------- from EpochWriter

    def begin(self, take: EpochWriter, draft: PendingBlock) -> None:
        """A new draft joins the open group."""
        self._join(draft)
        self._open[take] = None

    def _join(self, draft: PendingBlock) -> None:
        """The first draft of a group starts the linger time."""
        if not self._drafts:
            self._begun_ns = self._clock.monotonic_ns()
            self._begun.set()
        self._drafts.append(draft)

    def grow(self, size: int) -> None:
        """The open group holds ``size`` more bytes of memory: look at the limits."""
        self._open_bytes += size
        if self._open_bytes >= self._limits.group_bytes:
            self._hurry()
        if self._open_bytes + self._flight_bytes > self._limits.max_pending:
            self._press(on=True)

    # -------------------------------------------------------------- lifecycle

    def start(self) -> None:
        self._thread = OneThread("forebay-journal")
        self._task = asyncio.create_task(self._run(), name="forebay-group-commit")

    async def close(self) -> None:
        """Capture what was taken and stop; the journal itself stays open.

        Cancel it to give up on a journal that stays full: what is pending is then lost, and
        was never acknowledged.
        """
        self._closing = True
        self._begun.set()
        self._hurry()
        task, self._task = self._task, None
        try:
            if task is not None:
                await task
        finally:
            if self._thread is not None:
                await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --------------------------------------------------------------- the loop

    async def _run(self) -> None:
        try:
            while not self._closing or self._drafts:
                await self._begun.wait()
                if not self._closing and not self._hurried:
                    await self._linger()
                self._take()
                if self._flight:
                    await self._commit()
        except Exception as error:  # noqa: BLE001 - reported to every waiter and to the owner
            self._fail(error)

    async def _linger(self) -> None:
        """Wait for the linger time, or until a group is big enough or somebody waits for it.

        The time runs from the group's first frame: what gathered during a commit has waited.
        """
        linger_s = self._limits.linger_s * (REST_TIMES if self._resting else 1)
        left = linger_s - (self._clock.monotonic_ns() - self._begun_ns) / 1e9
        if left <= 0:
            return
        self._lingering = task = asyncio.current_task()
        try:
            await self._clock.sleep(left)
        except asyncio.CancelledError:
            # Being hurried is a cancellation of ours, as in asyncio.timeout: it ends here.
            if not self._hurried or task is None or task.uncancel():
                raise
        finally:
            self._lingering = None

    def _hurry(self) -> None:
        self._hurried = True
        task, self._lingering = self._lingering, None
        if task is not None:
            task.cancel()

    def _take(self) -> None:
        """Close the open group; the next frame begins another."""
        for take in self._open:
            take.detach()
        self._flight, self._drafts = self._drafts, []
        frames = sum(len(draft.payloads) for draft in self._flight)
        self.counters.received += frames
        self._resting = frames <= FEW_FRAMES
        self._flight_bytes, self._open_bytes = self._open_bytes, 0
        self._open.clear()
        self._begun.clear()
        self._hurried = False
        self._group += 1

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        began_ns, seq = 0, None
        while seq is None:
            try:
                seq = await loop.run_in_executor(self._thread, self._journal.commit, self._flight)
            except Transient as error:
                if not self.full:
                    self.full, began_ns = True, self._clock.monotonic_ns()
                    self._press(on=True)
                    self._observe(JournalFullBegan(str(error), self.pending_bytes))
                await self._clock.sleep(self._backoff.next())
        if self.full:
            self.full = False
            self._backoff.reset()
            self._observe(JournalFullEnded((self._clock.monotonic_ns() - began_ns) / 1e9))
        self._publish(seq)

    def _publish(self, next_seq: int) -> None:
        now = self._clock.monotonic_ns()
        frames = 0
        for draft in self._flight:
            frames += len(draft.payloads)
            if draft.anchor is None:
                self.latency.add(draft.mono_ns, now)
        self.counters.captured += frames
        self.counters.bytes += self._flight_bytes - frames * FRAME_OVERHEAD
        self.counters.commits += 1
        self.next_seq = next_seq
        self._flight = []
        self._flight_bytes = 0
        if self.pressure and self.pending_bytes * 2 < self._limits.max_pending:
            self._press(on=False)
        while self._waiters and self._waiters[0][0] <= self._group:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(next_seq)

    def _press(self, *, on: bool) -> None:
        if on is not self.pressure:
            self.pressure = on
            for callback in list(self._pressure_callbacks.values()):
                callback(on)

    def _fail(self, error: Exception) -> None:
        """The journal is beyond waiting: pause everybody and say so to who waits."""
        self._press(on=True)
        self.error = error
        self.broken.set()
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)
