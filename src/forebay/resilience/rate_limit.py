"""A limit on calls in a time: the generic cell rate algorithm, one integer of state."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from forebay.errors import ConfigError
from forebay.resilience.errors import RateLimited
from forebay.resilience.numbers import LONGEST_S, require_count, require_number
from forebay.resilience.strategy import Guarded, Strategy

if TYPE_CHECKING:
    from forebay.clock import Clock

_NS = 1_000_000_000
_SLOWEST = 1 / LONGEST_S


class RateLimit(Strategy):
    """``per_second`` calls on average, ``burst`` at once after a rest.

    In any time T it grants at most ``burst + per_second * T`` calls. A thread gets RateLimited
    when none is left. A task waits up to ``longest_wait`` seconds, first come first served; its
    grant is reserved, so what holds for any time T is when calls were granted, and a late event
    loop may make two of them together. A call may count as several, at most ``burst``.
    """

    def __init__(
        self,
        per_second: float,
        *,
        burst: int = 1,
        longest_wait: float = 0.0,
        name: str = "rate limit",
        clock: Clock | None = None,
    ) -> None:
        require_number(f"per_second of {name}", per_second, least=_SLOWEST, most=_NS)
        require_count(f"burst of {name}", burst)
        require_number(f"longest_wait of {name}", longest_wait)
        self.name = name
        self.longest_wait = longest_wait
        self._clock = clock or SystemClock()
        # Rounded up, so that the promise holds.
        self._spacing = max(1, -int(-_NS // per_second))
        self._burst = burst
        self._next: int | None = None
        self._lock = threading.RLock()

    def guard(self) -> Guarded:
        """Return a new block that uses one call of the rate."""
        return _Granted(self)

    def take(self, cost: int = 1) -> None:
        """Use one call. Raises RateLimited, with when one will be free."""
        self._take(0, cost)

    async def atake(self, cost: int = 1) -> None:
        """Use one call, waiting for it. Raises RateLimited if that would take too long."""
        reserved, wait = self._take(round(self.longest_wait * _NS), cost)
        if wait:
            try:
                await self._clock.sleep(wait / _NS)
            except BaseException:
                self._give_back(reserved, cost)
                raise

    def _take(self, longest_ns: int, cost: int) -> tuple[int, int]:
        require_count("cost", cost)
        if cost > self._burst:
            message = f"{self.name} cannot grant {cost} calls at once."
            raise ConfigError(message, hint=f"It grants 1 to {self._burst}.")
        now = self._clock.monotonic_ns()
        with self._lock:
            due = now if self._next is None else max(self._next, now)
            wait = max(0, due - (self._burst - cost) * self._spacing - now)
            if wait <= longest_ns:
                self._next = due + cost * self._spacing
                return self._next, wait
        raise RateLimited(
            f"{self.name} is used up.",
            hint="Call less often, or allow more.",
            retry_after=wait / _NS,
        )

    def _give_back(self, reserved: int, cost: int) -> None:
        # Only the last reservation can be undone: others count on theirs.
        with self._lock:
            if self._next == reserved:
                self._next = reserved - cost * self._spacing


class _Granted(Guarded):
    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit

    def _begin(self) -> None:
        self._limit.take()

    async def _abegin(self) -> None:
        await self._limit.atake()

    def _end(self, _: BaseException | None, /) -> None:
        """Nothing to give back: the call was made."""
