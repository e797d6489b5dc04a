"""All drills are there, and every alert has one or a reason."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import pytest

from forebay.errors import ConfigError
from forebay.lab.drills.catalogue import DRILLS, drill_named
from forebay.lab.exchanges.kalshi.truth import VENUE as KALSHI
from forebay.lab.faults import ABOUT, parse_faults
from forebay.ops import alerts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "drills.md"
ALERTS = alerts.names(alerts.text())
NOT_YET: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ForebayRestarting": "no drill kills the same process four times",
        "ForebayGatherersFew": "there is one gatherer, and it wants three",
        "ForebayGatherersAlarm": "there is one gatherer, and it wants three",
        "ForebayStreamsNotHeard": "the simulated exchange refuses no symbol that it lists",
        "ForebayReconnecting": "it takes minutes of flapping, more than a drill has",
        "ForebayMemoryShort": "it is about the whole machine's memory",
        "ForebayRejected": "a fault that spoils one event in a hundred leaves too little to audit",
        "ForebayDuplicates": "no fault has a venue repeat half of what it tells",
        "ForebayFlagged": "no fault makes one event in twenty late by a minute",
        "ForebayHostClock": "it is about the host's clock, and a drill has one venue",
        "ForebayVenueClock": "the simulated market keeps a time of its own",
        "ForebayPublishLag": "it takes minutes without a broker, more than a drill has",
        "ForebayPublishBufferFilling": "no drill has a bound that a broker's outage fills",
        "ForebayBarsUnlikeSource": "it takes two hours, more than a drill has",
        "ForebayProcessClock": "all processes of a drill have the host's clock",
        "ForebayBridgeLaneWaits": "a drill's Prometheus watches its capture, not its bridges",
        "ForebayBridgeBehind": "a drill's Prometheus watches its capture, not its bridges",
        "ForebayBridgeLettersKept": "a drill's Prometheus watches its capture, not its bridges",
        "ForebayCaptureBusy": "no simulated market is fast enough to keep capture busy",
    }
)
"""Alerts that are only tested with promtool, and why."""


def drills_of(alert: str) -> list[str]:
    """Return the drills in which an alert fires and clears."""
    return [drill.name for drill in DRILLS.values() if alert in drill.alerts]


def test_every_alert_fires_and_clears_in_a_drill_or_says_why_it_cannot() -> None:
    assert ALERTS
    covered = {alert for alert in ALERTS if drills_of(alert)}

    assert covered | set(NOT_YET) == set(ALERTS)
    assert covered & set(NOT_YET) == set()


def test_no_drill_names_an_alert_that_there_is_not() -> None:
    named = {alert for drill in DRILLS.values() for alert in drill.alerts}

    assert named <= set(ALERTS)


@pytest.mark.parametrize("name", DRILLS)
def test_a_drill_is_complete(name: str) -> None:
    drill = DRILLS[name]

    assert drill.rate >= (400 if drill.exchange == KALSHI else 2000)
    assert drill.about
    named = [fault.partition("=")[0] for fault in drill.faults.split(",") if fault]
    assert list(parse_faults(drill.faults)) == named
    assert all(0 < often <= 0.01 for often in parse_faults(drill.faults).values())
    transports = {"kafka", "nats"} if drill.brokers else set()
    transports |= {"clickhouse-bridge", "first-bridge"} if drill.bridging else set()
    assert set(drill.breakers) <= {"store", "coinbase-rest", "coinbase-websocket"} | transports


def test_a_name_that_is_nearly_right_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError) as refused:
        drill_named("store-readonly")
    assert "store-read-only" in refused.value.hint
    with pytest.raises(ConfigError) as refused:
        drill_named("zzz")
    assert "forebay drill list" in refused.value.hint


def test_the_reference_page_has_every_drill_alert_and_trouble_as_the_code_has_them() -> None:
    lines = PAGE.read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    rows = [[row[0].strip("`"), *row[1:]] for row in cells if row[0].startswith("`")]

    expected = [[drill.name, drill.about, _named(drill.breakers)] for drill in DRILLS.values()]
    expected += [[alert, NOT_YET.get(alert) or _named(drills_of(alert))] for alert in ALERTS]
    expected += [[name, about] for name, about in ABOUT.items()]
    assert rows == expected


def _named(names: Sequence[str]) -> str:
    return _listed([f"`{name}`" for name in names])


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "–"
