"""Something else when the dependency fails, which says that it is something else."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from forebay.resilience.stale_cache import Answer, Origin
from forebay.resilience.strategy import Shape, require, require_value
from forebay.telemetry import FallbackBegan, FallbackEnded, ignore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from forebay.telemetry import Observer

P = ParamSpec("P")
T = TypeVar("T")


class Fallback(Generic[T]):
    """Calls, and returns ``instead(error)`` if that fails with one of ``on``.

    Every answer says which it is. ``serving`` is True from the first substitute to the next
    live answer, and ``listener`` is told of both. ``instead`` must not wait; it may raise the
    error it was given, or return an :class:`Answer`, such as an old one of a cache.
    What is yet to be awaited is a TypeError.
    """

    def __init__(
        self,
        name: str,
        instead: Callable[[Exception], T | Answer[T]],
        *,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
        listener: Observer = ignore,
    ) -> None:
        self.name = name
        self._instead = instead
        self._on = on
        self._listener = listener
        self._lock = threading.Lock()
        self._serving = False

    @property
    def serving(self) -> bool:
        """Whether the last answer was a substitute."""
        return self._serving

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        """Call a plain function. Raises TypeError for one that gives a coroutine."""
        require(fn, Shape.PLAIN)
        try:
            value = fn(*args, **kwargs)
        except self._on as error:
            return self._substitute(error)
        require_value(value)
        return self._live(value)

    async def acall(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Answer[T]:
        """Call a function and await what it gives."""
        try:
            value = await fn(*args, **kwargs)
        except self._on as error:
            return self._substitute(error)
        return self._live(value)

    def __call__(self, fn: Callable[P, T]) -> Callable[P, Answer[T]]:
        """Decorate a ``def``; TypeError for others, also when called (see :meth:`awaited`)."""
        require(fn, Shape.PLAIN)

        @functools.wraps(fn)
        def called(*args: P.args, **kwargs: P.kwargs) -> Answer[T]:
            return self.call(fn, *args, **kwargs)

        return called

    def awaited(self, fn: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[Answer[T]]]:
        """Decorate an ``async def``, or what gives an awaitable as it does.

        Its type changes otherwise than that of a ``def``.
        """
        require(fn, Shape.COROUTINE, Shape.PLAIN)

        @functools.wraps(fn)
        async def coroutine(*args: Any, **kwargs: Any) -> Answer[T]:  # noqa: ANN401
            return await self.acall(fn, *args, **kwargs)

        return coroutine

    def _substitute(self, error: Exception) -> Answer[T]:
        other = self._instead(error)
        require_value(other)
        reason = type(error).__name__
        self._serve(serving=True, reason=reason)
        if isinstance(other, Answer):
            return other
        return Answer(other, Origin.SUBSTITUTE, reason=reason)

    def _live(self, value: T) -> Answer[T]:
        if self._serving:
            self._serve(serving=False, reason="")
        return Answer(value)

    def _serve(self, *, serving: bool, reason: str) -> None:
        with self._lock:
            changed, self._serving = self._serving is not serving, serving
        if changed:
            self._listener(
                FallbackBegan(self.name, reason) if serving else FallbackEnded(self.name)
            )
