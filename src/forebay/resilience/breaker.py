"""A circuit breaker whose success path takes no lock.

The object that admits a call, its *era*, is the proof at the call's end that the verdict still
matters: one object of :mod:`forebay.resilience.eras` from one transition to the next. A verdict
whose era is over is counted as stale and changes nothing. Failures and transitions happen under
one lock; user code and listeners never run under it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from forebay.clock import SystemClock
from forebay.resilience.breaker_config import BreakerConfig
from forebay.resilience.deadline import attempt
from forebay.resilience.eras import Closed, Disabled, Era, Open, Snapshot, State
from forebay.resilience.forms import (
    Forms,
    Guard,
    Held,
    Shape,
    require,
    require_value,
    shape_given,
)
from forebay.resilience.machine import Machine
from forebay.resilience.permit import BreakerGuard, Permit
from forebay.resilience.refusals import CircuitOpen
from forebay.resilience.verdict import Verdict
from forebay.resilience.windows import NS
from forebay.telemetry import ignore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from forebay.clock import Clock
    from forebay.telemetry import Observer

P = ParamSpec("P")
R = TypeVar("R")
_log = logging.getLogger("forebay.resilience")


class CircuitBreaker(Forms):
    """Lets calls through until they fail as ``config`` says, and then only probes.

    Safe between threads and between event loops. ``listener`` is told of every transition, in
    order, by one thread at a time, and never under a lock.
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
        self._machine = Machine(name, config or BreakerConfig(), self.clock, rng or random.Random())
        self._listener = listener
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        # Ends of calls that must not wait for the lock: see settle_later.
        self._later: deque[tuple[Permit, Verdict]] = deque()

    # ------------------------------------------------------------------- calls

    def acquire(self) -> Permit:
        """Ask for one call; whoever has the permit says once how it ended.

        Raises CircuitOpen if the call must not be made.
        """
        machine, now = self._machine, self.clock.monotonic_ns()
        shut = machine.shut
        if shut is not None:
            # As Open.refuses and Open.remaining say, without the calls: this is the hot path
            # while a dependency is down.
            wait, passed = shut.wait_ns, now - shut.since_ns
            if wait is None or 0 <= passed < wait:
                machine.rejected += 1
                left = None if wait is None else (wait - passed) / NS
                raise CircuitOpen(self.name, left, machine.cause)
        era = machine.era
        if isinstance(era, Closed):
            return Permit(self, era, now)
        with self._lock:
            self._absorb(now)
            admitted = machine.admit(now)
            machine.rejected += admitted is None
            retry_after, cause = machine.retry_after(now), machine.cause
        self._tell()
        if admitted is None:
            raise CircuitOpen(self.name, retry_after, cause)
        return Permit(self, admitted[0], now, admitted[1])

    def guard(self) -> BreakerGuard:
        """Answer a new block, for ``with`` or ``async with``, that is one call."""
        return BreakerGuard(self)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function. Raises CircuitOpen instead if the breaker refuses."""
        require(fn, Shape.PLAIN)
        permit = self.acquire()
        result: R = self._begun(permit, fn, args, kwargs)
        try:
            require_value(result)
        except TypeError:
            permit.release()
            raise
        permit.success(result)
        return result

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function and await what it gives, for at most ``timeout`` seconds.

        Raises CircuitOpen instead if the breaker refuses, and AttemptTimeout.
        """
        result: R = await self._acall(self.acquire(), fn, args, kwargs)
        return result

    @staticmethod
    def _begun(permit: Permit, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return fn(*args, **kwargs)
        except BaseException as error:
            permit.failure(error)
            raise

    def _call(self, permit: Permit, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        result = self._begun(permit, fn, args, kwargs)
        shape = shape_given(result)
        if shape is Shape.PLAIN:
            permit.success(result)
            return result
        if shape is Shape.COROUTINE:
            return self._acall(permit, lambda: result, (), {})
        return self._given(shape, result, Held(BreakerGuard(self, permit)))

    async def _acall(
        self,
        permit: Permit,
        fn: Callable[..., Any],
        args: Any,  # noqa: ANN401
        kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        limit = self._machine.config.timeout
        try:
            if limit is None:
                result = await fn(*args, **kwargs)
            else:
                async with attempt(limit):
                    result = await fn(*args, **kwargs)
        except BaseException as error:
            permit.failure(error)
            raise
        permit.success(result)
        return result

    def _plain(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        breaker, machine = self, self._machine
        value: type | None = None  # the class of the last result that was a plain value

        def plain(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            nonlocal value
            era = machine.quick
            if era is None:
                return breaker._call(breaker.acquire(), fn, args, kwargs)
            try:
                # Passing on no names at all is cheaper than passing on an empty dict of them.
                result = fn(*args, **kwargs) if kwargs else fn(*args)
            except BaseException as error:
                breaker._quick_failed(era, error)
                raise
            if type(result) is not value:  # cheaper than to look at each
                shape = shape_given(result)
                if shape is not Shape.PLAIN:
                    return breaker._given(shape, result)
                value = type(result)
            for _ in era.fine:
                return result
            breaker._settle_era(era, Verdict.OK)
            return result

        return plain

    def _coroutine(self, fn: Callable[..., Any], held: Guard | None = None) -> Callable[..., Any]:
        del held  # an awaited call that was admitted before keeps its permit: see _call
        breaker, machine = self, self._machine

        async def coroutine(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            era = machine.quick_awaited
            if era is None:
                return await breaker._acall(breaker.acquire(), fn, args, kwargs)
            try:
                result = await (fn(*args, **kwargs) if kwargs else fn(*args))
            except BaseException as error:
                breaker._quick_failed(era, error)
                raise
            for _ in era.fine:
                return result
            breaker._settle_era(era, Verdict.OK)
            return result

        return coroutine

    # ---------------------------------------------------------------- verdicts

    def _quick_failed(self, era: Closed, error: BaseException) -> None:
        if isinstance(error, GeneratorExit):  # perhaps from the collector: no lock
            self.settle_later(Permit(self, era, None), Verdict.NEUTRAL)
        else:
            self._settle_era(era, self.config.classify.error(error), error)

    def _settle_era(self, era: Era, verdict: Verdict, error: BaseException | None = None) -> None:
        self.settle(Permit(self, era, None), verdict, error)

    def settle(self, permit: Permit, verdict: Verdict, error: BaseException | None = None) -> None:
        """Count the end of a call, once."""
        now = self.clock.monotonic_ns()
        with self._lock:
            self._absorb(now)
            self._apply(permit, verdict, now, type(error).__name__ if error else "")
        self._tell()

    def settle_later(self, permit: Permit, verdict: Verdict) -> None:
        """Count the end of a call without waiting for the lock.

        The garbage collector ends abandoned calls, and may run in a thread that is inside the
        lock already. Whoever has the lock next counts what could not be counted at once.
        """
        permit.started_ns = None  # how long the call took is not known here
        self._later.append((permit, verdict))
        if self._lock.acquire(blocking=False):
            try:
                self._absorb(self.clock.monotonic_ns())
            finally:
                self._lock.release()
        self._tell()

    def _absorb(self, now: int) -> None:
        while self._later:
            permit, verdict = self._later.popleft()
            self._apply(permit, verdict, now, "")

    def _apply(self, permit: Permit, verdict: Verdict, now: int, what: str) -> None:
        era, permit.era = permit.era, None
        if era is not None:
            self._machine.end(era, permit.token, verdict, now, what, began=permit.started_ns)

    def _tell(self) -> None:
        """Tell the listener what happened, in order: one thread at a time, nobody waits."""
        untold = self._machine.untold
        while untold and self._telling.acquire(blocking=False):
            try:
                while untold:
                    self._listener(untold.popleft())
            except Exception:  # noqa: BLE001 - logged; the others hear of what follows
                _log.exception("A listener of breaker %s raised.", self.name)
            finally:
                self._telling.release()

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
        return self._locked(lambda machine, now: machine.retry_after(now))

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
        return self._locked(lambda machine, now: machine.snapshot(now))

    def _locked(self, act: Callable[[Machine, int], R]) -> R:
        now = self.clock.monotonic_ns()
        with self._lock:
            self._absorb(now)
            result = act(self._machine, now)
        self._tell()
        return result
