"""Bulkhead and rate limit: queues, cancelled waiters, and what the refused are told."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError
from forebay.resilience import Bulkhead, BulkheadFull, RateLimit, RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_thread_is_refused_at_once_and_a_failed_call_gives_its_place_back() -> None:
    bulkhead = Bulkhead(1, waiting=9, name="db")
    with bulkhead.guard(), pytest.raises(BulkheadFull, match="db is full"):
        bulkhead.call(len, "a")
    with pytest.raises(ZeroDivisionError):
        bulkhead.call(lambda: 1 // 0)
    assert bulkhead.in_flight == 0
    assert bulkhead.call(len, "a") == 1


async def test_waiters_are_served_in_their_order_and_the_queue_is_bounded() -> None:
    bulkhead, served, gates = Bulkhead(1, waiting=2), [], [asyncio.Event() for _ in range(3)]

    async def work(number: int) -> None:
        async with bulkhead.guard():
            served.append(number)
            await gates[number].wait()

    tasks = [asyncio.create_task(work(number)) for number in range(3)]
    await settle()
    assert (bulkhead.in_flight, bulkhead.queued) == (1, 2)
    with pytest.raises(BulkheadFull):
        await bulkhead.atake()
    for number in range(3):
        assert served == list(range(number + 1))
        gates[number].set()
        await settle()
    await asyncio.gather(*tasks)
    assert (bulkhead.in_flight, bulkhead.queued) == (0, 0)


async def test_a_newcomer_does_not_overtake_the_queue() -> None:
    bulkhead = Bulkhead(1, waiting=2)
    await bulkhead.atake()
    waiter = asyncio.create_task(bulkhead.atake())
    await settle()
    bulkhead.give()  # granted to the waiter, which has not run yet
    with pytest.raises(BulkheadFull):
        bulkhead.take()
    await waiter


@pytest.mark.parametrize("granted", [False, True])
async def test_a_cancelled_waiter_gives_its_place_to_the_next(*, granted: bool) -> None:
    bulkhead = Bulkhead(1, waiting=2)
    await bulkhead.atake()
    waiters = [asyncio.create_task(bulkhead.atake()) for _ in range(2)]
    await settle()
    if granted:
        bulkhead.give()
    waiters[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiters[0]
    if not granted:
        bulkhead.give()
    await waiters[1]
    assert (bulkhead.in_flight, bulkhead.queued) == (1, 0)


def test_a_waiter_whose_loop_is_closed_is_passed_over() -> None:
    bulkhead = Bulkhead(1, waiting=1)
    bulkhead.take()

    async def wait() -> None:
        pending: Any = bulkhead.atake()
        pending.send(None)
        abandoned.append(pending)

    abandoned: list[object] = []
    asyncio.run(wait())
    assert bulkhead.queued == 1
    bulkhead.give()
    assert (bulkhead.in_flight, bulkhead.queued) == (0, 0)


def test_a_place_is_handed_from_a_thread_to_an_event_loop() -> None:
    bulkhead, waiting = Bulkhead(1, waiting=1), threading.Event()
    bulkhead.take()

    async def wait() -> None:
        task = asyncio.create_task(bulkhead.atake())
        await settle()
        waiting.set()
        await task

    thread = threading.Thread(target=asyncio.run, args=(wait(),))
    thread.start()
    assert waiting.wait(30)
    bulkhead.give()
    thread.join(30)
    assert not thread.is_alive()
    assert bulkhead.in_flight == 1


def test_the_collector_may_give_a_place_back_inside_the_lock() -> None:
    bulkhead = Bulkhead(1)

    @bulkhead
    def items() -> Any:  # noqa: ANN401
        yield 1

    begun = items()
    next(begun)
    with bulkhead._lock:
        del begun
    assert bulkhead.in_flight == 0


def test_a_rate_is_used_up_and_comes_back() -> None:
    clock = ManualClock()
    limit = RateLimit(2, burst=3, name="api", clock=clock)
    for _ in range(3):
        limit.take()
    with pytest.raises(RateLimited, match="api is used up") as refused:
        limit.take()
    assert refused.value.retry_after == 0.5
    clock.advance(0.499)
    with pytest.raises(RateLimited):
        limit.take()
    clock.advance(0.001)
    limit.take()
    clock.advance(3600)
    for _ in range(3):
        limit.take()
    with pytest.raises(RateLimited):
        limit.take()


async def test_tasks_wait_in_turn_and_no_longer_than_they_may() -> None:
    clock = ManualClock()
    limit = RateLimit(1, longest_wait=2, clock=clock)
    tasks = [asyncio.create_task(limit.atake()) for _ in range(3)]
    await settle()
    with pytest.raises(RateLimited) as refused:
        await limit.atake()
    assert refused.value.retry_after == 3
    assert [task.done() for task in tasks] == [True, False, False]
    for done in (2, 3):
        clock.advance(1)
        await settle()
        assert sum(task.done() for task in tasks) == done


async def test_the_last_reservation_comes_back_when_its_task_is_cancelled() -> None:
    clock = ManualClock()
    limit = RateLimit(1, longest_wait=9, clock=clock)
    tasks = [asyncio.create_task(limit.atake()) for _ in range(3)]
    await settle()
    tasks[2].cancel()
    await settle()
    other = asyncio.create_task(limit.atake())
    await settle()
    assert clock.slept == [1, 2, 2]
    tasks[1].cancel()  # others count on theirs, so this one is lost
    await settle()
    last = asyncio.create_task(limit.atake())
    await settle()
    assert clock.slept[-1] == 3
    other.cancel()
    last.cancel()
    await asyncio.gather(*tasks, other, last, return_exceptions=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bulkhead(0),
        lambda: Bulkhead(1, waiting=-1),
        lambda: RateLimit(0),
        lambda: RateLimit(1, burst=0),
        lambda: RateLimit(1, longest_wait=-1),
    ],
)
def test_limits_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_a_rate_that_does_not_divide_a_second_is_rounded_to_the_slower() -> None:
    limit = RateLimit(3, clock=ManualClock())
    limit.take()
    with pytest.raises(RateLimited) as refused:
        limit.take()
    assert refused.value.retry_after == 0.333333334
