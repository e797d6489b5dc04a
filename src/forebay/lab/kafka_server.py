"""Apache Kafka for drills and tests: one node, or three that are killed and frozen one by one.

Needs Java, and the jars in ``kafka/libs`` of the servers' folder; ``.ci/install-servers`` fetches
both. Nodes are broker and controller at once. Their heap is small, so they are for correctness
first; what one does a second says little of a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.errors import Unreachable
from forebay.lab.commands import until
from forebay.lab.server_process import ServerProcess, started
from forebay.lab.servers import FOLDER, find, free_port, servers_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from confluent_kafka.admin import AdminClient

    from forebay.clock import Clock

CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"
READY_S = 60.0
ASK_S = 1.0
HEAP_MB = 64
_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_LOG_LEVEL = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
_HINT = f"Run .ci/install-servers, or name the folder that has it in {FOLDER}."
_SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "log.dirs": "data",
    "offsets.topic.num.partitions": "4",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A node that was killed may come back soon: its former self has to expire first.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2000",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "replica.lag.time.max.ms": "3000",
    "num.network.threads": "1",
    "num.io.threads": "2",
    "background.threads": "1",
    # Without it a node needs four times the heap.
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.retention.check.interval.ms": "5000",
}
_REPLICATED = (
    "default.replication.factor",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "share.coordinator.state.topic.replication.factor",
)
_IN_SYNC = (
    "min.insync.replicas",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.min.isr",
)


def java() -> Path:
    """Return the program. Raises :class:`~forebay.errors.Unreachable` if there is none."""
    unpacked = sorted(servers_folder().glob("usr/lib/jvm/*/bin/java"))
    return unpacked[-1] if unpacked and not shutil.which("java") else find("java")


def jars() -> Path:
    """Return the folder of Kafka's jars. Raises :class:`~forebay.errors.Unreachable`."""
    folder = servers_folder() / "kafka" / "libs"
    if not any(folder.glob("kafka_*.jar")):
        raise Unreachable(f"There is no Kafka in {folder}.", hint=_HINT)
    return folder


@dataclass(slots=True, kw_only=True)
class KafkaNode(ServerProcess):
    """One node."""

    number: int
    port: int
    argv: Sequence[str]
    advertised: int
    """The port that clients are told: its own, or that of a proxy before it."""

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start its process; :meth:`KafkaCluster.start` also waits until it answers."""
        self.launch_program([*self.argv, "kafka.Kafka", "server.properties"])


@dataclass(slots=True)
class KafkaCluster:
    """Nodes that know one another."""

    nodes: list[KafkaNode]
    clock: Clock

    @property
    def bootstrap(self) -> str:
        """What clients are configured with."""
        return ",".join(f"127.0.0.1:{node.advertised}" for node in self.nodes)

    async def start(self, *nodes: KafkaNode) -> None:
        """Start these nodes, or all, and wait until each of them takes part.

        Raises :class:`~forebay.errors.Unreachable` if one ends instead.
        """
        started = nodes or tuple(self.nodes)
        for node in started:
            node.launch()
        await asyncio.gather(*(self._takes_part(node, started) for node in started))

    async def _takes_part(self, node: KafkaNode, started: Sequence[KafkaNode]) -> None:
        wanted = {each.number for each in started}
        admin = admin_of(node.address)

        async def look() -> bool | None:
            node.require_running("Kafka")
            return await asyncio.to_thread(_brokers, admin) >= wanted or None

        await until(self.clock, look, f"Kafka node {node.number} to take part", READY_S)

    def kill(self) -> None:
        """End every node at once."""
        for node in self.nodes:
            node.kill()


def admin_of(bootstrap: str) -> AdminClient:
    """Return a client that says nothing of its own accord."""
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - an extra

    return AdminClient(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 0,
            "reconnect.backoff.max.ms": 200,
            "socket.timeout.ms": 2_000,  # a frozen node is left for another one
        }
    )


def _brokers(admin: AdminClient) -> set[int]:
    """Return the numbers of the nodes that the one asked knows; none if it does not answer."""
    from confluent_kafka import KafkaException  # noqa: PLC0415 - an extra

    try:
        return set(admin.list_topics(timeout=ASK_S).brokers)
    except KafkaException:
        return set()


@contextlib.asynccontextmanager
async def kafka(
    folder: Path,
    *,
    clock: Clock,
    nodes: int = 1,
    settings: Mapping[str, str] | None = None,
    advertised: Sequence[int] = (),
    heap_mb: int = HEAP_MB,
) -> AsyncIterator[KafkaCluster]:
    """Run Kafka in ``folder`` until the context is left; it answers when it is given.

    ``settings`` are those of ``server.properties`` that are to differ; ``advertised`` are ports
    of proxies before the nodes, in their order. Topics have a replica on each node, and need two
    in sync if there are three. Raises :class:`~forebay.errors.Unreachable` if it is not
    installed or does not start.
    """
    argv = [str(java()), f"-Xmx{heap_mb}m", *_OPTIONS, _LOG_LEVEL, "-cp", f"{jars()}/*"]

    def cluster() -> KafkaCluster:
        return KafkaCluster(_nodes(folder, nodes, argv, advertised), clock)

    async def start(tried: KafkaCluster) -> None:
        await _format(tried.nodes, settings or {})
        await tried.start()

    running = await started(cluster, start)
    try:
        yield running
    finally:
        running.kill()


def _nodes(
    folder: Path, count: int, argv: Sequence[str], advertised: Sequence[int]
) -> list[KafkaNode]:
    ports = [free_port() for _ in range(count)]
    return [
        KafkaNode(
            folder=folder.resolve() / str(number),
            number=number,
            port=port,
            argv=argv,
            advertised=told,
        )
        for number, port, told in zip(range(1, count + 1), ports, advertised or ports, strict=True)
    ]


async def _format(nodes: Sequence[KafkaNode], settings: Mapping[str, str]) -> None:
    """Write each node's settings and make its empty log, once again if it is there."""
    voters = {node.number: free_port() for node in nodes}
    quorum = ",".join(f"{number}@127.0.0.1:{port}" for number, port in voters.items())
    in_sync = str(len(nodes) // 2 + 1)
    shared = {
        **_SETTINGS,
        **dict.fromkeys(_REPLICATED, str(len(nodes))),
        **dict.fromkeys(_IN_SYNC, in_sync),
        "controller.quorum.voters": quorum,
        **settings,
    }
    for node in nodes:
        listeners = f"PLAINTEXT://{node.address},CONTROLLER://127.0.0.1:{voters[node.number]}"
        own = {
            "node.id": str(node.number),
            "listeners": listeners,
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.advertised}",
        }
        shutil.rmtree(node.folder, ignore_errors=True)
        node.folder.mkdir(parents=True)
        lines = "".join(f"{name}={value}\n" for name, value in (shared | own).items())
        (node.folder / "server.properties").write_text(lines, encoding="utf-8")
    await asyncio.gather(*map(_format_one, nodes))


async def _format_one(node: KafkaNode) -> None:
    command = ("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties")
    process = await asyncio.create_subprocess_exec(
        *node.argv,
        *command,
        cwd=node.folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode:
        message = f"Kafka cannot format {node.folder}: {said.decode(errors='replace').strip()}"
        raise Unreachable(message, hint="Are its settings those of Kafka?")
