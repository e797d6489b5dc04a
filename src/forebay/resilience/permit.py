"""One call that a breaker has admitted, and the one verdict on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from forebay.resilience.forms import Guard
from forebay.resilience.verdict import Verdict
from forebay.resilience.windows import NS

if TYPE_CHECKING:
    from types import TracebackType

    from forebay.resilience.breaker import CircuitBreaker
    from forebay.resilience.eras import Era


class Permit:
    """Say once how the call ended; the first word counts. Dropping it says :meth:`release`."""

    __slots__ = ("_breaker", "era", "started_ns", "token")

    def __init__(
        self, breaker: CircuitBreaker, era: Era, started_ns: int | None, token: object = None
    ) -> None:
        self._breaker = breaker
        self.started_ns = started_ns
        """When it began, if that was asked."""
        self.era: Era | None = era
        """What admitted it; None once it has ended."""
        self.token = token
        """Of a probe."""

    def success(self, result: object = None) -> None:
        """The call returned ``result``; whether that is a success the configuration may judge."""
        verdict = self._breaker.config.classify.returned(result)
        if verdict is Verdict.OK and self._was_slow():
            verdict = Verdict.SLOW
        self._breaker.settle(self, verdict)

    def failure(self, error: BaseException) -> None:
        """The call raised ``error``. Given up after the slow call duration, it was slow."""
        if isinstance(error, GeneratorExit):
            self.leave(gave=False)
            return
        verdict = self._breaker.config.classify.error(error)
        if isinstance(error, asyncio.CancelledError) and self._was_slow():
            verdict = Verdict.SLOW
        self._breaker.settle(self, verdict, error)

    def release(self) -> None:
        """The call said nothing about the dependency, or was not made."""
        self._breaker.settle(self, Verdict.NEUTRAL)

    def leave(self, *, gave: bool) -> None:
        """The consumer of a generator left, after an item (that was a success) or before any.

        It takes no lock, because the garbage collector may be who says so.
        """
        self._breaker.settle_later(self, Verdict.OK if gave else Verdict.NEUTRAL)

    def _was_slow(self) -> bool:
        limit = self._breaker.config.slow_call_duration
        if limit is None or self.started_ns is None:
            return False
        return self._breaker.clock.monotonic_ns() - self.started_ns >= limit * NS

    def __del__(self) -> None:
        if self.era is not None:
            self.leave(gave=False)


class BreakerGuard(Guard):
    """A block that is one call; gives its :class:`Permit`, to end it early or otherwise."""

    __slots__ = ("_breaker", "_permit", "gave")

    def __init__(self, breaker: CircuitBreaker, permit: Permit | None = None) -> None:
        self._breaker = breaker
        self._permit = permit
        self.gave = False

    def __enter__(self) -> Permit:
        self._permit = permit = self._breaker.acquire()
        return permit

    async def __aenter__(self) -> Permit:
        return self.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        permit, self._permit = self._permit, None
        if permit is None:
            return
        if error is None:
            permit.success()
        elif isinstance(error, GeneratorExit):
            permit.leave(gave=self.gave)
        else:
            permit.failure(error)
