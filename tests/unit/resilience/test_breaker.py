"""A breaker from outside: what its users see, and what breaks the peers."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError, Permanent
from forebay.resilience import (
    AttemptTimeout,
    BreakerConfig,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Classify,
    FailureRate,
    FailuresWithin,
    State,
)
from forebay.telemetry import BreakerMoved, Happening

if TYPE_CHECKING:
    from collections.abc import Callable

DOWN = ConnectionError("down")


def fail() -> None:
    raise DOWN


def fine() -> int:
    return 1


class Rig:
    """A breaker on a manual clock, with what it told."""

    def __init__(self, **config: object) -> None:
        self.clock = ManualClock()
        self.told: list[Happening] = []
        settings = {"failure_threshold": 3, "recovery_timeout": 10.0, "recovery_jitter": 0.0}
        self.breaker = CircuitBreaker(
            "b",
            BreakerConfig(**(settings | config)),  # type: ignore[arg-type]
            clock=self.clock,
            rng=random.Random(1),
            listener=self.told.append,
        )

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(ConnectionError) as raised:
                self.breaker.call(fail)
            assert raised.value is DOWN

    def is_in(self, state: State) -> bool:
        return self.breaker.state is state

    def trip(self) -> None:
        self.fail(self.breaker.config.failure_threshold or 1)
        assert self.is_in(State.OPEN)

    def half_open(self) -> None:
        self.trip()
        self.clock.advance(10)

    def moves(self) -> list[tuple[str, str]]:
        assert all(isinstance(moved, BreakerMoved) for moved in self.told)
        return [(moved.was, moved.now) for moved in self.told if isinstance(moved, BreakerMoved)]


def test_it_trips_refuses_probes_and_closes() -> None:
    rig = Rig(success_threshold=2)
    assert rig.breaker.call(fine) == 1
    rig.trip()
    with pytest.raises(CircuitOpen) as refused:
        rig.breaker.call(fine)
    assert refused.value.retry_after == 10
    assert str(refused.value) == (
        "b is not called for another 10.0 s: its breaker is open after ConnectionError."
    )
    rig.clock.advance(10)
    assert rig.is_in(State.OPEN)
    rig.breaker.call(fine)
    assert rig.is_in(State.HALF_OPEN)
    rig.breaker.call(fine)
    assert rig.is_in(State.CLOSED)
    assert rig.moves() == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
    seen = rig.breaker.snapshot()
    assert (seen.ok, seen.failed, seen.not_permitted, seen.trips) == (3, 3, 1, 1)
    assert list(seen.history) == rig.told


def test_a_success_heals_however_old_the_failures_are() -> None:
    rig = Rig()
    for _ in range(20):
        rig.fail(2)
        rig.breaker.call(fine)
    assert rig.is_in(State.CLOSED)
    rig.fail(2)
    rig.clock.advance(86400)
    rig.fail(1)
    assert rig.is_in(State.OPEN)


def test_the_decorated_success_heals_too() -> None:
    rig = Rig()
    good, bad = rig.breaker(fine), rig.breaker(fail)
    for _ in range(3):
        for _ in range(2):
            with pytest.raises(ConnectionError):
                bad()
        good()
    assert rig.is_in(State.CLOSED)
    assert rig.breaker.snapshot().ok == 3


def test_no_success_takes_the_lock_while_nothing_has_failed() -> None:
    rig = Rig()
    good = rig.breaker(fine)
    with rig.breaker._lock:
        assert [good() for _ in range(3)] == [1, 1, 1]
    assert rig.breaker.snapshot().ok == 3


# ------------------------------------------------------------ what breaks the peers


async def test_of_fifty_callers_at_half_open_one_is_a_probe() -> None:
    rig, hits, gate = Rig(), 0, asyncio.Event()
    rig.half_open()

    @rig.breaker
    async def call() -> None:
        nonlocal hits
        hits += 1
        await gate.wait()

    tasks = [asyncio.create_task(call()) for _ in range(50)]
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert hits == 1
    assert sum(isinstance(result, CircuitOpen) for result in results) == 49


async def test_a_cancelled_probe_gives_its_place_to_another_and_moves_nothing() -> None:
    rig = Rig(success_threshold=1)
    rig.half_open()

    @rig.breaker
    async def call(gate: asyncio.Event) -> None:
        await gate.wait()

    probe = asyncio.create_task(call(asyncio.Event()))
    await asyncio.sleep(0)
    assert rig.breaker.snapshot().probes == 1
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert (rig.breaker.state, rig.breaker.snapshot().probes) == (State.HALF_OPEN, 0)
    ready = asyncio.Event()
    ready.set()
    await call(ready)
    assert rig.is_in(State.CLOSED)


@pytest.mark.parametrize("limit", [None, 60.0])
async def test_cancelled_calls_do_not_trip(limit: float | None) -> None:
    rig = Rig(timeout=limit)

    @rig.breaker
    async def call() -> None:
        await asyncio.Event().wait()

    for _ in range(6):
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert rig.is_in(State.CLOSED)
    assert rig.breaker.snapshot().neutral == 6


@pytest.mark.parametrize("half_open", [False, True])
def test_a_late_success_does_not_close(*, half_open: bool) -> None:
    rig = Rig(success_threshold=1)
    late = rig.breaker.acquire()
    rig.half_open()
    if half_open:
        probe = rig.breaker.acquire()
        assert probe.era is not None
    before = rig.breaker.state
    late.success()
    assert rig.breaker.state is before
    assert rig.breaker.snapshot().stale == 1


def test_a_decorated_success_of_an_earlier_era_is_stale() -> None:
    rig = Rig()

    @rig.breaker
    def call() -> None:
        rig.breaker.reset("while it runs")

    call()
    assert (rig.breaker.snapshot().ok, rig.breaker.snapshot().stale) == (0, 1)


def test_a_late_failure_does_not_reopen() -> None:
    rig = Rig(success_threshold=1)
    late = [rig.breaker.acquire() for _ in range(5)]
    rig.half_open()
    rig.breaker.call(fine)
    for permit in late:
        permit.failure(DOWN)
    assert rig.is_in(State.CLOSED)
    assert (rig.breaker.snapshot().stale, rig.breaker.snapshot().streak) == (5, 0)


def test_a_probe_of_an_earlier_half_open_frees_no_place_of_a_later_one() -> None:
    rig = Rig(half_open_permits=2)
    rig.half_open()
    old, failing = rig.breaker.acquire(), rig.breaker.acquire()
    failing.failure(DOWN)
    rig.clock.advance(10)
    probes = [rig.breaker.acquire(), rig.breaker.acquire()]
    old.success()
    with pytest.raises(CircuitOpen):
        rig.breaker.acquire()
    assert rig.breaker.snapshot().probes == len(probes)


@pytest.mark.parametrize(
    ("timeout", "state"), [(None, State.HALF_OPEN), (4.0, State.OPEN)], ids=["no limit", "timed"]
)
def test_a_hung_probe_holds_nobody_longer_than_its_lease(
    timeout: float | None, state: State
) -> None:
    rig = Rig(timeout=timeout)
    rig.half_open()
    hung = rig.breaker.acquire()
    rig.clock.advance(9.999)
    with pytest.raises(CircuitOpen):
        rig.breaker.acquire()
    rig.clock.advance(0.001)
    if timeout is None:
        rig.breaker.acquire().release()
    else:
        with pytest.raises(CircuitOpen):
            rig.breaker.acquire()
    assert rig.breaker.state is state
    hung.failure(DOWN)
    assert rig.breaker.state is state


def test_refusals_of_what_lies_inside_return_the_probe() -> None:
    rig = Rig(success_threshold=1)
    rig.half_open()

    def full() -> None:
        raise BulkheadFull("full")

    with pytest.raises(BulkheadFull):
        rig.breaker.call(full)
    assert (rig.breaker.state, rig.breaker.snapshot().probes) == (State.HALF_OPEN, 0)
    rig.breaker.call(fine)
    assert rig.is_in(State.CLOSED)


def test_probes_that_say_nothing_end_only_when_none_is_live() -> None:
    rig = Rig(half_open_permits=2)
    rig.half_open()
    live = rig.breaker.acquire()
    for _ in range(8):
        rig.breaker.acquire().release()
    assert rig.is_in(State.HALF_OPEN)
    live.release()
    assert rig.is_in(State.OPEN)
    assert rig.breaker.retry_after() == 10


# ------------------------------------------------------------------- what counts


def test_poison_interrupts_and_ignored_errors_are_no_outage() -> None:
    rig = Rig(classify=Classify(ignore=(KeyError, Permanent)))
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
    rig = Rig(classify=Classify(result=lambda status: status == 503))
    get = rig.breaker(lambda: 503)
    assert [get() for _ in range(3)] == [503, 503, 503]
    assert rig.is_in(State.OPEN)


def test_a_judge_that_raises_leaks_no_probe() -> None:
    def judge(result: object) -> bool:
        raise ZeroDivisionError(result)

    rig = Rig(classify=Classify(result=judge))
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


# ------------------------------------------------------------------------- waiting


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


def test_a_clock_that_goes_back_makes_nobody_wait_longer_than_once() -> None:
    rig = Rig()
    rig.clock.advance(1000)
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

    def listener(moved: Happening) -> None:
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

    def listener(moved: Happening) -> None:
        assert isinstance(moved, BreakerMoved)
        if moved.now == "forced_open":
            breaker.reset("from the listener")
            assert breaker.snapshot().state is State.CLOSED
        told.append(moved.now)

    breaker = CircuitBreaker("b", listener=listener)
    breaker.force_open("x")
    assert told == ["forced_open", "closed"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_threshold": 0},
        {"failure_threshold": None},
        {"success_threshold": 0},
        {"half_open_permits": 0},
        {"recovery_timeout": 0},
        {"recovery_backoff": 0.5},
        {"recovery_max": 1.0},
        {"recovery_jitter": 1.0},
        {"timeout": -1.0},
        {"probe_lease": 0.0},
        {"slow_call_duration": 0.0},
    ],
    ids=str,
)
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as refused:
        BreakerConfig(**wrong)  # type: ignore[arg-type]
    assert refused.value.hint


@pytest.mark.parametrize(
    "make",
    [
        lambda: FailureRate(0),
        lambda: FailureRate(1.1),
        lambda: FailureRate(minimum_calls=0),
        lambda: FailuresWithin(0, 1),
        lambda: FailuresWithin(1, 0),
    ],
)
def test_windows_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize(("apart", "trips"), [(10 * 10**9, True), (10 * 10**9 + 1, False)])
def test_failures_exactly_as_far_apart_as_the_window_trip(apart: int, *, trips: bool) -> None:
    window = FailuresWithin(2, 10).window()
    assert [window.bad(0), window.bad(apart)] == [False, trips]
