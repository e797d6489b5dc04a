"""``make bench``: run the comparisons, print the table, write ``build/bench.json``.

Exit 0 even if a goal is missed: a benchmark tells, and a shared machine is no judge.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from typing import TYPE_CHECKING

from tests.benchmarks import (
    book_fold,
    bridging,
    history,
    journal_append,
    journal_drain,
    journal_recovery,
    many_connections,
    normalising,
    pipeline,
    publishing,
    recorded,
    resilience,
    resilience_peers,
    scaling,
    websocket_capture,
)
from tests.benchmarks.harness import ROOT, NotRun, Row, table, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BENCHMARKS: dict[str, tuple[str, Callable[[], Iterator[Row]]]] = {
    "append": ("journal append", journal_append.run),
    "drain": ("journal drain", journal_drain.run),
    "recovery": ("journal recovery scan", journal_recovery.run),
    "capture": ("websocket -> captured", websocket_capture.run),
    "latency": ("capture latency", websocket_capture.latency),
    "normalise": ("normalise", normalising.run),
    "book": ("book fold", book_fold.run),
    "pipeline": ("websocket -> stored", pipeline.run),
    "kafka": ("journal -> Kafka", publishing.kafka),
    "nats": ("journal -> NATS", publishing.nats),
    "bridge": ("Kafka -> ClickHouse", bridging.run),
    "history": ("history -> stored", history.run),
    "recorded": ("stored and recorded", recorded.run),
    "symbols": ("cost of idle symbols", scaling.symbols),
    "connections": ("many connections at rest", many_connections.run),
    "breaker": ("overhead of a breaker", resilience.run),
    "peers": ("overhead of breakers and retries", resilience_peers.run),
    "outage": ("memory with a store down", scaling.outage),
}
_LIBRARIES = (
    "picows", "uvloop", "msgspec", "numpy", "pyarrow", "duckdb", "lmdb", "websockets",
    "circuitbreaker", "interlock-cb", "nopanic", "pybreaker", "stamina", "tenacity",
    "sortedcontainers", "requests", "confluent-kafka", "nats-py", "aiokafka",
    "clickhouse-connect", "chdb",
)  # fmt: skip


def versions() -> dict[str, str]:
    """What was measured with what."""
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def measure(names: Iterable[str]) -> Iterator[Row]:
    """Rows of the benchmarks with these names; one that cannot run is a row that says why."""
    for name in names:
        title, run = BENCHMARKS[name]
        sys.stderr.write(f"measuring {title} ...\n")
        try:
            yield from run()
        except (NotRun, ImportError) as reason:
            yield Row(name=title, unit="", goal="", note=str(reason))


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help="one")
    chosen = parser.parse_args()
    rows = list(measure(chosen.only or BENCHMARKS))
    write_json(rows, ROOT / "build" / "bench.json", versions())
    sys.stdout.write(table(rows) + "\n")
    missed = [row.name for row in rows if row.reached is False]
    if missed:
        sys.stdout.write(f"{len(missed)} of {len(rows)} goals missed: {', '.join(missed)}\n")


if __name__ == "__main__":
    main()
