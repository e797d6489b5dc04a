"""Drills with real processes: each must be green, and its fault must have happened.

The short ones run beside each other, so that all take as long as the longest.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import Timing
from forebay.lab.drills.run import run_drill
from forebay.lab.servers import find
from tests.support.servers import needed, needs_kafka

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.lab.drills.plan import Drill, DrillReport

MUTANTS = Path(__file__).parents[1] / "support" / "mutant_commands.py"
SHORT = Timing(healthy_s=0.5, fault_s=1.0)
LONG = Timing(healthy_s=10.0, fault_s=20.0, patience_s=120.0)
SHORT_ONES = ("store-read-only", "rest-500", "websocket-flap", "kalshi-sequence-holes")
"""One of each family of captures."""


def green(report: DrillReport) -> None:
    wrong = [check.what for check in report.checks if not check.ok]
    assert report.ok, (report.name, wrong, report.folder)
    assert wrong == []
    assert report.fault_happened
    assert report.stored >= report.produced > 0
    assert (report.missing, report.doubled, report.mutated) == (0, 0, 0)
    assert report.recovery_s is not None
    assert DRILLS[report.name].history or report.states[-1] == "healthy"


@pytest.mark.timeout(300)  # seconds on quiet cores; a drill has a patience of its own
async def test_store_rest_and_websocket_fail_and_come_back_with_nothing_lost(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    def play(name: str) -> asyncio.Task[DrillReport]:
        folder = tmp_path / name
        folder.mkdir()
        running = run_drill(DRILLS[name], folder, seed=7, timing=SHORT, clock=SystemClock())
        return asyncio.create_task(running)

    reports = await asyncio.gather(*(play(name) for name in SHORT_ONES))

    for report in reports:
        green(report)
        said = f"{report.name}: {report.stored:,} events, recovery {report.recovery_s:g} s"
        record_property("summary", said)


@pytest.mark.timeout(300)
async def test_history_that_is_corrupt_and_mends_is_stored_whole(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    drill = DRILLS["history-corrupt-bars"]
    report = await run_drill(drill, tmp_path, seed=7, timing=SHORT, clock=SystemClock())

    green(report)
    said = f"{report.stored:,} bars, {report.withheld} of them corrupt at first"
    record_property("summary", said)


@pytest.mark.timeout(300)
async def test_kafka_dies_and_comes_back_and_has_every_event_as_nats_has(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    drill = DRILLS["kafka-down"]
    require_servers(drill)
    report = await run_drill(drill, tmp_path, seed=7, timing=SHORT, clock=SystemClock())

    green(report)
    found = {held.transport: (held.lost, held.doubled) for held in report.transports}
    assert found == {"kafka": (0, 0), "nats": (0, 0)}
    said = f"{report.stored:,} events in Kafka and in NATS, recovery {report.recovery_s:g} s"
    record_property("summary", said)


CONTROLS = {
    "a missing field is 0": (
        "missing-is-0",
        ("dead letters by reason", "count and digest"),
    ),
    "a gap check that trusts counts": ("counts", ("the gap check misses [0, 0]",)),
}
"""By what one of the documents did: how our commands are broken likewise, and what must be red."""


@pytest.mark.drill
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CONTROLS)
async def test_what_the_documents_did_is_red(name: str, tmp_path: Path) -> None:
    mutant, red = CONTROLS[name]
    report = await run_drill(
        DRILLS["history-corrupt-bars"],
        tmp_path,
        seed=7,
        timing=SHORT,
        clock=SystemClock(),
        forebay=(sys.executable, str(MUTANTS), mutant),
    )

    wrong = [check.what for check in report.checks if not check.ok]
    assert not report.ok
    assert [[what for what in wrong if part in what] for part in red].count([]) == 0, wrong


def require_servers(drill: Drill) -> None:
    """Skip a test by name and reason where brokers of its drill cannot be had."""
    if drill.brokers and drill.brokers.kafka:
        needs_kafka()
    if drill.brokers and drill.brokers.nats:
        needed("nats-server")


async def played(name: str, folder: Path, seed: int, timing: Timing, *, with_alerts: bool) -> None:
    """Run a drill; one whose fault needs rights that we do not have is skipped."""
    drill = DRILLS[name]
    require_servers(drill)
    try:
        report = await run_drill(
            drill, folder, seed=seed, timing=timing, clock=SystemClock(), with_alerts=with_alerts
        )
    except Unreachable as error:
        if not drill.disk_mb and not drill.brokers:
            raise
        pytest.skip(f"{name}: {error}")
    green(report)
    if with_alerts:
        assert report.alerts_skipped == ""
        assert {alert.name for alert in report.alerts} == set(drill.alerts)


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", [name for name, drill in DRILLS.items() if drill.least_s <= 20.0])
async def test_a_long_drill_is_green(name: str, seed: int, tmp_path: Path) -> None:
    await played(name, tmp_path, seed, LONG, with_alerts=False)


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name, drill in DRILLS.items() if drill.alerts])
async def test_the_alerts_of_a_drill_fire_and_clear(name: str, tmp_path: Path) -> None:
    find("prometheus")  # raises, with what to do, where it cannot be had
    timing = Timing(fault_s=8.0, patience_s=120.0)
    await played(name, tmp_path, 1, timing, with_alerts=True)
