"""A real Kafka that is killed, frozen, cut off, emptied and made anew under a transport."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from forebay.domain.frames import Context, EpochOpened
from forebay.domain.messages import ControlTold, FrameOrigin, Head, Message, Step
from forebay.errors import CursorBeyondEnd, Permanent, Transient
from forebay.lab.tcp_proxy import TcpProxy
from forebay.telemetry import ProducerReplaced, TelemetryEvent, TopicDiffers
from forebay.transports.kafka import TRANSPORT, topics
from forebay.transports.kafka.transport import KafkaTransport
from forebay.transports.kind import TransportConfig
from tests.support import kafka
from tests.support.commands import wait_for
from tests.support.frames import LOG
from tests.support.servers import needs_kafka

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.lab.kafka_server import KafkaCluster
    from forebay.ports import Subscription

CONTEXT = Context(venue="v", source="ws", purpose="live", collector="c", epoch="e")
QUICK = {"message.timeout.ms": "3000", "request.timeout.ms": "1000", "socket.timeout.ms": "2000"}
"""A record that is not acknowledged by then is not."""
SOON_S = 30.0


def told(number: int, text: str = "") -> Message:
    context = msgspec.structs.replace(CONTEXT, run=text)
    control = ControlTold(FrameOrigin(context, {}), EpochOpened(), 7, number)
    return Message(Head(Step(LOG, 1, 10), number, control))


def messages(*numbers: int) -> list[Message]:
    return [told(number) for number in numbers]


@pytest.fixture
def transport() -> Iterator[KafkaTransport]:
    made = KafkaTransport(kafka.config_of(kafka.a_broker(), options=QUICK))
    yield made
    made.close()


def read(subscription: Subscription, count: int) -> list[int]:
    """Read ``count`` messages, however often the broker is away and they were told.

    Returns their numbers, in the order in which they came first.
    """
    numbers: dict[int, None] = {}

    def look() -> bool | None:
        with contextlib.suppress(Transient):
            for each in subscription.read():
                assert each.message is not None
                numbers[each.message.head.part] = None
        return len(numbers) >= count or None

    wait_for(look, f"{count} messages", SOON_S)
    return list(numbers)


def publish_until_it_works(transport: KafkaTransport, lane: str, what: list[Message]) -> None:
    def publish() -> bool | None:
        with contextlib.suppress(Transient):
            transport.publish(lane, what)
            return True
        return None

    wait_for(publish, "the broker to acknowledge", SOON_S)


# -------------------------------------------------------------------------- away and back


@pytest.mark.drill
def test_a_node_that_is_killed_and_frozen_has_what_it_acknowledged(
    transport: KafkaTransport,
) -> None:
    cluster = kafka.a_broker()
    (node,) = cluster.nodes
    (lane,) = transport.lanes(kafka.a_topic())
    publish_until_it_works(transport, lane, messages(0, 1))
    subscription = transport.subscribe(lane, "g")
    node.freeze()
    with pytest.raises(Transient):
        transport.publish(lane, messages(2, 3))
    node.thaw()
    publish_until_it_works(transport, lane, messages(2, 3))
    publish_until_it_works(transport, lane, messages(4))
    assert read(subscription, 5) == [0, 1, 2, 3, 4]
    node.kill()
    with pytest.raises(Transient):
        transport.publish(lane, messages(5))
    with pytest.raises(Transient):
        transport.identity(lane)
    kafka.restart(cluster)
    publish_until_it_works(transport, lane, messages(5))
    assert read(transport.subscribe(lane, "new"), 6) == [0, 1, 2, 3, 4, 5]
    assert read(subscription, 1) == [5], "who read before reads on"
    subscription.close()


@pytest.mark.drill
def test_an_answer_that_is_lost_is_not_an_acknowledgement() -> None:
    needs_kafka()
    with TcpProxy() as proxy, kafka.running_kafka(proxy=proxy) as cluster:
        transport = KafkaTransport(kafka.config_of(cluster, options=QUICK))
        (lane,) = transport.lanes(kafka.a_topic())
        publish_until_it_works(transport, lane, messages(0))
        proxy.deafen()
        with pytest.raises(Transient):
            transport.publish(lane, messages(1, 2))
        assert proxy.lost, "the fault was none"
        proxy.open()
        publish_until_it_works(transport, lane, messages(1, 2))
        assert read(transport.subscribe(lane, "g"), 3) == [0, 1, 2]
        transport.close()


def memory() -> int:
    """Pages that this process has in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


@pytest.mark.drill
def test_memory_is_flat_while_nobody_acknowledges(transport: KafkaTransport) -> None:
    cluster = kafka.a_broker()
    (node,) = cluster.nodes
    (lane,) = transport.lanes(kafka.a_topic())
    much = [told(number, "x" * 1000) for number in range(20_000)]
    publish_until_it_works(transport, lane, much)
    healthy = memory()
    node.kill()
    for _ in range(6):
        with pytest.raises(Transient):
            transport.publish(lane, much)
        assert memory() < healthy * 1.2
    kafka.restart(cluster)
    publish_until_it_works(transport, lane, much)


@pytest.mark.drill
def test_a_call_that_waits_ends_when_the_transport_is_closed() -> None:
    cluster = kafka.a_broker()
    transport = KafkaTransport(kafka.config_of(cluster))
    (lane,) = transport.lanes(kafka.a_topic())
    transport.publish(lane, messages(0))
    raised: list[Exception] = []

    def publish() -> None:
        try:
            transport.publish(lane, messages(1))
        except Transient as error:
            raised.append(error)

    cluster.nodes[0].freeze()
    waiting = threading.Thread(target=publish)
    waiting.start()
    transport.close()
    waiting.join(10)
    cluster.nodes[0].thaw()
    assert len(raised) == 1


# --------------------------------------------------------------------------------- topics


def set_on(topic: str, name: str, value: str) -> None:
    change = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource_ = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin = kafka.admin(kafka.a_broker())
    admin.incremental_alter_configs([resource_])[resource_].result(10)


def setting(cluster: KafkaCluster, topic: str, name: str) -> str:
    resource_ = ConfigResource(ResourceType.TOPIC, topic)
    found = kafka.admin(cluster).describe_configs([resource_])[resource_].result(10)
    value: str = found[name].value
    return value


def test_a_topic_is_made_as_it_is_wanted() -> None:
    cluster = kafka.a_broker()
    transport = KafkaTransport(kafka.config_of(cluster, partitions=3, retain="2d"))
    topic = kafka.a_topic()
    assert transport.lanes(topic) == [f"{topic}/{number}" for number in range(3)]
    assert setting(cluster, topic, "retention.ms") == str(2 * 86_400_000)
    assert setting(cluster, topic, "min.insync.replicas") == "1"


def test_what_differs_is_told_once_and_not_changed_back() -> None:
    events: list[TelemetryEvent] = []
    cluster = kafka.a_broker()
    topic = kafka.a_topic()
    KafkaTransport(kafka.config_of(cluster)).lanes(topic)
    set_on(topic, "retention.ms", "1000")
    transport = KafkaTransport(kafka.config_of(cluster, partitions=2, name="k"), events.append)
    transport.lanes(topic)
    transport.lanes(topic)
    assert sorted(events, key=str) == [
        TopicDiffers("k", topic, "partitions", "2", "1"),
        TopicDiffers("k", topic, "retention.ms", "604800000", "1000"),
    ]
    assert setting(cluster, topic, "retention.ms") == "1000"
    set_on(topic, "retention.ms", "2000")
    transport.lanes(topic)
    assert events[-1] == TopicDiffers("k", topic, "retention.ms", "604800000", "2000")


def test_a_topic_that_the_broker_made_by_itself_is_set_up() -> None:
    """As when it was deleted under a producer, and ``auto.create.topics.enable`` is on."""
    cluster = kafka.a_broker()
    admin = kafka.admin(cluster)
    events: list[TelemetryEvent] = []
    transport = KafkaTransport(kafka.config_of(cluster, retain="3d"), events.append)
    topic = kafka.a_topic()
    admin.create_topics([kafka.bare(topic)])[topic].result(10)
    transport.lanes(topic)
    wanted = str(3 * 86_400_000)  # a broker may tell a change a moment after it has taken it
    wait_for(lambda: setting(cluster, topic, "retention.ms") == wanted or None, "its retention")
    assert events == []


@pytest.mark.drill
def test_a_topic_that_is_deleted_where_brokers_make_topics_by_themselves() -> None:
    needs_kafka()
    by_itself = {"auto.create.topics.enable": "true", "log.retention.ms": "1000"}
    with kafka.running_kafka(settings=by_itself) as cluster:
        topic = kafka.a_topic()
        transport = KafkaTransport(kafka.config_of(cluster, options=QUICK))
        (lane,) = transport.lanes(topic)
        publish_until_it_works(transport, lane, messages(0))
        before = transport.identity(lane)
        kafka.admin(cluster).delete_topics([topic])[topic].result(10)
        publish_until_it_works(transport, lane, messages(1))
        assert transport.identity(lane) != before
        transport.lanes(topic)
        assert setting(cluster, topic, "retention.ms") == "604800000"
        transport.close()


def test_a_record_that_is_too_large_never_fits(transport: KafkaTransport) -> None:
    topic = kafka.a_topic()
    (lane,) = transport.lanes(topic)
    set_on(topic, "max.message.bytes", "2000")
    with pytest.raises(Permanent, match=r"max\.message\.bytes"):
        transport.publish(lane, [told(0, os.urandom(5000).hex())])
    transport.publish(lane, messages(1))


def test_what_retention_took_is_passed_over(transport: KafkaTransport) -> None:
    topic = kafka.a_topic()
    (lane,) = transport.lanes(topic)
    transport.publish(lane, messages(*range(6)))
    subscription = transport.subscribe(lane, "g")
    place = subscription.position_at(1)
    gone = TopicPartition(topic, 0, 4)
    kafka.admin(kafka.a_broker()).delete_records([gone])[gone].result(10)
    subscription.seek(place)
    assert read(subscription, 2) == [4, 5]


@pytest.mark.drill
def test_a_partition_that_lost_what_it_had_acknowledged_counts_as_made_anew() -> None:
    events: list[TelemetryEvent] = []
    needs_kafka()
    with kafka.running_kafka() as cluster:
        (node,) = cluster.nodes
        transport = KafkaTransport(kafka.config_of(cluster, options=QUICK), events.append)
        (lane,) = transport.lanes(kafka.a_topic())
        publish_until_it_works(transport, lane, messages(0))
        before = transport.identity(lane)
        subscription = transport.subscribe(lane, "g")
        assert read(subscription, 1) == [0]
        node.kill()
        older = node.folder.with_name("older")
        shutil.copytree(node.folder / "data", older)
        kafka.restart(cluster)
        publish_until_it_works(transport, lane, messages(1, 2, 3))
        assert read(subscription, 3) == [1, 2, 3]
        node.kill()
        shutil.rmtree(node.folder / "data")
        older.rename(node.folder / "data")
        kafka.restart(cluster)
        publish_until_it_works(transport, lane, messages(4))
        assert [type(each) for each in events] == [ProducerReplaced]
        assert transport.identity(lane) != before

        def refused() -> bool | None:
            try:
                subscription.read()
            except CursorBeyondEnd:
                return True
            except Transient:
                pass
            return None

        wait_for(refused, "the reader to be told", SOON_S)
        transport.close()


def test_a_probe_says_who_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = kafka.a_broker()
    assert TRANSPORT.probe(kafka.config_of(cluster)) == "Apache Kafka, 1 broker"
    assert TRANSPORT.durable(kafka.config_of(cluster))
    monkeypatch.setattr(topics, "ASK_S", 0.5)
    with pytest.raises(Transient):
        TRANSPORT.probe(TransportConfig(kind="kafka", servers="127.0.0.1:9"))
