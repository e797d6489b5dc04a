"""Trying again: which errors, how often, after how long, and when not to."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from forebay.clock import SystemClock
from forebay.errors import ConfigError, Transient
from forebay.resilience.backoff import retry_delay
from forebay.resilience.deadline import remaining
from forebay.resilience.numbers import LONGEST_S, MOST_JITTER, grown, require_count, require_number
from forebay.resilience.strategy import Shape, require, require_value, shape_given, shape_of
from forebay.telemetry import CallRetried, RetriesEnded, ignore

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from forebay.clock import Clock
    from forebay.resilience.breaker import Kinds
    from forebay.telemetry import Observer

_UNIT = 1000
P = ParamSpec("P")
R = TypeVar("R")
Pause = Callable[[float], bool]
"""Waits for so many seconds; True says to try no more. ``threading.Event().wait`` is one."""


def asked_wait(error: BaseException) -> float | None:
    """Seconds that the error's ``retry_after`` asks for, if it says."""
    asked = getattr(error, "retry_after", None)
    return min(asked, LONGEST_S) if isinstance(asked, int | float) else None


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """How often to try and how long to wait between. Durations are seconds."""

    attempts: int | None = 3
    """Tries in all; None never gives up."""
    on: Kinds = (Transient, OSError)
    """Errors that are worth another try. Cancellation never is, whatever stands here."""
    base: float = 1.0
    factor: float = 2.0
    cap: float = 30.0
    jitter: float = 0.1
    """A wait is within this share of the nominal one."""
    full_jitter: bool = False
    """A wait is anything up to the nominal one: for callers that must not come back together."""
    longest_asked: float = 300.0
    """A server may ask, by ``retry_after``, to wait so long. For longer, a bounded call gives up
    and an endless one waits no longer than this."""
    asked: Callable[[BaseException], float | None] = asked_wait

    def __post_init__(self) -> None:
        if self.attempts is not None:
            require_count("attempts", self.attempts)
        require_number("cap", self.cap, above=True)
        require_number("base", self.base, above=True, most=self.cap)
        require_number("factor", self.factor, least=1.0)
        require_number("jitter", self.jitter, most=MOST_JITTER)
        require_number("longest_asked", self.longest_asked)
        if self.full_jitter and self.factor != 2:  # noqa: PLR2004 - Backoff doubles
            raise ConfigError(f"factor is {self.factor}.", hint="Full jitter doubles: leave it 2.")


class RetryBudget:
    """Never more retries than ``floor + ratio * calls``; unused ones are saved up to ``saved``.

    Without it, callers that try five times send a struggling dependency five times its load. Safe
    between threads.
    """

    def __init__(self, ratio: float = 0.1, *, floor: int = 10, saved: int = 100) -> None:
        require_number("ratio", ratio, most=1.0)
        require_count("floor", floor, least=0)
        require_count("saved", saved, least=floor)
        self._deposit = int(ratio * _UNIT)  # rounded down, so that the promise holds
        self._most = saved * _UNIT
        self._tokens = floor * _UNIT
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """Retries that could be made now."""
        return self._tokens // _UNIT

    def called(self) -> None:
        """A call began; its first try is free, and pays for others."""
        with self._lock:
            self._tokens = min(self._most, self._tokens + self._deposit)

    def spend(self) -> bool:
        """Ask for one retry."""
        with self._lock:
            if self._tokens < _UNIT:
                return False
            self._tokens -= _UNIT
            return True


class Retry:
    """Tries calls again; stateless between calls, so one object serves all callers.

    An error that is not retried, or not any more, is raised as the object it is. A wait that
    would outlast the deadline is not begun. ``pause`` waits in threads; give a stop event's
    ``wait`` to end the tries at a stop.
    """

    def __init__(
        self,
        config: RetryConfig | None = None,
        *,
        name: str = "call",
        budget: RetryBudget | None = None,
        rng: random.Random | None = None,
        clock: Clock | None = None,
        pause: Pause | None = None,
        listener: Observer = ignore,
    ) -> None:
        self.config = config or RetryConfig()
        self.name = name
        self._budget = budget
        self._rng = rng or random.Random()
        self._clock = clock or SystemClock()
        self._pause = pause or threading.Event().wait
        self._listener = listener

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function until it succeeds or trying again is pointless."""
        require(fn, Shape.PLAIN)
        result, _ = self._called(fn, args, kwargs)
        require_value(result)
        return cast("R", result)

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call and await until it succeeds or trying again is pointless."""
        result: R = await self._acall(fn, args, kwargs)
        return result

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a ``def`` or an ``async def``, or what gives an awaitable; not a generator.

        Items that were given cannot be taken back: retry the call that opens the stream.
        """
        require(fn, Shape.PLAIN, Shape.COROUTINE)
        plain = cast("Callable[..., Any]", fn)

        async def coroutine(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return await self._acall(plain, args, kwargs)

        def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            result, failed = self._called(plain, args, kwargs)
            if shape_given(result) is Shape.COROUTINE:
                return self._acall(plain, args, kwargs, result, failed)
            return result

        way = coroutine if shape_of(fn) is Shape.COROUTINE else called
        return cast("Callable[P, R]", functools.wraps(fn)(way))

    def _called(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, int]:  # noqa: ANN401
        """Return what a function gave, and how many tries failed before."""
        self._begin()
        failed = 0
        while True:
            try:
                return fn(*args, **kwargs), failed
            except Exception as error:
                failed += 1
                wait = self._wait_after(error, failed)
                if wait is None or self._paused(wait):
                    raise

    async def _acall(
        self,
        fn: Callable[..., Any],
        args: Any,  # noqa: ANN401
        kwargs: Any,  # noqa: ANN401
        given: Any = None,  # noqa: ANN401
        failed: int = 0,
    ) -> Any:  # noqa: ANN401
        """``given`` is what the function was called for already, after so many ``failed`` tries."""
        if given is None:
            self._begin()
        while True:
            try:
                return await (fn(*args, **kwargs) if given is None else given)
            except Exception as error:
                given = None
                failed += 1
                wait = self._wait_after(error, failed)
                if wait is None:
                    raise
            await self._clock.sleep(wait)

    def _paused(self, seconds: float) -> bool:
        """Wait, and return whether to stop; a coroutine would wait for nothing, and say stop."""
        stop = self._pause(seconds)
        require_value(stop)
        return stop

    def _begin(self) -> None:
        if self._budget is not None:
            self._budget.called()

    def _wait_after(self, error: Exception, failed: int) -> float | None:
        """Return the seconds to wait after so many tries; None to raise the error of the last."""
        config = self.config
        if not isinstance(error, config.on):
            return None
        asked = config.asked(error)
        wait = max(self._nominal(failed), min(asked or 0.0, config.longest_asked))
        kind = type(error).__name__
        if reason := self._forbidden(failed, wait, asked):
            self._listener(RetriesEnded(self.name, failed, f"{kind}; {reason}"))
            return None
        self._listener(CallRetried(self.name, wait, failed, kind))
        return wait

    def _forbidden(self, failed: int, wait: float, asked: float | None) -> str:
        """Return why there is no other try, or nothing."""
        config, left = self.config, remaining()
        if config.attempts is not None:
            if failed >= config.attempts:
                return "that was the last try"
            if asked is not None and asked > config.longest_asked:
                return f"asked to wait {asked:g} s"
        if left is not None and wait >= left:
            return "the deadline would pass"
        if self._budget is not None and not self._budget.spend():
            return "the retry budget is used up"
        return ""

    def _nominal(self, failed: int) -> float:
        config = self.config
        base, factor, cap = config.base, config.factor, config.cap
        if config.full_jitter:
            return self._rng.uniform(0.0, grown(base, factor, failed - 1, cap))
        return retry_delay(
            failed, self._rng, base=base, factor=factor, cap=cap, jitter=config.jitter
        )
