"""Many connections that are made anew do not come together."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from forebay.resilience import CircuitOpen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from forebay.clock import Clock

MANY = 20
"""Fewer connections than these come as they like."""
SHARE = 1 / 20
"""Of many, such a part is dialled in a second, and is under way at once: in no second more than
twice as many are tried, or get through, though all waited for the same moment."""


def start_s(connections: int) -> float:
    """Return how long so many connections take to be dialled, in seconds."""
    return 1 / SHARE if connections >= MANY else 0.0


class Turnstile:
    """Lets dials through one after the other; first come, first served."""

    def __init__(self, wanted: Callable[[], int], clock: Clock) -> None:
        """``wanted`` tells how many connections there are to be."""
        self._wanted = wanted
        self._clock = clock
        self._queue = asyncio.Lock()
        self._landed = asyncio.Event()
        self._under_way = 0
        self._next_ns = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn; a block that ends in CircuitOpen has dialled nobody."""
        if (wanted := self._wanted()) < MANY:
            yield
            return
        async with self._queue:
            while self._under_way >= int(wanted * SHARE):
                self._landed.clear()
                await self._landed.wait()
            if (wait_ns := self._next_ns - self._clock.monotonic_ns()) > 0:
                await self._clock.sleep(wait_ns / 1e9)
            before, self._next_ns = self._next_ns, self._clock.monotonic_ns()
            self._next_ns += round(1e9 / (wanted * SHARE))
            self._under_way += 1
        try:
            yield
        except CircuitOpen:
            self._next_ns = before
            raise
        finally:
            self._under_way -= 1
            self._landed.set()
