"""A bridge behind the breaker of its store: when to store, when to wait, and what waits.

The store may be away for hours and nothing is lost, since the transport has it. Meanwhile the
bridge stays a member of its group: lanes are tended in every turn, whatever the breaker says.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebay.clock import sleep_unless
from forebay.errors import ForebayError, Transient
from forebay.resilience import CallRefused, CircuitBreaker, State, presets
from forebay.resilience.backoff import Backoff
from forebay.services.bridge import OF_A_LANE
from forebay.services.guarded_delivery import LOOK_S
from forebay.services.one_thread import OneThread
from forebay.telemetry import Observer, StoreUnavailable, TransportUnavailable, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from forebay.clock import Clock
    from forebay.services.bridge import Bridge
    from forebay.services.guarded_delivery import StopRequest

IDLE_S = 0.2
"""How long to wait for more when a turn found nothing to store."""


@dataclass(frozen=True, slots=True)
class LaneSeen:
    """How one lane is doing."""

    lane: str
    lag_s: float
    """How long its oldest row that is read waits since its receipt, or for how long it was not
    seen to have nothing left."""
    waits_s: float
    """How long it cannot be stored or read, though others can; 0 if it can."""
    reason: str = ""
    """Why it cannot."""


class GuardedBridge:
    """Runs one bridge. All its calls are made in one thread of its own."""

    def __init__(
        self,
        bridge: Bridge,
        *,
        name: str,
        clock: Clock,
        rng: random.Random,
        breaker: CircuitBreaker | None = None,
        observer: Observer = ignore,
    ) -> None:
        """``name`` is that of the transport."""
        self._bridge = bridge
        self._name = name
        self._clock = clock
        self._observe = observer
        self._breaker = breaker or CircuitBreaker(
            "store-bridge", presets.CLICKHOUSE_BRIDGE, clock=clock, rng=rng, listener=observer
        )
        self._backoff = Backoff(rng, base=presets.ENDLESS.base, cap=presets.ENDLESS.cap)
        self._thread = OneThread("bridge")
        self._store_error: ForebayError | None = None
        self.failed = 0
        """Calls of the store that failed, those included that are about one lane."""
        self.trouble = ""
        """Why the transport cannot be read now."""
        self.begun = False
        """Whether it has been a member of its group."""
        bridge.guard = self._guarded

    async def run(self, life: StopRequest) -> None:
        """Store until ``life.stop``, and then once more what there is, however little.

        What is not stored by then is in the transport, for whoever has its lane next. Raises what
        no waiting can heal.
        """
        try:
            while not life.orphaned:
                stopping = life.stop.is_set()
                wait_s, _ = await self.turn(hurry=stopping)
                if stopping:
                    return
                if wait_s:
                    await sleep_unless(life.stop, wait_s, self._clock)
        finally:
            with contextlib.suppress(ForebayError):
                await self._thread.submit(self._bridge.close)
            self._thread.shutdown(wait=False)

    async def turn(self, *, hurry: bool = False) -> tuple[float, int]:
        """Make one step; return how long to wait for the next one, and the frames stored."""
        try:
            frames = await self._thread.submit(lambda: self._bridge.step(hurry=hurry))
        except CallRefused as refused:
            self._reads()
            wait_s = LOOK_S if refused.retry_after is None else refused.retry_after
            return min(wait_s, LOOK_S), 0
        except Transient as error:
            if error is not self._store_error:
                wait_s = self._backoff.next()
                self.trouble = str(error)
                self._observe(TransportUnavailable(self._name, self.trouble, wait_s))
                return wait_s, 0
            self._reads()
            # An open breaker says itself when to come again, and lanes are tended until then.
            wait_s = LOOK_S if self._breaker.state is State.OPEN else self._backoff.next()
            self._observe(StoreUnavailable(str(error), wait_s))
            return wait_s, 0
        self._reads()
        self._backoff.reset()
        return (0.0 if frames else IDLE_S), frames

    def _reads(self) -> None:
        self.begun, self.trouble = True, self._bridge.trouble

    # --------------------------------------------------------------- in the thread

    def _guarded(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it returns
        """Return what a call of the store returns.

        One that concerns a lane alone is answered, and so the store is well.
        """

        def answered() -> Any:  # noqa: ANN401
            try:
                return call()
            except OF_A_LANE as error:
                return error

        try:
            answer = self._breaker.call(answered)
        except CallRefused:
            raise
        except ForebayError as error:
            self.failed += 1
            self._store_error = error
            raise
        if isinstance(answer, OF_A_LANE):
            self.failed += 1
            raise answer
        return answer

    # ------------------------------------------------------------------- how it is

    def lanes(self) -> list[LaneSeen]:
        """Return how each lane of this bridge is doing."""
        now_ns, wall_ns, found = self._clock.monotonic_ns(), self._clock.wall_ns(), []
        for name, lane in sorted([*self._bridge.lanes.items()]):
            oldest_ns = lane.waiting_since_ns or lane.feed.oldest_ns
            ended_ns = lane.feed.ended_ns
            lag_ns = wall_ns - oldest_ns if oldest_ns else now_ns - (ended_ns or lane.taken_ns)
            wait = self._bridge.waiting.get(name)
            waits_ns = now_ns - wait.since_ns if wait else 0
            reason = wait.reason if wait else ""
            found.append(LaneSeen(name, max(0, lag_ns) / 1e9, waits_ns / 1e9, reason))
        return found

    def in_hand(self) -> int:
        """Return how many rows are read and not stored."""
        return sum(lane.weight for lane in [*self._bridge.lanes.values()])
