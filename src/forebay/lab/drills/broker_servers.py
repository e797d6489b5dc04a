"""The real brokers of a drill: started beside it, killed, frozen and started again by it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.errors import Unreachable
from forebay.lab.drills.limits import small_disk
from forebay.lab.drills.plan import ServerUsed
from forebay.lab.kafka_server import jars, kafka
from forebay.lab.nats_server import nats_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from forebay.lab.drills.plan import Brokers, Value
    from forebay.lab.drills.stage import Stage
    from forebay.lab.kafka_server import KafkaCluster, KafkaNode
    from forebay.lab.nats_server import NatsServers

KAFKA, NATS = "kafka", "nats"
_CLIENTS = {KAFKA: "confluent_kafka", NATS: "nats"}
"""By broker, the package that its extra brings."""
DELIVERY_MS = 3_000
"""So long a record is tried before it counts as not acknowledged, where nobody may take over."""


@dataclass(slots=True)
class BrokerServers:
    """Those of one drill."""

    cluster: KafkaCluster | None = None
    nats: NatsServers | None = None
    disk: Path | None = None
    """Kafka's own, if it has one."""

    @property
    def bootstrap(self) -> str:
        """What clients of Kafka are configured with."""
        assert self.cluster is not None  # noqa: S101 - the drill wants it
        return self.cluster.bootstrap

    def node(self, number: int = 1) -> KafkaNode:
        """Return a node of Kafka."""
        assert self.cluster is not None  # noqa: S101 - the drill wants it
        return self.cluster.nodes[number - 1]

    def pids(self, name: str) -> list[int]:
        """Return the processes of one broker, 0 for each that is down."""
        if name == KAFKA and self.cluster is not None:
            return [node.pid for node in self.cluster.nodes]
        return [node.pid for node in self.nats.nodes] if name == NATS and self.nats else []

    async def kill(self, name: str) -> None:
        """End every node of a broker at once."""
        if name == KAFKA and self.cluster is not None:
            await asyncio.to_thread(self.cluster.kill)
        elif name == NATS and self.nats is not None:
            await asyncio.gather(*(node.kill() for node in self.nats.nodes))

    async def start(self, name: str) -> None:
        """Start every node of a broker that is down, and wait until all are ready."""
        if name == KAFKA and self.cluster is not None:
            down = [node for node in self.cluster.nodes if not node.pid]
            if down:
                await self.cluster.start(*down)
        elif name == NATS and self.nats is not None:
            await asyncio.gather(*(node.start() for node in self.nats.nodes if not node.pid))


@contextlib.asynccontextmanager
async def brokers_beside(stage: Stage, wanted: Brokers) -> AsyncIterator[None]:
    """Run what a drill wants while the context is open, and have the capture publish to it.

    Raises :class:`~forebay.errors.Unreachable` if one of them cannot be had.
    """
    for name, client in _CLIENTS.items():
        if getattr(wanted, name) and importlib.util.find_spec(client) is None:
            hint = f'Run, in the clone: pip install ".[{name}]"'
            raise Unreachable(f"The client of {name} is not installed.", hint=hint)
    servers = stage.brokers = BrokerServers()
    async with contextlib.AsyncExitStack() as stack:
        if wanted.kafka:
            settings = dict(wanted.settings)
            if wanted.disk_mb:
                servers.disk = stage.root / "kafka-disk"
                await stack.enter_async_context(small_disk(servers.disk, wanted.disk_mb))
                settings["log.dirs"] = str((servers.disk / "data").resolve())
            (stage.root / KAFKA).mkdir()
            starting = kafka(
                stage.root / KAFKA, clock=stage.clock, nodes=wanted.kafka, settings=settings
            )
            servers.cluster = await stack.enter_async_context(starting)
            stage.report.servers.append(ServerUsed("Apache Kafka", _version_of_kafka()))
            stage.transports[KAFKA] = _kafka_table(wanted, servers.bootstrap)
        if wanted.nats:
            (stage.root / NATS).mkdir()
            beginning = nats_servers(stage.root / NATS, clock=stage.clock, nodes=wanted.nats)
            servers.nats = await stack.enter_async_context(beginning)
            stage.report.servers.append(ServerUsed("NATS", servers.nats.nodes[0].version))
            table: dict[str, Value] = {"kind": NATS, "servers": servers.nats.url()}
            table["replicas"] = wanted.nats
            stage.transports[NATS] = {**table, **wanted.tables.get(NATS, {})}
        yield


def _kafka_table(wanted: Brokers, bootstrap: str) -> Mapping[str, Value]:
    table: dict[str, Value] = {"kind": KAFKA, "servers": bootstrap, "partitions": 2}
    if wanted.kafka > 1:
        table |= {"replicas": wanted.kafka, "min_insync": wanted.kafka // 2 + 1}
    else:
        table["options"] = {"message.timeout.ms": str(DELIVERY_MS)}
    return {**table, **wanted.tables.get(KAFKA, {})}


def _version_of_kafka() -> str:
    names = (jar.name for jar in jars().glob("kafka_*.jar"))
    found = (re.search(r"-(\d[\w.]*)\.jar$", name) for name in names)
    return next((each[1] for each in found if each), "")
