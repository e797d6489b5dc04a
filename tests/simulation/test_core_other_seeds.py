"""The other half of the worlds of every CI run, in parts: a file of many tests begins early."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.lab.simulation.run import run_many
from tests.simulation.test_core import CI_SEEDS

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS = 10
SEEDS = CI_SEEDS // PARTS


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_other_world_loses_doubles_alters_or_hides_an_event(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    summary = run_many(CI_SEEDS + part * SEEDS, SEEDS)
    assert summary.failed == []
    assert summary.seeds == SEEDS
    assert summary.events > 50 * SEEDS
    record_property("summary", f"simulation: {SEEDS} more seeds, {summary.events} events, 0 failed")
