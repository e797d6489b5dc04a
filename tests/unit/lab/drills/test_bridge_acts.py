"""The acts of bridges' drills, on a stage that is played: the fault is always taken away."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from forebay.clock import ManualClock
from forebay.errors import Transient
from forebay.lab.drills import bridges
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import Bridging, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from forebay.lab.clickhouse_front import Tampering
    from forebay.lab.drills.stage import Stage


class Passing(ManualClock):
    """Whoever sleeps has slept."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


@dataclass
class Server:
    """A ClickHouse."""

    folder: Path
    pid: int = 7
    port: int = 4711
    held: int = 1
    did: list[str] = field(default_factory=list)

    def kill(self) -> None:
        self.did.append("killed")
        self.pid = 0

    async def start(self) -> None:
        self.did.append("started")
        self.pid = 8

    def tamper(self, tampering: Tampering) -> None:
        tables = {table for table, _ in bridges.WITHHELD}
        said = [f'INSERT INTO "forebay"."{table}" ("a") FORMAT' for table in tables]
        assert [bool(re.search(tampering.pattern, each)) for each in said].count(True) == 1
        self.did.append("tampered")

    def forget(self) -> None:
        self.did.append("forgot")


@dataclass
class Process:
    """A bridge."""

    name: str
    pids: list[int] = field(default_factory=lambda: [1, 2])
    did: list[str] = field(default_factory=list)

    async def start(self) -> None:
        self.did.append("started")

    async def kill(self) -> None:
        self.did.append("killed")

    def freeze(self) -> int:
        self.did.append("frozen")
        return len(self.pids)

    def thaw(self) -> None:
        self.did.append("thawed")


@dataclass
class Side:
    """What is behind the broker; rows come as long as all goes well."""

    server: Server
    bridges: list[Process]
    grows: bool = True
    opens: bool = True
    hits: int = 3
    poison: int = 0
    drained_per_s: float = 0.0
    rate: float = 20_000.0
    wanted: Bridging = field(default_factory=Bridging)
    other: Server = field(init=False)
    _rows: int = 0
    _met: int = 0

    @property
    def servers(self) -> dict[str, Server]:
        return {"first": self.server, "second": self.other}

    async def rows_of(self, server: Server) -> int:
        assert server is self.other, "the one that lives"
        self._rows += 2000 * self.grows
        return self._rows

    async def rows(self) -> int:
        self._rows += self.grows
        return self._rows

    def __post_init__(self) -> None:
        self.other = Server(self.server.folder / "other")

    def met(self) -> int:
        self._met += self.hits
        return self._met

    def breakers(self, name: str) -> set[str]:
        assert name == bridges.BREAKER
        return {"open"} if self.opens else {"open", "closed"}

    async def caught_up(self, stage: PlayedStage, more_s: float = 0.0) -> float:
        if not self.grows:
            raise Transient("Waited in vain.")
        return self.rate


@dataclass
class PlayedStage:
    """A stage on which time passes when somebody sleeps."""

    bridged: Side
    checks: dict[str, bool] = field(default_factory=dict)
    hits: list[int] = field(default_factory=list)
    timing: Timing = field(default_factory=lambda: Timing(patience_s=0.2))
    drill: Any = DRILLS["clickhouse-down"]
    clock: Any = field(default_factory=Passing)
    seed: int = 1
    lasted: int = 0

    def say(self, what: str) -> None:
        assert what

    def check(self, what: str, ok: bool) -> None:
        self.checks[what] = ok

    def fault_over(self, hits: int) -> None:
        self.hits.append(hits)

    def happened(self, event: str) -> list[int]:
        self.bridged.met()
        return [0] * self.bridged._met

    async def breaker(self, name: str, state: str) -> None:
        assert (name, state) == ("first-bridge", "open")
        if not self.bridged.opens:
            raise Transient("Waited in vain.")

    async def goes_on(self) -> None:
        await self.last()

    async def last(self) -> None:
        self.lasted += 1

    @property
    def red(self) -> list[str]:
        return [what for what, ok in self.checks.items() if not ok]


@pytest.fixture
def played(tmp_path: Path) -> PlayedStage:
    processes = [Process(f"bridge-{number}") for number in (1, 2, 3)]
    return PlayedStage(Side(Server(tmp_path), processes))


async def acted(act: Callable[[Stage], Any], played: PlayedStage) -> bool:
    """Act; return whether it went to its end."""
    try:
        await act(cast("Stage", played))
    except Transient:
        return False
    return True


@pytest.mark.parametrize("opens", [True, False])
async def test_a_store_that_was_killed_is_started_again(played: PlayedStage, opens: bool) -> None:
    played.bridged.opens = opens
    assert await acted(bridges.clickhouse_down, played)

    assert played.bridged.server.did == ["killed", "started"]
    assert played.hits == [3]
    assert played.lasted == 1
    assert played.red == ([] if opens else ["the breaker of every bridge opened"])


async def test_a_fault_that_no_bridge_met_is_none(played: PlayedStage) -> None:
    played.bridged.hits = 0
    await acted(bridges.clickhouse_down, played)
    assert played.red == ["bridges met it 0 times"]


@pytest.mark.parametrize("dropped", [9, 0])
async def test_packets_must_have_been_dropped(
    played: PlayedStage, dropped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[str] = []

    class Wall:
        def dropped(self) -> int:
            return dropped

    @contextlib.contextmanager
    def cut_off(port: int) -> Iterator[Wall]:
        assert port == played.bridged.server.port
        yield Wall()
        went.append("down")

    monkeypatch.setattr(bridges, "cut_off", cut_off)
    await acted(bridges.clickhouse_partitioned, played)

    assert went == ["down"]
    assert played.red == ([] if dropped else ["0 packets were dropped"])


async def test_a_full_disk_has_room_again(
    played: PlayedStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridges, "fill", lambda file: file.write_bytes(b"full"))
    await acted(bridges.clickhouse_disk_full, played)
    assert [*played.bridged.server.folder.iterdir()] == []
    assert played.red == []


@pytest.mark.parametrize(("rate", "red"), [(10_000.0, 0), (9_999.0, 1)])
async def test_a_backlog_must_drain_at_five_times_the_live_rate(
    played: PlayedStage, rate: float, red: int
) -> None:
    played.bridged.rate = rate
    await acted(bridges.clickhouse_down_for_days, played)
    assert len(played.red) == red
    assert played.bridged.drained_per_s == rate


@pytest.mark.parametrize("grows", [True, False])
async def test_a_bridge_that_was_frozen_goes_on_whatever_happens(
    played: PlayedStage, grows: bool
) -> None:
    played.bridged.grows = grows
    assert await acted(bridges.three_bridges, played) == grows

    first, second, third = played.bridged.bridges
    assert (first.did, second.did, third.did) == (["killed", "started"], ["frozen", "thawed"], [])
    assert played.hits == ([2] if grows else [])


async def test_a_bridge_is_killed_at_moments_of_the_seed(played: PlayedStage) -> None:
    del played.bridged.bridges[1:]
    await acted(bridges.bridge_killed, played)
    assert played.bridged.bridges[0].did == ["killed", "started"] * bridges.KILLS
    assert played.hits == [bridges.KILLS]


async def test_who_has_no_answer_is_killed_and_what_is_held_let_go(played: PlayedStage) -> None:
    del played.bridged.bridges[2:]
    assert await acted(bridges.clickhouse_answer_withheld, played)
    first, second = played.bridged.bridges
    kills = len(bridges.WITHHELD)
    assert first.did == ["killed", "started"] * -(-kills // 2)
    assert second.did == ["killed", "started"] * (1 + kills // 2)
    assert played.bridged.server.did == ["tampered", "forgot"] * kills
    assert played.red == []


async def test_what_is_held_is_let_go_whatever_happens(played: PlayedStage) -> None:
    del played.bridged.bridges[2:]
    played.bridged.server.held = 0
    assert not await acted(bridges.clickhouse_answer_withheld, played)
    assert played.bridged.server.did == ["tampered", "forgot"]


@pytest.mark.parametrize(("opens", "grows"), [(True, True), (True, False), (False, True)])
async def test_of_two_stores_the_other_goes_on_and_the_first_is_started_again(
    played: PlayedStage, opens: bool, grows: bool
) -> None:
    played.bridged.opens, played.bridged.grows = opens, grows
    assert await acted(bridges.clickhouse_replica_lost, played) == opens
    assert played.bridged.server.did == ["killed", "started"]
    assert played.bridged.other.did == []
    assert played.red == ([] if grows else ["0 rows came to the other one meanwhile"])
