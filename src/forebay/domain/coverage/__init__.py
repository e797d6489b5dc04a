"""What a stream has been seen to contain, by unit, and the gaps that follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.coverage.base import Acceptance, Coverage, Look
from forebay.domain.coverage.gaps import (
    GAP_STATES,
    Arrival,
    Gap,
    GapState,
    PriorKnowledge,
    Row,
    StreamKey,
)
from forebay.domain.coverage.ids import IdCoverage
from forebay.domain.coverage.time import SequenceCoverage, TimeCoverage

if TYPE_CHECKING:
    from forebay.domain.channels import Unit

__all__ = [
    "COVERAGES",
    "GAP_STATES",
    "Acceptance",
    "Arrival",
    "Coverage",
    "Gap",
    "GapState",
    "IdCoverage",
    "Look",
    "PriorKnowledge",
    "Row",
    "SequenceCoverage",
    "StreamKey",
    "TimeCoverage",
]

COVERAGES: dict[Unit, type[Coverage]] = {
    "id": IdCoverage,
    "seq": SequenceCoverage,
    "time": TimeCoverage,
    "none": Coverage,
}
"""The coverage of each unit."""
