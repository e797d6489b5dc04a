"""The recovery loop: it calls what nobody calls, so that a breaker learns that it may close."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from forebay.resilience.deadline import attempt
from forebay.resilience.errors import CircuitOpen
from forebay.resilience.numbers import require_number
from forebay.resilience.states import State
from forebay.resilience.windows import NS
from forebay.telemetry import ProbeFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from forebay.clock import Clock
    from forebay.resilience.breaker import CircuitBreaker
    from forebay.telemetry import Observer

    Probe = Callable[[], Awaitable[object]]


class RecoveryLoop:
    """Probes breakers every ``interval`` seconds, and when woken.

    ``look`` is called first each time. ``targets`` returns the breakers that have a probe.
    """

    def __init__(
        self,
        interval: float,
        *,
        clock: Clock,
        look: Callable[[], object],
        targets: Callable[[], Iterable[tuple[CircuitBreaker, Probe]]],
        listener: Observer,
    ) -> None:
        self._clock = clock
        self._look = look
        self._targets = targets
        self._listener = listener
        self._wakers: list[Callable[[], object]] = []
        self.attempts: Counter[str] = Counter()
        """Recoveries begun, by breaker."""
        self.interval = interval

    @property
    def interval(self) -> float:
        """Seconds between checks; holds at once when set. Raises ConfigError if not above 0."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        require_number("The check interval", seconds, above=True)
        self._interval = seconds
        self.wake()

    def wake(self) -> None:
        """Check at once; from any thread, and without a lock. Nothing if the loop does not run."""
        for waker in tuple(self._wakers):
            with suppress(RuntimeError):  # its event loop was closed meanwhile
                waker()

    async def run(self) -> None:
        """Check and probe until cancelled; every probe has ended then."""
        woken = asyncio.Event()
        waker = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, woken.set)
        self._wakers.append(waker)
        try:
            async with asyncio.TaskGroup() as group:
                live: dict[str, asyncio.Task[None]] = {}
                while True:
                    self._look()
                    woken.clear()
                    live = {name: task for name, task in live.items() if not task.done()}
                    for breaker, probe in self._targets():
                        if breaker.name not in live and is_due(breaker):
                            live[breaker.name] = group.create_task(self._recover(breaker, probe))
                    await self._pause(woken)
        finally:
            self._wakers.remove(waker)

    async def _pause(self, woken: asyncio.Event) -> None:
        waits = (
            asyncio.create_task(self._clock.sleep(self._interval)),
            asyncio.create_task(woken.wait()),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _recover(self, breaker: CircuitBreaker, probe: Probe) -> None:
        """Probe until the breaker is CLOSED, or a probe fails, or callers probe already.

        One check closes it, however many successes that takes. A hung probe fails when its lease
        ends; the breaker's own time-out may end it before.
        """
        self.attempts[breaker.name] += 1
        lease = breaker.config.lease_ns() / NS

        async def bounded() -> None:
            async with attempt(lease):
                await probe()

        try:
            for _ in range(breaker.config.success_threshold):
                await breaker.acall(bounded)
                if breaker.state is not State.HALF_OPEN:
                    return
        except Exception as error:  # noqa: BLE001 - the breaker has judged it
            if not isinstance(error, CircuitOpen) or error.breaker != breaker.name:
                self._listener(ProbeFailed(breaker.name, type(error).__name__))


def is_due(breaker: CircuitBreaker) -> bool:
    """Whether a probe is what it waits for: HALF_OPEN, or OPEN for as long as it has to be."""
    if breaker.state is State.HALF_OPEN:
        return True
    return breaker.state is State.OPEN and breaker.retry_after() == 0
