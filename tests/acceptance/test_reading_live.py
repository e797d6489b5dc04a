"""Reading while a capture runs: answers at once, never a write, and capture does not notice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pytest

import forebay as package
from forebay.errors import Permanent, Transient
from tests.support.commands import Lab, Running, capture, connected, forebay, refused, simulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE = 2000
QUERY_S = 2.0
"""The capture's ``query.timeout_s``."""
SAMPLE = 3 * RATE
"""Frames over which latencies are taken: three seconds of the market."""
MOST_P99_MS = 250.0
"""Far above what is promised of a quiet machine, far below a socket that stalls."""
HEAVY = "SELECT sum(hash(a.range * b.range)) FROM range(2000000) a, range(2000000) b"
"""Hours of work for every core."""
WRITES = [
    "INSERT INTO trades SELECT * FROM trades",
    "COPY trades TO 'stolen.csv'",
    "ATTACH 'other.duckdb' AS other",
    "SET threads = 1",
    "DROP TABLE trades",
    "SELECT 1; SELECT 2",
]


class Live(NamedTuple):
    """A capture that runs against a simulator."""

    lab: Lab
    running: Running

    @property
    def data(self) -> Path:
        return self.running.folder.root


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data = tmp_path_factory.mktemp("live") / "data"
    env = {"FOREBAY_QUERY__TIMEOUT_S": str(QUERY_S)}
    with (
        simulator("--rate", RATE, "--start", "now") as lab,
        capture(data, *lab.flags, env=env) as running,
    ):
        connected(running)
        running.until(lambda told: told["deliver"]["rows"] > RATE, "a second of the market")
        yield Live(lab, running)


def test_sql_answers(live: Live) -> None:
    query = "SELECT symbol, count(*) AS n FROM trades GROUP BY symbol ORDER BY symbol"
    answer = forebay("sql", query, "--data", live.data, "--json")
    assert answer.code == 0, answer.stderr
    assert [row["symbol"] for row in answer.json] == ["BTC-USD", "ETH-USD"]
    assert all(row["n"] > RATE // 3 for row in answer.json)


def test_the_audit_answers_and_is_green(live: Live) -> None:
    answer = forebay("audit", "--data", live.data, "--json")
    assert (answer.code, answer.json["problems"]) == (0, [])
    assert sum(stream["events"] for stream in answer.json["streams"]) > RATE


def read(data: Path) -> tuple[pa.Table, pa.Table, pa.Table]:
    """What a notebook's first lines would read."""
    with package.open(data) as opened:
        return opened.trades("BTC-USD"), opened.gaps(), opened.audit()


def test_python_reads_it(live: Live) -> None:
    trades, gaps, audit = read(live.data)
    ids = [int(native) for native in trades["trade_id"].to_pylist()]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert trades.schema.field("price").type == pa.decimal128(38, 18)
    assert gaps.num_rows == 0
    assert set(audit["symbol"].to_pylist()) == {"BTC-USD", "ETH-USD"}
    assert set(audit["missing"].to_pylist()) == {0}


@pytest.mark.parametrize("query", WRITES)
def test_whatever_is_no_single_reading_statement_is_refused(query: str, live: Live) -> None:
    with package.open(live.data) as opened:
        with pytest.raises(Permanent, match=r"Only queries that read|exactly one"):
            opened.sql(query)
        assert opened.sql("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_refusal_is_one_sentence(live: Live) -> None:
    refused(forebay("sql", WRITES[0], "--data", live.data), 1, "Only queries that read")
    answer = forebay("sql", "SELECT nothing", "--data", live.data)
    assert answer.code == 1
    assert "nothing" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_query_that_takes_too_long_is_stopped(live: Live) -> None:
    refused(forebay("sql", HEAVY, "--data", live.data), 3, f"longer than {QUERY_S:g} s")
    refused(forebay("sql", HEAVY, "--data", live.data, "--timeout", 0.2), 3, "longer than 0.2 s")


def test_queries_do_not_slow_the_acknowledgements(live: Live) -> None:
    before = sampled(live.running)
    over = threading.Event()
    ran = []

    def burden() -> None:
        with package.open(live.data) as opened:
            while not over.is_set():
                with pytest.raises(Transient):
                    opened.sql(HEAVY, timeout_s=1.0)
                ran.append(opened.trades("BTC-USD").num_rows)
                opened.audit_report()

    reader = threading.Thread(target=burden)
    reader.start()
    try:
        during = sampled(live.running)
    finally:
        over.set()
        reader.join()
    print(f"\nacknowledgement p99: {before:.1f} ms before, {during:.1f} ms during heavy queries")
    assert len(ran) > 0
    assert 0 < before < MOST_P99_MS
    assert 0 < during < MOST_P99_MS


def sampled(running: Running) -> float:
    """Answer the p99 of capture's acknowledgements, in ms, over :data:`SAMPLE` frames from now."""
    start = running.capture_status(reset_latency=True)["captured"]
    running.captured(start + SAMPLE)
    p99: float = running.capture_status()["p99_ms"]
    return p99


def test_a_second_capture_is_refused(live: Live) -> None:
    flags = ("--venue", "coinbase", "--symbols", "BTC-USD", "--data", live.data)
    pid = str(live.running.process.pid)
    refused(forebay("run", *flags), 3, "in use", pid, "--data")
    refused(forebay("gaps", "fill", "--data", live.data), 3, "in use", pid)


def test_after_it_stopped_the_file_answers(live: Live) -> None:
    """The last test of this file: it ends the capture."""
    captured = live.running.capture_status()["captured"]
    assert live.running.stop() == 0
    trades, gaps, audit = read(live.data)
    assert trades.num_rows > captured // 3
    assert gaps.num_rows == 0
    assert set(audit["missing"].to_pylist()) == {0}
    refused(forebay("sql", WRITES[0], "--data", live.data), 1, "Only queries that read")
    refused(forebay("sql", HEAVY, "--data", live.data, "--timeout", 0.2), 3, "longer than 0.2 s")
    answer = forebay("status", "--data", live.data, "--json")
    assert (answer.code, answer.json["running"]) == (3, False)
