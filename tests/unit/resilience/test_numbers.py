"""Numbers of every kind in every parameter: refused in words at once, or sane for ever."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError, ForebayError
from forebay.resilience import (
    Backoff,
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    DeadlineExceeded,
    FailureRate,
    FailuresWithin,
    Hysteresis,
    RateLimit,
    RateLimited,
    Refused,
    ResilienceManager,
    Retry,
    RetryBudget,
    RetryConfig,
    StaleCache,
    SystemState,
    adeadline,
    attempt,
    deadline,
)
from forebay.resilience.backoff import retry_delay

if TYPE_CHECKING:
    from collections.abc import Callable

ODD: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, -1, -1e-300, 0, 5e-324, 1e-300, 1e-12, 0.5, 1, 1.5, 64,
    1e9, 1e18, 1e300, 10**400, -(10**400), True, "1", None, Decimal("0.5"),
    Fraction(1, 3), np.int32(3), np.uint8(200),
)  # fmt: skip


def breaker(**numbers: Any) -> None:  # noqa: ANN401
    """Trip it, let recovery fail a hundred times, and close it."""
    clock = ManualClock()
    config = BreakerConfig(**{"failure_threshold": 1, **numbers})
    guarded = CircuitBreaker("b", config, clock=clock, rng=random.Random(1))
    for _ in range(100):
        for permits in range(70):
            try:
                guarded.acquire().failure(OSError())
            except Refused:
                assert permits or config.recovery_timeout is None
                break
        left = guarded.retry_after()
        clock.advance(left or 1e-9)
    guarded.snapshot()


def retry(**numbers: Any) -> None:  # noqa: ANN401
    """Fail two hundred times, or until it gives up."""
    config = RetryConfig(**{"attempts": 200, **numbers})
    waited: list[float] = []

    def pause(seconds: float) -> bool:
        assert 0 <= seconds <= config.cap
        waited.append(seconds)
        return len(waited) > 200

    with pytest.raises(OSError, match="down"):
        Retry(config, rng=random.Random(1), pause=pause).call(_down)


def _down() -> None:
    message = "down"
    raise OSError(message)


def rate(**numbers: Any) -> None:  # noqa: ANN401
    clock = ManualClock()
    limit = RateLimit(**{"per_second": 1.0, **numbers}, clock=clock)
    for _ in range(3):
        try:
            limit.take()
        except RateLimited as refused:
            clock.advance(min(refused.retry_after or 0.0, 1.0))


def cost(value: Any) -> None:  # noqa: ANN401
    RateLimit(1.0, burst=100, clock=ManualClock()).take(value)


def cache(**numbers: Any) -> None:  # noqa: ANN401
    kept = StaleCache[str, int](**{"stale": 1e9, **numbers}, clock=ManualClock())
    assert [kept.get(key, lambda: 1).value for key in "aab"] == [1, 1, 1]


def failure_rate(**numbers: Any) -> None:  # noqa: ANN401
    _count(FailureRate(**numbers))


def failures_within(**numbers: Any) -> None:  # noqa: ANN401
    _count(FailuresWithin(**{"failures": 2, "seconds": 1.0, **numbers}))


def _count(made: FailureRate | FailuresWithin) -> None:
    counted = made.window()
    for now in (0, 1, 10**9, 10**18):
        counted.ok(now)
        counted.bad(now)


def hold(seconds: Any) -> None:  # noqa: ANN401
    shown = Hysteresis(seconds)
    shown.see(SystemState.CRITICAL, 0)
    shown.see(SystemState.HEALTHY, 1)
    assert 0 <= shown.hold_s <= 1e9


def thread(seconds: Any) -> None:  # noqa: ANN401
    with deadline(seconds, clock=ManualClock()):
        pass


def on_a_loop(limit: Callable[..., Any], seconds: Any) -> None:  # noqa: ANN401
    async def run() -> None:
        async with limit(seconds):
            pass

    asyncio.run(run())


def manager(**numbers: Any) -> None:  # noqa: ANN401
    ResilienceManager(**numbers, clock=ManualClock()).health()


def budget(**numbers: Any) -> None:  # noqa: ANN401
    left = RetryBudget(**{"saved": 10**12, **numbers})
    left.called()
    left.spend()


def backoff(**numbers: Any) -> None:  # noqa: ANN401
    delays = Backoff(random.Random(1), **{"base": 1e-300, "cap": 1e9, **numbers})
    delays.attempt = 10**9
    assert 0 <= delays.next() <= 1e9


def bulkhead(**numbers: Any) -> None:  # noqa: ANN401
    assert Bulkhead(**{"limit": 1, **numbers}).call(len, "a") == 1


def _named(use: Callable[..., object], name: str, value: object) -> None:
    use(**{name: value})


def _each(owner: str, use: Callable[..., object], *names: str) -> dict[str, Callable[[Any], None]]:
    return {f"{owner}.{name}": partial(_named, use, name) for name in names}


PARAMETERS: dict[str, Callable[[Any], None]] = {
    **_each(
        "BreakerConfig", breaker, "failure_threshold", "success_threshold", "half_open_permits",
        "recovery_timeout", "recovery_backoff", "recovery_max", "recovery_jitter", "timeout",
        "probe_lease", "slow_call_duration",
    ),
    **_each("RetryConfig", retry, "attempts", "base", "factor", "cap", "jitter", "longest_asked"),
    **_each("RateLimit", rate, "per_second", "burst", "longest_wait"),
    **_each("StaleCache", cache, "fresh", "stale", "items"),
    **_each("FailureRate", failure_rate, "rate", "seconds", "minimum_calls"),
    **_each("FailuresWithin", failures_within, "failures", "seconds"),
    **_each("ResilienceManager", manager, "recovery_hold", "check_interval"),
    **_each("RetryBudget", budget, "ratio", "floor", "saved"),
    **_each("Backoff", backoff, "base", "cap"),
    **_each("Bulkhead", bulkhead, "limit", "waiting"),
    "RateLimit.take": cost,
    "Hysteresis": hold,
    "deadline": thread,
    "adeadline": partial(on_a_loop, adeadline),
    "attempt": partial(on_a_loop, attempt),
}  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("name", PARAMETERS)
def test_any_number_is_refused_in_words_or_sane(name: str, value: object) -> None:
    with contextlib.suppress(ForebayError):
        PARAMETERS[name](value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, "1"], ids=str)
@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "attempt"])
def test_what_is_no_finite_number_is_refused(name: str, value: object) -> None:
    with pytest.raises((ConfigError, DeadlineExceeded)):
        PARAMETERS[name](value)


def test_a_delay_is_at_its_cap_however_fast_or_slowly_it_grows() -> None:
    rng = random.Random(1)
    for factor, tries in ((100_000.0, 64), (1e300, 10**9), (2, 10**9), (1.0001, 10**6)):
        delay = retry_delay(tries, rng, base=1.0, factor=factor, cap=30.0, jitter=0.0)
        assert delay == 30.0


def test_an_endless_retry_with_a_steep_factor_goes_on() -> None:
    retry(attempts=None, factor=100_000)
