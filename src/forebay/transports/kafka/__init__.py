"""Apache Kafka, and what speaks its protocol: a topic by kind of event, in partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.transports.kind import TransportConfig, TransportKind, brought_in

if TYPE_CHECKING:
    from forebay.ports import SharedLanes
    from forebay.telemetry import Observer

__all__ = ["TRANSPORT"]
_DRIVEN = f"{__name__}.transport", "confluent_kafka", "kafka"


def _open(config: TransportConfig, observer: Observer) -> SharedLanes:
    made: SharedLanes = brought_in(*_DRIVEN).KafkaTransport(config, observer)
    return made


def _probe(config: TransportConfig) -> str:
    said: str = brought_in(*_DRIVEN).probe_kafka(config)
    return said


TRANSPORT = TransportKind(name="kafka", open=_open, probe=_probe, durable=lambda _: True)
