"""How services are as a whole, looked at from any thread, and told of in order."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING

from forebay.resilience.health import Hysteresis, SystemState, assess, worst
from forebay.resilience.telling import Teller
from forebay.resilience.windows import NS
from forebay.telemetry import ServiceDown, ServiceUp, SystemMoved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from forebay.clock import Clock
    from forebay.resilience.health import ServiceHealth, SystemHealth
    from forebay.telemetry import Observer, TelemetryEvent

HEEDED_FOR_S = 30.0
"""What :meth:`HealthMonitor.heed` was told holds so long: who says it may have died."""


class HealthMonitor:
    """Assesses services with a hold; ``alarm`` is called when they become CRITICAL or worse.

    Safe between threads. ``listener`` is told by one thread at a time, and nobody waits for it.
    """

    def __init__(
        self,
        services: Callable[[], Sequence[ServiceHealth]],
        *,
        recovery_hold: float,
        clock: Clock,
        listener: Observer,
        alarm: Callable[[], object] = lambda: None,
    ) -> None:
        self.hysteresis = Hysteresis(recovery_hold)
        self._services = services
        self._clock = clock
        self._alarm = alarm
        # A look may be the collector's, which ends abandoned calls in a thread that has any lock
        # already. So nobody waits for this one: who has the lock does what the others left.
        self._noting = threading.Lock()
        self._unnoted: deque[tuple[int, SystemHealth]] = deque()
        self._untold: deque[TelemetryEvent] = deque()
        self._teller = Teller(listener, "the manager", self._untold)
        self._looks = itertools.count(1)
        self._noted = 0
        self._own = SystemState.HEALTHY
        self._roots: Mapping[str, str] = {}
        self._heeded = (SystemState.HEALTHY, 0)

    def look(self) -> SystemHealth:
        """Look at every service now, tell what changed, and return the state with its hold."""
        number = next(self._looks)
        health = assess(self._services())
        self._unnoted.append((number, health))
        while self._unnoted and self._noting.acquire(blocking=False):
            try:
                while self._unnoted:
                    self._note(*self._unnoted.popleft())
            finally:
                self._noting.release()
        self.tell()
        shown = self._own
        if shown is health.state:
            return health
        held = f"better for less than {self.hysteresis.hold_s:g} s"
        reason = f"{health.reason}; {held}" if health.reason else held
        return dataclasses.replace(health, state=shown, reason=reason)

    def _note(self, number: int, health: SystemHealth) -> None:
        """Queue what changed, to be told, and raise the alarm if it is needed."""
        if number < self._noted:
            # It began before another that is noted, so it may have seen an older world. What it
            # alone saw is a change that is followed by a look of its own.
            return
        self._noted = number
        was, roots = self._own, self._roots
        self._own = self.hysteresis.see(health.state, self._clock.monotonic_ns())
        self._roots = health.attributed
        why = {service.name: service.reason for service in health.services}
        for name, root in health.attributed.items():
            if roots.get(name) != root:
                self._untold.append(ServiceDown(name, root, why[name]))
        self._untold.extend(ServiceUp(name) for name in roots if name not in health.attributed)
        if self._own is not was:
            self._untold.append(SystemMoved(was, self._own, health.reason))
        if _is_alarming(was, self._own):
            self._alarm()

    def tell(self, *happenings: TelemetryEvent) -> None:
        """Tell in order: one thread at a time, nobody waits."""
        self._untold.extend(happenings)
        self._teller.tell()

    def follow(self, happening: TelemetryEvent) -> None:
        """Tell what a breaker did, and look at what follows from it."""
        self._untold.append(happening)
        self.look()

    # ----------------------------------------------------------------- heeding

    def heed(self, state: SystemState) -> None:
        """Take the state of a larger system, and look at the own."""
        was = self._heard()
        self._heeded = (state, self._clock.monotonic_ns())
        if _is_alarming(was, state):
            self._alarm()
        self.look()

    @property
    def state(self) -> SystemState:
        """The worse of the own, as last looked at, and of what was heeded."""
        return worst(self._own, self._heard())

    def _heard(self) -> SystemState:
        state, since_ns = self._heeded
        passed = self._clock.monotonic_ns() - since_ns
        return state if passed < HEEDED_FOR_S * NS else SystemState.HEALTHY


def _is_alarming(was: SystemState, now: SystemState) -> bool:
    return now.severity > was.severity and now.severity >= SystemState.CRITICAL.severity
