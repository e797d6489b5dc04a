"""Limits on calls: at once (:class:`Bulkhead`), and in a time (:class:`RateLimit`)."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from forebay.errors import ConfigError
from forebay.resilience.errors import BulkheadFull, RateLimited
from forebay.resilience.numbers import LONGEST_S, require_count, require_number
from forebay.resilience.strategy import Guarded, Strategy
from forebay.resilience.windows import NS

if TYPE_CHECKING:
    from forebay.clock import Clock

_SLOWEST = 1 / LONGEST_S


class Bulkhead(Strategy):
    """At most ``limit`` calls at once; up to ``waiting`` tasks queue, first come first served.

    A thread never queues: it gets BulkheadFull at once, as a task does when the queue is full.
    """

    def __init__(self, limit: int, *, waiting: int = 0, name: str = "bulkhead") -> None:
        require_count(f"limit of {name}", limit)
        require_count(f"waiting of {name}", waiting, least=0)
        self.limit = limit
        self.waiting = waiting
        self.name = name
        self._in_flight = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        # Reentrant: the collector may end an abandoned call in a thread that is in here. Nothing
        # below allocates between reading a count and writing it.
        self._lock = threading.RLock()

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Tasks that wait for a place."""
        return len(self._queue)

    def guard(self) -> Guarded:
        """Return a new block that takes one place."""
        return _Taken(self)

    def take(self) -> None:
        """Take a place. Raises BulkheadFull."""
        with self._lock:
            free = self._in_flight < self.limit and not self._queue
            if free:
                self._in_flight += 1
        if not free:
            raise self._full()

    async def atake(self) -> None:
        """Take a place, waiting for one if the queue has room. Raises BulkheadFull."""
        waiter = None
        with self._lock:
            if self._in_flight < self.limit and not self._queue:
                self._in_flight += 1
                return
            if len(self._queue) < self.waiting:
                waiter = asyncio.get_running_loop().create_future()
                self._queue.append(waiter)
        if waiter is None:
            raise self._full()
        try:
            await waiter
        except BaseException:
            self._give_up(waiter)
            raise

    def give(self) -> None:
        """Give a place back: to the first in the queue, or to nobody."""
        with self._lock:
            while self._queue:
                waiter = self._queue.popleft()
                try:
                    waiter.get_loop().call_soon_threadsafe(_wake, waiter)
                except RuntimeError:  # its event loop is closed: nobody waits there any more
                    continue
                return
            self._in_flight -= 1

    def _give_up(self, waiter: asyncio.Future[None]) -> None:
        with self._lock:
            if waiter in self._queue:
                self._queue.remove(waiter)
                return
        self.give()

    def _full(self) -> BulkheadFull:
        return BulkheadFull(
            f"{self.name} is full: {self.limit} calls are under way.",
            hint="Call later, or allow more.",
        )


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class RateLimit(Strategy):
    """In any time T it grants at most ``burst + per_second * T`` calls.

    A thread gets RateLimited when none is left. A task waits up to ``longest_wait`` seconds, first
    come first served; its grant is reserved, so a late event loop may make two of them together.
    A call may count as several, at most ``burst``.
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
        require_number(f"per_second of {name}", per_second, least=_SLOWEST, most=NS)
        require_count(f"burst of {name}", burst)
        require_number(f"longest_wait of {name}", longest_wait)
        self.name = name
        self.longest_wait = longest_wait
        self._clock = clock or SystemClock()
        # Rounded up, so that the promise holds.
        self._spacing = max(1, -int(-NS // per_second))
        self._burst = burst
        self._next: int | None = None
        self._lock = threading.RLock()

    def guard(self) -> Guarded:
        """Return a new block that uses one call of the rate."""
        return _Taken(self)

    def take(self, cost: int = 1) -> None:
        """Use one call. Raises RateLimited, with when one will be free."""
        self._take(0, cost)

    async def atake(self, cost: int = 1) -> None:
        """Use one call, waiting for it. Raises RateLimited if that would take too long."""
        reserved, wait = self._take(round(self.longest_wait * NS), cost)
        if wait:
            try:
                await self._clock.sleep(wait / NS)
            except BaseException:
                self._give_back(reserved, cost)
                raise

    def spare_in(self, cost: int, spare: int) -> float:
        """Return the seconds until ``cost`` calls could be granted and ``spare`` more at once.

        Nothing is reserved: who comes meanwhile goes first.
        """
        now = self._clock.monotonic_ns()
        with self._lock:
            due = now if self._next is None else max(self._next, now)
            least = max(self._burst - cost - spare, 0)
            return max(0, due - least * self._spacing - now) / NS

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
            retry_after=wait / NS,
        )

    def _give_back(self, reserved: int, cost: int) -> None:
        # Only the last reservation can be undone: others count on theirs.
        with self._lock:
            if self._next == reserved:
                self._next = reserved - cost * self._spacing


class _Taken(Guarded):
    def __init__(self, limit: Bulkhead | RateLimit) -> None:
        self._limit = limit

    def _begin(self) -> None:
        self._limit.take()

    async def _abegin(self) -> None:
        await self._limit.atake()

    def _end(self, _: BaseException | None, /) -> None:
        if isinstance(self._limit, Bulkhead):  # of a rate nothing comes back: the call was made
            self._limit.give()
