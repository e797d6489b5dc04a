"""Three nodes, two in sync: what they acknowledged outlives the leader."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException

from forebay.errors import Transient
from forebay.transports.kafka.transport import KafkaTransport
from tests.acceptance.test_kafka_faults import QUICK, messages, publish_until_it_works, read
from tests.support import kafka
from tests.support.commands import wait_for
from tests.support.servers import needs_kafka

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forebay.lab.kafka_server import KafkaCluster, KafkaNode
    from forebay.transports.kafka.subscription import KafkaSubscription

BEFORE, AFTER = 200, 200
"""Calls that are acknowledged before and after a fault, at least."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    needs_kafka()
    with kafka.running_kafka(3) as cluster:
        yield cluster


@pytest.fixture
def transport(cluster: KafkaCluster) -> Iterator[KafkaTransport]:
    replicated = kafka.config_of(cluster, replicas=3, min_insync=2, options=QUICK)
    made = KafkaTransport(replicated)
    yield made
    made.close()


def leader(cluster: KafkaCluster, lane: str) -> KafkaNode:
    topic, _, partition = lane.rpartition("/")

    def look() -> int | None:
        with contextlib.suppress(KafkaException):  # a frozen node was asked
            about = kafka.admin(cluster).list_topics(topic, timeout=2).topics[topic]
            return about.partitions[int(partition)].leader
        return None

    return cluster.nodes[wait_for(look, "somebody who knows the leader", 30) - 1]


class Publishing:
    """A publisher in a thread, whose calls are made again until they are acknowledged."""

    def __init__(self, transport: KafkaTransport, lane: str) -> None:
        self.acknowledged = 0
        self.failed = 0
        self.longest_s = 0.0
        """How long nothing was acknowledged."""
        self._transport = transport
        self._lane = lane
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._enough.is_set():
            try:
                self._transport.publish(self._lane, messages(self.acknowledged))
            except Transient:
                self.failed += 1
                continue
            self.acknowledged += 1
            self.longest_s = max(self.longest_s, time.monotonic() - last)
            last = time.monotonic()

    def through(self, fault: Callable[[], None]) -> None:
        """Publish before, while and after something happens."""
        self._thread.start()
        wait_for(lambda: self.acknowledged > BEFORE or None, "a publisher", 30)
        fault()
        goal = self.acknowledged + AFTER
        wait_for(lambda: self.acknowledged > goal or None, "it to go on", 60)
        self._enough.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def subscribed(transport: KafkaTransport, lane: str) -> KafkaSubscription | None:
    with contextlib.suppress(Transient):
        return transport.subscribe(lane, "g")
    return None


def outlives(
    cluster: KafkaCluster, transport: KafkaTransport, fault: Callable[[KafkaNode], None]
) -> Publishing:
    """Everything that was acknowledged is there, in its order."""
    (lane,) = transport.lanes(kafka.a_topic())
    publish_until_it_works(transport, lane, messages(0))
    publishing = Publishing(transport, lane)
    node = leader(cluster, lane)
    try:
        publishing.through(lambda: fault(node))
        assert leader(cluster, lane) is not node, "the fault was none"
    finally:
        node.thaw()
        if not node.pid:
            kafka.restart(cluster, node.number)
    subscription = wait_for(lambda: subscribed(transport, lane), "a reader", 30)
    numbers = read(subscription, publishing.acknowledged)
    assert numbers == list(range(publishing.acknowledged))
    return publishing


@pytest.mark.drill
def test_what_was_acknowledged_outlives_the_leader(
    cluster: KafkaCluster,
    transport: KafkaTransport,
    record_property: Callable[[str, object], None],
) -> None:
    seen = outlives(cluster, transport, lambda node: node.kill())
    text = f"{seen.acknowledged} acknowledged around it, nothing for {seen.longest_s:.1f} s"
    record_property("summary", f"Kafka without its leader: {text}")


@pytest.mark.drill
def test_what_was_acknowledged_outlives_a_frozen_leader(
    cluster: KafkaCluster,
    transport: KafkaTransport,
    record_property: Callable[[str, object], None],
) -> None:
    seen = outlives(cluster, transport, lambda node: node.freeze())
    text = f"{seen.acknowledged} acknowledged around it, nothing for {seen.longest_s:.1f} s"
    record_property("summary", f"Kafka with a frozen leader: {text}")


@pytest.mark.drill
def test_too_few_in_sync_acknowledge_nothing_and_lose_nothing(
    cluster: KafkaCluster, transport: KafkaTransport
) -> None:
    careful = KafkaTransport(kafka.config_of(cluster, replicas=3, min_insync=3, options=QUICK))
    (lane,) = careful.lanes(kafka.a_topic())
    publish_until_it_works(careful, lane, messages(0))
    subscription = transport.subscribe(lane, "g")
    assert read(subscription, 1) == [0]
    follower = next(node for node in cluster.nodes if node is not leader(cluster, lane))
    follower.kill()

    def refused() -> bool | None:
        try:
            careful.publish(lane, messages(1))
        except Transient:
            return True
        return None

    wait_for(refused, "the leader to miss it", 30)
    kafka.restart(cluster, follower.number)
    publish_until_it_works(careful, lane, messages(2))
    assert read(transport.subscribe(lane, "new"), 3) == [0, 1, 2]
    careful.close()


@pytest.mark.drill
def test_two_of_three_down_and_back(cluster: KafkaCluster, transport: KafkaTransport) -> None:
    (lane,) = transport.lanes(kafka.a_topic())
    publish_until_it_works(transport, lane, messages(0))
    for node in cluster.nodes[:2]:
        node.kill()
    with pytest.raises(Transient):
        transport.publish(lane, messages(1))
    kafka.restart(cluster, 1, 2)
    publish_until_it_works(transport, lane, messages(1))
    assert read(transport.subscribe(lane, "g"), 2) == [0, 1]
