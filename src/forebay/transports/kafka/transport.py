"""Kafka as a :class:`~forebay.ports.Transport`: a lane is a partition, ``TOPIC/PARTITION``."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, Producer

from forebay.clock import SystemClock
from forebay.errors import ForebayError
from forebay.telemetry import ProducerReplaced, ignore
from forebay.text import counted
from forebay.transports.kafka.errors import translated
from forebay.transports.kafka.membership import KafkaMembership
from forebay.transports.kafka.producer import AcknowledgedProducer
from forebay.transports.kafka.settings import consuming, producing, shared, sharing
from forebay.transports.kafka.subscription import KafkaSubscription
from forebay.transports.kafka.topics import KafkaTopics
from forebay.transports.spelling import iter_records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError

    from forebay.clock import Clock
    from forebay.domain.messages import Message
    from forebay.telemetry import Observer
    from forebay.transports.kafka.settings import Settings
    from forebay.transports.kind import TransportConfig


class KafkaTransport:
    """See :class:`~forebay.ports.Transport`."""

    def __init__(
        self, config: TransportConfig, observer: Observer = ignore, clock: Clock | None = None
    ) -> None:
        """Raises :class:`~forebay.errors.ConfigError`; no broker is asked yet."""
        self._settings = shared(config)
        self._clock = clock or SystemClock()
        self._topics = KafkaTopics(self._settings, config, observer)
        name = config.name or "kafka"
        self._identities: dict[str, str] = {}
        """Of lanes that were asked for."""
        self._turns: Counter[str] = Counter()
        """How often each lane went back."""
        self._producer = AcknowledgedProducer(
            lambda: Producer(producing(self._settings)),
            lambda why: observer(ProducerReplaced(name, why)),
            self._went_back,
        )

    def lanes(self, topic: str) -> list[str]:
        """See :class:`~forebay.ports.Transport`."""
        return [f"{topic}/{number}" for number in range(self._topics.partitions(topic))]

    def identity(self, lane: str) -> str:
        """See :class:`~forebay.ports.Transport`."""
        identity = self._topics.identity(*_parts(lane))
        if identity != self._identities.get(lane):  # offsets begin anew with it
            self._producer.forget(*_parts(lane))
            self._identities[lane] = identity
        turns = self._turns[lane]
        return f"{identity}+{turns}" if turns else identity

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        """See :class:`~forebay.ports.Transport`."""
        self._producer.send(*_parts(lane), chain.from_iterable(map(iter_records, messages)))

    def subscribe(self, lane: str, group: str) -> KafkaSubscription:
        """See :class:`~forebay.ports.Transport`."""
        consume = functools.partial(_consumer, consuming(self._settings, group))
        identity = functools.partial(self._topics.identity, *_parts(lane))
        return KafkaSubscription(consume, *_parts(lane), identity, self._clock)

    def join(self, topics: Sequence[str], group: str) -> KafkaMembership:
        """See :class:`~forebay.ports.SharedLanes`."""
        for topic in topics:
            self._topics.partitions(topic)

        def consume(met: Callable[[KafkaError], None]) -> Consumer:
            return _consumer({**sharing(self._settings, group), "error_cb": met})

        subscribe = functools.partial(self.subscribe, group=group)
        return KafkaMembership(consume, topics, subscribe, group)

    def close(self) -> None:
        """See :class:`~forebay.ports.Transport`."""
        self._producer.close()

    def _went_back(self, topic: str, partition: int) -> None:
        """Have it another identity, unless it has one: the topic may have been made anew."""
        lane = f"{topic}/{partition}"
        with contextlib.suppress(ForebayError):  # whoever asks next sees it
            if self._topics.identity(topic, partition) == self._identities.get(lane):
                self._turns[lane] += 1


def probe_kafka(config: TransportConfig) -> str:
    """Return what answers; see :class:`~forebay.transports.kind.TransportKind`."""
    brokers = KafkaTopics(shared(config), config, ignore).brokers()
    return f"Apache Kafka, {counted(brokers, 'broker')}"


def _consumer(settings: Settings) -> Consumer:
    try:
        return Consumer(settings)
    except KafkaException as error:
        raise translated(error, "its configuration") from error


def _parts(lane: str) -> tuple[str, int]:
    topic, _, partition = lane.rpartition("/")
    return topic, int(partition)
