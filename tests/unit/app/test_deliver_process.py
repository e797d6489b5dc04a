"""Queries beside delivery: however many there are, delivery has a thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from forebay.app.processes import store_delivery
from forebay.ports import Reader

MANY = 100
"""More than any pool of threads has by default."""


class SlowReader(Reader):
    """Is held by one query at a time and cannot be interrupted."""

    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended

    def query(self, sql: str, *, timeout_s: float, limit: int | None = None) -> Any:  # noqa: ANN401
        del timeout_s, limit
        self._ended.wait(60)
        return sql

    def interrupt(self) -> None:
        """Too slow to hear."""

    def close(self) -> None:
        """Nothing to let go of."""


async def test_slow_queries_leave_a_thread_to_whoever_works() -> None:
    ended = threading.Event()
    asking = [
        asyncio.create_task(store_delivery.queried(lambda: SlowReader(ended), str(number), 9.0))
        for number in range(MANY)
    ]
    try:
        await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 20) == "done"
        assert not any(each.done() for each in asking)
    finally:
        ended.set()
    assert await asyncio.gather(*asking) == [str(number) for number in range(MANY)]
