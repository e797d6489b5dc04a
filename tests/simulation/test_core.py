"""The core in worlds where everything goes wrong: thousands of seeds, each the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.lab.simulation.run import ENOUGH, run_many, run_seed
from tests.simulation.elsewhere import LOOSENED, ask, fingerprint
from tests.simulation.mutants import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Callable

CI_SEEDS = 1_000
"""Most worlds of a CI run; more are next door, so that two workers share them."""
DRILL_SEEDS = 100_000
FOUND_WITHIN = 60
"""Seeds within which a mutant of the short test must be found."""
QUICK = {
    "acknowledged_before_the_sync",
    "folder_not_synced",
    "recovery_that_cuts_too_much",
    "cursor_apart_from_the_rows",
    "duplicates_not_removed",
    "fill_taken_for_live",
    "group_dropped_on_a_full_disk",
    "repeats_taken_for_new_in_the_ledger",
    "sums_of_a_killed_process_forgotten",
    "ledger_by_the_order_of_connections",
}
"""Mutants that a few seeds find; the drill takes them all."""
ONCE_DIFFERED = (
    *(3, 7, 8, 9, 10, 11, 22, 36, 47, 49, 50, 60),
    *(87, 98, 100, 133, 134, 139, 143, 161, 176, 183),
)
"""Worlds that went another way when the disk went through its names as a set."""
TELLING = {"names_in_a_set": (3, 10), "tasks_in_any_order": (12, 14)}
"""Worlds that each of :data:`LOOSENED` changes."""


@pytest.mark.timeout(1200)
def test_no_world_loses_doubles_alters_or_hides_an_event(
    record_property: Callable[[str, object], None],
) -> None:
    record_property("summary", clean_worlds(0))


def clean_worlds(first: int) -> str:
    """Run :data:`CI_SEEDS` worlds, assert that all are clean, and say how much that was."""
    summary = run_many(first, CI_SEEDS)
    assert summary.failed == []
    assert summary.never() == []
    assert summary.seeds == CI_SEEDS >= ENOUGH
    assert summary.events > 50 * CI_SEEDS
    told = f"{summary.seeds} seeds, {summary.events} events, {len(summary.failed)} failed"
    return f"simulation: {told}"


@pytest.mark.drill
@pytest.mark.timeout(24 * 3600)
def test_a_hundred_thousand_worlds() -> None:
    summary = run_many(1_000_000, DRILL_SEEDS, jobs=2)
    assert summary.failed == []
    assert summary.never() == []
    assert summary.seeds == DRILL_SEEDS >= ENOUGH


def test_a_seed_is_the_same_world_every_time() -> None:
    for seed in (3, 4, 5):
        first, second = run_seed(seed, keep_trace=True), run_seed(seed)
        assert first.trace == second.trace
        assert first.seen == second.seen
        assert len(first.lines) > 20
        assert second.lines == []
    assert run_seed(3).trace != run_seed(4).trace


def test_a_seed_is_the_same_world_in_every_process() -> None:
    """Here, with other hashes and much imported, and in a process of its own, backwards."""
    here = [fingerprint(seed) for seed in ONCE_DIFFERED]
    assert ask(ONCE_DIFFERED[::-1], hash_seed=1) == here[::-1]


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_two_hundred_seeds_are_the_same_worlds_in_every_process() -> None:
    seeds = range(200)
    here = [fingerprint(seed) for seed in seeds]
    assert len(set(here)) == len(seeds)
    assert ask(seeds, hash_seed=1) == here
    assert ask(seeds[::-1], hash_seed=2) == here[::-1]


@pytest.mark.parametrize("loosened", LOOSENED)
def test_a_world_that_depends_on_more_than_its_seed_is_noticed(loosened: str) -> None:
    seeds = TELLING[loosened]
    assert ask(seeds, 1, loosened) != ask(seeds, 2, loosened)


def found_after(mutant: Callable[[pytest.MonkeyPatch], None], most: int) -> int | None:
    """The number of worlds until one of them fails."""
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        for seed in range(most):
            if run_seed(seed).failures:
                return seed + 1
    return None


@pytest.mark.parametrize(
    "mutant", [each for each in MUTANTS if each.__name__ in QUICK], ids=lambda each: each.__name__
)
def test_a_bug_in_the_core_is_found(mutant: Callable[[pytest.MonkeyPatch], None]) -> None:
    assert found_after(mutant, FOUND_WITHIN) is not None


@pytest.mark.drill
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.__name__)
def test_every_planted_bug_is_found(mutant: Callable[[pytest.MonkeyPatch], None]) -> None:
    assert found_after(mutant, 1_000) is not None


def test_the_quick_mutants_are_mutants() -> None:
    assert {each.__name__ for each in MUTANTS} > QUICK
