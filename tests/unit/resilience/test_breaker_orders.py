"""How long a breaker waits, what an operator may order, and who is told."""

from __future__ import annotations

import logging
import random

import pytest

from forebay.clock import ManualClock
from forebay.resilience import BreakerConfig, CircuitBreaker, CircuitOpen, FailuresWithin, State
from forebay.telemetry import BreakerMoved, TelemetryEvent
from tests.support.breaker_rig import DOWN, Rig, fine


def test_waits_grow_with_failed_recoveries_and_not_beyond_the_most() -> None:
    rig = Rig(recovery_backoff=2.0, recovery_max=30.0, failure_threshold=1)
    waits = []
    for _ in range(4):
        rig.fail()
        waits.append(rig.breaker.retry_after())
        rig.clock.advance(waits[-1] or 0)
    assert waits == [10, 20, 30, 30]


def test_waits_are_spread() -> None:
    waits = set()
    for seed in range(50):
        breaker = CircuitBreaker(
            "b",
            BreakerConfig(failure_threshold=1, recovery_timeout=10),
            clock=ManualClock(),
            rng=random.Random(seed),
        )
        breaker.acquire().failure(DOWN)
        waits.add(breaker.retry_after())
    assert len(waits) == 50
    assert all(wait is not None and 9 <= wait <= 11 for wait in waits)
    assert max(waits, key=float) - min(waits, key=float) > 1.5  # type: ignore[arg-type,operator]


@pytest.mark.parametrize("back_to", [0, 500])
def test_a_clock_that_goes_back_makes_nobody_wait_longer_than_once(back_to: float) -> None:
    rig = Rig()
    rig.clock.advance(back_to + 1000)
    rig.trip()
    rig.clock.advance(-1000)
    with pytest.raises(CircuitOpen) as refused:
        rig.breaker.call(fine)
    assert refused.value.retry_after == 10
    rig.clock.advance(10)
    assert rig.breaker.call(fine) == 1


def test_a_step_of_the_wall_clock_changes_no_wait() -> None:
    rig = Rig()
    rig.trip()
    rig.clock.step_wall(1e6)
    with pytest.raises(CircuitOpen):
        rig.breaker.call(fine)


# --------------------------------------------------------------------------- admin


def test_orders_say_whether_they_changed_anything_and_are_told_once() -> None:
    rig = Rig()
    breaker = rig.breaker
    assert [breaker.force_open("night"), breaker.force_open("night")] == [True, False]
    with pytest.raises(CircuitOpen, match="after night") as refused:
        breaker.call(fine)
    assert refused.value.retry_after is None
    rig.clock.advance(1e6)
    with pytest.raises(CircuitOpen):
        breaker.call(fine)
    assert [breaker.force_half_open("try"), breaker.force_half_open("try")] == [True, False]
    assert [breaker.disable("off"), breaker.disable("off")] == [True, False]
    rig.fail(9)
    assert breaker.state is State.DISABLED
    assert [breaker.reset("on"), breaker.reset("on")] == [True, False]
    assert rig.moves() == [
        ("closed", "forced_open"),
        ("forced_open", "half_open"),
        ("half_open", "disabled"),
        ("disabled", "closed"),
    ]
    assert breaker.snapshot().trips == 0


def test_new_thresholds_keep_what_is_known() -> None:
    rig = Rig(failure_threshold=5, window=FailuresWithin(4, 100))
    rig.fail(2)
    config = BreakerConfig(
        failure_threshold=9, window=FailuresWithin(3, 100), recovery_timeout=4, recovery_jitter=0
    )
    under_way = rig.breaker.acquire()
    rig.breaker.reconfigure(config)
    under_way.failure(DOWN)
    assert (rig.breaker.snapshot().streak, rig.breaker.snapshot().stale) == (2, 1)
    rig.fail(1)
    assert (rig.breaker.state, rig.breaker.retry_after()) == (State.OPEN, 4)
    rig.clock.advance(3)
    rig.breaker.reconfigure(BreakerConfig(recovery_timeout=2, recovery_jitter=0))
    assert rig.breaker.retry_after() == 0
    probe = rig.breaker.acquire()
    rig.breaker.reconfigure(BreakerConfig(success_threshold=1))
    probe.success()
    assert rig.is_in(State.CLOSED)
    rig.breaker.force_open("x")
    rig.breaker.reconfigure(BreakerConfig(failure_threshold=1))
    assert rig.is_in(State.FORCED_OPEN)
    rig.breaker.reset("x")
    rig.fail(1)
    assert rig.is_in(State.OPEN)


def test_a_listener_that_raises_is_logged_and_the_next_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = []

    def listener(moved: TelemetryEvent) -> None:
        told.append(moved)
        if len(told) == 1:
            raise ZeroDivisionError

    breaker = CircuitBreaker("b", listener=listener)
    with caplog.at_level(logging.ERROR):
        breaker.force_open("x")
        breaker.reset("x")
    assert len(told) == 2
    assert "A listener of breaker b raised." in caplog.text


def test_a_listener_may_order_and_hears_in_order() -> None:
    told: list[str] = []

    def listener(moved: TelemetryEvent) -> None:
        assert isinstance(moved, BreakerMoved)
        if moved.now == "forced_open":
            breaker.reset("from the listener")
            assert breaker.snapshot().state is State.CLOSED
        told.append(moved.now)

    breaker = CircuitBreaker("b", listener=listener)
    breaker.force_open("x")
    assert told == ["forced_open", "closed"]
