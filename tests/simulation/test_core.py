"""The core in worlds where everything goes wrong: thousands of seeds, each the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.elsewhere import LOOSENED, ask, fingerprint
from tests.simulation.mutants import MUTANTS
from tests.simulation.run import run_many, run_seed
from tests.tiers import TIER, count, seeds

if TYPE_CHECKING:
    from collections.abc import Callable

ONCE_DIFFERED = (
    *(3, 7, 8, 9, 10, 11, 22, 36, 47, 49, 50, 60),
    *(87, 98, 100, 133, 134, 139, 143, 161, 176, 183),
)
"""Worlds that went another way when the disk went through its names as a set."""
SOON = {"gap_never_asked_for_again": 163}
"""Worlds that show what few others do."""
TELLING = {"names_in_a_set": (3, 10), "tasks_in_any_order": (12, 14)}
"""Worlds that each of :data:`LOOSENED` changes."""


@pytest.mark.timeout(24 * 3600 if TIER == "soak" else 1200)
def test_no_world_loses_doubles_alters_or_hides_an_event(
    record_property: Callable[[str, object], None],
) -> None:
    worlds = seeds("simulated worlds")
    summary = run_many(worlds[0], len(worlds), jobs=2 if TIER == "soak" else 1)
    assert summary.failed == []
    assert summary.never() == []
    assert summary.seeds == len(worlds)
    assert summary.events > 50 * len(worlds)
    told = f"{summary.seeds} worlds from {worlds[0]}, {summary.events} events, 0 failed"
    record_property("summary", f"simulation: {told}")


def test_a_seed_is_the_same_world_every_time() -> None:
    for seed in (3, 4, 5):
        first, second = run_seed(seed, keep_trace=True), run_seed(seed)
        assert first.trace == second.trace
        assert first.seen == second.seen
        assert len(first.lines) > 20
        assert second.lines == []
    assert run_seed(3).trace != run_seed(4).trace


@pytest.mark.timeout(3600)
def test_a_seed_is_the_same_world_in_every_process() -> None:
    """Here, with other hashes and much imported, and in a process of its own, backwards."""
    asked = (*ONCE_DIFFERED, *range(200, 400))[: count("worlds in another process")]
    here = [fingerprint(seed) for seed in asked]
    assert len(set(here)) == len(asked)
    assert ask(asked[::-1], hash_seed=1) == here[::-1]


@pytest.mark.parametrize("loosened", LOOSENED)
def test_a_world_that_depends_on_more_than_its_seed_is_noticed(loosened: str) -> None:
    seeds = TELLING[loosened]
    assert ask(seeds, 1, loosened) != ask(seeds, 2, loosened)


def found_after(mutant: Callable[[pytest.MonkeyPatch], None], most: int) -> int | None:
    """The number of worlds until one of them fails."""
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        for tries, seed in enumerate((SOON.get(mutant.__name__, 0), *range(most))):
            if run_seed(seed).failures:
                return tries + 1
    return None


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.__name__)
def test_every_planted_bug_is_found(mutant: Callable[[pytest.MonkeyPatch], None]) -> None:
    assert found_after(mutant, count("worlds until a planted bug is found")) is not None
