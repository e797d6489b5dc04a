"""One thread for blocking calls that an event loop asks for, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")
_Call = tuple[
    asyncio.AbstractEventLoop, "asyncio.Future[Any]", "Callable[..., Any]", tuple[object, ...]
]
_MOST = 64
"""Calls that may wait; who asks for one at a time has one."""


class OneThread(Executor):
    """An executor for ``loop.run_in_executor`` that returns a future of that loop.

    A ``ThreadPoolExecutor`` makes a future of its own beside it, with a lock, and chains the two:
    that costs more than twice as much, which counts where the calls are short and many.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.Queue[_Call | None] = queue.Queue(_MOST)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[..., T], /, *args: object) -> asyncio.Future[T]:  # type: ignore[override]
        """Call ``work`` in the thread; from a running loop only, whose future is returned.

        Raises :class:`queue.Full` if :data:`_MOST` calls wait: the loop never does.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._calls.put_nowait((loop, answer, work, args))
        return answer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT002, ARG002
        """End the thread behind what was submitted; nothing is cancelled."""
        self._calls.put(None)
        if wait:
            self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            loop, answer, work, args = call
            result, error = None, None
            try:
                result = work(*args)
            except BaseException as raised:  # noqa: BLE001 - handed to whoever waits
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(_settle, answer, result, error)


def _settle(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.done():  # nobody waits any more
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
