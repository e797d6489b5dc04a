"""Letters that a real broker will not take: kept, passed over, listed, told later, once."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import NewTopic

from forebay.app.wiring import venues
from forebay.clock import ManualClock
from forebay.domain.letters import RecordPlace, unreadable_letter
from forebay.lab.kafka_server import admin_of
from forebay.services.letters import RETRY_S, LetterBox, LetterSpool
from forebay.telemetry import ignore
from forebay.transports.kafka import TRANSPORT as KAFKA
from forebay.transports.kind import TransportConfig
from forebay.transports.nats import TRANSPORT as NATS
from tests.acceptance.test_topics_page import of_page
from tests.support import kafka
from tests.support.commands import wait_for
from tests.support.nats import connected, serving_nats
from tests.support.poisoned import Place

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from forebay.ports import Transport

pytestmark = pytest.mark.drill
LARGE = 1_200_000


def letter(number: int, size: int = 10) -> pa.Table:
    where = RecordPlace("of a test", "made", number)
    raw = random.Random(number).randbytes(size)  # that nothing makes smaller
    return unreadable_letter(where, raw, "it is no JSON", attempts=3, now_ns=number)


def name_of(letter: pa.Table) -> str:
    return str(letter["letter_id"][0].as_py())


class Post:
    """A box in a data folder, and its clock."""

    def __init__(self, place: Place, transport: Transport) -> None:
        self.place = place
        self.clock = ManualClock()
        spool = LetterSpool(place.folder.letters)
        self.box = LetterBox(transport, spool, clock=self.clock)

    def kept(self) -> list[str]:
        return [each["letter"] for each in self.place.listed("--state", "kept")]

    def delivered(self) -> bool | None:
        """Try again what is kept, as if its time had come; None while something is."""
        self.clock.advance(RETRY_S)
        self.box.deliver()
        return None if self.box.kept else True


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(venues, "VENUES", dict(venues.VENUES))
    return Place(tmp_path / "data", "native")


def test_kafka_gets_a_letter_once_its_topic_takes_it(place: Place) -> None:
    cluster, topic = kafka.a_broker(), kafka.a_topic()
    admin, dlq = admin_of(cluster.bootstrap), f"{topic}_dlq"
    limited = NewTopic(dlq, 1, 1, config={"max.message.bytes": "1000000"})
    admin.create_topics([limited])[dlq].result(10)
    transport = KAFKA.open(kafka.config_of(cluster), ignore)
    try:
        post = Post(place, transport)
        for each in (letter(1), letter(2, LARGE), letter(3)):
            post.box.put(topic, each)
        assert post.kept() == [name_of(letter(2, LARGE))]
        kafka.delete_topic(admin, dlq)  # it is made anew, as ours are made
        post.box.put(topic, letter(4))
        wait_for(post.delivered, "what was kept to be told")
        assert post.kept() == []
        told = [
            headers["event-id"] for headers, _ in of_page("kafka_reader.py")(cluster.bootstrap, dlq)
        ]
        assert sorted(told) == sorted(map(name_of, (letter(2, LARGE), letter(4))))
    finally:
        transport.close()


def test_nats_gets_a_letter_once_its_stream_is_there(place: Place, tmp_path: Path) -> None:
    topic, dlq = "trade_archive", "trade_archive_dlq"

    async def everything(url: str) -> list[str]:
        return [headers["event-id"] async for headers, _ in of_page("nats_reader.py")(url, dlq)]

    with serving_nats(tmp_path) as lab, connected(lab) as beside:
        transport = NATS.open(TransportConfig(kind="nats", servers=lab.urls[0]), ignore)
        try:
            post = Post(place, transport)
            for each in (letter(1), letter(2, LARGE), letter(3)):
                post.box.put(topic, each)
            assert post.kept() == [name_of(letter(2, LARGE))]
            assert asyncio.run(everything(lab.urls[0])) == [name_of(letter(1)), name_of(letter(3))]
            beside.run(beside.ask(f"STREAM.DELETE.{dlq}", {}))
            post.box.put(topic, letter(4))
            post.delivered()
            assert post.kept() == [name_of(letter(2, LARGE))]
            assert asyncio.run(everything(lab.urls[0])) == [name_of(letter(4))]
        finally:
            transport.close()
