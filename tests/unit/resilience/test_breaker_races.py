"""Threads that meet at the worst moment: switched every microsecond, begun together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.resilience import (
    AttemptTimeout,
    BreakerConfig,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Permit,
    State,
)
from forebay.telemetry import BreakerMoved, TelemetryEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 8
DOWN = ValueError("down")
ERAS = 10
ENDS: list[Callable[[Permit], None]] = [Permit.success, Permit.release]


def fail(permit: Permit) -> None:
    permit.failure(DOWN)


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*works: Callable[[], object]) -> None:
    """Run each in a thread of its own, all from the same moment; raise what they raise."""
    barrier, errors = threading.Barrier(len(works)), []

    def run(work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def make(clock: ManualClock, told: list[BreakerMoved], **config: float) -> CircuitBreaker:
    settings = BreakerConfig(failure_threshold=1, recovery_jitter=0, **config)  # type: ignore[arg-type]

    def listener(moved: TelemetryEvent) -> None:
        assert isinstance(moved, BreakerMoved)
        told.append(moved)

    return CircuitBreaker("b", settings, clock=clock, listener=listener)


@pytest.mark.parametrize("permits", [1, 3])
def test_no_more_probes_than_permits_and_one_transition(permits: int) -> None:
    for _ in range(60):
        clock, told, kept = ManualClock(), list[BreakerMoved](), list[object]()
        breaker = make(clock, told, half_open_permits=permits)
        breaker.acquire().failure(DOWN)
        clock.advance(30)
        told.clear()

        def ask(breaker: CircuitBreaker = breaker, kept: list[object] = kept) -> None:
            with contextlib.suppress(CircuitOpen):
                kept.append(breaker.acquire())

        together(*[ask] * 20)
        assert len(kept) == permits
        assert [moved.now for moved in told] == ["half_open"]
        assert breaker.snapshot().not_permitted == 20 - permits


def test_threads_are_not_serialised() -> None:
    breaker, inside = CircuitBreaker("b"), threading.Barrier(THREADS, timeout=30)
    together(*[breaker(inside.wait)] * THREADS)
    assert breaker.snapshot().ok == THREADS


def test_no_failure_is_lost() -> None:
    each = 300
    breaker = CircuitBreaker("b", BreakerConfig(failure_threshold=THREADS * each))

    @breaker
    def fail() -> None:
        raise DOWN

    def failing() -> None:
        for _ in range(each):
            with pytest.raises(ValueError, match="down"):
                fail()

    last_but_one = breaker.config.failure_threshold
    assert last_but_one is not None
    together(*[failing] * (THREADS - 1))
    assert breaker.snapshot().streak == each * (THREADS - 1)
    failing()
    assert breaker.state is State.OPEN


def test_a_success_heals_or_is_before_the_failure_and_every_call_is_counted() -> None:
    each = 400
    breaker = CircuitBreaker("b", BreakerConfig(failure_threshold=10**9))

    @breaker
    def call(error: Exception | None) -> None:
        if error:
            raise error

    def failing() -> None:
        for _ in range(each):
            with pytest.raises(ValueError, match="down"):
                call(DOWN)

    def fine() -> None:
        for _ in range(each):
            call(None)

    together(*[failing, fine] * (THREADS // 2))
    seen = breaker.snapshot()
    assert (seen.ok, seen.failed) == (each * THREADS // 2, each * THREADS // 2)
    call(None)
    assert breaker.snapshot().streak == 0


def test_an_order_and_a_verdict_at_once_leave_one_history() -> None:
    for _ in range(150):
        clock, told = ManualClock(), list[BreakerMoved]()
        breaker = make(clock, told, success_threshold=1)
        breaker.acquire().failure(DOWN)
        clock.advance(30)
        probe = breaker.acquire()
        together(probe.success, functools.partial(breaker.force_open, "night"))
        assert breaker.state is State.FORCED_OPEN
        moves = [(moved.was, moved.now) for moved in told]
        assert all(moves[i][1] == moves[i + 1][0] for i in range(len(moves) - 1))
        assert moves[-1][1] == "forced_open"
        assert list(breaker.snapshot().history) == told


def test_orders_of_many_threads_are_told_in_one_order() -> None:
    told: list[BreakerMoved] = []
    breaker = make(ManualClock(), told)

    def order() -> None:
        for _ in range(50):
            breaker.force_open("x")
            breaker.force_half_open("x")
            breaker.reconfigure(BreakerConfig())
            breaker.reset("x")

    together(*[order] * 4)
    moves = [(moved.was, moved.now) for moved in told]
    assert len(moves) >= 3
    assert moves[0][0] == moves[-1][1] == "closed"
    assert all(moves[i][1] == moves[i + 1][0] for i in range(len(moves) - 1))


def test_two_event_loops_in_two_threads_share_one() -> None:
    clock, told = ManualClock(), list[BreakerMoved]()
    breaker = make(clock, told, success_threshold=1)
    breaker.acquire().failure(DOWN)
    clock.advance(30)
    hits: list[int] = []

    @breaker
    async def call() -> None:
        hits.append(1)
        for _ in range(200):
            await asyncio.sleep(0)

    async def callers() -> list[BaseException | None]:
        return await asyncio.gather(*(call() for _ in range(20)), return_exceptions=True)

    results: list[BaseException | None] = []
    together(*[lambda: results.extend(asyncio.run(callers()))] * 2)
    refused = sum(isinstance(result, CircuitOpen) for result in results)
    assert refused + len(hits) == 40
    assert 19 <= refused <= 39
    assert breaker.state is State.CLOSED


def test_a_bulkhead_of_threads_and_loops_never_holds_more_than_its_limit() -> None:
    bulkhead, most, now, lock = Bulkhead(3, waiting=100), 0, 0, threading.Lock()

    def enter() -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)

    def leave() -> None:
        nonlocal now
        with lock:
            now -= 1

    async def call() -> None:
        async with bulkhead.guard():
            enter()
            await asyncio.sleep(0)
            leave()

    async def calls() -> None:
        await asyncio.gather(*(call() for _ in range(40)))

    def thread() -> None:
        for _ in range(200):
            try:
                with bulkhead.guard():
                    enter()
                    leave()
            except BulkheadFull:
                pass

    together(lambda: asyncio.run(calls()), lambda: asyncio.run(calls()), thread, thread)
    assert 1 <= most <= 3
    assert (bulkhead.in_flight, bulkhead.queued, now) == (0, 0, 0)


# ------------------------------------------------ late verdicts, and orders beside probes


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
