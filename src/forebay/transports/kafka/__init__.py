"""Apache Kafka, and what speaks its protocol: a topic by kind of event, in partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.errors import ConfigError
from forebay.transports.kind import TransportConfig, TransportKind

if TYPE_CHECKING:
    from types import ModuleType

    from forebay.ports import SharedLanes
    from forebay.telemetry import Observer

__all__ = ["TRANSPORT"]


def _opening() -> ModuleType:
    try:
        from forebay.transports.kafka import transport  # noqa: PLC0415 - the client is an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "confluent_kafka":
            raise
        message = "The client of Kafka is not installed."
        raise ConfigError(message, hint='Run: pip install "forebay[kafka]"') from error
    return transport


def _open(config: TransportConfig, observer: Observer) -> SharedLanes:
    made: SharedLanes = _opening().KafkaTransport(config, observer)
    return made


def _probe(config: TransportConfig) -> str:
    said: str = _opening().probe_kafka(config)
    return said


TRANSPORT = TransportKind(name="kafka", open=_open, probe=_probe, durable=lambda _: True)
