"""The recovery loop: who is probed, when, and that no probe hurts another."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.resilience import BreakerConfig, CircuitBreaker, ResilienceManager, State, SystemState
from forebay.telemetry import ProbeFailed, TelemetryEvent
from tests.support.manager_rig import Service, is_in, trip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CHECK = 30.0


class Rig:
    """A manager on a manual clock, and services by name."""

    def __init__(self, *, auto_recovery: bool = True) -> None:
        self.clock = ManualClock()
        self.told: list[TelemetryEvent] = []
        self.news = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.services: dict[str, Service] = {}
        self.manager = ResilienceManager(
            clock=self.clock,
            rng=random.Random(1),
            listener=self.hear,
            check_interval=CHECK,
            auto_recovery=auto_recovery,
        )

    def add(
        self, name: str, *, critical: bool = False, successes: int = 1, lease: float | None = None,
        recovery: float = 10,
    ) -> CircuitBreaker:  # fmt: skip
        service = self.services[name] = Service()
        config = BreakerConfig(
            failure_threshold=1, recovery_timeout=recovery, recovery_jitter=0,
            success_threshold=successes, probe_lease=lease,
        )  # fmt: skip
        return self.manager.register(name, config, critical=critical, probe=service.probe)

    def hear(self, happening: TelemetryEvent) -> None:
        self.told.append(happening)
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.news.set)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was told makes it true."""
        while not condition():
            await self.news.wait()
            self.news.clear()

    def probed(self) -> dict[str, int]:
        return {name: service.probed for name, service in self.services.items()}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        self.loop = asyncio.get_running_loop()
        task = asyncio.create_task(self.manager.run())
        await settle()
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def check(self, seconds: float = CHECK) -> None:
        """Let so much time pass, and what follows happen."""
        self.clock.advance(seconds)
        await settle()


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_breaker_that_nobody_calls_recovers() -> None:
    rig = Rig()
    breaker = rig.add("store")
    trip(breaker)
    async with rig.running():
        assert rig.probed() == {"store": 0}, "it has to wait first"
        await rig.check()
        assert rig.probed() == {"store": 1}
        assert is_in(breaker, State.OPEN)
        rig.services["store"].error = None
        await rig.check()
        assert is_in(breaker, State.CLOSED)
        await rig.check()
        assert rig.probed() == {"store": 2}
    assert rig.manager.recovery_attempts == {"store": 2}
    assert [each for each in rig.told if isinstance(each, ProbeFailed)] == [
        ProbeFailed("store", "ConnectionError")
    ]


async def test_only_what_waits_for_a_probe_is_probed() -> None:
    rig = Rig()
    names = ("closed", "waits", "forced", "off", "due", "half_open")
    breakers = {name: rig.add(name, recovery=100 if name == "waits" else 10) for name in names}
    rig.manager.register("no probe", BreakerConfig(failure_threshold=1))
    for name in ("waits", "due", "half_open", "no probe"):
        trip(rig.manager.breakers[name])
    rig.manager.force_open("forced", "maintenance")
    breakers["off"].disable("off")
    rig.manager.force_recovery("half_open", "try")
    rig.clock.advance(CHECK)
    async with rig.running():
        assert rig.probed() == dict.fromkeys(names, 0) | {"due": 1, "half_open": 1}
    assert rig.manager.recovery_attempts["due"] == 1
    assert rig.manager.recovery_attempts["no probe"] == 0


async def test_one_check_closes_a_breaker_however_many_successes_that_takes() -> None:
    rig = Rig()
    breaker = rig.add("store", successes=3)
    rig.services["store"].error = None
    trip(breaker)
    async with rig.running():
        await rig.check()
        assert is_in(breaker, State.CLOSED)
    assert rig.probed() == {"store": 3}
    assert rig.manager.recovery_attempts == {"store": 1}


async def test_what_callers_won_before_counts() -> None:
    rig = Rig()
    breaker = rig.add("store", successes=3)
    rig.services["store"].error = None
    trip(breaker)
    rig.clock.advance(10)
    breaker.acquire().success()
    async with rig.running():
        assert is_in(breaker, State.CLOSED)
        assert rig.probed() == {"store": 2}


async def test_a_critical_state_begins_recovery_at_once() -> None:
    rig = Rig()
    idle = rig.add("idle", recovery=1)
    rig.services["idle"].error = None
    store = rig.add("store", critical=True)
    trip(idle)
    async with rig.running():
        rig.clock.advance(2)
        await settle()
        assert is_in(idle, State.OPEN)
        trip(store)
        await settle()
        assert is_in(idle, State.CLOSED)


@pytest.mark.parametrize("state", [SystemState.CRITICAL, SystemState.EMERGENCY])
async def test_so_does_one_that_is_heard_of_once(state: SystemState) -> None:
    rig = Rig()
    breaker = rig.add("store", recovery=1)
    trip(breaker)
    async with rig.running():
        rig.clock.advance(2)
        rig.manager.heed(SystemState.DEGRADED)
        await settle()
        assert rig.probed() == {"store": 0}
        rig.manager.heed(state)
        await settle()
        assert rig.probed() == {"store": 1}
        rig.clock.advance(2)
        rig.manager.heed(state)
        await settle()
        assert rig.probed() == {"store": 1}, "it was heard of before"


async def test_a_probe_that_hangs_holds_nobody_up_and_is_not_joined_by_another() -> None:
    rig = Rig()
    hung, other = rig.add("hung", lease=1e6), rig.add("other")
    for service in rig.services.values():
        service.error = None
    rig.services["hung"].gate = asyncio.Event()
    trip(hung)
    async with rig.running():
        for checks in range(1, 4):
            trip(other)
            await rig.check()
            assert is_in(other, State.CLOSED)
            assert rig.probed() == {"hung": 1, "other": checks}
            assert rig.manager.recovery_attempts == rig.probed()
            assert hung.snapshot().not_permitted == 0
        rig.services["hung"].gate.set()
        await settle()
        assert is_in(hung, State.CLOSED)


async def test_all_are_probed_at_the_same_time() -> None:
    rig = Rig()
    gate = asyncio.Event()
    for name in "abcd":
        trip(rig.add(name))
        rig.services[name].gate = gate
    async with rig.running():
        await rig.check()
        assert [service.under_way for service in rig.services.values()] == [1] * 4
        gate.set()
        await settle()


async def test_a_hung_probe_has_failed_when_its_lease_ends() -> None:
    rig = Rig()
    breaker = rig.add("store", lease=0.01)
    rig.services["store"].gate = asyncio.Event()
    trip(breaker)
    rig.clock.advance(CHECK)
    async with rig.running(), asyncio.timeout(60):
        await rig.until(lambda: ProbeFailed("store", "AttemptTimeout") in rig.told)
    assert is_in(breaker, State.OPEN)
    assert breaker.snapshot().failed == 2
    assert rig.services["store"].under_way == 0


async def test_cancelling_ends_every_probe_and_says_nothing_about_the_service() -> None:
    rig = Rig()
    breaker = rig.add("store")
    service = rig.services["store"]
    service.gate = asyncio.Event()
    trip(breaker)
    before = asyncio.all_tasks()
    async with rig.running() as task:
        await rig.check()
        assert service.under_way == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service.under_way == 0
    assert asyncio.all_tasks() == before
    assert rig.manager._wakers == []
    seen = breaker.snapshot()
    assert (seen.state, seen.probes, seen.failed, seen.neutral) == (State.HALF_OPEN, 0, 1, 1)
    async with rig.running():  # it can be run again
        assert service.probed == 2


@pytest.mark.parametrize("error", [KeyError("bug"), asyncio.CancelledError(), None])
async def test_no_probe_ends_the_loop(error: BaseException | None) -> None:
    rig = Rig()
    for name in "ab":
        trip(rig.add(name))
        rig.services[name].error = error
    async with rig.running() as task:
        for _ in range(3):
            await rig.check()
        assert not task.done()
        assert rig.services["b"].probed == (1 if error is None else 3)


async def test_a_caller_that_probes_is_left_alone() -> None:
    rig = Rig()
    breaker = rig.add("store", lease=1000)
    trip(breaker)
    rig.clock.advance(10)
    callers = breaker.acquire()
    async with rig.running():
        await rig.check()
        assert rig.probed() == {"store": 0}
        callers.success()
    assert is_in(breaker, State.CLOSED)
    assert not [each for each in rig.told if isinstance(each, ProbeFailed)]


async def test_a_probe_behind_another_open_breaker_is_told() -> None:
    rig = Rig()
    inner = CircuitBreaker("inner", clock=rig.clock)
    inner.force_open("off")

    async def through() -> None:
        inner.acquire()

    breaker = rig.manager.register("outer", BreakerConfig(failure_threshold=1), probe=through)
    trip(breaker)
    rig.clock.advance(60)
    async with rig.running():
        assert ProbeFailed("outer", "CircuitOpen") in rig.told
        assert breaker.snapshot().failed == 1, "a refusal says nothing about the service"


async def test_without_automatic_recovery_nothing_is_probed_until_it_is_given_back() -> None:
    rig = Rig(auto_recovery=False)
    breaker = rig.add("store")
    rig.services["store"].error = None
    trip(breaker)
    async with rig.running():
        await rig.check()
        assert rig.manager.force_recovery("store", "try") == ("store",)
        await rig.check()
        assert rig.probed() == {"store": 0}
        assert is_in(breaker, State.HALF_OPEN)
        rig.manager.set_auto_recovery(True)
        await settle()
        assert is_in(breaker, State.CLOSED)


async def test_forced_recovery_probes_at_once() -> None:
    rig = Rig()
    breaker = rig.add("store", recovery=500)
    rig.services["store"].error = None
    trip(breaker)
    async with rig.running():
        rig.manager.force_recovery("store", "mended")
        await settle()
        assert is_in(breaker, State.CLOSED)


async def test_another_interval_holds_at_once() -> None:
    rig = Rig()
    breaker = rig.add("store", recovery=1)
    trip(breaker)
    async with rig.running():
        rig.manager.check_interval = 3
        await settle()
        await rig.check(2.9)
        assert rig.probed() == {"store": 0}
        await rig.check(0.1)
        assert rig.probed() == {"store": 1}
    assert rig.clock.slept[-2:] == [3, 3]


async def test_each_check_looks_at_the_whole() -> None:
    rig = Rig()
    why = [""]
    rig.manager.watch("journal", lambda: why[0], critical=True)
    async with rig.running():
        why[0] = "no space"
        await settle()
        assert rig.told == []
        await rig.check()
    assert rig.manager.state is SystemState.CRITICAL


async def test_another_thread_wakes_it() -> None:
    rig = Rig()
    breaker = rig.add("store")
    rig.services["store"].error = None

    def command() -> None:
        trip(breaker)
        rig.manager.force_recovery(None, "mended")

    async with rig.running(), asyncio.timeout(60):
        thread = threading.Thread(target=command)
        thread.start()
        await rig.until(lambda: is_in(breaker, State.CLOSED))
        thread.join(60)
    assert rig.probed() == {"store": 1}


def test_an_event_loop_that_was_closed_is_not_woken() -> None:
    rig = Rig()
    loop, woken = asyncio.new_event_loop(), list[int]()
    loop.close()
    wakers = rig.manager._wakers
    wakers += [lambda: loop.call_soon_threadsafe(print), lambda: woken.append(1)]
    trip(rig.add("store", critical=True))
    assert rig.manager.state is SystemState.CRITICAL
    assert woken == [1]
