"""What real servers hold is read back and mended, within their duplicate windows too."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition

from forebay.domain.messages import EventsTold, Message
from forebay.services.readback import SharedTransport
from forebay.telemetry import ignore
from forebay.transports.kafka import TRANSPORT as KAFKA
from forebay.transports.kind import TransportConfig
from forebay.transports.nats import TRANSPORT as NATS
from tests.support import kafka
from tests.support.audit_bench import native
from tests.support.nats import connected, serving_nats
from tests.support.published import TRADES, Recorded, recorded, the

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from forebay.ports import Transport

LOST = 120


class Leaky(SharedTransport):
    """Drops one event, and takes that for success."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, contextlib.nullcontext)

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        super().publish(lane, [self._without(message) for message in messages])

    @staticmethod
    def _without(message: Message) -> Message:
        head, rows = message
        if not isinstance(head.told, EventsTold) or rows is None:
            return message
        kept = [each != native(LOST) for each in rows["venue_seq"].to_pylist()]
        return Message(head, rows.filter(kept).combine_chunks())


def mended(held: Recorded, rows: int) -> None:
    """What is lacking is mended; and once it is, nothing is told any more."""
    assert held.look(mend=True).mended == rows
    after = held.look()
    assert after.ok
    assert sum(digest.count for digest in after.hours.values()) == 402
    assert held.look(mend=True).mended == 0


@pytest.mark.drill
def test_kafka_is_read_back_and_mended(tmp_path: Path) -> None:
    cluster = kafka.a_broker()
    for topic in [TRADES, f"{TRADES}_dlq", "market_archive_dlq"]:
        if topic in kafka.admin(cluster).list_topics(timeout=5).topics:
            kafka.delete_topic(kafka.admin(cluster), topic)
    real = KAFKA.open(kafka.config_of(cluster, partitions=2), ignore)
    with recorded(tmp_path) as held:
        held.transport = Leaky(real)
        held.publish()
        held.transport = real
        _, found = the(held.look())
        assert found.missing.examples() == [str(native(LOST))]
        mended(held, 1)
        beside = kafka.admin(cluster)
        for lane in held.look().lanes:
            if lane.lane.startswith(TRADES) and lane.rows:
                place = TopicPartition(TRADES, int(lane.lane.partition("/")[2]), 60)
                beside.delete_records([place])[place].result(10)
        assert held.look().ok, "what the broker let go of is not missing"
        kafka.delete_topic(beside, TRADES)
        real.lanes(TRADES)
        anew = held.look()
        assert [lane.anew for lane in anew.lanes if lane.lane.startswith(TRADES)] == [True] * 2
        assert sum(each.missing.count for each in anew.streams.values()) == 402
    real.close()


def test_nats_is_read_back_and_mended_within_the_duplicate_window(tmp_path: Path) -> None:
    with serving_nats(tmp_path) as lab, connected(lab) as beside, recorded(tmp_path) as held:
        held.transport = NATS.open(TransportConfig(kind="nats", servers=lab.servers.url()), ignore)
        held.publish()
        assert held.look().ok
        beside.run(beside.ask(f"STREAM.MSG.DELETE.{TRADES}", {"seq": 60}))
        found = held.look()
        assert not found.ok
        mended(held, sum(each.missing.count for each in found.streams.values()))
        held.transport.close()
