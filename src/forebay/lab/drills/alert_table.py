"""Which drill each alert fires and clears in, and why the others can fire in none yet."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.lab.drills.catalogue import DRILLS

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_YET: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ForebayGatherersFew": "there is one gatherer, and it wants three",
        "ForebayGatherersAlarm": "there is one gatherer, and it wants three",
        "ForebayMemoryShort": "it is about the whole machine's memory",
        "ForebayCaptureBusy": "no simulated market is fast enough to keep capture busy",
    }
)
"""Alerts that are only tested with promtool, and why."""


def drills_of(alert: str) -> list[str]:
    """Answer the drills in which an alert fires and clears."""
    return [drill.name for drill in DRILLS.values() if alert in drill.alerts]
