"""What a breaker counts as a failure, and how many of them trip it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from forebay.errors import Permanent
from forebay.resilience import (
    AttemptTimeout,
    BreakerConfig,
    CircuitBreaker,
    Classifier,
    FailureRate,
    FailuresWithin,
    State,
)
from tests.support.breaker_rig import Rig, fine

if TYPE_CHECKING:
    from collections.abc import Callable


def test_poison_interrupts_and_ignored_errors_are_no_outage() -> None:
    rig = Rig(classify=Classifier(ignore=(KeyError, Permanent)))
    errors: list[BaseException] = [Permanent("bad row"), KeyError(1), KeyboardInterrupt()]
    for error in errors * 4:
        permit = rig.breaker.acquire()
        permit.failure(error)
    assert (rig.breaker.state, rig.breaker.snapshot().neutral) == (State.CLOSED, 12)
    with pytest.raises(Permanent):
        CircuitBreaker("c", BreakerConfig(failure_threshold=1)).call(_raise(Permanent("bad row")))


def _raise(error: BaseException) -> Callable[[], None]:
    def raising() -> None:
        raise error

    return raising


def test_a_result_can_be_a_failure() -> None:
    rig = Rig(classify=Classifier(result=lambda status: status == 503))
    get = rig.breaker(lambda: 503)
    assert [get() for _ in range(3)] == [503, 503, 503]
    assert rig.is_in(State.OPEN)


def test_a_judge_that_raises_leaks_no_probe() -> None:
    def judge(result: object) -> bool:
        raise ZeroDivisionError(result)

    rig = Rig(classify=Classifier(result=judge))
    rig.half_open()
    with pytest.raises(ZeroDivisionError):
        rig.breaker.call(fine)
    assert rig.breaker.snapshot().probes == 0


async def test_a_slow_call_is_a_failure_and_so_is_one_given_up() -> None:
    rig = Rig(slow_call_duration=2.0)
    for how in ("returned", "cancelled", "returned"):
        permit = rig.breaker.acquire()
        rig.clock.advance(2)
        if how == "returned":
            permit.success(1)
        else:
            permit.failure(asyncio.CancelledError())
    assert rig.is_in(State.OPEN)
    assert rig.breaker.snapshot().slow == 3


def test_what_ends_a_moment_before_the_slow_call_duration_is_not_slow() -> None:
    rig = Rig(slow_call_duration=2.5)
    rig.clock.advance(1000)  # so that the moment of a call is no duration
    for _ in range(3):
        returned, given_up = rig.breaker.acquire(), rig.breaker.acquire()
        rig.clock.advance(2.499)
        returned.success()
        given_up.failure(asyncio.CancelledError())
    seen = rig.breaker.snapshot()
    assert (seen.ok, seen.neutral, seen.slow) == (3, 3, 0)


async def test_a_caller_that_times_out_again_and_again_trips_it() -> None:
    rig = Rig(timeout=0.001)

    @rig.breaker
    async def hang() -> None:
        await asyncio.Event().wait()

    for _ in range(3):
        with pytest.raises(AttemptTimeout):
            await hang()
        rig.clock.advance(3600)
    assert rig.is_in(State.OPEN)


def test_a_failure_rate_trips_beside_the_streak() -> None:
    rig = Rig(failure_threshold=None, window=FailureRate(0.5, 60, 10))
    for _ in range(5):
        rig.breaker.call(fine)
        rig.fail()
    assert rig.is_in(State.OPEN)


def test_failures_within_a_time_trip_whatever_succeeds_between() -> None:
    rig = Rig(failure_threshold=None, window=FailuresWithin(3, 10))
    for _ in range(6):
        rig.fail()
        rig.breaker.call(fine)
        rig.clock.advance(5.1)
    assert rig.is_in(State.CLOSED)
    rig.fail(2)
    assert rig.is_in(State.OPEN)
