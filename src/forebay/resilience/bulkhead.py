"""A limit on calls at once, so that one slow dependency cannot take every thread or task."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from forebay.resilience.errors import BulkheadFull
from forebay.resilience.numbers import require_count
from forebay.resilience.strategy import Guarded, Strategy


class _Waiter:
    __slots__ = ("future", "granted", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.granted = False

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Bulkhead(Strategy):
    """At most ``limit`` calls at once; up to ``waiting`` tasks queue, first come first served.

    One bulkhead serves threads and event loops together. A thread never queues: it gets
    BulkheadFull at once, as everybody does when the queue is full.
    """

    def __init__(self, limit: int, *, waiting: int = 0, name: str = "bulkhead") -> None:
        require_count(f"limit of {name}", limit)
        require_count(f"waiting of {name}", waiting, least=0)
        self.limit = limit
        self.waiting = waiting
        self.name = name
        self._in_flight = 0
        self._queue: deque[_Waiter] = deque()
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
        return _Place(self)

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
                waiter = _Waiter()
                self._queue.append(waiter)
        if waiter is None:
            raise self._full()
        try:
            await waiter.future
        except BaseException:
            self._give_up(waiter)
            raise

    def give(self) -> None:
        """Give a place back: to the first in the queue, or to nobody."""
        with self._lock:
            while self._queue:
                waiter = self._queue.popleft()
                waiter.granted = True
                if self._wake(waiter):
                    return
            self._in_flight -= 1

    @staticmethod
    def _wake(waiter: _Waiter) -> bool:
        try:
            waiter.loop.call_soon_threadsafe(waiter.wake)
        except RuntimeError:  # its event loop is closed: nobody waits there any more
            return False
        return True

    def _give_up(self, waiter: _Waiter) -> None:
        with self._lock:
            if not waiter.granted:
                self._queue.remove(waiter)
                return
        self.give()

    def _full(self) -> BulkheadFull:
        return BulkheadFull(
            f"{self.name} is full: {self.limit} calls are under way.",
            hint="Call later, or allow more.",
        )


class _Place(Guarded):
    def __init__(self, bulkhead: Bulkhead) -> None:
        self._bulkhead = bulkhead

    def _begin(self) -> None:
        self._bulkhead.take()

    async def _abegin(self) -> None:
        await self._bulkhead.atake()

    def _end(self, _: BaseException | None, /) -> None:
        self._bulkhead.give()
