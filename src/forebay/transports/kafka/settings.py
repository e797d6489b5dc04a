"""From a ``[[transports]]`` table to the settings of Kafka's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.errors import ConfigError
from forebay.secret_files import read_secrets

if TYPE_CHECKING:
    from forebay.transports.kind import TransportConfig

Settings = dict[str, Any]
SERVERS = "127.0.0.1:9092"
DELIVERY_S = 15
"""So long a record is tried before it counts as not acknowledged; a node may take over by then."""
LARGEST = 16 << 20
"""Bytes of a record: a dead letter holds a whole frame."""
_SHARED: Settings = {
    "client.id": "forebay",
    "log_level": 2,  # what matters comes as an error
    "socket.timeout.ms": 10_000,
    "socket.keepalive.enable": True,
    # Behind a partition a connection that was being made waits for its packets, ever longer.
    "socket.connection.setup.timeout.ms": 5_000,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    "topic.metadata.refresh.interval.ms": 10_000,
}
_PRODUCER: Settings = {
    "acks": "all",
    "enable.idempotence": True,
    "max.in.flight.requests.per.connection": 5,
    "compression.type": "lz4",
    "linger.ms": 5,
    "message.timeout.ms": DELIVERY_S * 1_000,
    "request.timeout.ms": 5_000,
    "topic.metadata.propagation.max.ms": 5_000,
    "message.max.bytes": LARGEST,
    # What is being sent, at most: a call waits for room, and keeps nothing once it has ended.
    "queue.buffering.max.messages": 50_000,
    "queue.buffering.max.kbytes": 24 << 10,  # more than the largest record
}
_CONSUMER: Settings = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # we decide
    "allow.auto.create.topics": False,
    "fetch.wait.max.ms": 100,
    "fetch.message.max.bytes": 2 << 20,
    "fetch.error.backoff.ms": 100,
    "fetch.queue.backoff.ms": 20,  # once its queue is full; a second would be most of the time
    "queued.max.messages.kbytes": 4 << 10,  # of each lane that is read
}
_MEMBER: Settings = {
    # Whoever keeps a lane reads on while others change hands.
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,
    "coordinator.query.interval.ms": 3_000,  # also how long a commit waits for a coordinator
    "heartbeat.interval.ms": 3_000,
}
_OURS = frozenset(
    {
        *("acks", "request.required.acks", "enable.idempotence", "enable.gapless.guarantee"),
        *("transactional.id", "enable.auto.commit", "enable.auto.offset.store", "group.id"),
        *("auto.offset.reset", "allow.auto.create.topics", "bootstrap.servers"),
        *("partition.assignment.strategy", "group.protocol", "group.instance.id"),
        *("metadata.broker.list", "delivery.report.only.error", "message.max.bytes"),
    }
)
"""What no option changes: what we promise rests on it."""


def shared(config: TransportConfig) -> Settings:
    """Return what every client needs: whom to ask, and who we are.

    Raises :class:`~forebay.errors.ConfigError` for an option that is not free to choose.
    """
    options = {**config.options, **read_secrets(config.credentials_file, config.name or "kafka")}
    if fixed := sorted(options.keys() & _OURS):
        raise ConfigError(f"Kafka's option {fixed[0]!r} is not free to choose.", hint="Drop it.")
    if config.mode:
        raise ConfigError(f"Kafka has no mode {config.mode!r}.", hint="Leave mode out.")
    if config.min_insync > config.replicas:
        message = f"min_insync is {config.min_insync}, and replicas {config.replicas}."
        raise ConfigError(message, hint="No topic could ever acknowledge anything.")
    return {**_SHARED, "bootstrap.servers": config.servers or SERVERS, **options}


def producing(settings: Settings) -> Settings:
    """Return the settings of a producer; ``settings`` are those of every client."""
    return {**_PRODUCER, **settings}


def consuming(settings: Settings, group: str) -> Settings:
    """Return the settings of a consumer of ``group``."""
    return {**_CONSUMER, **settings, "group.id": group}


def sharing(settings: Settings, group: str) -> Settings:
    """Return the settings of a member of ``group``."""
    return {**_MEMBER, **consuming(settings, group)}
