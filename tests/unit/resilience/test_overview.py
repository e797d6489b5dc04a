"""What a manager tells of the whole, in which order, and what it heeds."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

from forebay.clock import ManualClock
from forebay.resilience import (
    BreakerConfig,
    ResilienceManager,
    State,
    SystemState,
)
from forebay.telemetry import (
    BreakerMoved,
    ServiceDown,
    ServiceUp,
    SystemMoved,
    TelemetryEvent,
)
from tests.support.manager_rig import (
    CRITICAL,
    DEGRADED,
    DOWN,
    EMERGENCY,
    HEALTHY,
    TRIPS_AT_ONCE,
    Rig,
    is_in,
    trip,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from forebay.resilience import CircuitBreaker


# ---------------------------------------------------------------------- telling


def test_a_trip_is_told_with_what_follows_from_it_in_order() -> None:
    rig = Rig()
    rig.manager.watch("deliver", str)
    store = rig.add("store", "deliver", critical=True)
    trip(store)
    moved, down, whole = rig.told
    assert isinstance(moved, BreakerMoved)
    assert down == ServiceDown("store", "store", "open: ConnectionError")
    assert whole == SystemMoved("healthy", "critical", "store is down (open: ConnectionError)")
    assert rig.manager.state is CRITICAL


def test_nothing_is_told_twice_and_what_is_over_is_told_after_the_hold() -> None:
    rig = Rig(recovery_hold=30)
    store = rig.add("store", critical=True)
    trip(store)
    rig.said()
    rig.manager.health()
    assert rig.said() == []
    store.reset("mended")
    assert rig.said() == [ServiceUp("store")]
    seen = rig.manager.health()
    assert (seen.state, seen.roots) == (CRITICAL, ())
    assert seen.reason == "better for less than 30 s"
    rig.clock.advance(29)
    assert rig.manager.health().state is CRITICAL
    rig.clock.advance(1)
    assert rig.is_in(CRITICAL), "nobody has looked"
    assert rig.manager.health().state is HEALTHY
    assert rig.said() == [SystemMoved("critical", "healthy", "")]
    assert rig.is_in(HEALTHY)


def test_another_root_is_told() -> None:
    rig = Rig()
    process, store = rig.add("deliver"), rig.add("store", "deliver")
    trip(process)
    trip(store)
    assert ServiceDown("store", "deliver", "open: ConnectionError") in rig.said()
    process.reset("mended")
    assert rig.said() == [
        ServiceDown("store", "store", "open: ConnectionError"), ServiceUp("deliver"),
    ]  # fmt: skip


def test_a_watched_service_is_told_of_when_somebody_looks() -> None:
    rig = Rig()
    why = [""]
    rig.manager.watch("journal", lambda: why[0], critical=True)
    why[0] = "no space"
    assert rig.said() == []
    assert rig.manager.health().state is CRITICAL
    assert rig.said()[0] == ServiceDown("journal", "journal", "no space")


def test_a_listener_that_raises_is_logged_and_hears_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[TelemetryEvent] = []

    def listen(happening: TelemetryEvent) -> None:
        heard.append(happening)
        raise DOWN

    manager = ResilienceManager(clock=ManualClock(), listener=listen)
    trip(manager.register("store", TRIPS_AT_ONCE, critical=True))
    assert [type(each) for each in heard] == [BreakerMoved, ServiceDown, SystemMoved]
    assert [record.message for record in caplog.records] == [
        "A listener of the manager raised."
    ] * 3


def test_a_listener_may_look_and_command() -> None:
    seen: list[tuple[str, SystemState]] = []

    def listen(happening: TelemetryEvent) -> None:
        if isinstance(happening, ServiceDown):
            manager.reconfigure("store", BreakerConfig())
            manager.reset(happening.service, "a reflex")
            seen.append((happening.service, manager.health().state))

    manager = ResilienceManager(clock=ManualClock(), listener=listen, recovery_hold=0)
    trip(manager.register("store", TRIPS_AT_ONCE, critical=True))
    assert seen == [("store", HEALTHY)]
    assert is_in(manager.breakers["store"], State.CLOSED)


def test_an_older_look_that_ends_later_is_not_noted() -> None:
    rig = Rig(recovery_hold=0)
    depth = [0]

    def why() -> str:
        depth[0] += 1
        if depth[0] > 1:
            return ""
        rig.manager.health()  # another thread looks, begins later, and sees it mended
        return "down"

    rig.manager.watch("journal", why, critical=True)
    rig.manager.health()
    assert rig.said() == []
    assert rig.is_in(HEALTHY)


def test_a_look_of_the_collector_does_not_wait_for_what_its_thread_has() -> None:
    rig = Rig()
    store = rig.add("store", critical=True)
    with rig.manager._overview._noting:  # the collector runs inside, and an abandoned probe reopens
        trip(store)
        assert rig.is_in(HEALTHY)
    rig.manager.health()
    assert rig.is_in(CRITICAL)
    with rig.manager._overview._teller._telling:
        store.reset("mended")
    assert ServiceUp("store") not in rig.told
    rig.manager.health()
    assert rig.told.count(ServiceUp("store")) == 1


# --------------------------------------------------------------------- heeding


def test_the_state_is_the_worse_of_the_own_and_the_larger_one() -> None:
    rig = Rig(recovery_hold=0)
    store = rig.add("store", critical=True)
    rig.manager.heed(EMERGENCY)
    assert rig.is_in(EMERGENCY)
    assert rig.manager.health().state is HEALTHY, "its own"
    rig.manager.heed(DEGRADED)
    assert rig.is_in(DEGRADED)
    trip(store)
    assert rig.is_in(CRITICAL)
    assert [each for each in rig.told if isinstance(each, SystemMoved)] == [
        SystemMoved("healthy", "critical", "store is down (open: ConnectionError)")
    ]


def test_what_was_heeded_lapses() -> None:
    rig = Rig()
    rig.manager.heed(EMERGENCY)
    rig.clock.advance(29.9)
    assert rig.is_in(EMERGENCY)
    rig.clock.advance(0.1)
    assert rig.is_in(HEALTHY)


def test_heeding_looks_so_a_poll_is_enough_to_improve() -> None:
    rig = Rig(recovery_hold=30)
    store = rig.add("store", critical=True)
    trip(store)
    store.reset("mended")
    rig.clock.advance(30)
    rig.manager.heed(HEALTHY)
    assert rig.is_in(HEALTHY)


# ---------------------------------------------------------------------- threads


def test_threads_see_one_history() -> None:
    rig = Rig(recovery_hold=0)
    breakers = [rig.add(name, critical=True) for name in "abc"]
    start, errors = threading.Barrier(6), list[BaseException]()

    def move(breaker: CircuitBreaker) -> None:
        for _ in range(100):
            breaker.force_open("down")
            breaker.reset("up")

    def look() -> None:
        for number in range(100):
            rig.manager.health()
            rig.manager.heed(HEALTHY)
            rig.manager.set_auto_recovery(number % 2 == 0)

    def run(act: Callable[[], None]) -> None:
        start.wait()
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            errors.append(error)

    acts: list[Callable[[], None]] = [lambda each=each: move(each) for each in breakers]  # type: ignore[misc]
    threads = [threading.Thread(target=run, args=(act,)) for act in [*acts, look, look, look]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    rig.manager.health()
    assert rig.is_in(HEALTHY)
    assert rig.manager._overview._roots == {}
    assert not rig.manager._overview._untold
    assert not rig.manager._overview._unnoted
    for name in "abc":
        told = [
            isinstance(each, ServiceUp)
            for each in rig.told
            if isinstance(each, (ServiceUp, ServiceDown)) and each.service == name
        ]
        assert told == [number % 2 == 1 for number in range(len(told))], "down, up, down, up"
        assert len(told) % 2 == 0
    whole = [each for each in rig.told if isinstance(each, SystemMoved)]
    assert all(after.was == before.now for before, after in itertools.pairwise(whole))
    assert len([each for each in rig.told if isinstance(each, BreakerMoved)]) == 600
