"""Fallbacks and the cache behind them: every answer says what it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError, Unreachable
from forebay.resilience import Answer, Fallback, Origin, StaleCache
from forebay.telemetry import FallbackBegan, FallbackEnded, TelemetryEvent

if TYPE_CHECKING:
    from collections.abc import Callable

AWAY = Unreachable("away")


class Server:
    """Answers how often it was asked; fails while ``error`` is set; waits while ``gate`` is."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: BaseException | None = None
        self.gate: asyncio.Event | None = None

    def load(self) -> int:
        self.asked += 1
        if self.error:
            raise self.error
        return self.asked

    async def aload(self) -> int:
        if self.gate:
            await self.gate.wait()
        return self.load()


def is_serving(fallback: Fallback[int]) -> bool:
    return fallback.serving


# ----------------------------------------------------------------------- fallback


async def test_a_substitute_says_so_and_its_beginning_and_end_are_told_once() -> None:
    server, told = Server(), list[TelemetryEvent]()
    fallback = Fallback("redis", lambda _: 0, listener=told.append)
    get = fallback(server.load)
    assert get() == Answer(1)
    server.error = AWAY
    for answer in (get(), await fallback.acall(server.aload), fallback.call(server.load)):
        assert answer == Answer(0, Origin.SUBSTITUTE, reason="Unreachable")
        assert answer.is_degraded
    assert fallback.serving
    server.error = None
    assert not (await fallback.acall(server.aload)).is_degraded
    assert not is_serving(fallback)
    assert told == [FallbackBegan("redis", "Unreachable"), FallbackEnded("redis")]


def test_only_the_named_errors_are_answered() -> None:
    server = Server()
    fallback = Fallback("f", lambda _: 0, on=Unreachable)
    for error in (KeyError(), asyncio.CancelledError()):
        server.error = error
        with pytest.raises(type(error)):
            fallback.call(server.load)
    assert not fallback.serving


def test_a_substitute_that_fails_is_not_serving() -> None:
    def instead(error: Exception) -> int:
        raise error

    server = Server()
    server.error = AWAY
    fallback = Fallback("f", instead)
    with pytest.raises(Unreachable) as raised:
        fallback.call(server.load)
    assert raised.value is AWAY
    assert not fallback.serving


def test_an_old_answer_keeps_its_age() -> None:
    server = Server()
    server.error = AWAY
    old = Answer(5, Origin.STALE, 12.0, "Unreachable")
    fallback: Fallback[int] = Fallback("f", lambda _: old)
    assert fallback.call(server.load) is old


# -------------------------------------------------------------------------- cache


def test_a_fresh_answer_asks_nobody_and_a_stale_one_only_serves_a_failure() -> None:
    clock, server = ManualClock(), Server()
    cache: StaleCache[str, int] = StaleCache(fresh=10, stale=60, clock=clock)
    assert cache.get("a", server.load) == Answer(1)
    clock.advance(10)
    assert cache.get("a", server.load) == Answer(1, Origin.CACHED, 10.0)
    clock.advance(1)
    server.error = AWAY
    assert cache.get("a", server.load) == Answer(1, Origin.STALE, 11.0, "Unreachable")
    assert cache.get("a", server.load).is_degraded
    clock.advance(50)
    with pytest.raises(Unreachable) as raised:
        cache.get("a", server.load)
    assert raised.value is AWAY
    server.error = None
    assert cache.get("a", server.load).origin is Origin.LIVE


def test_the_least_recently_used_is_forgotten() -> None:
    cache: StaleCache[str, int] = StaleCache(fresh=10, items=2, clock=ManualClock())
    server = Server()
    for key in ("a", "b", "a", "c"):
        cache.get(key, server.load)
    assert len(cache) == 2
    assert cache.get("a", server.load).origin is Origin.CACHED
    assert cache.get("b", server.load).origin is Origin.LIVE


async def test_one_task_asks_and_the_others_get_what_it_got() -> None:
    server = Server()
    cache: StaleCache[str, int] = StaleCache(clock=ManualClock())
    server.gate = asyncio.Event()
    tasks = [asyncio.create_task(cache.aget("a", server.aload)) for _ in range(20)]
    await asyncio.sleep(0)
    server.gate.set()
    assert await asyncio.gather(*tasks) == [Answer(1)] * 20
    assert server.asked == 1


@pytest.mark.parametrize("kept", [False, True])
async def test_all_who_wait_share_a_failure(*, kept: bool) -> None:
    server = Server()
    cache: StaleCache[str, int] = StaleCache(clock=ManualClock())
    if kept:
        cache.put("a", 7)
    server.gate, server.error = asyncio.Event(), AWAY
    tasks = [asyncio.create_task(cache.aget("a", server.aload)) for _ in range(5)]
    await asyncio.sleep(0)
    server.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert server.asked == 1
    expected = Answer(7, Origin.STALE, 0.0, "Unreachable") if kept else AWAY
    assert results == [expected] * 5


async def test_when_who_asks_is_cancelled_another_asks() -> None:
    server = Server()
    cache: StaleCache[str, int] = StaleCache(clock=ManualClock())
    server.gate = asyncio.Event()
    tasks = [asyncio.create_task(cache.aget("a", server.aload)) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[3].cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    server.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [
        True, False, False, True,
    ]  # fmt: skip
    assert results[1:3] == [Answer(1)] * 2
    assert cache._asking == {}


def test_two_event_loops_use_one_cache() -> None:
    server = Server()
    cache: StaleCache[str, int] = StaleCache(fresh=10, clock=ManualClock())
    first = asyncio.run(_aget(cache, server))
    assert asyncio.run(_aget(cache, server)) == Answer(first.value, Origin.CACHED, 0.0)


async def _aget(cache: StaleCache[str, int], server: Server) -> Answer[int]:
    return await cache.aget("a", server.aload)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StaleCache(fresh=-1),
        lambda: StaleCache(fresh=2, stale=1),
        lambda: StaleCache(items=0),
    ],
)
def test_caches_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()
