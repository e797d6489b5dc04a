"""Drills of what is published to, with real servers; and publishers that must not pass them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.clock import SystemClock
from forebay.lab.drills.broker_servers import KAFKA
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import Brokers, Timing
from forebay.lab.drills.run import run_drill
from tests.support.servers import needed, needs_kafka

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.lab.drills.plan import Value

NAIVE = "tests.support.naive_publishers"
TIMING = Timing(healthy_s=1.0, fault_s=1.0, patience_s=15.0)
CONTROLS = {
    "success if either took it": "EITHER",
    "sends that nobody awaits": "UNAWAITED",
    "a JSON file a message": "FILES",
}
"""What the documents did, by the name of the plugin that does likewise."""


@pytest.mark.drill
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CONTROLS)
async def test_what_the_documents_did_loses_events_when_kafka_is_down(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    needs_kafka()
    needed("nats-server")
    options = {"message.timeout.ms": "3000"}
    if CONTROLS[name] != "UNAWAITED":
        options["folder"] = str(tmp_path)
    table: dict[str, Value] = {"plugin": f"{NAIVE}:{CONTROLS[name]}", "options": options}
    drill = DRILLS["kafka-down"]
    wanted = replace(drill.brokers or Brokers(), tables={KAFKA: table})

    report = await run_drill(
        replace(drill, brokers=wanted), tmp_path, seed=7, timing=TIMING, clock=SystemClock()
    )

    (held,) = (each for each in report.transports if each.transport == KAFKA)
    told = f"{name}: {held.lost:,} of {report.stored:,} events lost, {held.displaced:,} displaced"
    record_property("summary", told)
    assert not report.ok
    assert held.lost > 0, told
    assert (report.missing, report.doubled, report.mutated) == (0, 0, 0)
