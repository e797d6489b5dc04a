"""A bridge as a process: what a capture publishes is in a second store, whoever was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from forebay.app.processes.local_socket import ask
from forebay.app.wiring.data_folder import DataFolder
from forebay.app.wiring.venues import parsers
from forebay.errors import ForebayError
from forebay.services.audit import run_audit
from forebay.services.lane_bridge import journal_cursor
from forebay.stores.duckdb import DuckDBAudited, DuckDBReader, DuckDBStore
from tests.support.commands import (
    TWO_SYMBOLS,
    Running,
    capture,
    connected,
    forebay,
    process,
    simulator,
    wait_for,
)
from tests.support.crossing import content
from tests.support.kafka import running_kafka
from tests.support.memory_socket import serving
from tests.support.memory_transport import Broker
from tests.support.servers import needs_kafka
from tests.support.socket_transport import PLUGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


BRIDGE = """
data = "{data}"

[bridge]
transport = "broker"
batch_s = 0.5

[bridge.store]
kind = "duckdb"
"""
TABLE = """
[[transports]]
name = "broker"
plugin = "{plugin}"
servers = "{servers}"
"""


KAFKA = """
[[transports]]
name = "broker"
kind = "kafka"
servers = "{servers}"
partitions = 2
"""


@pytest.fixture
def memory() -> Iterator[str]:
    """The configuration of a broker in memory that is served meanwhile."""
    with tempfile.TemporaryDirectory() as folder:  # its path must be short
        socket = Path(folder) / "broker.sock"
        with serving(Broker(partitions=2), socket):
            yield TABLE.format(plugin=PLUGIN, servers=socket)


@pytest.fixture
def kafka() -> Iterator[str]:
    """The configuration of a Kafka that runs meanwhile."""
    needs_kafka()
    with running_kafka() as cluster:
        yield KAFKA.format(servers=cluster.bootstrap)


@pytest.fixture(params=["memory", "kafka"])
def table(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@contextlib.contextmanager
def captured(folder: Path, table: str, rate: int = 400) -> Iterator[Running]:
    """Run a capture that publishes."""
    file, data = folder / "forebay.toml", folder / "data"
    with simulator("--rate", rate, "--start", "now", seed=11) as lab:
        file.write_text(TWO_SYMBOLS.format(data=data, lab=lab) + table)
        with capture(data, file=file) as running:
            connected(running)
            yield running


@contextlib.contextmanager
def bridging(folder: Path, table: str, name: str = "bridge") -> Iterator[Running]:
    """Run a machine that has a bridge and nothing else."""
    file, data = folder / f"{name}.toml", folder / name
    file.write_text(BRIDGE.format(data=data) + table)
    env, log = {"FOREBAY_HTTP__PORT": "0"}, folder / f"{name}.log"
    with process("run", "-c", file, env=env, log=log) as child:
        yield Running(child, DataFolder(data), log)


def status(running: Running) -> dict[str, Any] | None:
    with contextlib.suppress(ForebayError):
        told = ask(running.folder.socket("bridge"), {"op": "report"}, timeout_s=2.0)[0]
        return {**told["status"], "pid": told["pid"], "not_ready": told["not_ready"]}
    return None


def until(running: Running, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        told = status(running)
        return told if told and holds(told) else None

    return wait_for(look, f"{what} (log: {running.log})")


def positions(database: Path) -> dict[str, Any]:
    with contextlib.closing(DuckDBStore(database)) as store:
        return dict(store.load().positions)


def require_equal(capturing: Running, second: Path) -> int:
    """The store of the bridge is as that of the capture, and audited alike; return its trades."""
    first = capturing.folder.database("duckdb")
    at = positions(first)["store"]
    cursor = journal_cursor(at.log_id)
    assert positions(second)[cursor] == at
    tables, reports = [], []
    for database, consumer in ((first, "store"), (second, cursor)):
        with contextlib.closing(DuckDBStore(database)) as store:
            tables.append(content(store))
        with contextlib.closing(DuckDBReader.of_file(database)) as reader:
            audited = DuckDBAudited(lambda sql: reader.query(sql, timeout_s=60.0), consumer)
            report = run_audit(audited, capturing.folder.journal, parsers())
            reports.append(msgspec.structs.replace(report, took_ms=0))
    assert reports[0].ok
    assert reports[0] == reports[1]
    assert [name for name, rows in tables[0].items() if rows != tables[1][name]] == []
    return len(tables[0]["trades"])


@pytest.mark.drill
def test_what_is_published_is_stored_once_though_the_bridge_is_killed(
    tmp_path: Path, table: str
) -> None:
    with captured(tmp_path, table) as capturing, bridging(tmp_path, table) as running:
        before = until(running, lambda told: told["rows"] > 100, "rows")
        os.kill(before["pid"], signal.SIGKILL)
        until(running, lambda told: told["pid"] != before["pid"] and told["rows"] > 100, "more")
        whole = forebay("status", "--data", running.folder.root, "--json").json
        assert (whole["running"], whole["not_ready"]) == (True, "")
        assert whole["bridge"]["reads"] == "broker"
        assert "broker to duckdb: " in forebay("status", "--data", running.folder.root).stdout
        assert capturing.stop() == 0
        until(running, lambda told: told["lag_s"] < 0.3 and not told["in_hand"], "all stored")
        assert running.stop() == 0
        require_equal(capturing, running.folder.bridge_database("duckdb"))
