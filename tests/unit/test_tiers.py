"""The tiers: more of everything from one to the next, no count that nobody uses, other seeds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiers

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}


def told(expression: str, **environment: str) -> str:
    """Return what ``tests.tiers`` says in a process with ``environment``."""
    command = [sys.executable, "-c", f"from tests import tiers; print(tiers.{expression})"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    return (done.stdout or done.stderr).strip()


def test_a_tier_has_no_less_than_the_one_before() -> None:
    for what, counts in tiers.COUNTS.items():
        assert 0 < counts[0] <= counts[1] <= counts[2], what


def test_every_count_is_used() -> None:
    used = {
        name
        for source in SOURCES.values()
        if "from tests.tiers import" in source
        for name in re.findall(r"\b(?:count|seeds)\(\"([^\"]+)\"", source)
    }
    assert used == tiers.COUNTS.keys()


def test_what_the_inner_loop_leaves_out_is_there() -> None:
    for node in tiers.NOT_QUICK:
        file, _, name = node.partition("::")
        path = ROOT / file
        assert path.exists(), node
        assert not name or f"def {name.partition('[')[0]}" in SOURCES[path], node


def test_nothing_that_breaks_the_code_is_left_out() -> None:
    """Planted bugs, mutants and controls are found in every tier."""
    left = [node for node in tiers.NOT_QUICK if re.search("mutant|control|planted|broken", node)]
    assert left == []


def test_seeds_follow_the_tree_or_the_number_that_is_given() -> None:
    assert tiers.seeds("simulated worlds")[0] == tiers.SEED * 1000
    assert told("SEED", TEST_SEED="7") == "7"
    assert told('seeds("worlds in another process")', TEST_SEED="7") == "range(7000, 7004)"


@pytest.mark.parametrize(("tier", "worlds"), [("quick", 40), ("test", 40), ("soak", 100_000)])
def test_a_tier_is_named_by_the_environment(tier: str, worlds: int) -> None:
    assert told('count("simulated worlds")', TIER=tier) == str(worlds)


def test_an_unknown_tier_is_refused() -> None:
    assert told("TIER", TIER="fast") == "TIER is 'fast'; it is one of quick, test, soak."
