"""The bridge as the documents had it, as a process: each of its ways fails a drill of ours.

``python -m tests.support.naive_bridge JSON`` reads the topics that our publisher writes, as a
member of a consumer group, and writes the rows of trades into ClickHouse with clickhouse-connect
the plain way. Everything else of the system is as it is.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
import uuid
from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from forebay.transports.spelling import CONTROL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message

COLUMNS = (
    "event_id", "venue", "market", "symbol", "event_ts", "price", "size", "side", "trade_id"
)  # fmt: skip
TABLE = """
    CREATE TABLE IF NOT EXISTS trades_rows (event_id UUID, venue String, market String,
    symbol String, event_ts DateTime64(9, 'UTC'), price Decimal(38, 18), size Decimal(38, 18),
    side String, trade_id String) ENGINE = ReplacingMergeTree
    PARTITION BY toYYYYMM(event_ts) ORDER BY (venue, market, symbol, event_ts, event_id)
"""
VIEW = "CREATE VIEW IF NOT EXISTS trades AS SELECT * FROM trades_rows FINAL"
TRIES = 3


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is started with."""

    way: str
    """A key of :data:`WAYS`."""
    servers: str
    """Of Kafka."""
    port: int
    """Of ClickHouse, on this host."""
    topic: str = "trade_archive"
    group: str = "bridge"
    database: str = "forebay"
    batch_rows: int = 1000
    batch_s: float = 10.0
    recovery_s: float = 60.0
    """How long the circuit breaker stays open."""


class BreakerOpen(Exception):
    """Nobody may try just now."""


class Breaker:
    """The documents' own: failures are not healed by a success."""

    def __init__(self, recovery_s: float) -> None:
        self.failures = 0
        self.opened = 0.0
        self.recovery_s = recovery_s

    def call(self, insert: Callable[[], object]) -> None:
        if self.opened and time.monotonic() - self.opened <= self.recovery_s:
            raise BreakerOpen
        try:
            insert()
        except Exception:
            self.failures += 1
            if self.opened or self.failures >= 5:
                self.opened = time.monotonic()
            raise
        if self.opened:
            self.opened, self.failures = 0.0, 0


class PlainBridge:
    """Reads, inserts, commits; "not committed, so Kafka retries" is all that a failure does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.breaker = Breaker(settings.recovery_s)
        self.counts: Counter[str] = Counter()
        self.client: Any = None
        self.consumer = Consumer(
            {
                "bootstrap.servers": settings.servers,
                "group.id": settings.group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 6000,
                "log_level": 0,
            }
        )
        self.producer = Producer({"bootstrap.servers": settings.servers, "log_level": 0})
        self.consumer.subscribe([settings.topic])

    def step(self) -> None:
        """Take some messages."""
        messages = self.consumer.consume(self.settings.batch_rows, 0.2)
        messages = [each for each in messages if each.error() is None]
        if not messages:
            return
        try:
            self.handle(messages)
        except (ClickHouseError, OSError, ValueError, KeyError, BreakerOpen) as error:
            self.counts[type(error).__name__] += 1
            self.failed(messages, error)
            return
        self.commit()

    def handle(self, messages: Sequence[Message]) -> None:
        self.insert([row for each in messages if (row := row_of(each)) is not None])

    def failed(self, messages: Sequence[Message], error: Exception) -> None:
        """Nothing was committed, so Kafka will retry."""

    def commit(self) -> None:
        with contextlib.suppress(KafkaException):
            self.consumer.commit(asynchronous=False)

    def insert(self, rows: Sequence[Sequence[object]]) -> None:
        if rows:
            self.breaker.call(lambda: self._insert(rows))

    def _insert(self, rows: Sequence[Sequence[object]]) -> None:
        if self.client is None:
            self.client = self._connected()
        self.client.insert("trades_rows", rows, column_names=COLUMNS)

    def _connected(self) -> Any:  # noqa: ANN401 - one type a version
        first: Any = clickhouse_connect.get_client(
            host="127.0.0.1",
            port=self.settings.port,
            query_retries=0,
            connect_timeout=2,
            send_receive_timeout=5,
        )
        first.command(f"CREATE DATABASE IF NOT EXISTS {self.settings.database}")
        first.database = self.settings.database
        first.command(TABLE)
        first.command(VIEW)
        return first

    def _again(self, messages: Sequence[Message]) -> None:
        """Have Kafka deliver messages again, as the documents thought that it would."""
        first: dict[tuple[str, int], int] = {}
        for each in messages:
            place, offset = (str(each.topic()), each.partition() or 0), each.offset() or 0
            first[place] = min(offset, first.get(place, offset))
        for place, offset in first.items():
            with contextlib.suppress(KafkaException):
                self.consumer.seek(TopicPartition(*place, offset))

    def _letter(self, message: Message, error: Exception) -> None:
        """Send a dead letter, and wait for nothing."""
        said = [("original_topic", str(message.topic())), ("error", str(error)[:200])]
        with contextlib.suppress(BufferError, KafkaException):
            topic, value = f"{message.topic()}_dlq", message.value()
            self.producer.produce(topic, value, headers=[*said, ("timestamp", str(time.time()))])
        self.counts["letters"] += 1


class Clearing(PlainBridge):
    """Rows are kept for the next try; too many of them are cleared, and that is a success."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.buffer: list[Sequence[object]] = []
        self.flushed = time.monotonic()

    def handle(self, messages: Sequence[Message]) -> None:
        self.buffer += [row for each in messages if (row := row_of(each)) is not None]
        if len(self.buffer) >= self.settings.batch_rows:
            self.flush()

    def flush(self) -> None:
        try:
            self.insert(self.buffer)
        except BreakerOpen:
            raise
        except (ClickHouseError, OSError):
            if len(self.buffer) <= self.settings.batch_rows * 10:
                raise
            self.counts["cleared"] += len(self.buffer)
        self.buffer.clear()
        self.flushed = time.monotonic()

    def step(self) -> None:
        super().step()
        if time.monotonic() - self.flushed > self.settings.batch_s:
            with contextlib.suppress(ClickHouseError, OSError, BreakerOpen):
                self.flush()


class CountingInHeaders(PlainBridge):
    """The number of tries is written into a header of the message that was received."""

    def handle(self, messages: Sequence[Message]) -> None:
        rows = []
        for each in messages:
            try:
                row = row_of(each)
            except (ValueError, KeyError) as error:
                headers = headers_of(each)
                tries = int(headers.get("retry_count") or 0)
                if tries < TRIES:
                    each.set_headers([*headers.items(), ("retry_count", str(tries + 1))])
                    raise
                self._letter(each, error)
                continue
            if row is not None:
                rows.append(row)
        self.insert(rows)

    def failed(self, messages: Sequence[Message], error: Exception) -> None:
        self._again(messages)


class Lettering(PlainBridge):
    """Whatever failed three times is a dead letter, also when the store is away."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.tries: Counter[tuple[str | None, int | None, int | None]] = Counter()

    def failed(self, messages: Sequence[Message], error: Exception) -> None:
        first = messages[0]
        self.tries[first.topic(), first.partition(), first.offset()] += 1
        if self.tries[first.topic(), first.partition(), first.offset()] < TRIES:
            self._again(messages)
            return
        for each in messages:
            self._letter(each, error)
        self.commit()


WAYS: dict[str, type[PlainBridge]] = {
    "clear on overflow": Clearing,
    "retries counted in a header": CountingInHeaders,
    "not committed, so Kafka retries": PlainBridge,
    "three tries, then a dead letter": Lettering,
}


def headers_of(message: Message) -> dict[str, Any]:
    return dict(message.headers() or ())


def row_of(message: Message) -> list[object] | None:
    """Return the row of an event; None for a record that is of none."""
    if CONTROL in headers_of(message):
        return None
    told = json.loads(message.value() or b"")
    moment = datetime.fromisoformat(told["event_ts"].removesuffix("Z")[:26] + "+00:00")
    return [
        uuid.UUID(told["event_id"]),
        *(told[name] for name in COLUMNS[1:4]),
        moment,
        Decimal(told["price"]),
        Decimal(told["size"]),
        told["side"],
        told["trade_id"],
    ]


def main() -> None:
    """Bridge until asked to end."""
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    bridge = WAYS[settings.way](settings)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    while not asked:
        bridge.step()
    bridge.consumer.close()
    sys.stderr.write(json.dumps(bridge.counts) + "\n")


if __name__ == "__main__":
    main()
