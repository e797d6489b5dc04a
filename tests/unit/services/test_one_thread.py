"""One thread for blocking calls: in order, answered in the loop, and harmless when nobody waits."""

from __future__ import annotations

import asyncio
import threading

import pytest

from forebay.services.one_thread import OneThread


async def test_calls_follow_one_another_in_one_thread_that_is_not_the_loops() -> None:
    loop, thread = asyncio.get_running_loop(), OneThread("one")
    calls: list[tuple[int, int]] = []

    def call(number: int) -> int:
        calls.append((number, threading.get_ident()))
        return number * 2

    answers = [loop.run_in_executor(thread, call, number) for number in range(50)]
    assert await asyncio.gather(*answers) == [number * 2 for number in range(50)]
    assert [number for number, _ in calls] == list(range(50))
    assert len({ident for _, ident in calls} | {threading.get_ident()}) == 2
    thread.shutdown()


async def test_an_error_is_for_whoever_waits_and_the_thread_goes_on() -> None:
    thread = OneThread("one")
    with pytest.raises(ZeroDivisionError):
        await thread.submit(divmod, 1, 0)
    assert await thread.submit(divmod, 7, 2) == (3, 1)
    thread.shutdown()


async def test_a_call_that_nobody_waits_for_any_more_is_finished() -> None:
    thread, gate, ended = OneThread("one"), threading.Event(), threading.Event()

    def call() -> None:
        gate.wait(20)
        ended.set()

    answer = thread.submit(call)
    answer.cancel()
    gate.set()
    assert await thread.submit(ended.is_set)
    assert answer.cancelled()
    thread.shutdown()


def test_the_end_of_its_loop_does_not_end_it() -> None:
    thread, gate = OneThread("one"), threading.Event()

    async def leave() -> None:
        _ = thread.submit(gate.wait, 20)

    asyncio.run(leave())
    gate.set()

    async def again() -> int:
        return await thread.submit(len, "abc")

    assert asyncio.run(again()) == 3
    thread.shutdown()
