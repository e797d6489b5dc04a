"""A data folder of a day with millions of events: a DuckDB file, a ledger, and no frames."""

# ruff: noqa: S608 - statements of our own

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from forebay.app.reader import Data
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock, SystemClock
from forebay.domain.coverage import IdCoverage, StreamKey
from forebay.domain.digest import digests_by_hour
from forebay.domain.identity import numbered, stream_prefix, uuids
from forebay.domain.kinds.trade import TRADE
from forebay.domain.ledger import Covered, Hour, SegmentEntry, StreamEntry
from forebay.journal import JournalWriter, PendingBlock
from forebay.stores.duckdb import ddl
from forebay.stores.rows import coverage_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY_NS = 86_400 * 10**9
START_NS = 1_767_225_600 * 10**9
BASE = 800_000_000
SYMBOLS = ("BTC-USD", "ETH-USD")
SEGMENT = 250_000
LOG = "c" * 32
PREFIXES = [stream_prefix("coinbase", "spot", "trade", symbol) for symbol in SYMBOLS]
KEYS = [StreamKey("coinbase", "spot", "trade", symbol) for symbol in SYMBOLS]


def make(root: Path, events: int) -> None:
    """Make the folder; ``events`` over one day, alternating between two streams."""
    folder = DataFolder(root).create()
    with duckdb.connect(str(folder.database("duckdb")), config={"threads": 2}) as connection:
        _fill(connection, events)
        _record(connection, folder.ledger, events)


def _fill(connection: duckdb.DuckDBPyConnection, events: int) -> None:
    for statement in ddl.statements():
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES (?)", [ddl.SCHEMA_VERSION])
    symbol = f"CASE i % 2 WHEN 0 THEN '{SYMBOLS[0]}' ELSE '{SYMBOLS[1]}' END"
    prefix = f"CASE i % 2 WHEN 0 THEN {PREFIXES[0]} ELSE {PREFIXES[1]} END"
    low = f"({(1 << 63) + BASE}::UHUGEINT + (i // 2)::UHUGEINT)"
    ns = f"({START_NS} + i * {DAY_NS // events} // 1000 * 1000)"
    connection.execute(f"""INSERT INTO trades BY NAME SELECT
        ((({prefix})::UHUGEINT << 64) | {low})::UUID AS event_id,
        'coinbase' AS venue, 'spot' AS market, {symbol} AS symbol, {symbol} AS venue_symbol,
        'c' AS collector, 'e' AS epoch, '{LOG}' AS log_id, i + 1 AS seq,
        {BASE} + i // 2 AS venue_seq,
        make_timestamp_ns({ns}) AS event_ts, make_timestamp_ns({ns}) AS exchange_ts,
        make_timestamp_ns({ns} + 41234567) AS received_ts,
        ({BASE} + i // 2)::VARCHAR AS trade_id,
        (6425000 + (hash(i) % 100000)::BIGINT)::DECIMAL(38, 18) / 100 AS price,
        ((hash(i + 7) % 1000000000)::BIGINT + 1)::DECIMAL(38, 18) / 100000000 AS size,
        CASE hash(i) % 3 WHEN 0 THEN 'buy' ELSE 'sell' END AS side, '' AS flags
        FROM range({events}) r(i)""")
    coverage = coverage_rows(_coverage(events))
    connection.register("incoming", coverage)
    connection.execute("INSERT INTO coverage FROM incoming")
    connection.execute("INSERT INTO cursors VALUES ('store', ?, ?)", [LOG, events + 1])


def _coverage(end: int) -> Mapping[StreamKey, IdCoverage]:
    """Coverage once events 0 to ``end - 1`` have been received."""
    made = {}
    for number, key in enumerate(KEYS):
        made[key] = IdCoverage()
        made[key].live.add(BASE, BASE + (end - 1 - number) // 2)
    return made


def _record(connection: duckdb.DuckDBPyConnection, ledger: Path, events: int) -> None:
    """Digest columns as they are stored, a segment after the other."""
    columns = ", ".join(TRADE.content)
    reader = connection.sql(f"SELECT {columns} FROM trades").to_arrow_reader(SEGMENT)
    pieces = itertools.chain.from_iterable(
        (piece.slice(at, SEGMENT) for at in range(0, len(piece), SEGMENT)) for piece in reader
    )
    first = 0
    with JournalWriter.open(ledger, clock=ManualClock(), ballast_bytes=0) as writer:
        for piece in pieces:
            entry = _entry(first, pa.Table.from_batches([piece]))
            writer.commit([PendingBlock(1, b"{}", [entry.encode()], [0])])
            first += len(piece)
    assert first == events


def _entry(first: int, rows: pa.Table) -> SegmentEntry:
    numbers = np.arange(first, first + len(rows))
    bases = np.array([(prefix, 0) for prefix in PREFIXES], dtype=np.uint64)[numbers % 2]
    rows = rows.append_column("event_id", uuids(numbered(bases, BASE + numbers // 2)))
    hours: dict[str, list[Hour]] = {symbol: [] for symbol in SYMBOLS}
    for (key, hour), digest in digests_by_hour(rows, TRADE).items():
        hours[key.symbol].append(Hour.of(hour, digest))
    end = first + len(rows)
    streams = [
        StreamEntry(*key, hours[key.symbol], Covered.of(coverage))
        for key, coverage in _coverage(end).items()
    ]
    times = rows.column("event_ts").cast(pa.int64()).to_numpy() + 41_234_567
    return SegmentEntry(
        log_id=LOG,
        first=first + 1,
        end=end + 1,
        received=(int(times[0]), int(times[-1]), int(times.min())),
        frames={"yielding": len(rows), "control": 0, "dead": 0},
        letters=[],
        lost=[],
        streams=streams,
    )


class Measured(msgspec.Struct):
    """What an audit in a process of its own said and took."""

    ok: bool
    verified_by: list[str]
    counts: dict[str, list[int]]
    problems: list[str]
    seconds: float
    cpu_s: float
    rss_mb: int


def main(root: str) -> None:
    """Audit the folder ``root`` and print a :class:`Measured` as JSON."""
    clock = SystemClock()
    began = clock.monotonic_ns()
    report = Data(root).audit_report()
    took = clock.monotonic_ns() - began
    usage = getrusage(RUSAGE_SELF)
    # Not ru_maxrss, which a new program inherits from the process that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak_kb,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    counts = {each.symbol: [stage.count for stage in each.stages.values()]
              for each in report.streams}  # fmt: skip
    said = Measured(report.ok, list(report.verified_by), counts,
                    [problem.text for problem in report.problems], took / 1e9,
                    usage.ru_utime + usage.ru_stime, int(peak_kb) // 1024)  # fmt: skip
    sys.stdout.buffer.write(msgspec.json.encode(said))


if __name__ == "__main__":
    main(sys.argv[1])
