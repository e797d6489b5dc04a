"""Apache Kafka, and what speaks its protocol: a topic by kind of event, in partitions."""

from forebay.drivers import Driven
from forebay.transports.kind import TransportKind

__all__ = ["TRANSPORT"]
_TRANSPORT = Driven(f"{__name__}.transport", "confluent_kafka", "kafka")

TRANSPORT = TransportKind(
    name="kafka",
    open=_TRANSPORT.at("KafkaTransport"),
    probe=_TRANSPORT.at("probe_kafka"),
    durable=lambda _: True,
)
