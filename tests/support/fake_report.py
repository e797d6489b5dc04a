"""A report of a whole system, made by the functions that make real ones, of numbers to know."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from forebay.app.processes import market_registry, samples
from forebay.app.processes.samples import Counts
from forebay.clock import ManualClock
from forebay.ops.view import (
    BreakerReport,
    Buckets,
    Check,
    ProcessReport,
    Sample,
    StreamReport,
    SystemReport,
    merged,
)
from forebay.resilience import ServiceHealth, SystemHealth, SystemState
from forebay.services.guarded_bridge import LaneSeen
from forebay.services.guarded_delivery import Measured
from forebay.services.latency import LatencyHistogram
from forebay.sources.roster import Roster
from forebay.telemetry import ignore

AT_NS = 1_767_225_600_500_000_000
STATS = {
    "received": 1000,
    "captured": 990,
    "bytes": 123_456,
    "commits": 40,
    "connected": 2,
    "wanted": 2,
    "epochs": 5,
    "reconnects": 3,
    "p50_ms": 1.0,
    "p99_ms": 2.0,
    "max_ms": 3.0,
    "pending_bytes": 1 << 20,
    "full": False,
}
STATUS: dict[str, Any] = {
    "frames": 900,
    "rows": 850,
    "duplicates": 7,
    "conflicts": 1,
    "dead_letters": 2,
    "flagged": 9,
    "steps": 30,
    "outcomes": {"yielding": 880, "control": 18, "dead": 2},
    "unbuilt": {},
    "flags": {"late": 4, "ambiguous": 5},
    "venues": {
        "coinbase": {
            "ws": {"told": 800, "again": 6, "flags": {"late": 4, "ambiguous": 5}},
            "rest": {"told": 60, "again": 2, "flags": {}},
        }
    },
    "log_id": "00",
    "seq": 901,
    "gaps": {"open": 1, "filled": 2, "permanent": 3},
    "behind": False,
}
DELIVERY = Measured(
    backlog=90, lag_s=1.25, waited=50, flushed=45, writes_refused=8, database_errors=6
)
INHERITED = 70
COUNTS = Counts(
    happenings=Counter(BreakerMoved=2),
    errors=4,
    dead_letters={"coinbase": Counter(oversized=2)},
    rest_errors=Counter({"/products/*/trades": 3}),
    registry_errors=Counter({"/markets": 2}),
)


class FakeReader(samples.OsReader):
    """A machine with round numbers."""

    page_size = 4096
    ticks = 100
    files: ClassVar = {
        "/proc/self/statm": "2000 1000 300 1 0 500 0\n",
        "/proc/self/stat": "7 (a (b) c) S 1 7 7 0 -1 4 1 2 3 4 1250 250 0 0 20 0 1 0 5 6 7\n",
        "/proc/self/limits": "Limit   Soft Limit  Hard Limit  Units\n"
        "Max open files            1024                 4096                 files     \n",
        "/proc/meminfo": "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     250 kB\nX:\n",
    }

    def text(self, path: str) -> str:
        return self.files[path]

    def booted_s(self) -> float:
        return 1_767_225_600.0

    def entries(self, path: str) -> int:
        return {"/proc/self/fd": 12}[path]

    def space(self, folder: Path) -> tuple[int, int]:
        return 600, 1000

    def size(self, folder: Path) -> int:
        return 200


def breaker(name: str = "store", state: str = "open", **changes: Any) -> BreakerReport:  # noqa: ANN401
    """A breaker of whose numbers no two are the same."""
    known: dict[str, Any] = {
        "process": "deliver",
        "failure_count": 5,
        "cause": "Transient",
        "retry_after_s": 12.0,
        "last_failure_ns": AT_NS,
        "opened_ns": AT_NS,
        "requests": 100,
        "successes": 60,
        "failures": 11,
        "slow": 2,
        "not_permitted": 20,
        "stale": 4,
        "trips": 3,
        "transitions": {"open": 3, "half_open": 2, "closed": 1},
        "latency_sum_s": 7.5,
        "latency_count": 73,
        "config": {"failure_threshold": 5, "recovery_timeout_s": 60.0, "success_threshold": 1},
    }
    return BreakerReport(name=name, state=state, **(known | changes))


def asked() -> Roster:
    """What was asked for: two streams, one of them refused twice, and five complaints."""
    roster = Roster(ManualClock(wall_ns=AT_NS))
    attendance = roster.of("coinbase", "spot", ignore)
    attendance.ask([("trade", "BTC-USD"), ("trade", "ETH-USD")])
    attendance.acknowledge([("trade", "BTC-USD")])
    for _ in range(2):
        attendance.refuse({("trade", "ETH-USD"): "it is unknown"}, 15.0)
    for _ in range(5):
        attendance.complained()
    return roster


STREAMS = merged(
    [
        ProcessReport(
            "capture",
            1,
            "",
            streams=[
                StreamReport(
                    **place._asdict(),
                    asked_ns=standing.asked_ns,
                    acknowledged_ns=standing.acknowledged_ns,
                    refused=standing.refused,
                    refusals=standing.refusals,
                    retry_ns=standing.retry_ns,
                )
                for place, standing in asked().standings.items()
            ],
        ),
        ProcessReport(
            "deliver",
            2,
            "",
            streams=[
                StreamReport(
                    venue="coinbase",
                    market="spot",
                    channel="trade",
                    symbol="BTC-USD",
                    heard_ns=AT_NS,
                )
            ],
            hears=True,
        ),
    ]
)
"""Both streams, as all processes together know them."""


def latency() -> list[Buckets]:
    histogram = LatencyHistogram()
    histogram.add([0, 0], 1_000_000)
    histogram.add([0], 100_000_000)
    return samples.latency(histogram.totals())


def publisher(kind: str, **changes: Any) -> ProcessReport:  # noqa: ANN401
    """What the publish process of a transport of ``kind`` tells."""
    known: dict[str, Any] = {
        "transport": kind,
        "kind": kind,
        "durable": True,
        "published": 700,
        "backlog": 25,
        "lag_s": 2.5,
        "waited": 20,
        "flushed": 15,
        "failed": 3,
        "waiting_share": 0.5,
    }
    status = known | changes
    return ProcessReport(f"publish-{kind}", 4, "", samples=samples.publish(status), status=status)


def mirror() -> ProcessReport:
    """What the process of a further store tells."""
    status = {"mirror": "third", "rows": 840, "backlog": 33, "lag_s": 3.5, "failed": 4}
    return ProcessReport("mirror-third", 6, "", samples=samples.mirror(status), status=status)


def bridge(*, alone: bool = False) -> ProcessReport:
    """What the process of a bridge tells."""
    status: dict[str, Any] = {
        "reads": "kafka",
        "store": "second",
        "rows": 600,
        "stored": {"bars": 11},
        "conflicts": 3,
        "steps": 4,
        "failed": 2,
        "in_hand": 12,
        "letters_kept": 1,
        "lag_s": 61.5,
        "lanes": 2,
        "waiting": {"quotes/0": "The table quotes is missing."},
    }
    lanes = [LaneSeen("quotes/0", 61.5, 60.0, "missing"), LaneSeen("trades/0", 0.25, 0.0)]
    told = samples.bridge(status, lanes, alone=alone)
    return ProcessReport("bridge", 5, "", samples=told, status=status)


def processes() -> list[ProcessReport]:
    """What capture, deliver, two publishers, a bridge, a mirror and the supervisor tell."""
    reader, folder = FakeReader(), Path("data")
    capture = [
        *samples.capture(STATS, COUNTS, max_pending=4 << 20),
        *samples.roster(asked()),
        *market_registry.samples([("v", {"open": 1, "wanted": 2})]),
        *samples.process("capture", reader),
    ]
    deliver = [
        *samples.deliver(STATUS, DELIVERY, COUNTS, store="duckdb", inherited=INHERITED),
        *samples.skews({"coinbase": 0.25, "massive": 0.5}),
        *samples.tallied("deliver", COUNTS, 7),
        *samples.verification({"coinbase": 40}, {("coinbase", "extra"): 13}, {"coinbase": AT_NS}),
        *samples.labelled("forebay_recovery_attempts", "breaker", {"store": 9}),
    ]
    return [
        ProcessReport("capture", 1, "", samples=capture, buckets=latency()),
        ProcessReport("deliver", 2, "", samples=deliver, breakers=[breaker()]),
        publisher("kafka"),
        publisher("nats", published=720, waited=30, flushed=29),
        bridge(),
        mirror(),
        ProcessReport(
            "supervisor",
            3,
            "",
            samples=[
                *samples.machine(reader, folder, folder),
                *samples.streams(STREAMS),
                *samples.process_skews({"deliver": 2}),
            ],
        ),
    ]


def report(*told: ProcessReport, services: tuple[ServiceHealth, ...] = ()) -> SystemReport:
    """The system, with ``told`` or with everything."""
    known = services or (
        ServiceHealth("capture", up=True, critical=True),
        ServiceHealth("deliver", up=True, critical=True),
        ServiceHealth("store", up=False, critical=True, reason="open"),
        ServiceHealth("coinbase-rest", up=True),
    )
    health = SystemHealth(SystemState.CRITICAL, 0.75, ("store",), {"store": "store"}, known, "")
    checks = [Check("store", ok=False, detail="x", last_check_ns=AT_NS, duration_s=0.5, failures=4)]
    return SystemReport(AT_NS, health, "", checks, list(told or processes()), fallbacks=["cache"])


def with_samples(*found: Sample) -> SystemReport:
    """The system, of which one process tells only ``found``."""
    return report(ProcessReport("deliver", 2, "", samples=list(found)))
