"""Drills of bridges, with real servers; and the documents' bridge, which must not pass them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.clock import SystemClock
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import BridgedHeld, Bridging, Timing
from forebay.lab.drills.run import run_drill
from tests.drills.test_drills import SHORT, green
from tests.support.servers import needs_clickhouse, needs_kafka

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from forebay.lab.drills.plan import DrillReport

SCALE = 12.5
"""What the documents' minute is shortened by: an outage of 12 s stands for one of 150 s."""
SETTINGS = {"batch_rows": 160, "batch_s": 10 / SCALE, "recovery_s": 60 / SCALE}
TIMING = Timing(healthy_s=2.0, fault_s=12.0, patience_s=60.0)
CONTROLS = (
    ("clickhouse-down-short", "clear on overflow"),
    ("clickhouse-down-short", "not committed, so Kafka retries"),
    ("clickhouse-down-short", "three tries, then a dead letter"),
    ("clickhouse-answer-withheld", "not committed, so Kafka retries"),
    ("offsets-wrong", "not committed, so Kafka retries"),
    ("poison-in-outage", "retries counted in a header"),
    ("poison-in-outage", "three tries, then a dead letter"),
)
"""Drills, and what the documents did that is red in them."""


@pytest.mark.timeout(400)
async def test_clickhouse_dies_and_comes_back_and_has_every_event_once(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    needs_kafka()
    needs_clickhouse()
    drill = DRILLS["clickhouse-down-short"]
    report = await run_drill(drill, tmp_path, seed=7, timing=SHORT, clock=SystemClock())

    green(report)
    (held,) = report.bridged
    record_property("summary", f"{figures(report, held)}, recovery {report.recovery_s:g} s")
    assert held.raw == held.events == held.final == report.stored


@pytest.mark.drill
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("name", "way"), CONTROLS)
async def test_what_the_documents_did_loses_or_doubles(
    name: str, way: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    needs_kafka()
    needs_clickhouse()

    def instead(servers: str, port: int) -> Sequence[str]:
        told = dict(way=way, servers=servers, port=port, **SETTINGS)
        return (sys.executable, "-m", "tests.support.naive_bridge", json.dumps(told))

    drill = DRILLS[name]
    wanted = replace(drill.bridging or Bridging(), instead=instead)
    report = await run_drill(
        replace(drill, bridging=wanted), tmp_path, seed=7, timing=TIMING, clock=SystemClock()
    )

    (held,) = report.bridged
    record_property("summary", f"{name}, {way}: {figures(report, held)}")
    assert not report.ok
    assert held.lost + held.doubled + held.doubled_raw + held.good_letters > 0
    assert (report.missing, report.doubled, report.mutated) == (0, 0, 0)


def figures(report: DrillReport, held: BridgedHeld) -> str:
    """Return what was counted, for people."""
    share = held.lost / report.stored
    doubled = f"{held.doubled_raw:,} doubled raw, {held.doubled:,} in FINAL"
    return f"{held.lost:,} of {report.stored:,} lost ({share:.1%}), {doubled}"
