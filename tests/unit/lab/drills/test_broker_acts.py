"""The acts of broker drills, on a stage that is played: the fault is always taken away."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from forebay.clock import ManualClock
from forebay.errors import Transient
from forebay.lab.drills import brokers
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import Timing
from forebay.lab.drills.watch import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from forebay.lab.drills.stage import Stage


@dataclass
class Node:
    """A node of Kafka that may die of whatever happens to it."""

    pid: int = 21
    port: int = 4711
    mortal: bool = True
    did: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return bool(self.pid)

    def kill(self) -> None:
        self.did.append("killed")
        self.pid = 0

    def freeze(self) -> None:
        self.did.append("frozen")

    def thaw(self) -> None:
        self.did.append("thawed")


@dataclass
class Servers:
    """A broker of each kind."""

    disk: Path | None = None
    bootstrap: str = "there"
    running: dict[str, list[int]] = field(default_factory=lambda: {"kafka": [21], "nats": [31]})
    kafka: Node = field(default_factory=Node)
    did: list[str] = field(default_factory=list)

    def node(self, number: int = 1) -> Node:
        assert number == 1
        return self.kafka

    def pids(self, name: str) -> list[int]:
        return list(self.running[name])

    async def kill(self, name: str) -> None:
        self.did.append(f"kill {name}")
        self.running[name] = [0]

    async def start(self, name: str) -> None:
        self.did.append(f"start {name}")
        self.running[name] = [99]


@dataclass
class PlayedStage:
    """A stage on which everything that is waited for happens at once, or never."""

    brokers: Servers
    happens: bool = True
    met: int = 2
    """How often each publisher meets the fault, once it has begun."""
    checks: dict[str, bool] = field(default_factory=dict)
    hits: list[int] = field(default_factory=list)
    transports: tuple[str, ...] = ("kafka", "nats")
    timing: Timing = field(default_factory=lambda: Timing(patience_s=0.1))
    drill: Any = DRILLS["kafka-down"]
    clock: Any = field(default_factory=ManualClock)
    victims: int = 1
    asked: int = 0

    def say(self, what: str) -> None:
        assert what

    def check(self, what: str, ok: bool) -> None:
        self.checks[what] = ok

    def happened(self, event: str) -> list[dict[str, Any]]:
        self.asked += 1
        again = self.asked > self.victims or event != "transport_unavailable"
        told = [{"transport": name} for name in self.transports]
        return told * self.met if again else []

    def fault_over(self, hits: int) -> None:
        self.hits.append(hits)

    async def breaker(self, name: str, *states: str) -> None:
        if not self.happens:
            raise Transient(f"Waited for {name} to be {states}.")

    async def until(self, holds: Callable[[Observation], bool], what: str) -> Observation:
        if not self.happens:
            raise Transient(f"Waited for {what}.")
        return Observation(0, "", "", {}, {}, None, None, {"kafka": {"published": 3}})

    async def comes(self, holds: Callable[[Observation], bool], what: str) -> None:
        self.checks[what] = self.happens

    async def goes_on(self) -> None:
        await self.comes(bool, "capture goes on")

    @property
    def red(self) -> list[str]:
        return [what for what, ok in self.checks.items() if not ok]


def files(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


async def acted(act: Callable[[Stage], Any], played: PlayedStage) -> bool:
    """Act; return whether it went to its end."""
    try:
        await act(cast("Stage", played))
    except Transient:
        return False
    return True


@pytest.mark.parametrize("happens", [True, False])
@pytest.mark.parametrize(
    ("act", "names"),
    [
        (brokers.nats_down, ["nats"]),
        (brokers.kafka_down, ["kafka"]),
        (brokers.brokers_down, ["nats", "kafka"]),
    ],
)
async def test_whoever_was_killed_is_started_again(
    act: Callable[[Stage], Any], names: list[str], *, happens: bool
) -> None:
    played = PlayedStage(Servers(), happens=happens, victims=len(names))

    assert await acted(act, played) is happens

    did = [f"{what} {name}" for what in ("kill", "start") for name in names]
    assert played.brokers.did == did
    assert played.hits == [2 * len(names)]
    assert played.red == []


async def test_a_fault_that_no_publisher_met_is_red() -> None:
    played = PlayedStage(Servers(), met=0)
    await acted(brokers.kafka_down, played)
    assert played.red == ["the publisher of kafka met it 0 times"]


async def test_another_broker_that_does_not_live_is_red() -> None:
    class Both(Servers):
        async def kill(self, name: str) -> None:
            self.running = {"kafka": [0], "nats": [0]}

    played = PlayedStage(Both())
    await acted(brokers.kafka_down, played)
    assert played.red == ["nats lived"]


@pytest.mark.parametrize("mortal", [True, False])
async def test_room_is_made_on_the_disk_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, mortal: bool
) -> None:
    played = PlayedStage(Servers(tmp_path), transports=("kafka",))

    def full(file: Path) -> None:
        file.touch()
        played.brokers.kafka.pid = 0 if mortal else 21

    async def patience(*_: object) -> bool:
        if mortal:
            return True
        raise Transient("Waited for Kafka to die.")

    monkeypatch.setattr(brokers, "fill", full)
    monkeypatch.setattr(brokers, "until", patience)

    assert await acted(brokers.kafka_disk_full, played) is mortal

    assert files(tmp_path) == []
    assert played.brokers.did == ["start kafka"]
    assert played.brokers.kafka.did == ([] if mortal else ["killed"])


@dataclass
class Wall:
    """Rules that drop packets."""

    packets: int

    def dropped(self) -> int:
        return self.packets


@pytest.mark.parametrize(("packets", "red"), [(7, []), (0, ["0 packets were dropped"])])
async def test_a_partition_that_dropped_nothing_is_red(
    monkeypatch: pytest.MonkeyPatch, packets: int, red: list[str]
) -> None:
    ports = []

    @contextlib.contextmanager
    def cut_off(port: int) -> Iterator[Wall]:
        ports.append(port)
        yield Wall(packets)

    monkeypatch.setattr(brokers, "cut_off", cut_off)
    played = PlayedStage(Servers(), transports=("kafka",))

    assert await acted(brokers.kafka_partitioned, played)
    assert (played.red, ports) == (red, [4711])


@pytest.mark.parametrize("happens", [True, False])
@pytest.mark.parametrize(
    ("act", "did"),
    [
        (brokers.kafka_leader_killed, ["killed"]),
        (brokers.kafka_leader_frozen, ["frozen", "thawed"]),
    ],
)
async def test_a_leader_comes_back(
    act: Callable[[Stage], Any], did: list[str], monkeypatch: pytest.MonkeyPatch, *, happens: bool
) -> None:
    def leader(_: str, topic: str, partition: int, other_than: int = 0) -> int:
        assert (topic, partition) == ("trade_archive", 0)
        return 2 if other_than else 1

    monkeypatch.setattr(brokers, "leader_of", leader)
    servers = Servers(running={"kafka": [21, 22, 23]})
    played = PlayedStage(servers, happens=happens, transports=("kafka",))

    assert await acted(act, played) is happens

    assert servers.kafka.did == did
    assert servers.did == (["start kafka"] if "killed" in did else [])
    assert played.hits == ([1] if happens else [])
    assert played.red == []
