"""Time limits: of one try (:func:`attempt`) and of a call with all its tries (:func:`deadline`).

Both are enforced on an event loop. In a thread nothing can be stopped: there a deadline only
says, by :func:`remaining`, how long a driver's own time-out may be, and a retry does not begin to
wait beyond it.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from forebay.clock import SystemClock
from forebay.resilience.errors import AttemptTimeout, DeadlineExceeded
from forebay.resilience.numbers import LONGEST_S, require_number
from forebay.resilience.strategy import Shape, require_value, shape_of
from forebay.resilience.windows import NS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextvars import Token

    from forebay.clock import Clock

P = ParamSpec("P")
R = TypeVar("R")
_SYSTEM = SystemClock()
_limit: ContextVar[tuple[Clock, int] | None] = ContextVar("deadline", default=None)


def remaining() -> float | None:
    """Seconds left of the innermost deadline, at least 0; None without one."""
    limit = _limit.get()
    if limit is None:
        return None
    clock, ends_ns = limit
    return max(0, ends_ns - clock.monotonic_ns()) / NS


class deadline(AbstractContextManager[None]):  # noqa: N801 - reads as deadline(…)
    """Everything inside has to be done in ``seconds``; within another deadline, the earlier.

    Nothing is interrupted. Raises DeadlineExceeded on entry if no time is left. It also decorates a
    ``def``; what is awaited later needs :func:`adeadline`, so that is a TypeError.
    """

    def __init__(self, seconds: float, *, clock: Clock = _SYSTEM) -> None:
        self._seconds = seconds
        self._clock = clock
        self._token: Token[tuple[Clock, int] | None] | None = None

    def __enter__(self) -> None:
        require_number("seconds", self._seconds, least=-LONGEST_S)
        outer = remaining()
        if self._seconds <= 0 or outer == 0:
            raise DeadlineExceeded("No time is left for the call.", hint="Allow more time.")
        left = self._seconds if outer is None else min(outer, self._seconds)
        self._token = _limit.set((self._clock, self._clock.monotonic_ns() + round(left * NS)))

    def __exit__(self, *_: object) -> None:
        token, self._token = self._token, None
        if token is not None:
            _limit.reset(token)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a ``def``: each call has the time."""
        if shape_of(fn) is not Shape.PLAIN:
            raise TypeError(
                "A deadline decorates a def. On an event loop, adeadline(…) is a block."
            )

        @functools.wraps(fn)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            with deadline(self._seconds, clock=self._clock):
                result = fn(*args, **kwargs)
            require_value(result)
            return result

        return limited


@asynccontextmanager
async def adeadline(seconds: float, *, clock: Clock = _SYSTEM) -> AsyncIterator[None]:
    """:func:`deadline` on an event loop: what is inside is cancelled when the time is over.

    Raises DeadlineExceeded then. The cancelled call says nothing about its dependency.
    """
    with deadline(seconds, clock=clock):
        message = f"It took more than {seconds:g} s."
        late = DeadlineExceeded(message, hint="Allow more time or ask for less.")
        async with _cancelling(remaining(), late):
            yield


@asynccontextmanager
async def attempt(seconds: float) -> AsyncIterator[None]:
    """Cancel what is inside after ``seconds`` and raise AttemptTimeout."""
    require_number("seconds", seconds, least=-LONGEST_S)
    late = AttemptTimeout(f"A try took more than {seconds:g} s.", hint="It may be tried again.")
    async with _cancelling(seconds, late):
        yield


@asynccontextmanager
async def _cancelling(seconds: float | None, late: Exception) -> AsyncIterator[None]:
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if scope.expired():
            raise late from error
        raise
