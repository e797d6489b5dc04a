"""Retries: which, how often, how long between, and everything that forbids one."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError, Permanent, Unreachable
from forebay.resilience import (
    BreakerConfig,
    CircuitBreaker,
    CircuitOpen,
    RateLimited,
    Retry,
    RetryBudget,
    RetryConfig,
    deadline,
)
from forebay.telemetry import CallRetried, RetriesEnded, TelemetryEvent

if TYPE_CHECKING:
    from collections.abc import Callable


class Rig:
    """A call that fails with each of ``errors`` in turn and then succeeds."""

    def __init__(self, *errors: BaseException, **config: object) -> None:
        self.errors = list(errors)
        self.waits: list[float] = []
        self.told: list[TelemetryEvent] = []
        self.tries = 0
        self.clock = ManualClock()
        settings = {"jitter": 0.0} | config
        self.config = RetryConfig(**settings)  # type: ignore[arg-type]

    def retry(self, budget: RetryBudget | None = None) -> Retry:
        return Retry(
            self.config,
            name="get",
            budget=budget,
            rng=random.Random(1),
            clock=self.clock,
            pause=self.pause,
            listener=self.told.append,
        )

    def pause(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.clock.advance(seconds)
        return False

    def call(self) -> int:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.tries


AWAY = Unreachable("away")


def test_it_tries_until_it_succeeds_with_growing_waits() -> None:
    rig = Rig(AWAY, AWAY, AWAY, attempts=5)
    assert rig.retry().call(rig.call) == 4
    assert rig.waits == [1, 2, 4]
    assert rig.told == [
        CallRetried("get", wait, attempt, "Unreachable")
        for attempt, wait in enumerate([1, 2, 4], start=1)
    ]


def test_it_raises_the_last_error_itself_after_the_last_try() -> None:
    errors = [Unreachable(str(i)) for i in range(5)]
    rig = Rig(*errors, attempts=3)
    with pytest.raises(Unreachable) as raised:
        rig.retry()(rig.call)()
    assert raised.value is errors[2]
    assert (rig.tries, rig.waits) == (3, [1, 2])
    assert rig.told[-1] == RetriesEnded("get", 3, "Unreachable; that was the last try")


@pytest.mark.parametrize("error", [Permanent("no"), ValueError(), KeyboardInterrupt()])
def test_what_is_not_worth_another_try_is_raised_at_once(error: BaseException) -> None:
    rig = Rig(error)
    with pytest.raises(type(error)) as raised:
        rig.retry().call(rig.call)
    assert raised.value is error
    assert (rig.tries, rig.told) == (1, [])


def test_endless_tries_spread_over_the_whole_wait() -> None:
    rig = Rig(*[AWAY] * 200, attempts=None, base=0.5, cap=30.0, full_jitter=True)
    assert rig.retry().call(rig.call) == 201
    late = rig.waits[10:]
    assert max(rig.waits) <= 30
    assert min(late) < 3
    assert 12 < sum(late) / len(late) < 18


class Busy(Unreachable):
    """A server that says when to come back."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


def test_it_waits_as_long_as_it_is_asked_to_and_no_shorter_than_its_own_wait() -> None:
    rig = Rig(Busy(7), Busy(0.1), RateLimited("x", retry_after=5.0), attempts=5)
    rig.retry().call(rig.call)
    assert rig.waits == [7, 2, 5]


def test_asked_to_wait_too_long_a_bounded_call_gives_up_and_an_endless_one_does_not() -> None:
    bounded = Rig(Busy(301), attempts=5)
    with pytest.raises(Busy):
        bounded.retry().call(bounded.call)
    assert bounded.waits == []
    assert bounded.told == [RetriesEnded("get", 1, "Busy; asked to wait 301 s")]
    endless = Rig(Busy(9999), attempts=None)
    endless.retry().call(endless.call)
    assert endless.waits == [300]


def test_it_waits_for_an_open_breaker() -> None:
    rig = Rig(AWAY, attempts=4)
    config = BreakerConfig(failure_threshold=1, recovery_timeout=20, recovery_jitter=0)
    breaker = CircuitBreaker("b", config, clock=rig.clock)
    assert rig.retry().call(lambda: breaker.call(rig.call)) == 2
    assert rig.waits == [1, 19]


def test_no_wait_is_begun_that_outlasts_the_deadline() -> None:
    rig = Rig(AWAY, AWAY, AWAY, attempts=9)
    with deadline(4.5, clock=rig.clock), pytest.raises(Unreachable):
        rig.retry().call(rig.call)
    assert rig.waits == [1, 2]
    assert rig.told[-1] == RetriesEnded("get", 3, "Unreachable; the deadline would pass")


def test_a_budget_ends_retries_that_multiply_an_outage() -> None:
    budget, tries = RetryBudget(0.1, floor=2), 0
    for _ in range(100):
        rig = Rig(*[AWAY] * 9, attempts=5)
        with pytest.raises(Unreachable):
            rig.retry(budget).call(rig.call)
        tries += rig.tries
    assert 100 < tries <= 100 + 2 + 10


def test_a_stop_ends_the_tries() -> None:
    rig = Rig(AWAY, AWAY)
    retry = Retry(rig.config, pause=lambda _: True)
    with pytest.raises(Unreachable):
        retry.call(rig.call)
    assert rig.tries == 1


async def drive(clock: ManualClock, task: asyncio.Task[int]) -> None:
    while not task.done():
        await asyncio.sleep(0)
        clock.advance(1)


async def test_on_an_event_loop_it_waits_by_the_clock() -> None:
    rig = Rig(AWAY, AWAY, AWAY, attempts=5)

    @rig.retry()
    async def call() -> int:
        return rig.call()

    task = asyncio.create_task(call())
    await drive(rig.clock, task)
    assert await task == 4
    assert rig.clock.slept == [1, 2, 4]


async def test_cancellation_is_never_retried_during_a_try_or_a_wait() -> None:
    rig = Rig(AWAY, on=BaseException, attempts=None)

    async def hang() -> None:
        rig.tries += 1
        await asyncio.Event().wait()

    async def away() -> int:
        return rig.call()

    for fn in (hang, away):
        rig.tries = 0
        task = asyncio.create_task(rig.retry().acall(fn))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rig.tries == 1


async def test_callers_at_once_do_not_share_their_tries() -> None:
    retry = Retry(RetryConfig(attempts=3, jitter=0), clock=(clock := ManualClock()))
    rigs = [Rig(AWAY, AWAY) for _ in range(5)]

    async def call(rig: Rig) -> int:
        return rig.call()

    tasks = [asyncio.create_task(retry.acall(call, rig)) for rig in rigs]
    for task in tasks:
        await drive(clock, task)
    assert [task.result() for task in tasks] == [3] * 5


def test_a_generator_is_refused() -> None:
    with pytest.raises(TypeError, match="gives a generator"):

        @Retry()
        def items() -> object:
            yield 1


def test_the_breakers_refusal_without_an_end_is_tried_by_the_own_waits() -> None:
    error = CircuitOpen("b", None, "night")
    rig = Rig(error, attempts=2)
    rig.retry().call(rig.call)
    assert rig.waits == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryConfig(attempts=0),
        lambda: RetryConfig(base=0),
        lambda: RetryConfig(base=31),
        lambda: RetryConfig(factor=0.5),
        lambda: RetryConfig(jitter=1),
        lambda: RetryConfig(full_jitter=True, factor=3),
        lambda: RetryBudget(1.5),
        lambda: RetryBudget(floor=-1),
        lambda: RetryBudget(floor=5, saved=4),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()
