"""The manager: what it makes, what it sees, and what it is commanded."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError, Permanent
from forebay.resilience import (
    BreakerConfig,
    CircuitOpen,
    Fallback,
    ResilienceManager,
    State,
)
from forebay.telemetry import (
    FallbackBegan,
)
from tests.support.manager_rig import (
    DEGRADED,
    HEALTHY,
    TRIPS_AT_ONCE,
    Rig,
    fail,
    fine,
    is_in,
    trip,
)

if TYPE_CHECKING:
    from collections.abc import Callable


# ---------------------------------------------------------------- registration


def test_a_breaker_is_registered_by_being_made() -> None:
    rig = Rig()
    store = rig.add("store")
    rest = rig.manager.register("rest")
    assert rig.manager.breakers == {"store": store, "rest": rest}
    assert (store.config, rest.config) == (TRIPS_AT_ONCE, BreakerConfig())
    assert store.clock is rig.clock
    assert rig.manager.process == "deliver"


def test_two_services_have_two_names() -> None:
    rig = Rig()
    rig.add("store")
    rig.manager.watch("journal", str)
    for name in ("store", "journal"):
        with pytest.raises(ConfigError, match=f"a service {name} already"):
            rig.manager.register(name)
        with pytest.raises(ConfigError, match=f"a service {name} already"):
            rig.manager.watch(name, str)
    assert list(rig.manager.breakers) == ["store"]


def test_a_dependency_is_registered_before_what_needs_it() -> None:
    rig = Rig()
    rig.add("deliver")
    for refused in (
        rig.manager.register,
        lambda name, **needs: rig.manager.watch(name, str, **needs),
    ):
        with pytest.raises(ConfigError) as error:
            refused("store", depends_on=("deliverer",))
        assert error.value.hint == "Did you mean deliver?"
        with pytest.raises(ConfigError):
            refused("self", depends_on=("self",))
    assert [each.name for each in rig.manager.services()] == ["deliver"]


def test_start_and_stop_follow_the_graph() -> None:
    rig = Rig()
    rig.add("capture")
    rig.manager.watch("journal", str, depends_on=("capture",))
    rig.add("store", "journal")
    assert rig.manager.start_order() == ("capture", "journal", "store")
    assert rig.manager.start_order()[::-1] == ("store", "journal", "capture")


def test_breakers_do_not_share_dice() -> None:
    """Or two threads would make each other's waits irreproducible."""
    waits = []
    for others in (0, 3):
        manager = ResilienceManager(clock=ManualClock(), rng=random.Random(5))
        first = manager.register("first", BreakerConfig(failure_threshold=1))
        second = manager.register("second", BreakerConfig(failure_threshold=1))
        for _ in range(others):
            trip(first)
            first.reset("again")
        trip(second)
        waits.append(second.retry_after())
    assert waits[0] == waits[1]
    assert waits[0] != 30


# --------------------------------------------------------------------- services


def up(rig: Rig) -> dict[str, str]:
    return {each.name: "up" if each.up else each.reason for each in rig.manager.services()}


def test_a_service_is_up_while_its_breaker_is_closed_or_disabled() -> None:
    rig = Rig()
    store = rig.add("store")
    assert up(rig) == {"store": "up"}
    trip(store)
    assert up(rig) == {"store": "open: ConnectionError"}
    rig.manager.force_recovery("store", "try")
    assert up(rig) == {"store": "half_open: ConnectionError"}
    rig.manager.force_open("store", "maintenance")
    assert up(rig) == {"store": "forced_open: maintenance"}
    store.disable("off")
    assert up(rig) == {"store": "up"}


def test_services_say_what_they_were_registered_with() -> None:
    rig = Rig()
    rig.manager.watch("capture", str, critical=True)
    fallback: Fallback[int] = Fallback("redis", lambda _: 0)
    rig.manager.register("redis", critical=True, depends_on=("capture",), fallback=fallback)
    capture, redis = rig.manager.services()
    assert (capture.critical, capture.depends_on, capture.serving_fallback) == (True, (), False)
    assert (redis.critical, redis.depends_on, redis.serving_fallback) == (True, ("capture",), False)


def test_a_watched_service_that_cannot_say_is_down() -> None:
    rig = Rig()
    rig.manager.watch("up", str)
    rig.manager.watch("full", lambda: "its disk is full")
    rig.manager.watch("broken", lambda: f"{1 // 0}")
    assert up(rig) == {
        "up": "up", "full": "its disk is full", "broken": "it cannot say: ZeroDivisionError",
    }  # fmt: skip


def test_a_fallback_that_serves_degrades_the_whole() -> None:
    rig = Rig(recovery_hold=0)
    fallback: Fallback[int] = Fallback("redis", lambda _: 0, listener=rig.told.append)
    rig.manager.register("redis", fallback=fallback)
    rig.add("store")
    assert rig.manager.fallbacks_serving() == ()
    with pytest.raises(ConnectionError):
        fail()
    fallback.call(lambda: 1 // 0)
    assert rig.manager.fallbacks_serving() == ("redis",)
    assert rig.manager.health().state is DEGRADED
    fallback.call(fine)
    assert rig.manager.health().state is HEALTHY
    assert FallbackBegan("redis", "ZeroDivisionError") in rig.told


# -------------------------------------------------------------------- commands


def test_commands_reach_the_breaker_and_say_whether_it_moved() -> None:
    rig = Rig()
    store = rig.add("store")
    assert rig.manager.force_open("store", "maintenance")
    assert not rig.manager.force_open("store", "maintenance")
    assert is_in(store, State.FORCED_OPEN)
    assert rig.manager.reset("store", "done")
    assert not rig.manager.reset("store", "done")
    assert is_in(store, State.CLOSED)
    assert rig.manager.force_recovery("store", "again") == ()


def test_recovery_is_forced_on_all_but_what_an_operator_holds_open() -> None:
    rig = Rig()
    breakers = [rig.add(name) for name in ("a", "b", "held", "fine")]
    trip(breakers[0])
    trip(breakers[1])
    rig.manager.force_open("held", "maintenance")
    assert rig.manager.force_recovery(None, "the network is back") == ("a", "b")
    assert [each.state for each in breakers] == [
        State.HALF_OPEN, State.HALF_OPEN, State.FORCED_OPEN, State.CLOSED,
    ]  # fmt: skip
    assert rig.manager.force_recovery("held", "done") == ("held",)
    assert breakers[0].snapshot().history[-1].reason == "the network is back"


@pytest.mark.parametrize(
    "command",
    [
        lambda manager: manager.force_open("stor", ""),
        lambda manager: manager.reset("stor", ""),
        lambda manager: manager.force_recovery("stor", ""),
        lambda manager: manager.reconfigure("stor", BreakerConfig()),
    ],
)
def test_an_unknown_name_is_refused_with_a_near_one(
    command: Callable[[ResilienceManager], object],
) -> None:
    rig = Rig()
    rig.add("store")
    rig.manager.watch("stor", str)  # no breaker
    with pytest.raises(Permanent) as refused:
        command(rig.manager)
    assert refused.value.message == "There is no breaker stor."
    assert refused.value.hint == "Did you mean store?"


def test_a_new_configuration_keeps_what_is_known() -> None:
    rig = Rig()
    store = rig.manager.register("store", BreakerConfig(failure_threshold=3))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            store.call(fail)
    under_way = store.acquire()
    rig.manager.reconfigure("store", BreakerConfig(failure_threshold=3))
    under_way.release()
    assert store.snapshot().stale == 0, "the same thresholds change nothing"
    rig.manager.reconfigure("store", BreakerConfig(failure_threshold=5))
    assert store.snapshot().streak == 2
    rig.manager.reconfigure("store", TRIPS_AT_ONCE)
    assert store.config is TRIPS_AT_ONCE


# ---------------------------------------------------- without automatic recovery


def test_without_recovery_a_trip_lasts_until_an_operator_acts() -> None:
    rig = Rig(auto_recovery=False)
    store = rig.add("store")
    trip(store)
    rig.clock.advance(1e6)
    with pytest.raises(CircuitOpen) as refused:
        store.call(fine)
    assert refused.value.retry_after is None
    assert str(refused.value) == "store is not called: its breaker is open after ConnectionError."
    assert is_in(store, State.OPEN)
    assert store.retry_after() is None
    assert rig.manager.force_recovery(None, "mended") == ("store",)
    store.call(fine)
    store.call(fine)
    assert is_in(store, State.CLOSED)


def test_recovery_is_given_back_and_taken_away_with_all_state_kept() -> None:
    rig = Rig()
    store, rest = rig.add("store"), rig.manager.register("rest", BreakerConfig(failure_threshold=5))
    trip(store)
    with pytest.raises(ConnectionError):
        rest.call(fail)
    rig.clock.advance(4)
    rig.manager.set_auto_recovery(False)
    assert not rig.manager.auto_recovery
    assert store.retry_after() is None
    assert rest.snapshot().streak == 1
    rig.manager.set_auto_recovery(True)
    assert store.retry_after() == 6, "from its beginning"
    assert rest.snapshot().streak == 1
    assert store.config is TRIPS_AT_ONCE
    rig.clock.advance(6)
    assert store.call(fine) == 1


def test_without_recovery_every_configuration_is_without() -> None:
    rig = Rig(auto_recovery=False)
    store = rig.add("store")
    rig.manager.reconfigure("store", BreakerConfig(failure_threshold=2, recovery_timeout=60))
    assert store.config.recovery_timeout is None
    assert store.config.lease_ns() == 60e9, "a probe's lease is not a matter of recovery"
    trip(store)
    assert store.retry_after() is None
    rig.manager.set_auto_recovery(True)
    assert store.config == BreakerConfig(failure_threshold=2, recovery_timeout=60)
    assert store.retry_after() == pytest.approx(60, rel=0.11)


def test_what_an_operator_holds_open_stays_so_whatever_is_configured() -> None:
    rig = Rig(auto_recovery=False)
    store = rig.add("store")
    rig.manager.force_open("store", "maintenance")
    rig.manager.set_auto_recovery(True)
    rig.manager.reconfigure("store", BreakerConfig())
    rig.clock.advance(1e6)
    assert is_in(store, State.FORCED_OPEN)
    assert store.retry_after() is None
    with pytest.raises(CircuitOpen):
        store.call(fine)


# --------------------------------------------------------------------- settings


def test_settings_are_read_back_and_refused_if_they_make_no_sense() -> None:
    manager = ResilienceManager(clock=ManualClock(), check_interval=5, recovery_hold=6)
    assert (manager.check_interval, manager.recovery_hold) == (5, 6)
    manager.check_interval, manager.recovery_hold = 7, 0
    assert (manager.check_interval, manager.recovery_hold) == (7, 0)
    for interval in (0, -1, float("nan")):
        with pytest.raises(ConfigError):
            manager.check_interval = interval
    with pytest.raises(ConfigError):
        manager.recovery_hold = -1
    assert (manager.check_interval, manager.recovery_hold) == (7, 0)


def test_a_shorter_hold_holds_for_what_is_held_already() -> None:
    rig = Rig(recovery_hold=1000)
    store = rig.add("store", critical=True)
    trip(store)
    store.reset("mended")
    rig.clock.advance(10)
    rig.manager.recovery_hold = 10
    assert rig.manager.health().state is HEALTHY
