"""Topics of Kafka: made where they are missing, recognised by their ids, compared with the wish."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourceType,
)

from forebay.errors import Transient
from forebay.telemetry import TopicDiffers
from forebay.times import span_ns
from forebay.transports.kafka.errors import reason, translated
from forebay.transports.kafka.settings import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from confluent_kafka.admin import TopicDescription

    from forebay.telemetry import Observer
    from forebay.transports.kafka.settings import Settings
    from forebay.transports.kind import TransportConfig

T = TypeVar("T")
ASK_S = 3.0
_PAUSE_S = 0.05
_TRIES = 100
_NOT_THERE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
_NO_ANSWER = frozenset({KafkaError._TIMED_OUT, KafkaError._TRANSPORT})


class KafkaTopics:
    """The topics of one cluster, and what a ``[[transports]]`` table wants of them."""

    def __init__(self, settings: Settings, config: TransportConfig, observer: Observer) -> None:
        """Raises :class:`~forebay.errors.ConfigError` for options that the client refuses."""
        try:
            self._admin = AdminClient(dict(settings))
        except KafkaException as error:
            raise translated(error, "its configuration") from error
        self._config = config
        self._observer = observer
        self._settings = {
            "retention.ms": str(span_ns(config.retain) // 1_000_000),
            "min.insync.replicas": str(config.min_insync),
            "max.message.bytes": str(LARGEST),
        }
        self._told: dict[str, frozenset[tuple[str, str]]] = {}
        self._doubtful = False
        """Whether the last question was not answered."""

    def partitions(self, topic: str) -> int:
        """Return how many there are; makes the topic if it is not there, compares it if it is."""
        described = self._described(topic)
        if described is None:
            self._make(topic)
            return self._config.partitions
        self._compare(topic, described)
        return len(described.partitions)

    def identity(self, topic: str, partition: int) -> str:
        """Return which partition of this name it is; raises :class:`Transient` if it is none."""
        described = self._described(topic)
        if described is None or partition >= len(described.partitions):
            message = f"Kafka has no partition {partition} of the topic {topic}."
            raise Transient(message, hint="It is made again when its topic is asked for.")
        return f"{described.topic_id}/{partition}"

    def brokers(self) -> int:
        """Return how many nodes there are."""
        try:
            return len(self._admin.list_topics(timeout=ASK_S).brokers)
        except KafkaException as error:
            raise translated(error, "asking for its brokers") from error

    def _described(self, topic: str) -> TopicDescription | None:
        names = TopicCollection([topic])
        try:
            described: TopicDescription = self._asked(
                lambda: self._admin.describe_topics(names, request_timeout=ASK_S)[topic]
            )
        except KafkaException as error:
            if reason(error).code() in _NOT_THERE:
                return None
            raise translated(error, f"asking for the topic {topic}") from error
        return described

    def _asked(self, ask: Callable[[], Future[T]]) -> T:
        """Return what is answered; ask once more if nobody does.

        Such a question goes to the controller, and the client waits for one that is gone. Any
        node says who it is now, or none is there.
        """
        if self._doubtful:
            self._admin.list_topics(timeout=ASK_S)
        try:
            answer = ask().result()
        except KafkaException as error:
            if reason(error).code() not in _NO_ANSWER:
                raise
            self._doubtful = True
            self._admin.list_topics(timeout=ASK_S)
            answer = ask().result()
        self._doubtful = False
        return answer

    def _make(self, topic: str) -> None:
        config = self._config
        new = NewTopic(topic, config.partitions, config.replicas, config=dict(self._settings))
        what = f"making the topic {topic}"
        try:
            self._asked(lambda: self._admin.create_topics([new], request_timeout=ASK_S)[topic])
        except KafkaException as error:
            if reason(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another one was quicker
                raise translated(error, what) from error
        for _ in range(_TRIES):  # it is made, and not every node knows at once
            described = self._described(topic)
            if described is not None and all(each.leader for each in described.partitions):
                return
            threading.Event().wait(_PAUSE_S)
        raise Transient(f"Kafka: {what} is not over yet.", hint="It is tried again.")

    def _compare(self, topic: str, described: TopicDescription) -> None:
        """Tell once what differs; set what nobody has decided about this topic."""
        found = self._found(topic)
        undecided = [name for name, entry in found.items() if not _is_decided(entry)]
        if undecided and self._set(topic, undecided):
            found = {name: entry for name, entry in found.items() if name not in undecided}
        replicas = min((len(each.replicas) for each in described.partitions), default=0)
        facts = {
            "partitions": (str(self._config.partitions), str(len(described.partitions))),
            "replicas": (str(self._config.replicas), str(replicas)),
            **{name: (self._settings[name], str(each.value)) for name, each in found.items()},
        }
        differing = {name: each for name, each in facts.items() if each[0] != each[1]}
        told = frozenset((name, is_now) for name, (_, is_now) in differing.items())
        if self._told.get(topic, frozenset()) != told:
            self._told[topic] = told
            transport = self._config.name or "kafka"
            for name, (wanted, is_now) in differing.items():
                self._observer(TopicDiffers(transport, topic, name, wanted, is_now))

    def _found(self, topic: str) -> dict[str, ConfigEntry]:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            entries: dict[str, ConfigEntry] = self._asked(
                lambda: self._admin.describe_configs([resource], request_timeout=ASK_S)[resource]
            )
        except KafkaException as error:
            raise translated(error, f"asking for the settings of {topic}") from error
        return {name: entries[name] for name in self._settings if name in entries}

    def _set(self, topic: str, names: Iterable[str]) -> bool:
        """Set what is undecided, as after the broker has made a topic by itself."""
        changes = [
            ConfigEntry(name, self._settings[name], incremental_operation=AlterConfigOpType.SET)
            for name in names
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
        change = self._admin.incremental_alter_configs
        try:
            self._asked(lambda: change([resource], request_timeout=ASK_S)[resource])
        except KafkaException:  # it may not, so it tells what differs
            return False
        return True


def _is_decided(entry: ConfigEntry) -> bool:
    source: Any = entry.source
    return int(getattr(source, "value", source)) == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
