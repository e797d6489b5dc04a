"""How a system is, from how its services are; looked at from any thread, and told of in order."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections import deque
from collections.abc import Mapping, Sequence  # noqa: TC003 - read at run time, to encode
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from forebay.resilience.dependencies import behind, lenient_order
from forebay.resilience.numbers import require_number
from forebay.resilience.telling import Teller
from forebay.resilience.windows import NS
from forebay.telemetry import ServiceDown, ServiceUp, SystemMoved

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.clock import Clock
    from forebay.telemetry import Observer, TelemetryEvent

HEALTHY_SHARE = 0.8
DEGRADED_SHARE = 0.5
HEEDED_FOR_S = 30.0
"""What :meth:`HealthMonitor.heed` was told holds so long: who says it may have died."""


class SystemState(StrEnum):
    """The whole, from good to bad."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    EMERGENCY = "emergency"

    @property
    def severity(self) -> int:
        """0 for HEALTHY to 3 for EMERGENCY. States are strings: do not compare them with ``<``."""
        return list(SystemState).index(self)


def worst(*states: SystemState) -> SystemState:
    """Return the most severe of them."""
    return max(states, key=lambda state: state.severity)


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What one service says of itself; ``reason`` is why it is not up."""

    name: str
    up: bool
    critical: bool = False
    depends_on: tuple[str, ...] = ()
    serving_fallback: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SystemHealth:
    """The whole: ``share`` of services that have not failed themselves, 0 to 1."""

    state: SystemState
    share: float
    roots: tuple[str, ...]
    """Services that failed themselves: all that they depend on is up."""
    attributed: Mapping[str, str]
    """Each service that is down, and the root that is why; a root's is itself."""
    services: Sequence[ServiceHealth]
    reason: str


def assess(services: Sequence[ServiceHealth]) -> SystemHealth:
    """Judge the whole; names are unique.

    A service that is down while something it depends on is down, directly or through others, is
    attributed to that root: of several, to the first in the order of start. It is not counted.

    A root is critical if it is, or if any service that is down because of it is: what the
    operator must have is gone either way, and the root is where to begin. No services are healthy.

    Names in ``depends_on`` that nobody has are ignored, since another process may have them and
    not answer. Of services that depend on each other, which registration refuses, one is the root.
    """
    attributed = _attribute(services)
    roots = tuple(dict.fromkeys(attributed.values()))
    critical = {attributed[each.name] for each in services if each.critical and not each.up}
    share = (len(services) - len(roots)) / len(services) if services else 1.0
    substitutes = [each.name for each in services if each.serving_fallback]
    return SystemHealth(
        state=_state(len(critical), share, fallback=bool(substitutes)),
        share=share,
        roots=roots,
        attributed=attributed,
        services=tuple(services),
        reason=_reason(services, attributed, substitutes),
    )


def _attribute(services: Sequence[ServiceHealth]) -> dict[str, str]:
    """Return the root of each service that is down, in the order of start."""
    graph = {each.name: each.depends_on for each in services}
    down = {each.name for each in services if not each.up}
    roots: list[str] = []
    attributed: dict[str, str] = {}
    for name in lenient_order(graph):  # so whatever a service depends on has its root already
        if name in down:
            needed = behind(name, graph)
            root = next((root for root in roots if root in needed), name)
            attributed[name] = root
            if root == name:
                roots.append(name)
    return attributed


def _state(critical_roots: int, share: float, *, fallback: bool) -> SystemState:
    if critical_roots > 1:
        return SystemState.EMERGENCY
    if critical_roots or share < DEGRADED_SHARE:
        return SystemState.CRITICAL
    if fallback or share < HEALTHY_SHARE:
        return SystemState.DEGRADED
    return SystemState.HEALTHY


def _reason(
    services: Sequence[ServiceHealth], attributed: Mapping[str, str], substitutes: Sequence[str]
) -> str:
    """Say in words what is down and why; nothing if nothing is."""
    why = {each.name: each.reason for each in services}
    parts = []
    for root in dict.fromkeys(attributed.values()):
        others = [name for name, its in attributed.items() if its == root != name]
        with_it = f", and so {', '.join(others)}" if others else ""
        parts.append(f"{root} is down{f' ({why[root]})' if why[root] else ''}{with_it}")
    parts += [f"substitutes are served for {name}" for name in substitutes]
    return "; ".join(parts)


class Hysteresis:
    """Shows a state that worsens at once and improves late.

    What is shown is the worst state of the last ``hold_s`` seconds, where a state holds from when
    it is seen until another is. ``hold_s`` may be changed at any time. Not safe between threads.
    """

    def __init__(self, hold_s: float) -> None:
        self.hold_s = hold_s
        self._seen = SystemState.HEALTHY
        self._left: dict[SystemState, int] = {}
        """When each state was seen to be over."""

    @property
    def hold_s(self) -> float:
        """Seconds; raises ConfigError if set below 0."""
        return self._hold_ns / NS

    @hold_s.setter
    def hold_s(self, seconds: float) -> None:
        require_number("The recovery hold", seconds)
        self._hold_ns = round(seconds * NS)

    def see(self, state: SystemState, now_ns: int) -> SystemState:
        """Take the state of now, at a monotonic time, and return the one to show.

        A clock that went back makes it hold once from there, and no longer.
        """
        if state is not self._seen:
            self._left[self._seen] = now_ns
            self._seen = state
        self._left = {was: min(left, now_ns) for was, left in self._left.items()}
        held = [was for was, left in self._left.items() if now_ns - left < self._hold_ns]
        return worst(state, *held)


class HealthMonitor:
    """Assesses services with a hold; ``alarm`` is called when they become CRITICAL or worse.

    Safe between threads; ``listener`` is told by one at a time, and nobody waits for it.
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
