"""What one address may be asked, by everybody in the process who asks it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from forebay.resilience import RateLimit, RateLimited

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.clock import Clock
    from forebay.sources.venue import Rate

LONGEST_WAIT_S = 30.0
"""Who would have to wait longer is refused, and tries again as after other failures."""
BULK_LEAVES = 2
"""Bulk leaves one part in so many of what may be asked at once to all others."""


class Budget:
    """The rates of one address, which hold together, and the silence that it asked for."""

    def __init__(
        self,
        host: str,
        rates: Iterable[Rate],
        *,
        clock: Clock,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._host = host
        self._clock = clock
        self._longest_s = longest_wait_s
        self._until_ns = clock.monotonic_ns()
        self._bulk = asyncio.Lock()
        self._limits = [
            (
                rate.of == "weight",
                rate.burst // BULK_LEAVES,
                RateLimit(
                    rate.per_second,
                    burst=rate.burst,
                    longest_wait=longest_wait_s,
                    name=f"The rate of {rate.of}s to {host}",
                    clock=clock,
                ),
            )
            for rate in rates
        ]

    async def take(self, cost: int = 1, *, bulk: bool = False) -> None:
        """Use one call of that weight, waiting for it.

        ``bulk`` waits, however long, until so much is left that nobody else has to wait for it.
        Raises :class:`~forebay.resilience.RateLimited` if anything else would take too long.
        """
        await self._silence()
        if bulk:
            await self._take_bulk(cost)
        else:
            for weighed, _, limit in self._limits:
                await limit.atake(cost if weighed else 1)
        await self._silence()

    async def _take_bulk(self, cost: int) -> None:
        async with self._bulk:  # one at a time asks whether there is enough
            while wait_s := max(
                (limit.spare_in(cost if of else 1, left) for of, left, limit in self._limits),
                default=0.0,
            ):
                await self._clock.sleep(wait_s)
            for weighed, _, limit in self._limits:
                limit.take(cost if weighed else 1)

    def silence(self, seconds: float) -> None:
        """Let nobody call for so long from now."""
        until_ns = self._clock.monotonic_ns() + round(seconds * 1e9)
        self._until_ns = max(self._until_ns, until_ns)

    async def _silence(self) -> None:
        while (wait_s := (self._until_ns - self._clock.monotonic_ns()) / 1e9) > 0:
            if wait_s > self._longest_s:
                message = f"{self._host} asked to be left alone for {wait_s:.3g} s more."
                raise RateLimited(message, hint="Come again then.", retry_after=wait_s)
            await self._clock.sleep(wait_s)


class Budgets:
    """One budget for each address, whoever comes first says its rates."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._budgets: dict[str, Budget] = {}

    def at(self, host: str, rates: Iterable[Rate]) -> Budget:
        """Return the budget of ``host``, a name with its port."""
        if host not in self._budgets:
            self._budgets[host] = Budget(host, rates, clock=self._clock)
        return self._budgets[host]
