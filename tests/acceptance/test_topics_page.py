"""A consumer that is not ours reads topics by the page alone: plain clients, its own words."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from forebay.app.wiring import venues
from forebay.clock import ManualClock
from forebay.domain.letters import RecordPlace, unreadable_letter
from forebay.journal import StateFile
from forebay.lab.kafka_server import admin_of
from forebay.services.letters import LetterBox, LetterSpool
from forebay.services.publisher import Publisher
from forebay.telemetry import ignore
from forebay.transports.kafka import TRANSPORT as KAFKA
from forebay.transports.kind import TransportConfig
from forebay.transports.nats import TRANSPORT as NATS
from tests.support import kafka
from tests.support.nats import serving_nats
from tests.support.pages import page, section, table, ticked
from tests.support.poisoned import Place, captured

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.ports import Transport

PAGE = page("reference/topics")
TOPIC, DLQ = "trade_archive", "trade_archive_dlq"
HEADERS = {ticked(row[0])[0] for row in table(section(PAGE, "Dead letters"), "header", "is")}
Read = Callable[[str], list[tuple[dict[str, str], dict[str, Any]]]]


def of_page(name: str) -> Callable[..., Any]:
    """Return the function of the page's program."""
    program = PAGE.split(f"```python {name}\n")[1].split("\n```")[0]
    defined: dict[str, Any] = {}
    exec(compile(program, name, "exec"), defined)  # noqa: S102 - it is ours
    found: Callable[..., Any] = defined["read"]
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(venues, "VENUES", dict(venues.VENUES))
    return captured(tmp_path / "data")


def publish(place: Place, transport: Transport) -> None:
    """Tell all that was captured, and once more, and the letter of a bridge."""
    for number in (1, 2):
        state = StateFile(place.root / f"{number}.state")
        told = place.folder.journal, transport, venues.parsers(), state
        publisher = Publisher(*told, clock=ManualClock())
        publisher.drain()
        publisher.close()
    box = LetterBox(transport, LetterSpool(place.folder.letters), clock=ManualClock())
    where = RecordPlace(f"{TOPIC}/0", "made", 517)
    box.put(TOPIC, unreadable_letter(where, b"\xff\x00", "it is no €\nJSON", attempts=3, now_ns=1))
    assert box.kept == 0


def require_all(place: Place, read: Read) -> None:
    """Assert that what was read is what the store has, and no more."""
    stored = {str(row["event_id"]): row for row in place.rows()}
    told = read(TOPIC)
    assert [headers["event-id"] for headers, _ in told] == [row["event_id"] for _, row in told]
    assert {row["event_id"] for _, row in told} == stored.keys()
    assert len(told) == len(stored)
    for _, row in told:
        ours = stored[row["event_id"]]
        assert row["price"] == f"{ours['price'].normalize():f}"
        assert row["event_ts"] == f"{ours['event_ts'].isoformat()}000Z"
        assert row["trade_id"] == ours["trade_id"]
    letters = {each["letter"]: each for each in place.listed()}
    dead = {headers["event-id"]: (headers, row) for headers, row in read(DLQ)}
    (bridges,) = dead.keys() - letters.keys()
    assert dead.keys() - {bridges} == letters.keys()
    for headers, row in dead.values():
        assert headers.keys() >= HEADERS
        assert headers["original_topic"] == TOPIC
        assert row["letter_id"] == headers["event-id"]
        assert headers["reason"] == row["reason"]
        assert int(headers["attempts"]) == row["attempts"]
        assert headers["timestamp"] == row["received_ts"]
    for letter, ours in letters.items():
        headers, row = dead[letter]
        assert headers["error"] == ours["error"] == row["error"]
        assert headers["venue"] == place.venue
        assert headers["position"] == f"{row['log_id']}:{ours['seq']}:{ours['item']}"
        assert b"NEW-B" in base64.b64decode(row["payload"])
    headers, row = dead[bridges]
    assert headers["position"] == f"{TOPIC}/0@517"
    assert base64.b64decode(row["payload"]) == b"\xff\x00"
    assert row["error"] == "it is no €\nJSON"


@pytest.mark.drill
def test_plain_kafka_reads_a_topic_by_the_page_alone(place: Place) -> None:
    cluster = kafka.a_broker()
    admin = admin_of(cluster.bootstrap)
    for topic in {TOPIC, DLQ} & admin.list_topics(timeout=5).topics.keys():
        kafka.delete_topic(admin, topic)
    transport = KAFKA.open(kafka.config_of(cluster, partitions=2), ignore)
    try:
        publish(place, transport)
        read: Callable[..., Iterator[Any]] = of_page("kafka_reader.py")
        require_all(place, lambda topic: [*read(cluster.bootstrap, topic)])
    finally:
        transport.close()


def test_plain_nats_reads_a_stream_by_the_page_alone(place: Place, tmp_path: Path) -> None:
    read: Callable[..., AsyncIterator[Any]] = of_page("nats_reader.py")

    async def everything(url: str, topic: str) -> list[Any]:
        return [each async for each in read(url, topic)]

    with serving_nats(tmp_path) as lab:
        config = TransportConfig(kind="nats", servers=lab.urls[0])
        transport = NATS.open(config, ignore)
        try:
            publish(place, transport)
            ask = partial(everything, lab.urls[0])
            require_all(place, lambda topic: asyncio.run(ask(topic)))
        finally:
            transport.close()
