"""One Kafka for all tests of a process that need one: topics are theirs, the broker is shared."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import itertools
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic

from forebay.clock import SystemClock
from forebay.lab.kafka_server import admin_of, kafka
from forebay.transports.kind import TransportConfig
from tests.support.commands import wait_for
from tests.support.servers import needs_kafka

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from confluent_kafka.admin import AdminClient

    from forebay.lab.kafka_server import KafkaCluster
    from forebay.lab.tcp_proxy import TcpProxy

_numbers = itertools.count()


def a_broker() -> KafkaCluster:
    """Return a node that lives as long as this process; the test is skipped if none can be had."""
    needs_kafka()
    cluster = _broker()
    for node in cluster.nodes:  # a test that failed may have left it so
        node.thaw()
        if not node.pid:
            restart(cluster)
    return cluster


@functools.cache
def _broker() -> KafkaCluster:
    ending = contextlib.ExitStack()
    atexit.register(ending.close)
    return ending.enter_context(running_kafka())


@contextlib.contextmanager
def running_kafka(
    nodes: int = 1,
    *,
    proxy: TcpProxy | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[KafkaCluster]:
    """Run Kafka while the context is open, for tests that are not asynchronous themselves.

    Clients of a single node go through ``proxy``, if there is one.
    """
    folder = Path(tempfile.mkdtemp(prefix="forebay-kafka-"))
    with asyncio.Runner() as runner:
        advertised = [proxy.port] if proxy else []
        clock = SystemClock()
        served = kafka(folder, clock=clock, nodes=nodes, settings=settings, advertised=advertised)
        try:
            cluster = runner.run(served.__aenter__())
            if proxy is not None:
                proxy.upstream = cluster.nodes[0].port
            wait_for(lambda: _has_coordinator(cluster), "a coordinator of groups", 30)
            yield cluster
        finally:
            runner.run(served.__aexit__(None, None, None))
            shutil.rmtree(folder, ignore_errors=True)


def _has_coordinator(cluster: KafkaCluster) -> bool | None:
    """Whether a new broker has made the topic in which it keeps what groups have committed."""
    settings = {"bootstrap.servers": cluster.bootstrap, "group.id": "first", "log_level": 0}
    consumer = Consumer(settings)
    try:
        consumer.committed([TopicPartition("no_such_topic", 0)], timeout=1)
    except KafkaException:
        return None
    finally:
        consumer.close()
    return True


def a_topic(kind: str = "trade") -> str:
    """Return the name of a topic that nobody has."""
    return f"{kind}_{next(_numbers)}_{time.time_ns()}"


def config_of(cluster: KafkaCluster, **options: Any) -> TransportConfig:  # noqa: ANN401
    return TransportConfig(kind="kafka", servers=cluster.bootstrap, **options)


def delete_topic(admin: AdminClient, topic: str) -> None:
    """Delete a topic behind everybody's back, and return once it is gone."""
    admin.delete_topics([topic])[topic].result(10)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(KafkaException):
            if topic not in admin.list_topics(timeout=5).topics:
                return
    raise AssertionError(topic)


def bare(topic: str) -> NewTopic:
    """A topic of which nothing was decided."""
    return NewTopic(topic, 1, 1)


def restart(cluster: KafkaCluster, *numbers: int) -> None:
    """Start nodes that were killed, all or those with these numbers, and wait for them."""
    nodes = [node for node in cluster.nodes if node.number in numbers or not numbers]
    asyncio.run(cluster.start(*nodes))


def admin(cluster: KafkaCluster) -> AdminClient:
    return _admin(cluster.bootstrap)


_admin = functools.cache(admin_of)  # one that is let go of answers nothing more
