"""What a snapshot says beside the counts: how long calls took, and where a breaker has been."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError
from forebay.resilience import BreakerConfig, CircuitBreaker, Permit, State

if TYPE_CHECKING:
    from collections.abc import Generator

S = 1_000_000_000


def made(**config: float | None) -> tuple[CircuitBreaker, ManualClock]:
    clock = ManualClock()
    settings = {"failure_threshold": 2, "recovery_timeout": 10.0, "recovery_jitter": 0.0} | config
    return CircuitBreaker("b", BreakerConfig(**settings), clock=clock), clock  # type: ignore[arg-type]


def latency(breaker: CircuitBreaker) -> tuple[float, int]:
    seen = breaker.snapshot()
    return seen.latency_sum_ns / S, seen.latency_count


# ------------------------------------------------------------------------ latency


async def test_every_form_that_asks_the_time_is_timed() -> None:
    breaker, clock = made()

    async def wait() -> None:
        clock.advance(4)
        await asyncio.sleep(0)

    breaker.call(clock.advance, 1)
    with breaker.guard():
        clock.advance(2)
    permit = breaker.acquire()
    clock.advance(3)
    permit.success()
    await breaker.acall(wait)
    assert latency(breaker) == (10, 4)


def test_a_decorated_call_is_not_timed_unless_its_success_needs_the_time() -> None:
    quick, clock = made()
    quick(clock.advance)(5)
    assert latency(quick) == (0, 0)
    slow, clock = made(slow_call_duration=100)
    slow(clock.advance)(5)
    assert latency(slow) == (5, 1)


@pytest.mark.parametrize("how", ["failure", "slow"])
def test_a_bad_call_is_timed(how: str) -> None:
    breaker, clock = made(slow_call_duration=3 if how == "slow" else None)
    permit = breaker.acquire()
    clock.advance(4)
    if how == "slow":
        permit.success()
    else:
        permit.failure(ValueError())
    assert getattr(breaker.snapshot(), {"failure": "failed"}.get(how, how)) == 1
    assert latency(breaker) == (4, 1)


def test_what_says_nothing_about_the_service_is_not_timed() -> None:
    breaker, clock = made(failure_threshold=1)
    stale, released, cancelled = [breaker.acquire() for _ in range(3)]
    dropped: list[Permit] = [breaker.acquire()]
    clock.advance(7)
    released.release()
    cancelled.failure(asyncio.CancelledError())
    dropped.clear()
    gc.collect()
    breaker.force_open("x")
    stale.success()
    assert (breaker.snapshot().neutral, breaker.snapshot().stale) == (3, 1)
    assert latency(breaker) == (0, 0)


def test_a_consumer_that_leaves_a_generator_does_not_time_it() -> None:
    breaker, clock = made()

    def items() -> Generator[int, None, None]:
        yield 1

    taken = breaker(items)()
    assert next(taken) == 1
    clock.advance(50)
    taken.close()
    assert breaker.snapshot().ok == 1
    assert latency(breaker) == (0, 0)


def test_only_the_first_word_is_timed() -> None:
    breaker, clock = made()
    permit = breaker.acquire()
    clock.advance(1)
    permit.success()
    clock.advance(1)
    permit.success()
    assert latency(breaker) == (1, 1)


def test_a_clock_that_went_back_takes_nothing_from_the_sum() -> None:
    breaker, clock = made()
    breaker.call(clock.advance, 2)
    breaker.call(clock.advance, -5)
    assert latency(breaker) == (2, 2)


# ---------------------------------------------------------------------- transitions


def test_transitions_count_by_the_state_entered() -> None:
    breaker, clock = made(failure_threshold=1, success_threshold=1)
    for _ in range(60):
        breaker.acquire().failure(ValueError())
        clock.advance(10)
        breaker.acquire().success()
    breaker.force_open("x")
    breaker.disable("y")
    seen = breaker.snapshot()
    assert seen.transitions == {
        "closed": 60, "open": 60, "half_open": 60, "forced_open": 1, "disabled": 1,
    }  # fmt: skip
    assert seen.trips == 60
    assert len(seen.history) == 50
    assert {type(state) for state in seen.transitions} == {str}


def test_when_it_opened_is_known_until_it_closes() -> None:
    breaker, clock = made(failure_threshold=1, success_threshold=1)
    begin = clock.wall_ns()

    def opened() -> float | None:
        at = breaker.snapshot().opened_wall_ns
        return None if at is None else (at - begin) / S

    assert opened() is None
    clock.advance(1)
    breaker.acquire().failure(ValueError())
    assert opened() == 1
    clock.advance(10)
    probe = breaker.acquire()
    assert (breaker.snapshot().state, opened()) == (State.HALF_OPEN, 1)
    probe.failure(ValueError())
    assert opened() == 11, "it opened again"
    clock.advance(1)
    breaker.force_open("x")
    assert opened() == 12
    breaker.disable("y")
    assert opened() == 12
    breaker.reset("z")
    assert opened() is None


@pytest.mark.parametrize("how", ["failure", "slow"])
def test_when_it_failed_last_is_known_and_a_success_does_not_change_it(how: str) -> None:
    breaker, clock = made(slow_call_duration=3)
    assert breaker.snapshot().last_failure_wall_ns is None
    begin = clock.wall_ns()
    permit = breaker.acquire()
    clock.advance(4)
    if how == "slow":
        permit.success()
    else:
        permit.failure(ValueError())
    clock.advance(1)
    breaker.acquire().success()
    breaker.acquire().release()
    assert breaker.snapshot().last_failure_wall_ns == begin + 4 * S
    assert breaker.cause == {"failure": "ValueError", "slow": "slow"}[how]


# ----------------------------------------------------------- for an operator alone


def test_open_without_a_recovery_timeout_is_open_until_an_operator_acts() -> None:
    breaker, clock = made(failure_threshold=1, recovery_timeout=None)
    breaker.acquire().failure(ValueError())
    clock.advance(1e9)
    seen = breaker.snapshot()
    assert (seen.state, seen.retry_after) == (State.OPEN, None)
    assert breaker.force_open("x"), "that is another state"
    assert breaker.snapshot().state is State.FORCED_OPEN


def test_its_probes_keep_their_places_for_a_known_time() -> None:
    assert BreakerConfig(recovery_timeout=None).lease_ns() == 30 * S
    assert BreakerConfig(recovery_timeout=None, timeout=7).lease_ns() == 7 * S
    assert BreakerConfig(recovery_timeout=None, probe_lease=2).lease_ns() == 2 * S
    assert BreakerConfig(recovery_timeout=50, timeout=7).lease_ns() == 50 * S


def test_other_bounds_are_still_looked_at() -> None:
    with pytest.raises(ConfigError):
        BreakerConfig(recovery_timeout=None, recovery_backoff=0.5)
    with pytest.raises(ConfigError):
        BreakerConfig(recovery_timeout=0)
