"""Deadlines and time-outs: who is told what, and that inner ones never last longer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import Transient
from forebay.resilience import (
    AttemptTimeout,
    BreakerConfig,
    CircuitBreaker,
    DeadlineExceeded,
    adeadline,
    attempt,
    deadline,
    remaining,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    Scope = Callable[[float], AbstractAsyncContextManager[None]]


def test_without_a_deadline_there_is_no_limit() -> None:
    assert remaining() is None


def test_what_is_left_shrinks_and_ends_at_nothing() -> None:
    clock = ManualClock()
    with deadline(5, clock=clock):
        clock.advance(2)
        assert remaining() == 3
        clock.advance(9)
        assert remaining() == 0
        with pytest.raises(DeadlineExceeded), deadline(1, clock=clock):
            pytest.fail("no time was left")
    assert remaining() is None


def test_an_inner_deadline_is_the_earlier_and_the_outer_comes_back() -> None:
    clock = ManualClock()
    with deadline(5, clock=clock):
        with deadline(100, clock=clock):
            assert remaining() == 5
        with deadline(2, clock=clock):
            assert remaining() == 2
        assert remaining() == 5


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_time_is_no_time(seconds: float) -> None:
    with pytest.raises(DeadlineExceeded), deadline(seconds):
        pytest.fail("no time was left")


async def test_a_try_that_takes_too_long_is_told_from_a_call_that_does() -> None:
    with pytest.raises(AttemptTimeout) as tried:
        async with attempt(0.001):
            await asyncio.Event().wait()
    with pytest.raises(DeadlineExceeded) as called:
        async with adeadline(0.001):
            await asyncio.Event().wait()
    for error in (tried.value, called.value):
        assert isinstance(error, Transient)
        assert isinstance(error, TimeoutError)
        assert error.hint


@pytest.mark.parametrize("scope", [attempt, adeadline])
async def test_a_time_out_of_somebody_else_passes_as_it_is(
    scope: Callable[[float], AbstractAsyncContextManager[None]],
) -> None:
    error = TimeoutError("the driver's own")
    with pytest.raises(TimeoutError) as raised:
        async with scope(60):
            raise error
    assert raised.value is error


async def test_the_outer_deadline_ends_an_inner_that_would_last_longer() -> None:
    with pytest.raises(DeadlineExceeded):
        async with adeadline(0.001), adeadline(60):
            await asyncio.Event().wait()
    assert remaining() is None


async def test_cancellation_from_outside_stays_cancellation() -> None:
    async def work() -> None:
        async with adeadline(60), attempt(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_deadline_says_nothing_about_the_dependency() -> None:
    breaker = CircuitBreaker("b", BreakerConfig(failure_threshold=1, timeout=60))

    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded):
        async with adeadline(0.001):
            await breaker.acall(hang)
    assert breaker.snapshot().neutral == 1


async def test_tasks_have_deadlines_of_their_own() -> None:
    clock = ManualClock()

    async def work(seconds: float) -> float | None:
        async with adeadline(seconds, clock=clock):
            await asyncio.sleep(0)
            return remaining()

    assert list(await asyncio.gather(work(3), work(7))) == [3, 7]
