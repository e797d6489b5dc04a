"""What a breaker costs a call: beside a wrapper that only calls, and beside a plain ``raise``.

Figures are calls per second of CPU time, so that what else the machine does matters less.
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING

from forebay.resilience import BreakerConfig, CircuitBreaker, CircuitOpen
from tests.benchmarks.harness import OURS, Goal, Row, alternate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

CALLS = 100_000
REFUSALS = 20_000
ROUNDS = 15
WRAPPER = "bare wrapper"
RAISE = "plain raise"


class _Refused(Exception):
    """What the floor of the refusing path raises."""


def _work(value: int) -> int:
    return value


async def _awaited(value: int) -> int:
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


def _rate(fn: Callable[[int], int]) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        fn(1)
    return CALLS / (time.process_time() - began)


def _async_rate(fn: Callable[[int], Awaitable[int]]) -> float:
    async def calls() -> None:
        for _ in range(CALLS):
            await fn(1)

    began = time.process_time()
    asyncio.run(calls())
    return CALLS / (time.process_time() - began)


def _refusal_rate(fn: Callable[[int], int]) -> float:
    began = time.process_time()
    for _ in range(REFUSALS):
        try:  # noqa: SIM105 - a context manager would be measured too
            fn(1)
        except (_Refused, CircuitOpen):
            pass
    return REFUSALS / (time.process_time() - began)


def _open_breaker() -> CircuitBreaker:
    breaker = CircuitBreaker("open", BreakerConfig(failure_threshold=1, recovery_timeout=600))
    breaker.acquire().failure(ValueError())
    return breaker


def run() -> Iterator[Row]:
    """Rows of G1 (a plain call), G3's own half (an awaited one) and G4's floor (a refusal)."""
    unit = "calls/s of CPU"
    ours, bare = CircuitBreaker("b")(_work), _bare(_work)
    rounds = alternate({OURS: lambda: _rate(ours), WRAPPER: lambda: _rate(bare)}, ROUNDS)
    yield rounds.row("breaker, call", unit, Goal(ratio=1 / 1.35), WRAPPER)
    awaited, bare_async = CircuitBreaker("b")(_awaited), _bare_async(_awaited)
    rounds = alternate(
        {OURS: lambda: _async_rate(awaited), WRAPPER: lambda: _async_rate(bare_async)}, ROUNDS
    )
    yield rounds.row("breaker, awaited", unit, Goal(ratio=1 / 1.35), WRAPPER)
    refused = _open_breaker()(_work)
    rounds = alternate(
        {OURS: lambda: _refusal_rate(refused), RAISE: lambda: _refusal_rate(_raise)}, ROUNDS
    )
    yield rounds.row("breaker, refusal", unit, Goal(ratio=1 / 3.5), RAISE)
