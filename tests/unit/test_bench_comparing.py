"""What `make bench-compare` decides: turns, noise, verdicts, and which rows both trees have."""

from __future__ import annotations

import random
import re
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmarks.alone import Figure
from tests.benchmarks.comparing import (
    BASE,
    HEAD,
    Compared,
    Failed,
    Outcome,
    at_least,
    compare,
    dissenters,
    five_percent,
    in_one_only,
    judge,
    run_benchmark,
    same_tree,
    strays,
    table,
    turns,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STEADY = [100.0, 101.0, 99.0, 100.0, 100.5]


def figures(
    values: Sequence[float], name: str = "append", unit: str = "frames/s", *, less: bool = False
) -> list[Figure]:
    """Return one figure a round."""
    return [Figure(name, value, unit, less) for value in values]


def compared(base: Sequence[float], head: Sequence[float], **options: Any) -> Compared:  # noqa: ANN401
    """Return the comparison of a row of these rounds."""
    limit = options.pop("limit", 10.0)
    return compare("b", figures(base, **options), figures(head, **options), limit)


def times(factor: float, values: Sequence[float] = STEADY) -> list[float]:
    """Return each value, multiplied."""
    return [value * factor for value in values]


# ---------------------------------------------------------------------- turns


def test_trees_take_turns_so_that_each_is_as_often_the_first_as_the_second() -> None:
    assert "".join(side[0] for side in turns(5)) == "bhhbbhhbbh"


@pytest.mark.parametrize("rounds", [2, 4, 6])
def test_a_drift_meets_both_trees_alike(rounds: int) -> None:
    at = {
        side: [i for i, turn in enumerate(turns(rounds)) if turn == side] for side in (BASE, HEAD)
    }
    assert sum(at[BASE]) == sum(at[HEAD])
    assert len(at[BASE]) == len(at[HEAD]) == rounds


def test_the_control_is_neighbours_in_time_of_one_tree() -> None:
    # b0 h0 h1 b1 b2 h2 h3 b3 b4 h4
    base, head = [1.0, 10.0, 20.0, 100.0, 300.0], [2.0, 8.0, 5.0, 20.0, 7.0]
    assert same_tree(base, head) == [8 / 2, 20 / 10, 20 / 5, 300 / 100]


def test_one_round_has_no_control() -> None:
    assert same_tree([1.0], [2.0]) == []
    assert compared([100.0], [50.0]).noise is None


# ----------------------------------------------------------------- statistics


def test_the_binomial_tail_is_that_of_coins() -> None:
    assert at_least(5, 5, 0.5) == 1 / 32
    assert at_least(3, 5, 0.5) == 0.5
    assert at_least(0, 5, 0.3) == pytest.approx(1)
    assert at_least(1, 5, 0.0) == 0


@pytest.mark.parametrize(
    ("rounds", "allowed"), [(1, -1), (4, -1), (5, 0), (7, 0), (8, 1), (11, 2), (13, 3)]
)
def test_rounds_must_agree_more_than_coins_would(rounds: int, allowed: int) -> None:
    assert dissenters(rounds) == allowed


def test_the_median_of_five_rounds_strays_by_the_second_largest_of_four() -> None:
    assert strays([0.01, -0.04, 0.02, -0.03], 5) == 0.03


def test_more_rounds_let_the_median_stray_less() -> None:
    control = [0.01 * number for number in range(1, 11)]
    assert strays(control, 5) > strays(control, 11) > strays(control, 31)


def test_what_never_differs_does_not_stray() -> None:
    assert strays([0.0] * 4, 5) == 0


def _simulated(rng: random.Random, effect: float, noise: Callable[[], float]) -> Compared:
    """Return a comparison of two trees by what a noisy machine shows of them."""
    found: dict[str, list[float]] = {BASE: [], HEAD: []}
    for side in turns(5):
        found[side].append(1e6 * (1 + noise()) * (1 if side == BASE else effect))
    return compared(found[BASE], found[HEAD])


def _share(effect: float, noise: Callable[[random.Random], float], verdict: str) -> float:
    rng, runs = random.Random(1), 2000
    found = (_simulated(rng, effect, lambda: noise(rng)).verdict for _ in range(runs))
    return sum(one.startswith(verdict) for one in found) / runs


NOISES: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(0, 0.02),
    "long-tailed": lambda rng: rng.uniform(-1, 1) * rng.expovariate(50),
    "bursts": lambda rng: rng.gauss(0, 0.01) - 0.3 * (rng.random() < 0.2),
}


@pytest.mark.parametrize("noise", NOISES)
def test_equal_trees_are_called_worse_in_two_rows_of_a_hundred_at_most(noise: str) -> None:
    assert 0 < _share(1.0, NOISES[noise], "worse") < 0.02


def test_a_tenth_is_seen_through_noise_of_a_fiftieth() -> None:
    assert _share(0.9, NOISES["normal"], "worse") > 0.98
    assert _share(1 / 0.9, NOISES["normal"], "better") > 0.98


def test_a_machine_that_slows_down_all_along_is_no_difference() -> None:
    pace = list(accumulate([0.97] * 10, lambda a, b: a * b))
    found: dict[str, list[float]] = {BASE: [], HEAD: []}
    for side, figure in zip(turns(5), pace, strict=True):
        found[side].append(figure)
    assert compared(found[BASE], found[HEAD]).verdict == "within noise"


# ------------------------------------------------------------------- verdicts


def test_equal_figures_are_within_noise() -> None:
    row = compared(STEADY, STEADY)
    assert (row.verdict, row.fails, row.ratio) == ("within noise", False, 1.0)


def test_a_row_that_is_a_fifth_slower_in_every_round_is_worse_and_fails() -> None:
    row = compared(STEADY, times(0.8))
    assert (row.verdict, row.fails) == ("worse by 20.0 %", True)
    assert row.noise is not None
    assert row.noise < 0.02


def test_a_row_that_is_faster_is_better() -> None:
    row = compared(STEADY, times(1.25))
    assert (row.verdict, row.fails) == ("better by 25.0 %", False)


@pytest.mark.parametrize(
    ("factor", "verdict", "fails"),
    [(1.25, "worse by 25.0 %", True), (0.8, "better by 20.0 %", False)],
)
def test_where_less_is_better_more_is_worse(factor: float, verdict: str, fails: bool) -> None:
    row = compared(STEADY, times(factor), unit="ms", less=True)
    assert (row.verdict, row.fails) == (verdict, fails)


def test_one_round_of_five_that_says_otherwise_makes_it_noise() -> None:
    head = times(0.8)
    head[2] = STEADY[2] * 1.01
    assert compared(STEADY, head).verdict == "within noise"


def test_one_round_of_eight_may_say_otherwise() -> None:
    assert judge([0.8] * 7 + [1.1], 0.05, less_is_better=False)[0] == "worse by 20.0 %"
    assert judge([0.8] * 6 + [1.1] * 2, 0.05, less_is_better=False)[0] == "within noise"


def test_rounds_that_are_equal_agree_with_neither_side() -> None:
    assert judge([0.8] * 4 + [1.0], 0.05, less_is_better=False)[0] == "within noise"
    assert judge([1.2] * 4 + [1.0], 0.05, less_is_better=False)[0] == "within noise"


@pytest.mark.parametrize("ratio", [0.97, 1.03])
def test_a_steady_difference_smaller_than_a_tree_from_itself_is_noise(ratio: float) -> None:
    assert judge([ratio] * 5, 0.04, less_is_better=False)[0] == "within noise"
    assert judge([ratio] * 5, 0.02, less_is_better=False)[0] != "within noise"


def test_worse_by_less_than_the_limit_beyond_noise_does_not_fail() -> None:
    row = compared(STEADY, times(0.895))
    assert row.verdict == "worse by 10.5 %"  # of which a part is noise
    assert not row.fails
    assert compared(STEADY, times(0.895), limit=5.0).fails


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_few_rounds_say_nothing(rounds: int) -> None:
    row = compared(STEADY[:rounds], times(0.5)[:rounds])
    assert (row.verdict, row.fails) == ("too few rounds to say", False)


def test_growth_of_no_memory_can_be_compared() -> None:
    none = [0.0] * 5
    assert compared(none, [0.0, 0.5, 0.9, 0.2, 0.3], unit="MB", less=True).ratio == 1
    row = compared(none, [5.0] * 5, unit="MB", less=True)
    assert (row.verdict, row.base, row.fails) == ("worse by 400.0 %", none, True)


# ------------------------------------------------------------------- matching


def test_a_name_of_one_side_is_named() -> None:
    names = {BASE: ["append", "old"], HEAD: ["append", "new"]}
    assert in_one_only(names) == ["old: only in base", "new: only in head"]


class Machine:
    """Two trees that answer at once, and who was asked."""

    def __init__(self, **rows: dict[str, float]) -> None:
        self.rows = rows
        self.asked: list[str] = []
        self.notes: list[str] = []

    def __call__(self, side: str, name: str) -> dict[str, Any]:
        self.asked.append(side)
        found = self.rows[side].items()
        rows = [[row, value, "frames/s", False] for row, value in found]
        return {"rows": rows, "notes": self.notes}


def test_both_trees_measure_in_turns_and_rows_are_matched_by_name() -> None:
    machine = Machine(base={"a": 100.0, "old": 1.0}, head={"new": 1.0, "a": 80.0})
    outcome = run_benchmark("append", 5, machine)
    assert machine.asked == turns(5)
    assert [(row.benchmark, row.name, row.base) for row in outcome.rows] == [
        ("append", "a", [100.0] * 5)
    ]
    assert outcome.missing == ["old: only in base", "new: only in head"]
    assert outcome.rows[0].verdict == "worse by 20.0 %"
    assert not outcome.passes


def test_the_limit_is_that_of_the_caller() -> None:
    machine = Machine(base={"a": 100.0}, head={"a": 80.0})
    assert run_benchmark("append", 5, machine, limit=25.0).passes


def test_what_a_tree_could_not_measure_is_said_once() -> None:
    machine = Machine(base={}, head={})
    machine.notes = ["lmdb is missing"]
    outcome = run_benchmark("append", 3, machine)
    assert outcome.missing == ["lmdb is missing (base)", "lmdb is missing (head)"]
    assert outcome.rows == []


def test_a_row_that_is_missing_in_a_round_is_not_compared() -> None:
    machine = Machine(base={"a": 1.0}, head={"a": 1.0})

    def forgetful(side: str, name: str) -> dict[str, Any]:
        answer = machine(side, name)
        return {"rows": [], "notes": []} if len(machine.asked) == 4 else answer

    outcome = run_benchmark("append", 5, forgetful)
    assert (outcome.rows, outcome.missing) == ([], ["a: only in head"])


@pytest.mark.parametrize(("failing", "broken"), [(BASE, False), (HEAD, True)])
def test_a_benchmark_that_fails_is_not_repeated_and_blames_head_only(
    failing: str, broken: bool
) -> None:
    machine = Machine(base={"a": 1.0}, head={"a": 1.0})

    def measure(side: str, name: str) -> dict[str, Any]:
        answer = machine(side, name)
        if side == failing:
            raise Failed("ended with exit code 1")
        return answer

    outcome = run_benchmark("append", 5, measure)
    assert outcome.missing == [f"append: ended with exit code 1 in {failing}"]
    assert machine.asked == turns(5)[: 2 if broken else 1]
    assert (outcome.broken, outcome.passes) == (broken, not broken)


# -------------------------------------------------------------------- telling


def test_the_table_has_medians_spreads_ratio_control_and_verdict() -> None:
    head, line = table([compared(STEADY, times(0.8))]).splitlines()
    assert head.split() == ["benchmark", "row", "unit", "base", "head", "ratio", "A/A"]
    assert re.split(" {2,}", line) == [
        *("b", "append", "frames/s", "100 (99.00 to 101)", "80.00 (79.20 to 80.80)"),
        *("0.800x", "1.0 %", "WORSE BY 20.0 %"),
    ]


def test_it_says_in_which_rows_five_per_cent_mean_something() -> None:
    quiet = compared(STEADY, STEADY)
    noisy = compared([100.0, 120.0, 90.0, 110.0, 100.0], STEADY, name="drain")
    said = five_percent([quiet, noisy])
    assert "more than noise in 1 of 2 rows; it means nothing in: drain." in said
    assert five_percent([quiet]).endswith("more than noise in 1 of 1 rows.")


@pytest.mark.parametrize("rounds", [1, 4])
def test_of_few_rounds_it_says_that_they_say_nothing(rounds: int) -> None:
    row = compared(STEADY[:rounds], STEADY[:rounds])
    assert five_percent([row]).startswith("Fewer than five rounds say nothing")


def test_an_outcome_with_nothing_worse_passes() -> None:
    assert Outcome().passes
    assert Outcome(rows=[compared(STEADY, STEADY)]).passes
    assert not Outcome(broken=True).passes
