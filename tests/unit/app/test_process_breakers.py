"""A child's breakers: made by configuration, reconfigured, commanded and reported."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from forebay.app.processes.process_breakers import (
    PRESETS,
    ProcessBreakers,
    RuntimeSettings,
    configured,
    validate,
)
from forebay.app.wiring.config import BreakerLimits, Config
from forebay.clock import ManualClock
from forebay.errors import ConfigError, Permanent, Transient
from forebay.ops.view import Action, Command, ProcessReport
from forebay.resilience import CircuitBreaker, CircuitOpen, SystemState
from forebay.telemetry import BreakerMoved, TelemetryEvent


def config(**resilience: object) -> Config:
    return msgspec.convert({"resilience": resilience}, Config)


def guarding(told: list[TelemetryEvent] | None = None, **resilience: object) -> ProcessBreakers:
    heard = [] if told is None else told
    return ProcessBreakers(
        "deliver",
        config(**resilience),
        clock=ManualClock(),
        rng=random.Random(1),
        observer=heard.append,
    )


def state(breaker: CircuitBreaker) -> str:
    return breaker.state.value


def fail(breaker: CircuitBreaker, times: int) -> None:
    def refused() -> None:
        raise Transient("no")

    for _ in range(times):
        with pytest.raises(Transient):
            breaker.call(refused)


def test_the_presets_are_the_numbers_of_the_systems_that_are_replaced() -> None:
    numbers = {
        section: (p.failure_threshold, p.recovery_timeout, p.success_threshold)
        for section, p in PRESETS.items()
    }
    assert numbers == {
        "store": (5, 60.0, 1),
        "clickhouse": (3, 120.0, 2),
        "clickhouse_bridge": (5, 60.0, 1),
        "rest": (5, 60.0, 3),
        "websocket": (3, 30.0, 2),
        "transport": (5, 30.0, 1),
    }


def test_the_configuration_changes_some_numbers_and_an_operator_others() -> None:
    said = config(rest={"failure_threshold": 2, "timeout_s": 4.0})
    found = configured("rest", said, BreakerLimits(timeout_s=9.0))
    assert (found.failure_threshold, found.timeout, found.recovery_timeout) == (2, 9.0, 60.0)
    assert configured("store", said) == PRESETS["store"]
    with pytest.raises(ConfigError, match="thread"):
        configured("store", config(store={"timeout_s": 4.0}))
    with pytest.raises(ConfigError):
        configured("store", config(store={"recovery_timeout_s": 6000.0}))


def test_orders_change_thresholds_and_keep_what_is_known() -> None:
    made = guarding()
    breaker = made.breaker("store", "store", critical=True)
    fail(breaker, 4)
    before = breaker.snapshot()

    made.obey(RuntimeSettings(config(store={"failure_threshold": 7}, recovery_hold_s=3.0)))

    assert breaker.config.failure_threshold == 7
    assert breaker.snapshot().failed == before.failed == 4
    assert breaker.snapshot().streak == 4
    assert made.manager.recovery_hold == 3.0
    fail(breaker, 2)
    assert state(breaker) == "closed"
    fail(breaker, 1)
    assert state(breaker) == "open"


def test_orders_that_cannot_be_change_nothing() -> None:
    made = guarding()
    breaker = made.breaker("store", "store")
    rest = made.breaker("x-rest", "rest")
    with pytest.raises(ConfigError):
        made.obey(
            RuntimeSettings(
                config(rest={"failure_threshold": 1}, check_interval_s=2.0),
                limits={"store": BreakerLimits(recovery_timeout_s=1e9)},
            )
        )
    assert (breaker.config, rest.config) == (PRESETS["store"], PRESETS["rest"])
    assert made.manager.check_interval == 30.0
    assert made.config == config()


def test_orders_hold_what_an_operator_holds_open() -> None:
    made = guarding()
    breaker = made.breaker("store", "store")
    made.obey(RuntimeSettings(config(), forced_open={"store": "disk swap", "other": "not ours"}))
    assert state(breaker) == "forced_open"
    assert breaker.snapshot().cause == "disk swap"


def test_without_auto_recovery_a_trip_waits_for_an_operator() -> None:
    made = guarding(auto_recovery=False)
    breaker = made.breaker("store", "store")
    fail(breaker, 5)
    assert state(breaker) == "open"
    assert breaker.retry_after() is None
    assert made.command(Command(Action.FORCE_RECOVERY, "store", "mended")) == ("store",)
    assert state(breaker) == "half_open"


def test_orders_switch_recovery_off_and_on_again() -> None:
    made = guarding()
    breaker = made.breaker("store", "store")
    fail(breaker, 5)
    assert breaker.retry_after() is not None
    made.obey(RuntimeSettings(config(auto_recovery=False)))
    assert breaker.retry_after() is None, "an operator must come"
    made.obey(RuntimeSettings(config()))
    assert breaker.retry_after() is not None


def test_commands_move_breakers_and_say_which() -> None:
    made = guarding()
    breaker = made.breaker("store", "store")
    assert made.command(Command(Action.FORCE_OPEN, "store", "why")) == ("store",)
    assert made.command(Command(Action.FORCE_OPEN, "store", "why")) == ()
    with pytest.raises(CircuitOpen):
        breaker.acquire()
    assert made.command(Command(Action.RESET, "store", "well")) == ("store",)
    assert state(breaker) == "closed"
    assert made.command(Command(Action.FORCE_RECOVERY)) == ()
    with pytest.raises(Permanent):
        made.command(Command(Action.RESET, "stroe"))
    with pytest.raises(Permanent):
        made.command(Command(Action.RELOAD))


def test_a_report_goes_as_json_and_comes_back_whole() -> None:
    told: list[TelemetryEvent] = []
    made = guarding(told)
    breaker = made.breaker("store", "store", critical=True)
    fail(breaker, 5)
    with pytest.raises(CircuitOpen):
        breaker.acquire()

    report = made.report(not_ready="", status={"rows": 3})
    again = msgspec.json.decode(msgspec.json.encode(report), type=ProcessReport)

    assert [service.name for service in again.services] == ["deliver", "store"]
    assert [service.up for service in again.services] == [True, False]
    assert again.services[1].depends_on == ("deliver",)
    (store,) = again.breakers
    assert (store.state, store.trips, store.requests, store.failures) == ("open", 1, 6, 5)
    assert (store.not_permitted, store.cause) == (1, "Transient")
    assert store.opened_ns == ManualClock().wall_ns()
    assert store.config["recovery_timeout_s"] == 60.0
    assert [moved["now"] for moved in store.history] == ["open"]
    assert {state for state, count in store.transitions.items() if count} == {"open"}
    assert again.status == {"rows": 3}
    assert [type(happening) for happening in told] == [BreakerMoved], (
        "the rest tells the supervisor"
    )


def test_it_sheds_when_the_whole_is_in_trouble_or_itself_is() -> None:
    made = guarding()
    breaker = made.breaker("store", "store", critical=True)
    assert made.sheds() == ""
    made.manager.heed(SystemState.DEGRADED)
    assert made.sheds() == ""
    made.manager.heed(SystemState.EMERGENCY)
    assert made.sheds() == "emergency"
    made.manager.heed(SystemState.HEALTHY)
    fail(breaker, 5)
    assert made.sheds() == "critical"


async def test_over_the_socket() -> None:
    made, heard = guarding(), list[Config]()
    made.breaker("store", "store")

    async def tell() -> ProcessReport:
        return made.report(not_ready="no")

    handlers = made.handlers(tell, heard.append)
    answer: Any = await handlers["report"]({"op": "report", "system": "critical"})
    assert (answer["not_ready"], answer["process"]) == ("no", "deliver")
    assert made.manager.state is SystemState.CRITICAL
    wanted = config(check_interval_s=5.0)
    orders = msgspec.to_builtins(
        RuntimeSettings(wanted, {"store": BreakerLimits(failure_threshold=9)})
    )
    assert await handlers["orders"]({"orders": orders}) == {}
    assert made.manager.breakers["store"].config.failure_threshold == 9
    assert heard == [wanted]
    command = msgspec.to_builtins(Command(Action.FORCE_OPEN, "store", "x"))
    assert await handlers["command"]({"command": command}) == {"changed": ["store"]}


async def test_an_order_that_nobody_waits_for_any_more_is_not_carried_out() -> None:
    made = guarding()
    breaker = made.breaker("store", "store")

    async def tell() -> ProcessReport:
        return made.report(not_ready="")

    handlers = made.handlers(tell)
    now = ManualClock().monotonic_ns()
    command = msgspec.to_builtins(Command(Action.FORCE_OPEN, "store", "x"))
    with pytest.raises(Transient, match="Nobody waits"):
        await handlers["command"]({"command": command, "until_ns": now - 1})
    orders = msgspec.to_builtins(RuntimeSettings(config(store={"failure_threshold": 9})))
    with pytest.raises(Transient):
        await handlers["orders"]({"orders": orders, "until_ns": now - 1})
    assert (state(breaker), breaker.config) == ("closed", PRESETS["store"])
    await handlers["command"]({"command": command, "until_ns": now + 1})
    assert state(breaker) == "forced_open"


def test_a_critical_service_that_there_is_not_is_a_mistake() -> None:
    venues = [{"name": "coinbase", "symbols": ["BTC-USD"]}]
    for name in ("coinbase-rest", "store", "capture"):
        validate(msgspec.convert({"venues": venues, "resilience": {"critical": [name]}}, Config))
    wrong = {"venues": venues, "resilience": {"critical": ["coinbase-rset"]}}
    with pytest.raises(ConfigError, match="coinbase-rest"):
        validate(msgspec.convert(wrong, Config))
    with pytest.raises(ConfigError, match=r"resilience\.rest"):
        validate(config(rest={"recovery_timeout_s": 900.0}))
