"""An event loop whose time is virtual: nobody waits, everything happens in a set order."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

START_WALL_NS = 1_767_225_600_000_000_000
"""Wall time at virtual time 0: 2026-01-01T00:00:00Z."""
_SLOW = 0.02
"""How often a call in a thread takes long."""


class Stuck(RuntimeError):
    """Nothing is left that could ever happen."""


class _Task(asyncio.Task[Any]):
    """A task that hashes to its number, so that sets of tasks have the same order in each run."""

    def __init__(self, number: int, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        self._number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class _Selector:
    """Stands where a loop waits for sockets: here, time jumps to the next timer."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stuck("Nothing is scheduled any more.")
        if timeout > 0:
            self._loop.jump()
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks in one thread; calls meant for other threads run here, after a drawn delay.

    ``rng`` draws the delays. Two loops of the same seed that are given the same work do the
    same in the same order.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._now = 0.0
        self._rng = rng
        self._tasks = 0
        self._busy: dict[Executor, float] = {}
        self._selector = _Selector(self)
        self._scheduled: list[asyncio.TimerHandle]
        self.set_task_factory(cast("Any", self._make_task))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def jump(self) -> None:
        """Go to the next timer."""
        self._now = max(self._now, self._scheduled[0].when())

    def run_in_executor(
        self, executor: object, func: Callable[..., T], *args: object
    ) -> asyncio.Future[T]:
        """Call ``func`` on this thread, later.

        Jobs of one executor follow one another, and a method of an executor, which is its
        shutdown, waits for them. Cancelling the answer does not stop the call, as it would not
        stop a thread.
        """
        answer: asyncio.Future[T] = self.create_future()
        lane = getattr(func, "__self__", None) if executor is None else executor
        begin = self._now
        if isinstance(lane, Executor):
            begin = max(begin, self._busy.get(lane, 0.0))
        slow = self._rng.random() < _SLOW
        end = begin + self._rng.uniform(0.0, 0.5 if slow else 0.003)
        if isinstance(executor, Executor):
            self._busy[executor] = end
        self.call_at(end, _call, answer, func, args)
        return answer

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], **kwargs: object
    ) -> _Task:
        self._tasks += 1
        return _Task(self._tasks, coro, loop=loop, **kwargs)

    def _process_events(self, event_list: list[object]) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """There are no other threads."""


def _call(answer: asyncio.Future[T], func: Callable[..., T], args: tuple[object, ...]) -> None:
    try:
        result = func(*args)
    except BaseException as error:  # noqa: BLE001 - handed to whoever waits, as a thread does
        if not answer.done():
            answer.set_exception(error)
    else:
        if not answer.done():
            answer.set_result(result)


class VirtualClock:
    """The :class:`~forebay.clock.Clock` of a virtual loop; the wall clock can be stepped."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._wall = START_WALL_NS

    def monotonic_ns(self) -> int:
        return round(self._loop.time() * 1e9)

    def wall_ns(self) -> int:
        return self._wall + self.monotonic_ns()

    def step_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as an operator or NTP would."""
        self._wall += round(seconds * 1e9)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
