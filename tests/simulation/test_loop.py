"""Virtual time: it jumps, it is in order, and threads are calls."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.loop import START_WALL_NS, Stuck, VirtualClock, VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop(random.Random(1))
    yield made
    made.close()


def run(loop: VirtualLoop, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
    return loop.run_until_complete(work)


def test_an_hour_takes_no_time_and_sleepers_wake_in_order(loop: VirtualLoop) -> None:
    clock = VirtualClock(loop)
    woken: list[tuple[str, int]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic_ns()))

    async def work() -> None:
        await asyncio.gather(sleeper("late", 3600.0), sleeper("soon", 0.25), sleeper("now", 0.0))

    run(loop, work())
    assert woken == [("now", 0), ("soon", 250_000_000), ("late", 3_600_000_000_000)]


def test_the_wall_clock_alone_can_be_stepped(loop: VirtualLoop) -> None:
    clock = VirtualClock(loop)
    run(loop, clock.sleep(2.0))
    clock.step_wall(-10.0)
    assert clock.monotonic_ns() == 2_000_000_000
    assert clock.wall_ns() == START_WALL_NS - 8_000_000_000


def test_waiting_for_what_never_comes_is_said(loop: VirtualLoop) -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        run(loop, work())
    for task in asyncio.all_tasks(loop):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            run(loop, asyncio.wait_for(task, 1.0))


def test_a_call_in_a_thread_ends_later_and_hands_over_its_result_or_error(
    loop: VirtualLoop,
) -> None:
    def fails() -> None:
        raise LookupError("told")

    async def work() -> None:
        assert await asyncio.to_thread(lambda: 7) == 7
        with pytest.raises(LookupError, match="told"):
            await asyncio.to_thread(fails)

    run(loop, work())
    assert 0.0 < loop.time() < 1.1


def test_jobs_of_one_executor_follow_one_another_and_its_shutdown_waits(loop: VirtualLoop) -> None:
    done: list[str] = []

    async def work() -> None:
        with ThreadPoolExecutor(1) as one:
            jobs = [loop.run_in_executor(one, done.append, str(number)) for number in range(20)]
            await loop.run_in_executor(None, one.shutdown)
            assert all(job.done() for job in jobs)

    run(loop, work())
    assert done == [str(number) for number in range(20)]


def test_cancelling_does_not_stop_what_a_thread_has_begun(loop: VirtualLoop) -> None:
    done: list[int] = []

    async def work() -> None:
        job = loop.run_in_executor(None, done.append, 1)
        job.cancel()
        await asyncio.sleep(1.0)

    run(loop, work())
    assert done == [1]


def test_sets_of_tasks_have_one_order(loop: VirtualLoop) -> None:
    async def work() -> list[str]:
        tasks = {asyncio.create_task(asyncio.sleep(0), name=str(number)) for number in range(50)}
        await asyncio.gather(*tasks)
        return [task.get_name() for task in tasks]

    again = VirtualLoop(random.Random(1))
    assert run(loop, work()) == run(again, work())
    again.close()
