"""The supervisor's view of its processes, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import random
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from forebay.app.processes import system as system_module
from forebay.app.processes.local_socket import LocalServer
from forebay.app.processes.process_breakers import ProcessBreakers
from forebay.app.processes.system import AWAY_AFTER, STALE_S, RunningSystem
from forebay.app.wiring import logs
from forebay.app.wiring.config import Config
from forebay.clock import ManualClock
from forebay.errors import ConfigError, Unreachable
from forebay.ops.view import Action, Command, Outcome, ProcessReport, Sample, UnknownName
from forebay.resilience import State, SystemState
from forebay.telemetry import (
    ConfigRefused,
    ConfigReloaded,
    ServiceDown,
    ServiceUp,
    SystemMoved,
    TelemetryEvent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from forebay.app.processes.local_socket import Handler, Reply, Request
    from forebay.app.processes.process_breakers import Section


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", lambda level, *, process: None)


def config(**tables: object) -> Config:
    return msgspec.convert(tables, Config)


class Rig:
    """A capture and a deliver that answer on sockets, and the system that asks them."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.told: list[TelemetryEvent] = []
        self.folder = folder
        self.wanted = config()
        self.pids = {"capture": 1, "deliver": 2}
        self.systems: list[str] = []
        self.ordered: list[Request] = []
        self.made = {role: self.child(role) for role in self.pids}
        self.ahead_s = dict.fromkeys(self.pids, 0)
        self.answers_s = 0.0
        """How long a process takes to say how it is."""
        sockets = {role: folder / f"{role}.sock" for role in self.pids}
        self.system = RunningSystem(
            config(),
            sockets,
            load=lambda: self.wanted,
            measure=lambda: [Sample("x", 1.0)],
            clock=self.clock,
            observer=self.told.append,
        )

    def child(self, role: str) -> ProcessBreakers:
        made = ProcessBreakers(
            role,
            config(),
            clock=self.clock,
            rng=random.Random(1),
            observer=lambda _: None,
        )
        names = {"capture": ("coinbase-rest", "coinbase-websocket"), "deliver": ("store",)}
        for name in names[role]:
            section = cast("Section", name.rpartition("-")[2])
            made.breaker(name, section, critical=name != "coinbase-rest")
        return made

    @contextlib.asynccontextmanager
    async def answering(self, *roles: str) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for role in roles:
                server = LocalServer(self.folder / f"{role}.sock", self.handlers(role))
                await stack.enter_async_context(server.serving())
            yield

    def handlers(self, role: str) -> dict[str, Handler]:
        made = self.made[role]

        async def tell() -> ProcessReport:
            self.clock.advance(self.answers_s)
            said = made.report(not_ready="")
            assert said.wall_ns is not None
            wall_ns = said.wall_ns + self.ahead_s[role] * 10**9
            return dataclasses.replace(said, pid=self.pids[role], wall_ns=wall_ns)

        handlers = made.handlers(tell)
        report, orders = handlers["report"], handlers["orders"]

        async def noting(request: Request) -> Reply | Request:
            self.systems.append(request["system"])
            return await report(request)

        async def ordered(request: Request) -> Reply | Request:
            self.ordered.append(request)
            return await orders(request)

        return {**handlers, "report": noting, "orders": ordered}

    async def polls(self, times: int = 1) -> None:
        for _ in range(times):
            await self.system.poll()
            self.clock.advance(1.0)

    def state(self) -> str:
        return self.system.state.value

    def moved(self) -> list[str]:
        return [each.now for each in self.told if isinstance(each, SystemMoved)]

    def hold_open(self, *names: str) -> None:
        for made in self.made.values():
            for name in names:
                if name in made.manager.breakers:
                    made.manager.force_open(name, "a test")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_before_and_after_the_first_answer(rig: Rig) -> None:
    first = await rig.system.report()
    assert [each.process for each in first.processes] == ["supervisor"]
    assert first.health.state is SystemState.HEALTHY
    assert "capture does not answer" in first.not_ready
    async with rig.answering("capture", "deliver"):
        await rig.polls()
        seen = await rig.system.report()
    assert [each.process for each in seen.processes] == ["supervisor", "capture", "deliver"]
    assert seen.processes[0].samples[0] == Sample("x", 1.0)
    assert [each.name for each in seen.breakers()] == [
        "coinbase-rest", "coinbase-websocket", "store",
    ]  # fmt: skip
    assert (seen.health.state, seen.not_ready, rig.told) == (SystemState.HEALTHY, "", [])


async def test_a_critical_service_down_is_critical_and_two_are_an_emergency(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        rig.hold_open("store")
        await rig.polls(2)
        assert rig.state() == "critical"
        rig.hold_open("coinbase-websocket")
        await rig.polls(2)
        assert rig.state() == "emergency"
        assert "EMERGENCY" in (await rig.system.report()).not_ready
    assert rig.moved() == ["critical", "emergency"]
    downs = [each for each in rig.told if isinstance(each, ServiceDown)]
    assert [(each.service, each.root) for each in downs] == [
        ("store", "store"), ("coinbase-websocket", "coinbase-websocket"),
    ]  # fmt: skip
    assert rig.systems[0] == "healthy"
    assert rig.systems[-2:] == ["emergency"] * 2, "each process hears of the whole"
    assert rig.made["deliver"].sheds() == "emergency"


async def test_it_gets_better_only_after_the_hold(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        rig.hold_open("store")
        await rig.polls(1)
        rig.made["deliver"].manager.reset("store", "mended")
        await rig.polls(9)
        assert rig.state() == "critical"
        assert (await rig.system.report()).health.reason == "better for less than 10 s"
        await rig.polls(3)
    assert rig.moved() == ["critical", "healthy"]
    assert [each.service for each in rig.told if isinstance(each, ServiceUp)] == ["store"]


async def test_what_the_configuration_calls_critical_is(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        rig.hold_open("coinbase-rest", "store")
        await rig.polls()
        assert rig.state() == "critical"
        rig.wanted = config(resilience={"critical": ["coinbase-rest"]})
        await rig.system.reload()
        await rig.polls()
        assert rig.state() == "emergency"


async def test_a_process_that_dies_is_down_after_some_polls_and_not_before(rig: Rig) -> None:
    async with rig.answering("deliver"):
        async with rig.answering("capture"):
            await rig.polls(2)
        await rig.polls(AWAY_AFTER)
        assert rig.state() == "healthy"
        processes = (await rig.system.report()).processes
        assert [each.process for each in processes] == ["supervisor", "deliver"]
        await rig.polls()
        assert rig.state() == "critical"
        health = (await rig.system.report()).health
        assert health.roots == ("capture",)
        assert set(health.attributed.values()) == {"capture"}
        assert len(health.attributed) == 3


async def test_commands_reach_the_process_that_has_the_breaker(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        await rig.polls()
        outcome = await rig.system.command(Command(Action.FORCE_OPEN, "store", "disk swap"))
        assert outcome == Outcome(["store"], "store: forced_open.")
        assert (await rig.system.report()).breakers()[-1].state == "forced_open", "seen at once"
        store = rig.made["deliver"].manager.breakers["store"]
        assert (store.state, store.snapshot().cause) == (State.FORCED_OPEN, "disk swap")
        assert (await rig.system.command(Command(Action.FORCE_RECOVERY))).changed == []
        outcome = await rig.system.command(Command(Action.FORCE_RECOVERY, "store"))
        assert (outcome.changed, store.state) == (["store"], State.HALF_OPEN)
        with pytest.raises(UnknownName, match="Did you mean store"):
            await rig.system.command(Command(Action.RESET, "stroe"))
    with pytest.raises(Unreachable):
        await rig.system.command(Command(Action.RESET, "store"))


async def test_thresholds_by_an_operator_and_holding_open_outlive_the_process(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        await rig.polls()
        wanted = Command(Action.CONFIGURE, "store", settings={"failure_threshold": 9})
        assert (await rig.system.command(wanted)).changed == ["store"]
        more = Command(Action.CONFIGURE, "store", settings={"recovery_timeout_s": 7.5})
        await rig.system.command(more)
        await rig.system.command(Command(Action.FORCE_OPEN, "coinbase-rest", "hands off"))
        kept = rig.made["deliver"].manager.breakers["store"].config
        assert (kept.failure_threshold, kept.recovery_timeout) == (9, 7.5)

    rig.made = {role: rig.child(role) for role in rig.pids}
    rig.pids = {"capture": 11, "deliver": 12}
    async with rig.answering("capture", "deliver"):
        await rig.polls()
    again = rig.made["deliver"].manager.breakers["store"].config
    assert (again.failure_threshold, again.recovery_timeout) == (9, 7.5)
    rest = rig.made["capture"].manager.breakers["coinbase-rest"]
    assert (rest.state, rest.snapshot().cause) == (State.FORCED_OPEN, "hands off")


@pytest.mark.parametrize(
    "settings",
    [
        {"failure_threshold": 0},
        {"recovery_timeout_s": 1e9},
        {"success_threshold": -1},
        {"timeout_s": 3.0},
    ],
)
async def test_settings_that_cannot_be_change_nothing(
    rig: Rig, settings: dict[str, float | int]
) -> None:
    async with rig.answering("capture", "deliver"):
        await rig.polls()
        before = rig.made["deliver"].manager.breakers["store"].config
        with pytest.raises(ConfigError):
            await rig.system.command(Command(Action.CONFIGURE, "store", settings=settings))
        assert rig.made["deliver"].manager.breakers["store"].config == before
        await rig.system.command(
            Command(Action.CONFIGURE, "store", settings={"success_threshold": 3})
        )
    assert rig.made["deliver"].manager.breakers["store"].config.success_threshold == 3


async def test_reading_the_configuration_again(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        await rig.polls()
        await rig.system.command(
            Command(Action.CONFIGURE, "store", settings={"failure_threshold": 9})
        )
        rig.wanted = config(
            data="elsewhere", log_level="error", resilience={"store": {"recovery_timeout_s": 8.0}}
        )
        outcome = await rig.system.command(Command(Action.RELOAD))
        assert set(outcome.changed) == {"log_level", "resilience.store.recovery_timeout_s"}
        assert "undone: what an operator changed of store" in outcome.detail
        assert "after a restart: data" in outcome.detail
        await rig.polls()
        assert (await rig.system.report()).restart_needed == ("data",)
    store = rig.made["deliver"].manager.breakers["store"].config
    assert (store.recovery_timeout, store.failure_threshold) == (8.0, 5), (
        "the file is the truth again"
    )
    assert rig.system.config.data == "data"
    assert rig.told == [ConfigReloaded(tuple(outcome.changed), ("data",))]


async def test_a_configuration_that_cannot_be_is_told_and_changes_nothing(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        await rig.polls()
        rig.wanted = config(log_level="error", resilience={"store": {"recovery_timeout_s": 1e9}})
        await rig.system.reload()
    assert rig.system.config == config()
    assert rig.made["deliver"].manager.breakers["store"].config.recovery_timeout == 60.0
    (refused,) = rig.told
    assert isinstance(refused, ConfigRefused)
    assert "recovery" in refused.reason


async def test_a_process_that_is_away_does_not_keep_the_others_from_a_reload(rig: Rig) -> None:
    async with rig.answering("deliver"):
        await rig.polls()
        rig.wanted = config(resilience={"store": {"recovery_timeout_s": 8.0}})
        await rig.system.reload()
    assert rig.system.config == rig.wanted
    assert rig.made["deliver"].manager.breakers["store"].config.recovery_timeout == 8.0


async def test_it_asks_once_a_second_until_cancelled(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        watching = asyncio.create_task(rig.system.watch())
        while len(rig.systems) < 6:
            await asyncio.sleep(0)
            rig.clock.advance(1.0)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert set(rig.clock.slept) == {1.0}


async def test_it_goes_on_asking_after_an_error_that_is_none_of_ours(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object, **__: object) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    async with rig.answering("capture", "deliver"):
        await rig.polls()
        with monkeypatch.context() as patch:
            patch.setattr(system_module, "ask", short)
            await rig.polls(AWAY_AFTER + 1)
        assert rig.state() == "emergency"
        await rig.polls(1)
        assert len((await rig.system.report()).processes) == 3


@pytest.mark.parametrize("pid", [2, 22], ids=["hung", "starting"])
async def test_a_process_that_missed_a_reload_gets_it_when_it_answers(rig: Rig, pid: int) -> None:
    async with rig.answering("capture", "deliver"):
        await rig.polls()
    rig.wanted = config(resilience={"store": {"failure_threshold": 77}})
    await rig.system.reload()
    rig.pids["deliver"] = pid
    async with rig.answering("capture", "deliver"):
        await rig.polls()
        assert rig.made["deliver"].manager.breakers["store"].config.failure_threshold == 77
        heard = len(rig.ordered)
        await rig.polls(3)
        assert len(rig.ordered) == heard, "once is enough"


async def test_a_report_that_is_old_is_none(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        await rig.polls()
        rig.clock.advance(STALE_S + 1)
        with pytest.raises(Unreachable, match="last asked 12 s ago"):
            await rig.system.report()
        await rig.system.poll()
        assert (await rig.system.report()).health.state is SystemState.HEALTHY


async def test_children_get_no_token(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        rig.wanted = config(http={"token": "a long random word"})
        await rig.system.reload()
        await rig.polls()
    assert rig.system.config.http.token == "a long random word"
    assert rig.ordered
    assert "random" not in str(rig.ordered)


async def test_a_token_file_that_cannot_be_read_refuses_the_reload(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        await rig.polls()
        rig.wanted = config(http={"token_file": "/nowhere/token"}, log_level="error")
        await rig.system.reload()
    assert rig.system.config == config()
    assert isinstance(rig.told[-1], ConfigRefused)


async def test_another_hold_holds_from_the_reload_on(rig: Rig) -> None:
    async with rig.answering("capture", "deliver"):
        rig.hold_open("store")
        await rig.polls()
        rig.wanted = config(resilience={"recovery_hold_s": 2})
        await rig.system.reload()
        rig.made["deliver"].manager.reset("store", "mended")
        await rig.polls(5)
    assert rig.moved() == ["critical", "healthy"]


def clock_skews(rig: Rig) -> dict[str, float]:
    (own, *_) = rig.system.last.processes
    return {
        each.labels["service"]: each.value
        for each in own.samples
        if each.name == "forebay_process_clock_skew_seconds"
    }


async def test_a_process_with_another_clock_is_told_and_one_that_answers_late_is_not(
    rig: Rig,
) -> None:
    async with rig.answering("capture", "deliver"):
        rig.ahead_s["deliver"] = -5
        await rig.polls()
        assert clock_skews(rig) == {"capture": 0, "deliver": -5}
        rig.ahead_s["deliver"], rig.answers_s = 0, 1.5
        await rig.polls()
        assert clock_skews(rig) == {"capture": 0, "deliver": 0}
    await rig.polls()
    assert clock_skews(rig) == {}, "one that does not answer has no clock"
