"""From a topic of Kafka to ClickHouse: beside what one writes first, and beside the bare parts.

Ours is the bridge with the product's own transport and store, in this process: records to
messages, steps, coverage, rows and commits. What counts is the CPU time of the process that does
it, not that of Kafka and ClickHouse, which are the lab's and the same for all. Everybody stores
every column of every event.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.clock import SystemClock
from forebay.domain.kinds import KINDS
from forebay.errors import Transient
from forebay.lab.clickhouse_server import clickhouse
from forebay.lab.kafka_server import kafka as kafka_cluster
from forebay.services.bridge import Bridge
from forebay.stores.clickhouse import STORE
from forebay.stores.kind import StoreConfig
from forebay.telemetry import ignore
from forebay.transports.json_read import read_rows
from forebay.transports.kafka import TRANSPORT
from forebay.transports.kind import TransportConfig
from tests.benchmarks import bridge_peers
from tests.benchmarks.harness import OURS, Goal, Row, alternate, cpu_seconds, seconds
from tests.benchmarks.publishing import publish, served, temporary_folder
from tests.benchmarks.recorded import write_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forebay.lab.clickhouse_server import ClickHouseServer
    from forebay.ports import SharedLanes

TOPIC = "trade_archive"
PLAIN = "aiokafka + clickhouse-connect"
BARE = "consumer alone + insert alone"
IDLE_S = 0.02
"""How long to wait where nothing has come yet, as the process of a bridge does."""
BLOCK = 16384
"""Rows of an insert alone: as many as ours has in a backlog."""


def run(*, events: int = 200_000) -> Iterator[Row]:
    """Measure by turns: ours, the plain way, and the consumer and the insert one by one."""
    with temporary_folder() as folder, contextlib.ExitStack() as stack:
        clock = SystemClock()
        (folder / "kafka").mkdir()
        cluster = stack.enter_context(
            served(kafka_cluster(folder / "kafka", clock=clock, heap_mb=512))
        )
        server = stack.enter_context(served(clickhouse(folder / "clickhouse", clock=clock)))
        config = TransportConfig(kind="kafka", servers=cluster.bootstrap)
        transport = stack.enter_context(contextlib.closing(TRANSPORT.open(config, ignore)))
        write_journal(folder / "journal", events)
        publish(folder / "journal", transport)
        records = bridge_peers.records(cluster.bootstrap, TOPIC, events)
        blocks = _blocks([each for each in records if not each.startswith(b'{"head"')])
        count = len(records)
        waits: dict[str, list[float]] = {}

        def timed(name: str, work: Callable[[], object]) -> Callable[[], float]:
            def contender() -> float:
                began = cpu_seconds()
                waits.setdefault(name, []).append(events / seconds(work))
                return events / (cpu_seconds() - began)

            return contender

        def bare() -> None:
            bridge_peers.records(cluster.bootstrap, TOPIC, count)
            bridge_peers.insert(server.port, blocks)

        def plain() -> None:
            bridge_peers.plain(cluster.bootstrap, TOPIC, server.port, events)

        rounds = alternate(
            {
                OURS: timed(OURS, lambda: bridge_over(transport, server, events)),
                PLAIN: timed(PLAIN, plain),
                BARE: timed(BARE, bare),
            }
        )
        name = "Kafka -> ClickHouse"
        wall = ", ".join(f"{each} {sorted(w)[len(w) // 2]:,.0f}" for each, w in waits.items())
        yield rounds.row(name, "rows/CPU s", Goal(least=100_000), note=f"wall time: {wall}")
        yield rounds.row(f"{name}, plain", "rows/CPU s", Goal(ratio=3.0), PLAIN)
        yield rounds.row(f"{name}, bare parts", "rows/CPU s", Goal(ratio=0.6), BARE)


def bridge_over(transport: SharedLanes, server: ClickHouseServer, events: int) -> None:
    """Move all of the topic into a database of its own."""
    database = f"bench_{uuid.uuid4().hex}"
    config = StoreConfig(kind="clickhouse", url=server.url, database=database)
    with contextlib.closing(STORE.open(config, Path())) as store:
        bridge = Bridge(transport, store, topics=[TOPIC], group=database)
        while bridge.delivered.rows < events:
            with contextlib.suppress(Transient):  # its group is still sharing its lanes out
                if bridge.step(hurry=True):
                    continue
            threading.Event().wait(IDLE_S)
        bridge.close()
    server.ask(f"DROP DATABASE {database} SYNC")


def _blocks(values: list[bytes]) -> list[pa.Table]:
    """Return the rows as the bare insert takes them."""
    schema = KINDS["trade"].schema
    starts = range(0, len(values), BLOCK)
    return [_bare(read_rows(values[at : at + BLOCK], schema)) for at in starts]


def _bare(rows: pa.Table) -> pa.Table:
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    for name, column in columns.items():
        if pa.types.is_dictionary(column.type):
            columns[name] = column.cast(pa.string())
    columns["event_id"] = columns["event_id"].storage
    return pa.table(columns)
