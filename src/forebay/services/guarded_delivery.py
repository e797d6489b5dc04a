"""Delivery behind the store's breaker: when to write, when to wait, and what waits.

The store may be away for hours and nothing is lost, because the journal has everything that was
captured. So a failure is waited out here, for ever: with full jitter while the breaker counts,
then until it lets its probe through. In EMERGENCY nothing but that probe is written.
"""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from forebay.errors import Transient
from forebay.journal import OS_DISK, Disk
from forebay.journal.watermark import WatermarkReader
from forebay.resilience import CallRefused, CircuitBreaker, CircuitOpen, State, presets
from forebay.resilience.backoff import Backoff
from forebay.resilience.health import SystemState
from forebay.services.deliver import PACE_S, gathering_s
from forebay.telemetry import (
    Observer,
    StoreUnavailable,
    StoreWriteRefused,
    TelemetryEvent,
    ignore,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal import Position
    from forebay.services.pump import Pump

LOOK_S = 1.0
"""How often a refused write looks again: an operator or the system's recovery may end it early."""
DRAIN_S = 30.0
"""How long to go on, when asked to stop, to deliver what is captured."""


class StopRequest(Protocol):
    """When to stop."""

    stop: asyncio.Event
    """Asks to finish the work."""
    orphaned: bool
    """Leave at once."""


class Pace(Protocol):
    """Hears how delivery is doing, so that other work gives way to it."""

    frames: int
    stopping: bool


class WritesStopped(CallRefused):
    """In EMERGENCY nothing is written to a store; what is captured waits in the journal."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """What came of one step."""

    frames: int = 0
    taken: bool = True
    """Whether all that was to be stored is."""
    wait_s: float = 0.0
    """How long to wait for the next one; for ever if nobody knows."""
    look_s: float = math.inf
    """Look again after so long all the same, since somebody may end the wait."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Where delivery stands; counts are since the process started."""

    backlog: int
    """Frames that are captured and not stored."""
    lag_s: float
    """Since the receipt of the oldest frame that is read and not stored; 0 if there is none."""
    waited: int
    """Frames that the store would not take when they were captured."""
    flushed: int
    """Those of them that are stored since."""
    writes_refused: int
    """Writes that were due in EMERGENCY and not tried."""
    database_errors: int
    """Commits that failed."""


class BufferedCounter:
    """Counts frames that had to wait for a store, each once, however often it is tried. Pure.

    While the store takes nothing, everything captured and not stored waits, and it waits still
    when the store takes frames again, until its turn has come: ``waited - flushed`` is what
    waits now.
    """

    def __init__(self) -> None:
        self.waited = 0
        self.flushed = 0
        self._end = 0
        """Everything before it that is not stored waits."""
        self._held = False

    def held_back(self, stored: int, captured: int) -> None:
        """The store takes nothing: it has what is before ``stored``, ``captured`` is the end."""
        self._held = True
        self._extend(stored, captured)

    def stored(self, before: int, after: int, captured: int) -> None:
        """The store, which had what is before ``before``, has now what is before ``after``."""
        if self._held:
            self._extend(before, captured)
            self._held = False
        self.flushed += max(0, min(after, self._end) - before)

    def _extend(self, stored: int, captured: int) -> None:
        self.waited += max(0, captured - max(self._end, stored))
        self._end = max(self._end, captured)


class GuardedDelivery:
    """Runs one pump; ``system`` answers how the whole is, as far as this process was told."""

    def __init__(
        self,
        deliverer: Pump[Any, Any],
        journal: Path,
        *,
        clock: Clock,
        rng: random.Random,
        breaker: CircuitBreaker | None = None,
        system: Callable[[], SystemState] = lambda: SystemState.HEALTHY,
        observer: Observer = ignore,
        disk: Disk = OS_DISK,
        rest_s: float = PACE_S,
        known: Position | None = None,
    ) -> None:
        """``rest_s`` is how long frames that come slowly may gather before they are written.

        ``known`` is how far a store was that cannot be asked yet.
        """
        self._deliverer = deliverer
        self._clock = clock
        self._observe = observer
        self._breaker = breaker or CircuitBreaker(
            "store", presets.CLICKHOUSE_BRIDGE, clock=clock, rng=rng, listener=observer
        )
        self._system = system
        self._backoff = Backoff(rng, base=presets.ENDLESS.base, cap=presets.ENDLESS.cap)
        self._watermark = WatermarkReader(disk, journal)
        self._looking = threading.Lock()
        self._waiting = BufferedCounter()
        self._refusing = False
        self._refused = 0
        self._errors = 0
        self._rest_s = rest_s
        self._known = known
        self._stepped_ns = clock.monotonic_ns()

    async def run(self, life: StopRequest, pace: Pace) -> None:
        """Deliver until ``life.stop``, and then until all is stored, within :data:`DRAIN_S`.

        What the store does not take by then, or is known not to, is in the journal. Raises
        what no waiting can heal.
        """
        deadline = math.inf
        while not life.orphaned:
            pace.stopping = life.stop.is_set()
            if pace.stopping and deadline == math.inf:
                deadline = self._clock.monotonic_ns() + DRAIN_S * 1e9
            step = await self.step()
            if step.taken:
                pace.frames = step.frames
            if pace.stopping and (step.taken and not step.frames):
                return
            if self._clock.monotonic_ns() + step.wait_s * 1e9 > deadline:
                return
            gather_s = PACE_S if pace.stopping and step.taken else math.inf
            await self._sleep(life.stop, min(step.wait_s, step.look_s, gather_s))

    async def step(self) -> Stepped:
        """Deliver what is durable now, if it may be."""
        began = self._clock.monotonic_ns()
        try:
            frames = await asyncio.to_thread(self._step)
        except CallRefused as refused:
            asked = refused.retry_after
            return Stepped(taken=False, wait_s=math.inf if asked is None else asked, look_s=LOOK_S)
        except Transient as error:
            if self._breaker.state is State.OPEN:  # it says when to come again
                wait_s, look_s = self._breaker.retry_after() or math.inf, LOOK_S
                self._backoff.reset()  # once it lets calls through, the next failure is a first one
            else:
                wait_s, look_s = self._backoff.next(), math.inf
            self._observe(self._unavailable(error, wait_s))
            return Stepped(taken=False, wait_s=wait_s, look_s=look_s)
        passed_s, self._stepped_ns = (began - self._stepped_ns) / 1e9, began
        return Stepped(frames, wait_s=gathering_s(frames, passed_s, self._rest_s))

    async def measure(self) -> Measured:
        """Say where delivery stands; the journal is looked at beside the event loop."""
        captured = await asyncio.to_thread(self._captured)
        since = self._deliverer.waiting_since_ns
        # A receipt is a label of the wall clock, so its age is too: a stepped clock shows here.
        lag_s = max(0, self._clock.wall_ns() - since) / 1e9 if since else 0.0
        return Measured(
            backlog=max(0, captured - self._stored()),
            lag_s=lag_s,
            waited=self._waiting.waited,
            flushed=self._waiting.flushed,
            writes_refused=self._refused,
            database_errors=self._errors,
        )

    # ------------------------------------------------------- in a thread of its own

    def _step(self) -> int:
        if not self._prepare():
            self._idle()
            return 0
        self._refuse_in_emergency()
        try:
            frames = self._breaker.call(self._store)
        except CircuitOpen:
            self._held_back()
            raise
        self._backoff.reset()
        return frames

    def _prepare(self) -> bool:
        """Have something in hand; to ask the store where it is is a call of the breaker, too."""
        if not self._deliverer.begun:
            self._breaker.call(self._begin)
        return self._deliverer.prepare()

    def _begin(self) -> None:
        try:
            self._deliverer.begin()
        except Transient:
            self._errors += 1
            raise

    def _idle(self) -> None:
        """There is nothing to store."""

    def _unavailable(self, error: Transient, wait_s: float) -> TelemetryEvent:
        """Return what is told of a failure that is waited out."""
        return StoreUnavailable(str(error), wait_s)

    def _store(self) -> int:
        """One call of the breaker: it always has something to commit."""
        before = self._stored()
        try:
            frames = self._deliverer.store()
        except Transient:
            self._errors += 1
            self._held_back()
            raise
        self._waiting.stored(before, self._stored(), self._captured())
        return frames

    def _refuse_in_emergency(self) -> None:
        if self._system() is not SystemState.EMERGENCY:
            self._refusing = False
            return
        if self._probe_is_due():
            return
        self._refused += 1
        self._held_back()
        if not self._refusing:
            self._refusing = True
            frames = max(0, self._captured() - self._stored())
            self._observe(StoreWriteRefused(self._breaker.name, frames))
        raise WritesStopped("Nothing is written to the store: the system is in EMERGENCY.")

    def _probe_is_due(self) -> bool:
        """Whether the breaker needs a call to find out that the store is well again."""
        state = self._breaker.state
        due = state is State.OPEN and self._breaker.retry_after() == 0
        return due or state is State.HALF_OPEN

    def _held_back(self) -> None:
        self._waiting.held_back(self._stored(), self._captured())

    def _stored(self) -> int:
        position = self._reached()
        return position.seq if position else 1

    def _reached(self) -> Position | None:
        """Return how far the store is, as far as anybody knows."""
        known = None if self._deliverer.begun else self._known
        return self._deliverer.position or known

    def _captured(self) -> int:
        """The sequence number after the newest captured frame; that of the store if unknown."""
        try:
            with self._looking:
                mark = self._watermark.read()
        except OSError:  # reading the frames themselves will tell
            mark = None
        if mark is None:
            return self._stored()
        position = self._reached()
        other = position is not None and position.log_id != mark.log_id.hex()
        return self._stored() + mark.next_seq - 1 if other else mark.next_seq

    async def _sleep(self, stop: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.create_task(self._clock.sleep(seconds))]
        if not stop.is_set():
            waits.append(asyncio.create_task(stop.wait()))  # type: ignore[arg-type]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
