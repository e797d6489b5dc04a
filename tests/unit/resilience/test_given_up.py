"""A call given up at any await leaks nothing: no place, no reservation, no flight, no task.

Each coroutine is stepped by hand to its n-th suspension and ended there, by a cancellation or by
being closed, as an event loop and the collector would.
"""

from __future__ import annotations

import asyncio
import gc
import types
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import ManualClock
from forebay.errors import Unreachable
from forebay.resilience import (
    AttemptTimeout,
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    DeadlineExceeded,
    Fallback,
    RateLimit,
    Retry,
    RetryConfig,
    StaleCache,
    State,
    adeadline,
    attempt,
    remaining,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

STEPS = 3


@types.coroutine
def suspend() -> Generator[None, None, None]:
    yield


async def work() -> str:
    for _ in range(STEPS):
        await suspend()
    return "done"


async def fails() -> str:
    await suspend()
    raise Unreachable("away")


class StepClock(ManualClock):
    """Sleeping is one suspension, so that it can be given up like any other await."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await suspend()
        self.advance(seconds)


class Case:
    """Something that waits, and what must be as before once it was given up."""

    def __init__(self, begin: Callable[[], Awaitable[object]], rest: Callable[[], object]) -> None:
        self.begin = begin
        self.rest = rest


def retry() -> Case:
    clock = StepClock()
    tries: list[int] = []

    async def away() -> str:
        tries.append(1)
        return await fails()

    retrying = Retry(RetryConfig(attempts=3, jitter=0), clock=clock)
    # The n-th try and the waits between them: none is begun after the end.
    return Case(lambda: retrying.acall(away), lambda: len(tries) - len(clock.slept) in {0, 1})


def rate_limit() -> Case:
    clock = StepClock()
    limit = RateLimit(1, burst=1, longest_wait=60, clock=clock)
    limit.take()

    async def call() -> str:
        async with limit.guard():
            return await work()

    def rest() -> object:
        return limit._next is not None and (limit._next - clock.monotonic_ns()) // 10**9

    return Case(call, rest)


def bulkhead() -> Case:
    places = Bulkhead(1, waiting=1)
    return Case(lambda: places.acall(work), lambda: (places.in_flight, places.queued))


def cache() -> Case:
    answers: StaleCache[str, str] = StaleCache(clock=ManualClock())
    return Case(lambda: answers.aget("a", work), lambda: (answers._asking, len(answers)))


def fallback() -> Case:
    instead = Fallback[str]("f", lambda _: "other")
    return Case(lambda: instead.acall(work), lambda: instead.serving)


def attempted() -> Case:
    async def call() -> str:
        async with attempt(60):
            return await work()

    return Case(call, lambda: None)


def within_a_deadline() -> Case:
    async def call() -> str:
        async with adeadline(60), adeadline(50):
            return await work()

    return Case(call, remaining)


def probe_with_a_timeout() -> Case:
    clock = ManualClock()
    breaker = CircuitBreaker("b", BreakerConfig(failure_threshold=1, timeout=60), clock=clock)
    breaker.acquire().failure(ValueError())
    clock.advance(60)
    breaker.force_half_open("try")
    return Case(lambda: breaker.acall(work), lambda: (breaker.snapshot().probes, breaker.state))


CASES = (
    retry,
    rate_limit,
    bulkhead,
    cache,
    fallback,
    attempted,
    within_a_deadline,
    probe_with_a_timeout,
)


@pytest.mark.parametrize("how", ["cancel", "close"])
@pytest.mark.parametrize("make", CASES)
async def test_given_up_at_any_await_nothing_is_left(make: Callable[[], Case], how: str) -> None:
    suspensions = 0
    while True:
        case = make()
        before = case.rest()
        pending: Any = case.begin()
        try:
            for _ in range(suspensions):
                pending.send(None)
        except (StopIteration, Unreachable):
            break  # it ended before it could be given up
        if how == "close":
            pending.close()
        else:
            with pytest.raises(asyncio.CancelledError):
                pending.throw(asyncio.CancelledError())
        del pending
        assert case.rest() == before
        assert asyncio.all_tasks() == {asyncio.current_task()}
        suspensions += 1
    assert suspensions > STEPS


@pytest.mark.parametrize("limited", [False, True])
async def test_given_up_while_it_waits_for_a_place(*, limited: bool) -> None:
    """The waits that an event loop has to serve: a place, and a flight of somebody else."""
    places = Bulkhead(1, waiting=1)
    await places.atake()
    pending: Any = places.atake()
    pending.send(None)
    assert places.queued == 1
    if limited:
        places.give()  # it is given the place, and given up before it learns of that
    with pytest.raises(asyncio.CancelledError):
        pending.throw(asyncio.CancelledError())
    if not limited:
        places.give()
    assert (places.in_flight, places.queued) == (0, 0)


async def test_given_up_while_another_asks_disturbs_nobody() -> None:
    answers: StaleCache[str, str] = StaleCache(clock=ManualClock())
    gate = asyncio.Event()

    async def load() -> str:
        await gate.wait()
        return "it"

    asking = asyncio.create_task(answers.aget("a", load))
    await asyncio.sleep(0)
    pending: Any = answers.aget("a", load)
    pending.send(None)
    with pytest.raises(asyncio.CancelledError):
        pending.throw(asyncio.CancelledError())
    gate.set()
    assert (await asking).value == "it"
    assert answers._asking == {}


def test_a_reservation_given_up_is_free_again() -> None:
    clock = StepClock()
    limit = RateLimit(1, burst=1, longest_wait=60, clock=clock)
    limit.take()
    pending: Any = limit.atake()
    pending.send(None)
    pending.close()
    clock.advance(1)
    limit.take()


def test_a_coroutine_that_is_never_awaited_holds_nothing() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(
        "b", BreakerConfig(failure_threshold=1, success_threshold=1), clock=clock
    )
    breaker.acquire().failure(ValueError())
    clock.advance(60)

    async def call() -> None: ...

    makers: list[Callable[[], Coroutine[Any, Any, None]]] = [
        breaker(call),
        lambda: breaker.acall(call),
    ]
    for make in makers:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            pending = make()
            del pending
            gc.collect()
        assert ["never awaited" in str(each.message) for each in warned] == [True]
        assert (breaker.state, breaker.snapshot().probes) == (State.OPEN, 0)
    breaker.acquire().success()
    assert breaker.state is State.CLOSED


def test_a_probe_dropped_with_its_generator_frees_its_place() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("b", BreakerConfig(failure_threshold=1), clock=clock)
    breaker.acquire().failure(ValueError())
    clock.advance(60)
    pending: Any = breaker(work)()
    pending.send(None)
    assert breaker.snapshot().probes == 1
    cycle: list[object] = [pending]
    cycle.append(cycle)
    del pending, cycle
    gc.collect()
    assert (breaker.state, breaker.snapshot().probes) == (State.HALF_OPEN, 0)


@pytest.mark.parametrize(
    ("scope", "error"), [(attempt, AttemptTimeout), (adeadline, DeadlineExceeded)]
)
async def test_a_time_limit_leaves_the_task_as_it_was(
    scope: Callable[[float], Any], error: type[Exception]
) -> None:
    """The limit cancels the task and must take that back, or the next await would be hit."""
    with pytest.raises(error):
        async with scope(0.001):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)
    assert remaining() is None
