"""What a decorated function does beside what it was."""

from __future__ import annotations

import contextlib

import pytest

from forebay.clock import ManualClock
from forebay.resilience import (
    BreakerConfig,
    CircuitBreaker,
    CircuitOpen,
    Classifier,
    FailureRate,
    Refused,
    State,
)

DOWN = ConnectionError("down")


def test_its_successes_count_in_a_failure_rate() -> None:
    config = BreakerConfig(failure_threshold=None, window=FailureRate(0.5, 60, 10))
    breaker = CircuitBreaker("b", config, clock=ManualClock())

    @breaker
    def call(*, fails: bool) -> None:
        if fails:
            raise DOWN

    for number in range(10):
        assert breaker.state is State.CLOSED
        with contextlib.suppress(ConnectionError):
            call(fails=number >= 5)
    assert breaker.state is State.OPEN


def test_a_failure_rate_knows_many_calls_of_one_moment() -> None:
    window = FailureRate(0.5, 60, 10).window()
    for _ in range(30):
        window.ok(0)
    assert not any(window.bad(0) for _ in range(29))
    assert window.bad(0)


@pytest.mark.parametrize("awaited", [False, True])
async def test_it_is_called_with_what_it_was_given(*, awaited: bool) -> None:
    def shown(*args: object, **kwargs: object) -> str:
        return f"{args} {kwargs}"

    async def ashown(*args: object, **kwargs: object) -> str:
        return shown(*args, **kwargs)

    breaker = CircuitBreaker("b")
    expected = [shown(), shown(1), shown(1, 2), shown(a=3), shown(1, a=3)]
    if awaited:
        call = breaker(ashown)
        assert [await call(), await call(1), await call(1, 2)] == expected[:3]
        assert [await call(a=3), await call(1, a=3)] == expected[3:]
    else:
        plain = breaker(shown)
        assert [plain(), plain(1), plain(1, 2), plain(a=3), plain(1, a=3)] == expected
    assert breaker.snapshot().ok == 5


def test_a_slow_or_judged_call_may_trip() -> None:
    clock = ManualClock()
    for config in (
        BreakerConfig(failure_threshold=1, slow_call_duration=1),
        BreakerConfig(failure_threshold=1, classify=Classifier(result=lambda _: True)),
    ):
        breaker = CircuitBreaker("b", config, clock=clock)
        breaker(lambda: clock.advance(1))()
        assert breaker.state is State.OPEN


def test_a_refusal_says_all_it_knows_and_keeps_no_error() -> None:
    clock = ManualClock()
    config = BreakerConfig(failure_threshold=1, recovery_timeout=8, recovery_jitter=0)
    breaker = CircuitBreaker("store", config, clock=clock)
    breaker.acquire().failure(DOWN)
    clock.advance(3)
    call = breaker(lambda: 1)
    with pytest.raises(CircuitOpen) as raised:
        call()
    refused = raised.value
    assert (refused.breaker, refused.retry_after, refused.cause) == ("store", 5, "ConnectionError")
    assert (refused.message, refused.hint) == ("The breaker is open.", "")
    assert isinstance(refused, Refused)
    assert refused.__context__ is None
    assert "another 5.0 s" in str(refused)
    assert Refused("x", hint="y", retry_after=2).retry_after == 2


async def test_the_success_that_heals_gives_its_result() -> None:
    breaker = CircuitBreaker("b", clock=ManualClock())

    async def answer() -> int:
        return 2

    plain, awaited = breaker(lambda: 1), breaker(answer)
    for expected in (1, 2):
        breaker.acquire().failure(DOWN)
        assert (plain() if expected == 1 else await awaited()) == expected
        assert breaker.snapshot().streak == 0
