"""The only place that asks the time.

Durations and deadlines use the monotonic clock; the wall clock only labels. Both are
integers of nanoseconds. Everything that needs the time is handed a :class:`Clock`.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of Forebay may ask about time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds from an arbitrary origin; never goes back, not even over a clock step."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC; may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` of monotonic time."""
        ...


async def sleep_unless(event: asyncio.Event, seconds: float, clock: Clock) -> None:
    """Wait for ``seconds``, or until ``event`` is set."""
    waits = [asyncio.create_task(clock.sleep(seconds)), asyncio.create_task(_set(event))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _set(event: asyncio.Event) -> None:
    await event.wait()


class SystemClock:
    """The machine's clocks."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    wall_ns = staticmethod(time.time_ns)

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` on the running event loop."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that moves only when told, so that an hour of back-off takes no time to test."""

    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now = 0
        self._wall = wall_ns
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = 0
        self.slept: list[float] = []
        """Every duration somebody asked to sleep for, in order."""

    def monotonic_ns(self) -> int:
        return self._now

    def wall_ns(self) -> int:
        return self._wall

    def step_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as an operator or NTP would."""
        self._wall += round(seconds * 1e9)

    def advance(self, seconds: float) -> None:
        """Move both clocks and wake every sleeper whose time has come."""
        delta = round(seconds * 1e9)
        self._now += delta
        self._wall += delta
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._now + round(seconds * 1e9), self._order, future))
        await future
