"""Two breakers as one writes them in ten minutes: between them they get every probe wrong.

A probe that nobody can fail proves nothing, so these must fail it when no peer is installed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.clock import Clock

_NS = 1_000_000_000


class Refused(Exception):
    """The call was not made."""


class Eager:
    """After the wait everybody is let in, and every end of a call counts, whenever it began."""

    def __init__(self, failures: int, wait_s: float, clock: Clock) -> None:
        self._most = failures
        self._wait_ns = round(wait_s * _NS)
        self._clock = clock
        self._failures = 0
        self._opened: int | None = None

    def _enter(self) -> None:
        opened = self._opened
        if opened is not None and self._clock.monotonic_ns() - opened < self._wait_ns:
            raise Refused

    def _succeeded(self) -> None:
        self._failures, self._opened = 0, None

    def _failed(self) -> None:
        self._failures += 1
        if self._opened is not None or self._failures >= self._most:
            self._opened = self._clock.monotonic_ns()

    def plain(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a ``def``."""

        def call(*args: object) -> Any:  # noqa: ANN401
            self._enter()
            try:
                result = fn(*args)
            except BaseException:
                self._failed()
                raise
            self._succeeded()
            return result

        return call

    def awaited(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate an ``async def``."""

        async def call(*args: object) -> Any:  # noqa: ANN401
            self._enter()
            try:
                result = await fn(*args)
            except BaseException:
                self._failed()
                raise
            self._succeeded()
            return result

        return call


class Flagged(Eager):
    """One probe at a time by a flag that only its end takes away, and a lock around the call."""

    def __init__(self, failures: int, wait_s: float, clock: Clock) -> None:
        super().__init__(failures, wait_s, clock)
        self._probing = False
        self._lock = threading.Lock()

    def _enter(self) -> None:
        super()._enter()
        if self._probing:
            raise Refused
        self._probing = self._opened is not None

    def _succeeded(self) -> None:
        super()._succeeded()
        self._probing = False

    def _failed(self) -> None:
        super()._failed()
        self._probing = False

    def plain(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a ``def``."""
        call = super().plain(fn)

        def locked(*args: object) -> Any:  # noqa: ANN401
            with self._lock:
                return call(*args)

        return locked
