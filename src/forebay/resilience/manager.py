"""All breakers of a process: made here, watched here, commanded here."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import random
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebay.clock import SystemClock, sleep_unless
from forebay.errors import ConfigError, Permanent
from forebay.resilience.breaker import BreakerConfig, CircuitBreaker
from forebay.resilience.deadline import attempt
from forebay.resilience.dependencies import near, require_known, start_order
from forebay.resilience.errors import CircuitOpen
from forebay.resilience.health import HealthMonitor, ServiceHealth
from forebay.resilience.numbers import require_number
from forebay.resilience.states import State
from forebay.resilience.windows import NS
from forebay.telemetry import ProbeFailed, ignore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from forebay.clock import Clock
    from forebay.resilience.fallback import Fallback
    from forebay.resilience.health import SystemHealth, SystemState
    from forebay.telemetry import Observer

    Probe = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Service:
    name: str
    why_down: Callable[[], str]
    critical: bool
    depends_on: tuple[str, ...]
    breaker: CircuitBreaker | None = None
    fallback: Fallback[Any] | None = None
    probe: Probe | None = None

    def look(self) -> ServiceHealth:
        try:
            why = self.why_down()
        except Exception as error:  # noqa: BLE001 - what cannot say how it is, is not up
            why = f"it cannot say: {type(error).__name__}"
        serving = self.fallback is not None and self.fallback.serving
        return ServiceHealth(self.name, not why, self.critical, self.depends_on, serving, why)


class ResilienceManager:
    """Makes the breakers of a process and knows its services, and how it is as a whole.

    Safe between threads. ``listener`` is told what the breakers do, then what follows from it
    (ServiceDown, ServiceUp, SystemMoved), by one thread at a time: when a breaker moves, and
    whenever :meth:`health` looks.
    """

    def __init__(
        self,
        *,
        process: str = "",
        clock: Clock | None = None,
        rng: random.Random | None = None,
        listener: Observer = ignore,
        recovery_hold: float = 30.0,
        check_interval: float = 30.0,
        auto_recovery: bool = True,
    ) -> None:
        self.process = process
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        # A listener may command the manager while a command is carried out: hence reentrant.
        self._changing = threading.RLock()
        self._services: dict[str, _Service] = {}  # replaced, never changed
        self._wanted: dict[str, BreakerConfig] = {}
        self._auto_recovery = auto_recovery
        self._overview = HealthMonitor(
            self.services,
            recovery_hold=recovery_hold,
            clock=self._clock,
            listener=listener,
            alarm=self._wake,
        )
        self._wakers: list[Callable[[], object]] = []
        self._attempts: Counter[str] = Counter()
        self.check_interval = check_interval

    # ------------------------------------------------------------ registration

    def register(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        critical: bool = False,
        depends_on: Collection[str] = (),
        fallback: Fallback[Any] | None = None,
        probe: Probe | None = None,
    ) -> CircuitBreaker:
        """Make the breaker of a service.

        ``probe`` calls the service harmlessly; the recovery loop awaits it while nobody else
        calls. Raises ConfigError for a name that is taken and for an unknown dependency: what a
        service depends on is registered before it, so there are no cycles.
        """
        with self._changing:
            self._require_new(name, depends_on)
            wanted = config or BreakerConfig()
            breaker = CircuitBreaker(
                name,
                self._effective(wanted),
                clock=self._clock,
                rng=random.Random(self._rng.getrandbits(64)),
                listener=self._overview.follow,
            )
            why_down = functools.partial(_why_down, breaker)
            needed = tuple(depends_on)
            service = _Service(name, why_down, critical, needed, breaker, fallback, probe)
            self._wanted[name] = wanted
            self._services = {**self._services, name: service}
        return breaker

    def watch(
        self,
        name: str,
        why_down: Callable[[], str],
        *,
        critical: bool = False,
        depends_on: Collection[str] = (),
    ) -> None:
        """Know a service that has no breaker; ``why_down`` says nothing while it is up.

        It is called from any thread, must not wait, and if it raises the service is down.
        """
        with self._changing:
            self._require_new(name, depends_on)
            service = _Service(name, why_down, critical, tuple(depends_on))
            self._services = {**self._services, name: service}

    def _require_new(self, name: str, depends_on: Collection[str]) -> None:
        if name in self._services:
            raise ConfigError(
                f"There is a service {name} already.", hint="Give each service its own name."
            )
        require_known(name, depends_on, self._services)

    @property
    def breakers(self) -> Mapping[str, CircuitBreaker]:
        """The breakers by name, in the order of registration."""
        services = self._services.values()
        return {each.name: each.breaker for each in services if each.breaker is not None}

    def start_order(self) -> tuple[str, ...]:
        """Return all services, each after what it depends on; the reverse is the order to stop."""
        return start_order({each.name: each.depends_on for each in self._services.values()})

    # ------------------------------------------------------------------ health

    def services(self) -> tuple[ServiceHealth, ...]:
        """Look at every service now."""
        return tuple(service.look() for service in self._services.values())

    def fallbacks_serving(self) -> tuple[str, ...]:
        """Return the services whose callers get substitutes now."""
        return tuple(service.name for service in self.services() if service.serving_fallback)

    def health(self) -> SystemHealth:
        """Look at the whole now, tell what changed, and return the state with its hold."""
        return self._overview.look()

    def heed(self, state: SystemState) -> None:
        """Take the state of a larger system, for 30 s at most, and look at the own."""
        self._overview.heed(state)

    @property
    def state(self) -> SystemState:
        """The worse of the own state, as :meth:`health` last saw it, and of what was heeded."""
        return self._overview.state

    # ---------------------------------------------------------------- commands

    def force_open(self, name: str, reason: str) -> bool:
        """Refuse every call of this breaker; False if it does so already. Permanent if unknown."""
        return self._breaker(name).force_open(reason)

    def reset(self, name: str, reason: str) -> bool:
        """Begin anew as CLOSED; False if it was CLOSED already. Permanent if unknown."""
        return self._breaker(name).reset(reason)

    def force_recovery(self, name: str | None, reason: str) -> tuple[str, ...]:
        """Let a breaker that is OPEN or FORCED_OPEN probe at once; return the names that moved.

        None is every OPEN breaker: one that an operator holds open has to be named. Raises
        Permanent for an unknown name.
        """
        if name is None:
            chosen = [each for each in self.breakers.values() if each.state is State.OPEN]
        else:
            chosen = [self._breaker(name)]
        moved = tuple(each.name for each in chosen if each.force_half_open(reason))
        self._wake()
        return moved

    def reconfigure(self, name: str, config: BreakerConfig) -> None:
        """Change the thresholds of a breaker and keep what it knows. Permanent if unknown."""
        with self._changing:
            breaker = self._breaker(name)
            self._wanted[name] = config
            effective = self._effective(config)
            if effective != breaker.config:  # calls under way keep their verdict
                breaker.reconfigure(effective)

    def _breaker(self, name: str) -> CircuitBreaker:
        breakers = self.breakers
        if name not in breakers:
            raise Permanent(f"There is no breaker {name}.", hint=near(name, breakers))
        return breakers[name]

    # ---------------------------------------------------------------- recovery

    async def run(self) -> None:
        """Probe what nobody calls, until cancelled; every probe has ended then.

        At each check, and at once when the state becomes CRITICAL or worse, the probe of each
        breaker that waits for one is awaited through the breaker, all at the same time.
        """
        woken = asyncio.Event()
        waker = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, woken.set)
        self._wakers.append(waker)
        try:
            async with asyncio.TaskGroup() as group:
                live: dict[str, asyncio.Task[None]] = {}
                while True:
                    self._overview.look()
                    woken.clear()
                    live = {name: task for name, task in live.items() if not task.done()}
                    for breaker, probe in self._targets():
                        if breaker.name not in live and _is_due(breaker):
                            live[breaker.name] = group.create_task(self._recover(breaker, probe))
                    await sleep_unless(woken, self._interval, self._clock)
        finally:
            self._wakers.remove(waker)

    def _wake(self) -> None:
        """Check at once; from any thread, and without a lock. Nothing if the loop does not run."""
        for waker in tuple(self._wakers):
            with suppress(RuntimeError):  # its event loop was closed meanwhile
                waker()

    def _targets(self) -> list[tuple[CircuitBreaker, Probe]]:
        if not self._auto_recovery:
            return []
        services = self._services.values()
        return [(each.breaker, each.probe) for each in services if each.breaker and each.probe]

    async def _recover(self, breaker: CircuitBreaker, probe: Probe) -> None:
        """Probe until the breaker is CLOSED, or a probe fails, or callers probe already.

        One check closes it, however many successes that takes. A hung probe fails when its lease
        ends; the breaker's own time-out may end it before.
        """
        self._attempts[breaker.name] += 1
        lease = breaker.config.lease_ns() / NS

        async def bounded() -> None:
            async with attempt(lease):
                await probe()

        try:
            for _ in range(breaker.config.success_threshold):
                await breaker.acall(bounded)
                if breaker.state is not State.HALF_OPEN:
                    return
        except Exception as error:  # noqa: BLE001 - the breaker has judged it
            if not isinstance(error, CircuitOpen) or error.breaker != breaker.name:
                self._overview.tell(ProbeFailed(breaker.name, type(error).__name__))

    @property
    def recovery_attempts(self) -> Mapping[str, int]:
        """How many recoveries :meth:`run` began, by breaker."""
        return {name: self._attempts[name] for name in self.breakers}

    @property
    def check_interval(self) -> float:
        """Seconds between checks; holds at once when set. ConfigError unless above 0."""
        return self._interval

    @check_interval.setter
    def check_interval(self, seconds: float) -> None:
        require_number("The check interval", seconds, above=True)
        self._interval = seconds
        self._wake()

    @property
    def recovery_hold(self) -> float:
        """Seconds that the whole must be better for; may be set. ConfigError if below 0."""
        return self._overview.hysteresis.hold_s

    @recovery_hold.setter
    def recovery_hold(self, seconds: float) -> None:
        self._overview.hysteresis.hold_s = seconds

    @property
    def auto_recovery(self) -> bool:
        """Whether breakers recover without an operator."""
        return self._auto_recovery

    def set_auto_recovery(self, on: bool) -> None:
        """Let breakers recover by themselves, or stay OPEN until an operator acts.

        One that is OPEN keeps its beginning: if its wait is over it may probe at once.
        """
        with self._changing:
            self._auto_recovery = on
            for name, wanted in self._wanted.items():
                self.reconfigure(name, wanted)
        self._wake()

    def _effective(self, wanted: BreakerConfig) -> BreakerConfig:
        if self._auto_recovery:
            return wanted
        # A probe keeps its place for as long as it would have.
        lease = wanted.lease_ns() / NS
        return dataclasses.replace(wanted, recovery_timeout=None, probe_lease=lease)


def _why_down(breaker: CircuitBreaker) -> str:
    state, cause = breaker.state, breaker.cause
    if state in {State.CLOSED, State.DISABLED}:
        return ""
    return f"{state}: {cause}" if cause else str(state)


def _is_due(breaker: CircuitBreaker) -> bool:
    """Whether a probe is what it waits for: HALF_OPEN, or OPEN for as long as it has to be."""
    if breaker.state is State.HALF_OPEN:
        return True
    return breaker.state is State.OPEN and breaker.retry_after() == 0
