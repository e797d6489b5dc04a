"""A real Kafka of one node; every test has topics of its own."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from forebay.telemetry import ignore
from forebay.transports.kafka import TRANSPORT
from forebay.transports.spelling import records
from tests.conformance.transports import Sitting
from tests.support import kafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.domain.messages import Message

TITLE = "kafka"
QUICK = {
    "session.timeout.ms": "1500",
    "heartbeat.interval.ms": "300",
    "max.poll.interval.ms": "1500",
    "topic.metadata.refresh.interval.ms": "1000",
}
"""Of a group: who is gone is missed soon, and who is busy has little time."""


def _size(message: Message) -> int:
    return sum(len(record.key) + len(record.value) for record in records(message))


@contextlib.contextmanager
def sit(_: Path) -> Iterator[Sitting]:
    cluster = kafka.a_broker()
    config = kafka.config_of(cluster, partitions=2, options=QUICK)
    yield Sitting(
        lambda: TRANSPORT.open(config, ignore),
        functools.partial(kafka.delete_topic, kafka.admin(cluster)),
        topic=kafka.a_topic("trade"),
        elsewhere=kafka.a_topic("quote"),
        size=_size,
        shared=[kafka.a_topic(kind) for kind in ("trade", "quote", "ticker")],
        config=config,
    )
