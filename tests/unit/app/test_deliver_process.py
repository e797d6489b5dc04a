"""Queries beside delivery: however many there are, delivery has a thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

from forebay.app import deliver_process

if TYPE_CHECKING:
    import pytest

MANY = 100
"""More than any pool of threads has by default."""


class Connection:
    """Is held by one query at a time and cannot be interrupted."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to let go of."""

    def interrupt(self) -> None:
        """Too slow to hear."""


async def test_slow_queries_leave_a_thread_to_whoever_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()

    def slow(connection: object, query: str, *, timeout_s: float) -> str:
        ended.wait(60)
        return query

    monkeypatch.setattr(deliver_process, "read_only_query", slow)
    connection: Any = Connection()
    asking = [
        asyncio.create_task(deliver_process._queried(connection, str(number), 9.0))
        for number in range(MANY)
    ]
    try:
        await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 20) == "done"
        assert not any(each.done() for each in asking)
    finally:
        ended.set()
    assert await asyncio.gather(*asking) == [str(number) for number in range(MANY)]
