"""Time limits: of one try (:func:`attempt`) and of a call with all its tries (:func:`deadline`).

Both are enforced on an event loop. In a thread nothing can be stopped: there a deadline only
says, by :func:`remaining`, how long a driver's own time-out may be, and a retry does not begin to
wait beyond it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from forebay.resilience.refusals import AttemptTimeout, DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from forebay.clock import Clock

_NS = 1_000_000_000
_SYSTEM = SystemClock()
_limit: ContextVar[tuple[Clock, int] | None] = ContextVar("deadline", default=None)


def remaining() -> float | None:
    """Seconds left of the innermost deadline, at least 0; None without one."""
    limit = _limit.get()
    if limit is None:
        return None
    clock, ends_ns = limit
    return max(0, ends_ns - clock.monotonic_ns()) / _NS


@contextmanager
def deadline(seconds: float, *, clock: Clock = _SYSTEM) -> Iterator[None]:
    """Everything inside has to be done in ``seconds``; within another deadline, the earlier.

    Nothing is interrupted. Raises DeadlineExceeded on entry if no time is left.
    """
    _begin(seconds)
    outer = remaining()
    left = seconds if outer is None else min(outer, seconds)
    token = _limit.set((clock, clock.monotonic_ns() + round(left * _NS)))
    try:
        yield
    finally:
        _limit.reset(token)


@asynccontextmanager
async def adeadline(seconds: float, *, clock: Clock = _SYSTEM) -> AsyncIterator[None]:
    """:func:`deadline` on an event loop: what is inside is cancelled when the time is over.

    Raises DeadlineExceeded then. The cancelled call says nothing about its dependency.
    """
    scope: asyncio.Timeout | None = None
    try:
        with deadline(seconds, clock=clock):
            async with asyncio.timeout(remaining()) as scope:
                yield
    except TimeoutError as error:
        if scope is not None and scope.expired():
            raise DeadlineExceeded(
                f"It took more than {seconds:g} s.", hint="Allow more time or ask for less."
            ) from error
        raise


@asynccontextmanager
async def attempt(seconds: float) -> AsyncIterator[None]:
    """Cancel what is inside after ``seconds`` and raise AttemptTimeout."""
    scope: asyncio.Timeout | None = None
    try:
        async with asyncio.timeout(seconds) as scope:
            yield
    except TimeoutError as error:
        if scope is not None and scope.expired():
            raise AttemptTimeout(
                f"A try took more than {seconds:g} s.", hint="It may be tried again."
            ) from error
        raise


def _begin(seconds: float) -> None:
    if seconds <= 0 or remaining() == 0:
        raise DeadlineExceeded("No time is left for the call.", hint="Allow more time.")
