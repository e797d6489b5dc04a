"""What the bridge is measured beside: the same records moved the plain way, and by bare parts."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from forebay.transports.spelling import CONTROL

if TYPE_CHECKING:
    import pyarrow as pa

TIMES = ("event_ts", "exchange_ts", "received_ts")
DECIMALS = ("price", "size")
BATCH = 1000
"""Rows of an insert, as the documents had it."""
_TABLE = """
    CREATE TABLE {name} (event_id {id}, venue LowCardinality(String),
    market LowCardinality(String), symbol LowCardinality(String),
    venue_symbol LowCardinality(String), collector LowCardinality(String),
    epoch LowCardinality(String), log_id LowCardinality(String), seq Int64,
    venue_seq Nullable(Int64), event_ts DateTime64(9, 'UTC'), exchange_ts DateTime64(9, 'UTC'),
    received_ts DateTime64(9, 'UTC'), trade_id String, price Decimal(38, 18),
    size Decimal(38, 18), side LowCardinality(String), flags String)
    ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(event_ts)
    ORDER BY (venue, market, symbol, event_ts, event_id)
"""


def make_table(client: Any, id_type: str = "UUID") -> str:  # noqa: ANN401 - a type of a driver
    """Make a new table of trades; return its name."""
    name = f"trades_{uuid.uuid4().hex}"
    client.command(_TABLE.format(name=name, id=id_type))
    return name


def connected(port: int) -> Any:  # noqa: ANN401 - a type of a driver
    import clickhouse_connect

    return clickhouse_connect.get_client(host="127.0.0.1", port=port)


# ---------------------------------------------------------------------- the plain way


def plain(servers: str, topic: str, port: int, events: int) -> None:
    """Move a topic as tutorials do: read, decode, insert batches of rows, commit."""
    asyncio.run(_plain(servers, topic, port, events))


async def _plain(servers: str, topic: str, port: int, events: int) -> None:
    from aiokafka import AIOKafkaConsumer

    client = connected(port)
    table = make_table(client)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=f"plain-{uuid.uuid4()}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    rows: list[list[object]] = []
    names: list[str] = []
    moved = 0
    try:
        async for message in consumer:
            if any(name == CONTROL for name, _ in message.headers):
                continue
            told = json.loads(message.value)
            names = [*told]
            rows.append([_cell(name, value) for name, value in told.items()])
            if len(rows) < BATCH and moved + len(rows) < events:
                continue
            client.insert(table, rows, column_names=names)
            await consumer.commit()
            moved += len(rows)
            rows.clear()
            if moved >= events:
                return
    finally:
        await consumer.stop()
        client.command(f"DROP TABLE {table}")


def _cell(name: str, value: Any) -> object:  # noqa: ANN401 - JSON
    if name in TIMES:
        return datetime.fromisoformat(f"{value[:26]}+00:00")
    if name in DECIMALS:
        return Decimal(value)
    return uuid.UUID(value) if name == "event_id" else value


# -------------------------------------------------------------------- the bare parts


def records(servers: str, topic: str, count: int) -> list[bytes]:
    """Read ``count`` records of a topic with confluent-kafka and look at nothing; return them."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": servers, "group.id": f"bare-{uuid.uuid4()}"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes] = []
    while len(found) < count:
        found += [each.value() or b"" for each in consumer.consume(10_000, 1.0)]
    consumer.close()
    return found


def insert(port: int, blocks: list[pa.Table]) -> None:
    """Insert tables that are ready, each at once."""
    client = connected(port)
    table = make_table(client, "FixedString(16)")
    for block in blocks:
        client.insert_arrow(table, block)
    client.command(f"DROP TABLE {table}")
