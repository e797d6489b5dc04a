"""More worlds, in parts, so that workers share them; most of them are for the long run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.lab.simulation.run import run_many
from tests.simulation.test_core import CI_SEEDS

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS, IN_EVERY_RUN = 10, 2
SEEDS = CI_SEEDS // PARTS
_LONG = [pytest.param(part, marks=pytest.mark.drill) for part in range(IN_EVERY_RUN, PARTS)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", [*range(IN_EVERY_RUN), *_LONG])
def test_no_other_world_loses_doubles_alters_or_hides_an_event(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    summary = run_many(CI_SEEDS + part * SEEDS, SEEDS)
    assert summary.failed == []
    assert summary.seeds == SEEDS
    assert summary.events > 50 * SEEDS
    record_property("summary", f"simulation: {SEEDS} more seeds, {summary.events} events, 0 failed")
