"""What a breaker costs a call: beside a wrapper that only calls, and beside a plain ``raise``.

Figures are calls per second of CPU time, so that what else the machine does matters less.
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING

from forebay.resilience import BreakerConfig, CircuitBreaker, CircuitOpen
from tests.benchmarks.harness import OURS, Row, alternate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

CALLS = 100_000
REFUSALS = 20_000
ROUNDS = 15
UNIT = "calls/s of CPU"
WRAPPER = "bare wrapper"
RAISE = "plain raise"


class _Refused(Exception):
    """What the floor of the refusing path raises."""


def work(value: int) -> int:
    """Answer at once: what is measured is what is around it."""
    return value


async def awaited(value: int) -> int:
    """Answer at once, awaited."""
    return value


def _bare(fn: Callable[[int], int]) -> Callable[[int], int]:
    @functools.wraps(fn)
    def wrapper(*args: int, **kwargs: int) -> int:
        return fn(*args, **kwargs)

    return wrapper


def _bare_async(fn: Callable[[int], Awaitable[int]]) -> Callable[[int], Awaitable[int]]:
    @functools.wraps(fn)
    async def wrapper(*args: int, **kwargs: int) -> int:
        return await fn(*args, **kwargs)

    return wrapper


def _raise(*args: int, **kwargs: int) -> int:
    raise _Refused("open")


def cpu_of(fn: Callable[[int], object], calls: int = CALLS) -> float:
    """CPU seconds of so many calls."""
    began = time.process_time()
    for _ in range(calls):
        fn(1)
    return time.process_time() - began


def cpu_of_awaited(fn: Callable[[int], Awaitable[object]], calls: int = CALLS) -> float:
    """CPU seconds of so many awaited calls."""

    async def many() -> float:
        began = time.process_time()
        for _ in range(calls):
            await fn(1)
        return time.process_time() - began

    return asyncio.run(many())


def refusals_of(
    fn: Callable[[int], object], refusal: type[Exception], calls: int = REFUSALS
) -> float:
    """Calls per CPU second that raise ``refusal``."""
    began = time.process_time()
    for _ in range(calls):
        try:  # noqa: SIM105 - a context manager would be measured too
            fn(1)
        except refusal:
            pass
    return calls / (time.process_time() - began)


def open_breaker() -> CircuitBreaker:
    """Answer one that refuses for as long as anybody measures."""
    breaker = CircuitBreaker("open", BreakerConfig(failure_threshold=1, recovery_timeout=600))
    breaker.acquire().failure(ValueError())
    return breaker


def run() -> Iterator[Row]:
    """Rows of a call, an awaited one and a refusal, each beside the least that it could cost."""
    ours, bare = CircuitBreaker("b")(work), _bare(work)
    rounds = alternate(
        {OURS: lambda: CALLS / cpu_of(ours), WRAPPER: lambda: CALLS / cpu_of(bare)}, ROUNDS
    )
    yield rounds.row("breaker, call", UNIT, None, WRAPPER)
    ours_async, bare_async = CircuitBreaker("b")(awaited), _bare_async(awaited)
    rounds = alternate(
        {
            OURS: lambda: CALLS / cpu_of_awaited(ours_async),
            WRAPPER: lambda: CALLS / cpu_of_awaited(bare_async),
        },
        ROUNDS,
    )
    yield rounds.row("breaker, awaited", UNIT, None, WRAPPER)
    refused = open_breaker()(work)
    rounds = alternate(
        {
            OURS: lambda: refusals_of(refused, CircuitOpen),
            RAISE: lambda: refusals_of(_raise, _Refused),
        },
        ROUNDS,
    )
    yield rounds.row("breaker, refusal", UNIT, None, RAISE)
