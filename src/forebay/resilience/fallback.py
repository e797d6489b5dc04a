"""Something else when the dependency fails, which says that it is something else."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from forebay.clock import SystemClock
from forebay.resilience.numbers import require_count, require_number
from forebay.resilience.strategy import Shape, require, require_value
from forebay.resilience.windows import NS
from forebay.telemetry import FallbackBegan, FallbackEnded, ignore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from forebay.clock import Clock
    from forebay.telemetry import Observer

P = ParamSpec("P")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Origin(StrEnum):
    """Where an answer is from."""

    LIVE = "live"
    """The dependency, now."""
    CACHED = "cached"
    """The cache, not older than ``fresh`` seconds."""
    STALE = "stale"
    """The cache, because the dependency failed."""
    SUBSTITUTE = "substitute"
    """Something else than the dependency's answer, such as an empty result."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """A value with where it is from, how old it is in seconds, and why it is not live."""

    value: V
    origin: Origin = Origin.LIVE
    age: float = 0.0
    reason: str = ""

    @property
    def is_degraded(self) -> bool:
        """Whether a fallback served it."""
        return self.origin in {Origin.STALE, Origin.SUBSTITUTE}


class Fallback(Generic[V]):
    """Calls, and returns ``instead(error)`` if that fails with one of ``on``.

    ``listener`` is told of the first substitute and of the next live answer. ``instead`` must not
    wait; it may raise the error it was given, or return an :class:`Answer`, such as an old one of a
    cache. What is yet to be awaited is a TypeError.
    """

    def __init__(
        self,
        name: str,
        instead: Callable[[Exception], V | Answer[V]],
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

    def call(self, fn: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> Answer[V]:
        """Call a plain function. Raises TypeError for one that gives a coroutine."""
        require(fn, Shape.PLAIN)
        try:
            value = fn(*args, **kwargs)
        except self._on as error:
            return self._substitute(error)
        require_value(value)
        return self._live(value)

    async def acall(
        self, fn: Callable[P, Awaitable[V]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Answer[V]:
        """Call a function and await what it gives."""
        try:
            value = await fn(*args, **kwargs)
        except self._on as error:
            return self._substitute(error)
        return self._live(value)

    def __call__(self, fn: Callable[P, V]) -> Callable[P, Answer[V]]:
        """Decorate a ``def``; TypeError for others, also when called: :meth:`acall` awaits."""
        require(fn, Shape.PLAIN)

        @functools.wraps(fn)
        def called(*args: P.args, **kwargs: P.kwargs) -> Answer[V]:
            return self.call(fn, *args, **kwargs)

        return called

    def _substitute(self, error: Exception) -> Answer[V]:
        other = self._instead(error)
        require_value(other)
        reason = type(error).__name__
        self._serve(reason)
        if isinstance(other, Answer):
            return other
        return Answer(other, Origin.SUBSTITUTE, reason=reason)

    def _live(self, value: V) -> Answer[V]:
        if self._serving:
            self._serve("")
        return Answer(value)

    def _serve(self, why: str) -> None:
        with self._lock:
            changed, self._serving = self._serving is not bool(why), bool(why)
        if changed:
            self._listener(FallbackBegan(self.name, why) if why else FallbackEnded(self.name))


class StaleCache(Generic[K, V]):
    """The last answers by key, the least recently used of more than ``items`` forgotten.

    Up to ``fresh`` seconds an answer is served without asking the dependency (0: always ask); up
    to ``stale`` seconds it is served if asking fails with one of ``on``. While one task asks, the
    others of its event loop wait for what it gets. Safe between threads.
    """

    def __init__(
        self,
        *,
        fresh: float = 0.0,
        stale: float = 3600.0,
        items: int = 1000,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
        clock: Clock | None = None,
    ) -> None:
        require_number("fresh", fresh)
        require_number("stale", stale, least=fresh)
        require_count("items", items)
        self._fresh_ns = round(fresh * NS)
        self._stale_ns = round(stale * NS)
        self._items = items
        self._on = on
        self._clock = clock or SystemClock()
        self._kept: OrderedDict[K, tuple[int, V]] = OrderedDict()
        self._asking: dict[
            tuple[asyncio.AbstractEventLoop, K], asyncio.Future[Answer[V] | Exception | None]
        ] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: K, value: V) -> None:
        """Keep an answer that the dependency gave now; TypeError if it is yet to be awaited."""
        require_value(value)
        now = self._clock.monotonic_ns()
        with self._lock:
            self._kept[key] = (now, value)
            self._kept.move_to_end(key)
            while len(self._kept) > self._items:
                self._kept.popitem(last=False)

    def get(self, key: K, load: Callable[[], V]) -> Answer[V]:
        """Return the answer of the cache if fresh, else of ``load``, else of the cache if it may.

        Raises what ``load`` raised if there is nothing to serve; TypeError for an awaitable.
        """
        if (answer := self._kept_within(key, self._fresh_ns)) is not None:
            return answer
        try:
            value = load()
        except self._on as error:
            return self._stale_or_raise(key, error)
        self.put(key, value)
        return Answer(value)

    async def aget(self, key: K, load: Callable[[], Awaitable[V]]) -> Answer[V]:
        """:meth:`get` on an event loop; one task asks for a key, the others wait."""
        flight = (asyncio.get_running_loop(), key)
        while True:
            if (answer := self._kept_within(key, self._fresh_ns)) is not None:
                return answer
            asking = self._asking.get(flight)
            if asking is None:
                return await self._ask(flight, load)
            outcome = await asyncio.shield(asking)
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:
                return outcome
            # Who asked was cancelled: somebody else must.

    async def _ask(
        self, flight: tuple[asyncio.AbstractEventLoop, K], load: Callable[[], Awaitable[V]]
    ) -> Answer[V]:
        asking = self._asking[flight] = flight[0].create_future()
        outcome: Answer[V] | Exception | None = None
        try:
            try:
                value = await load()
            except self._on as error:
                outcome = self._stale_or_raise(flight[1], error)
            else:
                self.put(flight[1], value)
                outcome = Answer(value)
            return outcome
        except Exception as error:
            outcome = error
            raise
        finally:
            del self._asking[flight]
            asking.set_result(outcome)

    def _stale_or_raise(self, key: K, error: Exception) -> Answer[V]:
        reason = type(error).__name__
        answer = self._kept_within(key, self._stale_ns, Origin.STALE, reason)
        if answer is None:
            raise error
        return answer

    def _kept_within(
        self, key: K, limit_ns: int, origin: Origin = Origin.CACHED, reason: str = ""
    ) -> Answer[V] | None:
        now = self._clock.monotonic_ns()
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or (age := now - kept[0]) > limit_ns or limit_ns == 0:
                return None
            self._kept.move_to_end(key)
        return Answer(kept[1], origin, age / NS, reason)
