"""What a drill does to the topics of Kafka behind everybody's back, and asks of them."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType

from forebay.errors import Unreachable
from forebay.lab.kafka_server import admin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    admin, resource = admin_of(bootstrap), ConfigResource(ResourceType.TOPIC, topic)
    with _answered(f"asking for {name} of {topic}"):
        entries = admin.describe_configs([resource])[resource].result(ASK_S)
    return str(entries[name].value)


def leader_of(bootstrap: str, topic: str, partition: int, other_than: int = 0) -> int:
    """Return the number of the node that leads a partition, once it is another one."""
    admin = admin_of(bootstrap)
    for _ in range(_TRIES):
        with contextlib.suppress(KafkaException, KeyError):
            about = admin.list_topics(topic, timeout=1.0).topics[topic]
            leader = int(about.partitions[partition].leader)
            if about.error is None and leader not in (-1, other_than):
                return leader
        threading.Event().wait(_PAUSE_S)
    raise Unreachable(f"Nobody leads {topic}/{partition}.", hint="See the brokers' logs.")


@contextlib.contextmanager
def _answered(what: str) -> Iterator[None]:
    try:
        yield
    except (KafkaException, TimeoutError) as error:
        raise Unreachable(f"Kafka: {what} failed: {error}.", hint="Is it running?") from error
