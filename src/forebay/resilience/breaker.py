"""A circuit breaker: what it is told, the permits it gives, and itself.

What it decides is in :mod:`forebay.resilience.states`, under one lock; user code and listeners
never run under it. A call remembers the era that admitted it: a verdict whose era is over is
counted as stale and changes nothing.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from forebay.clock import SystemClock
from forebay.errors import ConfigError, Corrupt, Permanent
from forebay.resilience.deadline import attempt
from forebay.resilience.errors import CallRefused, CircuitOpen
from forebay.resilience.numbers import MOST_JITTER, grown, require_count, require_number
from forebay.resilience.states import (
    CallVerdict,
    Closed,
    Disabled,
    Era,
    Open,
    Snapshot,
    State,
    StateMachine,
)
from forebay.resilience.strategy import VALUES, Guarded, Shape, Strategy, shape_given
from forebay.resilience.telling import Teller
from forebay.resilience.windows import NS
from forebay.telemetry import ignore

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.clock import Clock
    from forebay.resilience.windows import FailureRate, FailuresWithin
    from forebay.telemetry import Observer

R = TypeVar("R")
Kinds = type[BaseException] | tuple[type[BaseException], ...]
"""Exception classes, as ``except`` takes them."""
_LEASE_S = 30.0


@dataclass(frozen=True, slots=True)
class Classifier:
    """Which ends of a call are failures of the dependency."""

    failure: Kinds = Exception
    """Counts unless :attr:`ignore` matches too."""
    ignore: Kinds = (Permanent, Corrupt)
    """Data errors, since a dependency that rejects a row is not down."""
    result: Callable[[object], bool] | None = None
    """Says True of a result that is a failure, such as a response with status 503."""

    def error(self, error: BaseException) -> CallVerdict:
        """Judge an exception; what is no ``Exception`` (cancellation, interrupts) is neutral."""
        if not isinstance(error, Exception) or isinstance(error, (CallRefused, self.ignore)):
            return CallVerdict.NEUTRAL
        return CallVerdict.FAILURE if isinstance(error, self.failure) else CallVerdict.NEUTRAL

    def returned(self, result: object) -> CallVerdict:
        """Judge what was returned."""
        failed = self.result is not None and self.result(result)
        return CallVerdict.FAILURE if failed else CallVerdict.OK


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a breaker trips, how long it waits and what closes it. Durations are seconds."""

    failure_threshold: int | None = 5
    """Consecutive failures that trip it; None leaves that to ``window``."""
    window: FailureRate | FailuresWithin | None = None
    """Another way to trip, beside the consecutive failures."""
    recovery_timeout: float | None = 30.0
    """OPEN lasts so long, give or take ``recovery_jitter``, before a probe is let through; None:
    until an operator acts."""
    recovery_backoff: float = 1.0
    """Each failed recovery multiplies the next wait by this, up to ``recovery_max``."""
    recovery_max: float = 600.0
    recovery_jitter: float = 0.1
    success_threshold: int = 2
    """Probes that must succeed to close it."""
    half_open_permits: int = 1
    """Probes at a time."""
    probe_lease: float | None = None
    """A probe that has not ended after so long gives its place to another; None is the larger of
    ``timeout`` and ``recovery_timeout``, or 30 s if both are None."""
    timeout: float | None = None
    """Time-out of one call. Enforced on ``async def`` and ``acall``: a thread cannot be stopped."""
    slow_call_duration: float | None = None
    """A call that lasts so long counts as a failure, whatever it returned."""
    classify: Classifier = field(default_factory=Classifier)

    def __post_init__(self) -> None:
        if self.failure_threshold is not None:
            require_count("failure_threshold", self.failure_threshold)
        require_count("success_threshold", self.success_threshold)
        require_count("half_open_permits", self.half_open_permits)
        for name in ("recovery_timeout", "probe_lease", "timeout", "slow_call_duration"):
            if (seconds := getattr(self, name)) is not None:
                require_number(name, seconds, above=True)
        require_number("recovery_backoff", self.recovery_backoff, least=1.0)
        require_number("recovery_max", self.recovery_max)
        require_number("recovery_jitter", self.recovery_jitter, most=MOST_JITTER)
        if self.failure_threshold is None and self.window is None:
            raise ConfigError(
                "This breaker never trips.", hint="Give failure_threshold or a window."
            )
        if self.recovery_max < (self.recovery_timeout or 0.0):
            raise ConfigError(
                f"recovery_timeout is {self.recovery_timeout} s.",
                hint=f"It must be at most recovery_max, {self.recovery_max:g} s.",
            )

    def closed(self) -> Closed:
        """Begin a CLOSED era."""
        return Closed(self.failure_threshold, self.window.window() if self.window else None)

    def quick(self, era: Era) -> Closed | None:
        """Return a CLOSED era if a success needs neither the time nor a look at the result."""
        asks = self.window or self.slow_call_duration is not None or self.classify.result
        return era if isinstance(era, Closed) and not asks else None

    def wait_ns(self, failed_rounds: int, rng: random.Random) -> int | None:
        """Nanoseconds that OPEN lasts after so many failed recoveries in a row; None for ever."""
        if self.recovery_timeout is None:
            return None
        most = self.recovery_max
        wait = grown(self.recovery_timeout, self.recovery_backoff, failed_rounds, most)
        jitter = rng.uniform(1.0 - self.recovery_jitter, 1.0 + self.recovery_jitter)
        return max(1, round(wait * jitter * NS))

    def lease_ns(self) -> int:
        """Nanoseconds that a probe may keep its place."""
        longest = max(self.timeout or 0.0, self.recovery_timeout or 0.0) or _LEASE_S
        return round((longest if self.probe_lease is None else self.probe_lease) * NS)


class Permit(Guarded):
    """One call: say once how it ended; the first word counts. Dropping it says :meth:`release`.

    As a block it is asked for and ended by itself, unless something was said inside.
    """

    def __init__(
        self,
        breaker: CircuitBreaker,
        era: Era | None = None,
        token: object = None,
        started_ns: int | None = None,
    ) -> None:
        self._breaker = breaker
        self.live = era is not None
        self.era = era
        """What admitted it; None before and once it has ended."""
        self.token = token
        """Of a probe."""
        self.started_ns = started_ns

    def success(self, result: object = None) -> None:
        """The call returned ``result``; whether that is a success the configuration may judge."""
        verdict = self._breaker.config.classify.returned(result)
        if verdict is CallVerdict.OK and self._was_slow():
            verdict = CallVerdict.SLOW
        self._say(verdict)

    def failure(self, error: BaseException) -> None:
        """The call raised ``error``. Given up after the slow call duration, it was slow."""
        verdict = self._breaker.config.classify.error(error)
        if isinstance(error, asyncio.CancelledError) and self._was_slow():
            verdict = CallVerdict.SLOW
        self._say(verdict, type(error).__name__)

    def release(self) -> None:
        """The call said nothing about the dependency, or was not made."""
        self._say(CallVerdict.NEUTRAL)

    def _say(self, verdict: CallVerdict, what: str = "") -> None:
        self.live = False
        self._breaker.settle(self, verdict, what)

    def _was_slow(self) -> bool:
        limit = self._breaker.config.slow_call_duration
        if limit is None or self.started_ns is None:
            return False
        return self._breaker.clock.monotonic_ns() - self.started_ns >= limit * NS

    def _begin(self) -> None:
        self.era, self.token, self.started_ns = self._breaker.admit()

    def _end(self, error: BaseException | None, /) -> None:
        if error is None:
            self.success(self.result)
        elif isinstance(error, GeneratorExit) and self.gave:
            self.started_ns = None  # how long its consumer took says nothing
            self._say(CallVerdict.OK)
        else:
            self.failure(error)


class CircuitBreaker(Strategy):
    """Lets calls through until they fail as ``config`` says, and then only probes.

    A call that it refuses raises CircuitOpen; an awaited one that takes longer than ``timeout``
    AttemptTimeout. Safe between threads and between event loops. ``listener`` is told of every
    transition, in order, by one thread at a time, and never under a lock.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        listener: Observer = ignore,
    ) -> None:
        self.name = name
        self.clock = clock or SystemClock()
        config, rng = config or BreakerConfig(), rng or random.Random()
        self._machine = StateMachine(name, config, self.clock, rng)
        self._teller = Teller(listener, f"breaker {name}", self._machine.untold)
        self._lock = threading.Lock()
        self._ended: deque[tuple[Permit, CallVerdict, int, str]] = deque()

    def guard(self) -> Permit:
        """Return a new block, for ``with`` or ``async with``, that is one call."""
        return Permit(self)

    def acquire(self) -> Permit:
        """Ask for one call; whoever has the permit says once how it ended. Raises CircuitOpen."""
        return Permit(self, *self.admit())

    def _plain(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        machine = self._machine

        def plain(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            by = machine.quick or self.acquire()
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self._permit(by).end(error)
                raise
            if type(result) not in VALUES and (shape := shape_given(result)) is not Shape.PLAIN:
                return self._given(shape, result, self._permit(by))
            self._returned(by, result)
            return result

        return plain

    def _coroutine(
        self, fn: Callable[..., Any], begun: Guarded | None = None
    ) -> Callable[..., Any]:
        machine = self._machine

        async def coroutine(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            by, limit = begun or machine.quick or self.acquire(), machine.config.timeout
            if not isinstance(by, Closed):
                by.__enter__()
            try:
                if limit is None:
                    result = await fn(*args, **kwargs)
                else:
                    async with attempt(limit):
                        result = await fn(*args, **kwargs)
            except BaseException as error:
                self._permit(by).end(error)
                raise
            self._returned(by, result)
            return result

        return coroutine

    def admit(self) -> tuple[Era, object, int]:
        """Return what admits a call, its token if it is a probe, and the time, for a permit."""
        machine, now = self._machine, self.clock.monotonic_ns()
        with self._lock:
            self._count()
            admitted = machine.admit(now)
            machine.rejected += admitted is None
            left, cause = machine.retry_after(now), machine.cause
        self._settle()
        if admitted is None:
            raise CircuitOpen(self.name, left, cause)
        return *admitted, now

    def settle(self, permit: Permit, verdict: CallVerdict, what: str = "") -> None:
        """Count the end of a call, once; ``what`` names its failure."""
        self._ended.append((permit, verdict, self.clock.monotonic_ns(), what))
        self._settle()

    def _permit(self, by: Guarded | Closed) -> Guarded:
        return Permit(self, by) if isinstance(by, Closed) else by

    def _returned(self, by: Guarded | Closed, result: object) -> None:
        if not isinstance(by, Closed):
            by.result = result
            by.end()
            return
        with self._lock:
            self._machine.succeeded(by)
        if self._ended:
            self._settle()

    def _settle(self) -> None:
        """Count what has ended and tell what followed, without waiting for the lock.

        The collector ends abandoned calls, and may run in a thread that is inside the lock
        already. So whoever has the lock counts what others could not.
        """
        while self._ended:
            if not self._lock.acquire(blocking=False):
                return
            try:
                self._count()
            finally:
                self._lock.release()
        self._teller.tell()

    def _count(self) -> None:
        while self._ended:
            permit, verdict, now, what = self._ended.popleft()
            era, permit.era = permit.era, None
            if era is not None:
                self._machine.end(era, permit.token, verdict, now, what, began=permit.started_ns)

    def _locked(self, act: Callable[[StateMachine, int], R]) -> R:
        now = self.clock.monotonic_ns()
        with self._lock:
            self._count()
            result = act(self._machine, now)
        self._settle()
        return result

    # ------------------------------------------------------------------- admin

    @property
    def config(self) -> BreakerConfig:
        """What it was told last."""
        return self._machine.config

    @property
    def state(self) -> State:
        """The state now; OPEN stays OPEN until somebody calls, however long that takes."""
        return self._machine.era.state

    @property
    def cause(self) -> str:
        """The type of the last failure, or why an operator opened it; takes no lock."""
        return self._machine.cause

    def retry_after(self) -> float | None:
        """Seconds until a call may be let through; 0 if now, None if nobody can know."""
        return self._locked(StateMachine.retry_after)

    def force_open(self, reason: str) -> bool:
        """Refuse every call until somebody says otherwise. False if it does so already."""
        return self._locked(lambda machine, _: machine.order(Open(0, None, 0, forced=True), reason))

    def disable(self, reason: str) -> bool:
        """Let every call through and only count. False if it does so already."""
        return self._locked(lambda machine, _: machine.order(Disabled(), reason))

    def reset(self, reason: str) -> bool:
        """Begin anew as CLOSED: nothing has failed. False if it was CLOSED already."""
        return self._locked(lambda machine, _: machine.order(machine.config.closed(), reason))

    def force_half_open(self, reason: str) -> bool:
        """Let probes through at once. False unless it is OPEN or FORCED_OPEN."""
        return self._locked(lambda machine, _: machine.order_half_open(reason))

    def reconfigure(self, config: BreakerConfig) -> None:
        """Change the thresholds and keep what is known.

        CLOSED goes on from its failures, but calls under way become stale; OPEN waits as long
        from its beginning as the new wait says; HALF_OPEN keeps its probes.
        """
        self._locked(lambda machine, _: machine.reconfigure(config))

    def snapshot(self) -> Snapshot:
        """Everything there is to say, at one moment."""
        return self._locked(StateMachine.snapshot)
