"""The clocks: a manual one moves only when told, and a step of the wall is no duration."""

from __future__ import annotations

import asyncio

import pytest

from forebay.clock import Clock, ManualClock, SystemClock

SECOND = 1_000_000_000


async def settle() -> None:
    """Let every ready task run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_sleepers_wake_in_order_of_their_time_and_not_before_it() -> None:
    clock, woken = ManualClock(), []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    tasks = [asyncio.create_task(sleeper(name, seconds)) for name, seconds in
             (("late", 3.0), ("soon", 1.0), ("also soon", 1.0), ("hour", 3600.0))]  # fmt: skip
    await settle()
    assert woken == []
    clock.advance(0.999_999_999)
    await settle()
    assert woken == []
    clock.advance(0.000_000_001)
    await settle()
    assert woken == ["soon", "also soon"]
    clock.advance(4000)
    await settle()
    assert woken == ["soon", "also soon", "late", "hour"]
    await asyncio.gather(*tasks)
    assert clock.slept == [3.0, 1.0, 1.0, 3600.0]


async def test_a_sleep_is_counted_from_when_it_began() -> None:
    clock = ManualClock()
    clock.advance(100)
    task = asyncio.create_task(clock.sleep(5))
    await settle()
    clock.advance(4)
    await settle()
    assert not task.done()
    clock.advance(1)
    await settle()
    assert task.done()


async def test_a_cancelled_sleeper_does_not_hold_the_others() -> None:
    clock = ManualClock()
    gone, stays = asyncio.create_task(clock.sleep(1)), asyncio.create_task(clock.sleep(1))
    await settle()
    gone.cancel()
    await settle()
    clock.advance(1)
    await stays
    with pytest.raises(asyncio.CancelledError):
        await gone


@pytest.mark.parametrize("seconds", [0, -1.5])
async def test_a_sleep_of_nothing_lets_others_run_and_ends(seconds: float) -> None:
    clock, ran = ManualClock(), []
    task = asyncio.create_task(clock.sleep(0))
    task.add_done_callback(lambda _: ran.append(True))
    await clock.sleep(seconds)
    await settle()
    assert ran == [True]
    assert clock.monotonic_ns() == 0


def test_both_clocks_advance_and_a_step_moves_the_wall_alone() -> None:
    clock = ManualClock(wall_ns=50 * SECOND)
    clock.advance(1.5)
    assert (clock.monotonic_ns(), clock.wall_ns()) == (1_500_000_000, 51_500_000_000)
    clock.step_wall(-3600)
    assert (clock.monotonic_ns(), clock.wall_ns()) == (1_500_000_000, -3_548_500_000_000)


async def test_a_step_of_the_wall_wakes_nobody() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1))
    await settle()
    clock.step_wall(86_400)
    await settle()
    assert not task.done()
    clock.advance(1)
    await task


async def test_the_machines_clocks_answer_nanoseconds() -> None:
    clock: Clock = SystemClock()
    before, wall = clock.monotonic_ns(), clock.wall_ns()
    await clock.sleep(0)
    assert clock.monotonic_ns() >= before
    assert isinstance(wall, int)
    assert wall > 1_600_000_000 * SECOND
