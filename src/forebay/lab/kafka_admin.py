"""What a drill does to the topics of Kafka behind everybody's back, and asks of them."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from forebay.errors import Unreachable
from forebay.lab.kafka_server import admin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ASK_S = 10.0
_TRIES = 100
_PAUSE_S = 0.1


def delete_topic(bootstrap: str, topic: str) -> None:
    """Delete a topic with all that is in it. Raises :class:`~forebay.errors.Unreachable`."""
    admin = admin_of(bootstrap)
    with _answered(f"deleting {topic}"):
        admin.delete_topics([topic])[topic].result(ASK_S)


def topic_setting(bootstrap: str, topic: str, name: str) -> str:
    """Return a setting of a topic, its own or its broker's."""
    from confluent_kafka.admin import ConfigResource, ResourceType  # noqa: PLC0415 - an extra

    admin, resource = admin_of(bootstrap), ConfigResource(ResourceType.TOPIC, topic)
    with _answered(f"asking for {name} of {topic}"):
        entries = admin.describe_configs([resource])[resource].result(ASK_S)
    return str(entries[name].value)


def leader_of(bootstrap: str, topic: str, partition: int, other_than: int = 0) -> int:
    """Return the number of the node that leads a partition, once it is another one."""
    admin = admin_of(bootstrap)
    for _ in range(_TRIES):
        with contextlib.suppress(Unreachable, KeyError), _answered(f"asking for {topic}"):
            about = admin.list_topics(topic, timeout=1.0).topics[topic]
            leader = int(about.partitions[partition].leader)
            if about.error is None and leader not in (-1, other_than):
                return leader
        threading.Event().wait(_PAUSE_S)
    raise Unreachable(f"Nobody leads {topic}/{partition}.", hint="See the brokers' logs.")


def partitions_of(bootstrap: str, topic: str) -> int:
    """Return how many partitions a topic has."""
    with _answered(f"asking for {topic}"):
        return len(admin_of(bootstrap).list_topics(topic, timeout=ASK_S).topics[topic].partitions)


def expire(bootstrap: str, topic: str) -> int:
    """Delete every record that is in a topic, as its retention does; return how many at most."""
    from confluent_kafka import TopicPartition  # noqa: PLC0415 - an extra
    from confluent_kafka.admin import OffsetSpec  # noqa: PLC0415 - an extra

    admin = admin_of(bootstrap)
    places = [TopicPartition(topic, n) for n in range(partitions_of(bootstrap, topic))]
    with _answered(f"expiring {topic}"):
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = admin.list_offsets(dict.fromkeys(places, latest))
        ends = {place: asked[place].result(ASK_S).offset for place in places}
        wanted = [TopicPartition(topic, place.partition, end) for place, end in ends.items()]
        for done in admin.delete_records(wanted).values():
            done.result(ASK_S)
    return sum(ends.values())


def records_of(bootstrap: str, topic: str) -> Iterator[tuple[str, frozenset[str], bytes]]:
    """Yield place, names of headers and value of every record that is in a topic now."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition  # noqa: PLC0415

    asked = {"bootstrap.servers": bootstrap, "group.id": "drill", "enable.partition.eof": True}
    consumer = Consumer({**asked, "log_level": 0})
    places = range(partitions_of(bootstrap, topic))
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in places])
    ends = 0
    try:
        while ends < len(places):
            record = consumer.poll(ASK_S)
            if record is None or record.error() is not None:
                ends += 1
                continue
            names = frozenset(dict(record.headers() or ()))
            yield f"{record.partition()}/{record.offset()}", names, record.value() or b""
    finally:
        consumer.close()


def forget_group(bootstrap: str, group: str) -> None:
    """Delete what a group has committed, once it has no member."""
    admin = admin_of(bootstrap)
    _once_empty(lambda: admin.delete_consumer_groups([group])[group].result(ASK_S))


def move_group(bootstrap: str, group: str, topic: str, *, to_end: bool) -> None:
    """Commit the ends of a topic for a group, or its beginnings, once it has no member."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition  # noqa: PLC0415
    from confluent_kafka.admin import OffsetSpec  # noqa: PLC0415 - an extra

    admin = admin_of(bootstrap)
    places = [TopicPartition(topic, n) for n in range(partitions_of(bootstrap, topic))]
    ask = OffsetSpec.latest if to_end else OffsetSpec.earliest
    spec = ask()  # type: ignore[no-untyped-call]
    with _answered(f"asking for offsets of {topic}"):
        asked = admin.list_offsets(dict.fromkeys(places, spec))
        wanted = [
            TopicPartition(topic, place.partition, asked[place].result(ASK_S).offset)
            for place in places
        ]

    def move() -> None:
        moved = ConsumerGroupTopicPartitions(group, wanted)
        admin.alter_consumer_group_offsets([moved])[group].result(ASK_S)

    _once_empty(move)


def _once_empty(change: Callable[[], object]) -> None:
    """Change a group; one that was killed has members until their sessions end."""
    for last in (False,) * (_TRIES * 6 - 1) + (True,):
        try:
            with _answered("changing a group"):
                change()
        except Unreachable:
            if last:
                raise
        else:
            return
        threading.Event().wait(_PAUSE_S)


def publish_bare(bootstrap: str, topic: str, values: Sequence[bytes]) -> None:
    """Publish records that are none of ours, over all partitions, as another program might."""
    from confluent_kafka import Producer  # noqa: PLC0415 - an extra

    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    with _answered(f"publishing to {topic}"):
        places = partitions_of(bootstrap, topic)
        for number, value in enumerate(values):
            producer.produce(topic, value, partition=number % places)
        if producer.flush(ASK_S):
            raise TimeoutError


@contextlib.contextmanager
def _answered(what: str) -> Iterator[None]:
    from confluent_kafka import KafkaException  # noqa: PLC0415 - an extra

    try:
        yield
    except (KafkaException, TimeoutError) as error:
        raise Unreachable(f"Kafka: {what} failed: {error}.", hint="Is it running?") from error
