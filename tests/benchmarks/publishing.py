"""From a journal to a transport, beside the bare client of that transport over the same bytes.

Ours is the publisher with the product's own transport: it reads the journal, normalises, spells
events, sends them and returns once all are acknowledged and its state is stored. The peer has
every record made beforehand, key, headers and value, and only sends them and waits. The server
is the lab's, on the same machine: what it costs is a part of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.journal import StateFile
from forebay.lab.kafka_server import kafka as kafka_cluster
from forebay.lab.nats_server import nats_servers
from forebay.services.publisher import Publisher
from forebay.sources.coinbase.protocol import VENUE, CoinbaseParser
from forebay.telemetry import ignore
from forebay.transports.kind import TransportConfig
from forebay.transports.spelling import CONTROL, EVENT_ID, Record, records
from forebay.transports.subjects import subjects
from tests.benchmarks.harness import OURS, Goal, NotRun, Row, alternate, seconds
from tests.benchmarks.recorded import write_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from forebay.domain.messages import Message
    from forebay.ports import Subscription, Transport
    from forebay.transports.kind import TransportKind

T = TypeVar("T")


class Bench(NamedTuple):
    """A transport under test and the client that it is measured beside."""

    title: str
    peer: str
    send: Callable[[str, list[Sent]], None]
    """Send to a server with the bare client; return once all are acknowledged."""


class Sent(NamedTuple):
    """One record as the bare client is given it."""

    subject: str
    record: Record


class Collecting:
    """A transport that keeps the records of all that it is told, in order."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    def lanes(self, topic: str) -> list[str]:
        return [topic]

    def identity(self, lane: str) -> str:
        return lane

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        for message in messages:
            control, *rows = records(message)
            self.sent.append(Sent(f"control.{lane}", control))
            self.sent += map(Sent, subjects(message), rows)

    def subscribe(self, lane: str, group: str) -> Subscription:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


def publish(journal: Path, transport: Transport) -> None:
    """Publish a journal from its beginning."""
    clock, parsers = SystemClock(), {VENUE: CoinbaseParser()}
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as made:
        state = StateFile(Path(made, "publisher.state"))
        publisher = Publisher(journal, transport, parsers, state, clock=clock)
        publisher.drain()
        publisher.close()


def bare_kafka(servers: str, sent: list[Sent]) -> None:
    """Produce with confluent-kafka, with the guarantees of ours."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    topic = f"bare-{uuid.uuid4()}"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    acknowledged = 0

    def told(error: object, _: object) -> None:
        nonlocal acknowledged
        acknowledged += error is None

    producer = Producer(
        {
            "bootstrap.servers": servers,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": len(sent) + 1,
        }
    )
    for count, (_, (key, value, event_id, *_)) in enumerate(sent):
        headers: dict[str, str | bytes | None] = {CONTROL: b"control"}
        if event_id:
            headers = {EVENT_ID: event_id}
        producer.produce(topic, value, key, 0, told, headers=headers)
        if count % 1000 == 0:
            producer.poll(0)
    producer.flush()
    assert acknowledged == len(sent), "records are missing"


def bare_nats(servers: str, sent: list[Sent]) -> None:
    """Publish to a stream with nats-py, as many in flight as it has by default."""
    asyncio.run(_bare_nats(servers, sent))


async def _bare_nats(servers: str, sent: list[Sent]) -> None:
    import nats

    client = await nats.connect(f"nats://{servers}")
    stream, name = client.jetstream(), uuid.uuid4().hex
    await stream.add_stream(name=name, subjects=[f"{name}.>"])
    for subject, record in sent:
        event_id = record.event_id.decode()
        headers = {EVENT_ID: event_id} if event_id else {CONTROL: "control"}
        _ = await stream.publish_async(f"{name}.{subject}", record.value, 60, headers=headers)
    await stream.publish_async_completed()
    await client.close()


@contextlib.contextmanager
def served(server: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Run one of the lab's servers, whose event loop nobody needs meanwhile."""
    with asyncio.Runner() as runner:
        try:
            started = runner.run(server.__aenter__())
        except Unreachable as error:
            raise NotRun(f"{error} {error.hint}") from error
        try:
            yield started
        finally:
            runner.run(server.__aexit__(None, None, None))


def _rows(kind: TransportKind, servers: str, folder: Path, events: int, bench: Bench) -> Row:
    journal = folder / "journal"
    write_journal(journal, events)
    collecting = Collecting()
    publish(journal, collecting)
    sent = collecting.sent
    assert sum(bool(each.record.event_id) for each in sent) == events, "events are missing"
    transport = kind.open(TransportConfig(kind=kind.name, servers=servers), ignore)
    contenders: dict[str, Callable[[], float]] = {
        OURS: lambda: events / seconds(lambda: publish(journal, transport)),
        bench.peer: lambda: events / seconds(lambda: bench.send(servers, sent)),
    }
    with contextlib.closing(transport):
        for contender in contenders.values():  # the server is as cold as we are
            contender()
        rounds = alternate(contenders)
    note = f"{sum(len(each.record.value) for each in sent) // len(sent)} bytes a record"
    return rounds.row(f"journal -> {bench.title}", "events/s", Goal(ratio=0.6), bench.peer, note)


def kafka(*, events: int = 200_000) -> Iterator[Row]:
    """Measure the way to a topic of Kafka, one node."""
    from forebay.transports.kafka import TRANSPORT

    with (
        temporary_folder() as folder,
        served(kafka_cluster(folder, clock=SystemClock(), heap_mb=512)) as on,
    ):
        bench = Bench("Kafka", "confluent-kafka", bare_kafka)
        yield _rows(TRANSPORT, on.bootstrap, folder, events, bench)


def nats(*, events: int = 30_000) -> Iterator[Row]:
    """Measure the way to a stream of NATS, one node."""
    from forebay.transports.nats import TRANSPORT

    with temporary_folder() as folder, served(nats_servers(folder, clock=SystemClock())) as on:
        bench = Bench("NATS", "nats-py", bare_nats)
        yield _rows(TRANSPORT, on.nodes[0].address, folder, events, bench)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        yield Path(folder)
