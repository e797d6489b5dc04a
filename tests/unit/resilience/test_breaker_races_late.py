"""More threads that meet at the worst moment: verdicts that are late, and orders beside probes."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.resilience import (
    AttemptTimeout,
    BreakerConfig,
    CircuitBreaker,
    CircuitOpen,
    Permit,
    State,
)
from forebay.telemetry import BreakerMoved
from tests.unit.resilience.test_breaker_races import DOWN, THREADS, _switch_often, make, together

if TYPE_CHECKING:
    from collections.abc import Callable

assert _switch_often  # the fixture holds here too
ERAS = 10
ENDS: list[Callable[[Permit], None]] = [Permit.success, Permit.release]


def fail(permit: Permit) -> None:
    permit.failure(DOWN)


def test_verdicts_of_ten_eras_ago_and_since_move_nothing() -> None:
    """Calls begun in each of ten eras all end at once, in another era: each is stale, once."""
    for last in (State.CLOSED, State.HALF_OPEN, State.FORCED_OPEN, State.DISABLED):
        clock, told = ManualClock(), list[BreakerMoved]()
        breaker = make(clock, told, success_threshold=9, half_open_permits=2)
        late: list[Permit] = []
        for _ in range(ERAS // 2):
            breaker.reset("again")
            late += [breaker.acquire() for _ in range(2)]
            breaker.acquire().failure(DOWN)
            clock.advance(30)
            late += [breaker.acquire() for _ in range(2)]  # probes
        orders = {
            State.CLOSED: breaker.reset,
            State.HALF_OPEN: breaker.force_open,
            State.FORCED_OPEN: breaker.force_open,
            State.DISABLED: breaker.disable,
        }
        orders[last]("then")
        if last is State.HALF_OPEN:
            breaker.force_half_open("then")
        before = breaker.snapshot()
        assert before.state is last
        ends = [*ENDS, fail]
        together(
            *(functools.partial(ends[i % 3], permit) for i, permit in enumerate(late)),
        )
        after = breaker.snapshot()
        assert after.stale - before.stale == len(late) == 2 * ERAS
        assert (after.state, after.streak, after.probes) == (last, 0, 0)
        assert (after.ok, after.failed, after.neutral) == (before.ok, before.failed, before.neutral)
        assert after.history == before.history


def test_a_new_configuration_beside_a_probe_keeps_its_place_and_its_verdict() -> None:
    for _ in range(60):
        clock, told = ManualClock(), list[BreakerMoved]()
        breaker = make(clock, told, success_threshold=1)
        breaker.acquire().failure(DOWN)
        clock.advance(30)
        probe = breaker.acquire()
        other = BreakerConfig(failure_threshold=7, success_threshold=1)
        refused: list[CircuitOpen] = []

        def ask(breaker: CircuitBreaker = breaker, refused: list[CircuitOpen] = refused) -> None:
            try:
                breaker.acquire().release()
            except CircuitOpen as error:
                refused.append(error)

        together(probe.success, functools.partial(breaker.reconfigure, other), ask, ask)
        seen = breaker.snapshot()
        assert (seen.state, seen.ok, seen.probes) == (State.CLOSED, 1, 0)
        assert breaker.config is other
        # One that is let in between the two ends in the era that the configuration began.
        assert len(refused) + seen.neutral + seen.stale == 2
        assert [moved.now for moved in told] == ["open", "half_open", "closed"]


def test_one_trip_however_many_fail_at_once() -> None:
    for _ in range(40):
        told = list[BreakerMoved]()
        breaker = make(ManualClock(), told)
        under_way = [breaker.acquire() for _ in range(THREADS)]
        together(*(functools.partial(fail, permit) for permit in under_way))
        seen = breaker.snapshot()
        assert (seen.trips, seen.failed, seen.stale) == (1, 1, THREADS - 1)
        assert [moved.now for moved in told] == ["open"]


def test_a_decorated_call_beside_orders_is_counted_once_and_refused_or_made() -> None:
    """Calls, against everything that ends an era."""
    each = 200
    clock, told = ManualClock(), list[BreakerMoved]()
    breaker = make(clock, told)
    made: list[int] = []
    refused: list[int] = []

    @breaker
    def call() -> None:
        made.append(1)

    def calling() -> None:
        for _ in range(each):
            try:
                call()
            except CircuitOpen:
                refused.append(1)

    def ordering() -> None:
        for _ in range(each // 4):
            breaker.force_open("x")
            breaker.disable("x")
            breaker.reset("x")
            breaker.reconfigure(BreakerConfig(failure_threshold=1))

    together(*[calling] * 4, ordering, ordering)
    seen = breaker.snapshot()
    assert len(made) + len(refused) == 4 * each
    assert seen.not_permitted == len(refused)
    assert seen.ok + seen.stale == len(made)
    assert (seen.failed, seen.neutral, seen.probes) == (0, 0, 0)


def test_a_carried_streak_is_healed_by_the_next_success() -> None:
    breaker = CircuitBreaker("b", clock=ManualClock())
    call = breaker(lambda: None)
    breaker.acquire().failure(DOWN)
    breaker.reconfigure(BreakerConfig(failure_threshold=2))
    call()
    breaker.acquire().failure(DOWN)
    assert breaker.state is State.CLOSED


async def test_a_new_time_out_reaches_functions_that_are_decorated_already() -> None:
    breaker = CircuitBreaker("b")
    call = breaker(asyncio.Event().wait)
    breaker.reconfigure(BreakerConfig(timeout=0.001))
    with pytest.raises(AttemptTimeout):
        await call()


def test_no_success_is_lost_or_counted_twice() -> None:
    each = 10_000
    breaker = CircuitBreaker("b")
    call = breaker(lambda: None)

    def calling() -> None:
        for _ in range(each):
            call()

    together(*[calling] * THREADS)
    assert breaker.snapshot().ok == each * THREADS
