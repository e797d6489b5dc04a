"""What becomes of a hole: how often history must leave it out, and ids far from all others."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from forebay.domain.coverage import Acceptance, Arrival, IdCoverage, Look, StreamKey, TimeCoverage
from forebay.domain.coverage.base import Count
from forebay.domain.coverage.time import SequenceCoverage
from forebay.domain.intervals import FAR

if TYPE_CHECKING:
    from forebay.domain.coverage import Coverage

KEY = StreamKey("coinbase", "spot", "trade", "BTC-USD")
S = 1_000_000_000
WAITS = (60, 600, 3600)
TOLD = Acceptance(5, "", "ann", "the venue never had it")
ODD = 10**15


def arrive(coverage: Coverage, *ids: int, epoch: str = "e1", live: bool = True) -> None:
    numbers = np.array(ids, dtype=np.int64)
    coverage.see(Arrival(epoch, live, numbers, numbers))


def with_hole() -> IdCoverage:
    coverage = IdCoverage()
    arrive(coverage, 1, 2, 3, 7, 8)
    return coverage


def look(coverage: Coverage, *seconds: float, hole: tuple[int, int] = (4, 6)) -> None:
    for second in seconds:
        coverage.finished(*hole, [hole], Look(round(second * S), WAITS))


def states(coverage: Coverage) -> list[tuple[int, int, str]]:
    return [(gap.first, gap.last, gap.state) for gap in coverage.gaps(KEY)]


def again(coverage: Coverage) -> Coverage:
    """Return what a store gives back."""
    return type(coverage).from_rows(list(coverage.rows()), list(coverage.epochs.items()))


# ----------------------------------------------------------------------------- looks


def test_absence_is_believed_after_growing_waits_and_not_before() -> None:
    coverage = with_hole()
    look(coverage, 0, 0.01, 59, 60, 600, 660, 4259)
    assert states(coverage) == [(4, 6, "open")]
    look(coverage, 4260)
    assert states(coverage) == [(4, 6, "permanent")]


@pytest.mark.parametrize("hole", [(4, 6), (5, 5)])
def test_many_looks_in_a_short_time_are_one(hole: tuple[int, int]) -> None:
    coverage = with_hole()
    look(coverage, *range(59), hole=hole)
    assert coverage.looks(*hole) == Count(1, 0)
    assert [gap.state for gap in coverage.gaps(KEY)] == ["open"]


def test_looks_survive_a_store_and_are_not_begun_again() -> None:
    coverage: Coverage = with_hole()
    for second in (0, 60, 660, 4260):
        assert states(coverage) == [(4, 6, "open")]
        coverage = again(coverage)
        look(coverage, second)
    assert states(again(coverage)) == [(4, 6, "permanent")]


def test_what_is_told_again_of_looks_counts_once() -> None:
    coverage = with_hole()
    look(coverage, 0, 60, 660)
    before = coverage.copy()
    look(coverage, 660, 660)
    assert coverage == before


def test_an_id_that_comes_after_any_number_of_looks_is_filled() -> None:
    for looks in range(5):
        coverage = with_hole()
        look(coverage, *(0, 60, 660, 4260)[:looks])
        arrive(coverage, 4, 5, 6, live=False)
        assert states(coverage) == [(4, 6, "filled")]
        assert coverage.looks(4, 6) == Count(0, 0)
        look(coverage, 99_999)
        assert states(coverage) == [(4, 6, "filled")], "what was had is not absent"


def test_each_id_is_counted_for_itself() -> None:
    coverage = with_hole()
    look(coverage, 0, 60)
    look(coverage, 660, hole=(4, 4))
    look(coverage, 4260, hole=(4, 5))
    assert states(coverage) == [(4, 4, "permanent"), (5, 6, "open")]
    assert coverage.looks(5, 6) == Count(2, 60 * S), "the fewest"


def test_a_clock_that_goes_back_is_waited_for_anew() -> None:
    coverage = with_hole()
    look(coverage, 10_000, 10_060, 3, 602)
    assert states(coverage) == [(4, 6, "open")]
    look(coverage, 603, 4203)
    assert states(coverage) == [(4, 6, "permanent")]


def test_a_record_of_before_looks_were_counted_is_believed_as_it_was() -> None:
    coverage = with_hole()
    coverage.finished(4, 6, [(4, 6)])
    assert states(again(coverage)) == [(4, 6, "permanent")]


def test_times_are_believed_to_be_empty_likewise() -> None:
    coverage = TimeCoverage()
    for epoch, at in (("e1", 100), ("e2", 200)):
        coverage.opened(epoch, at)
    look(coverage, 0, 60, 660, hole=(101, 199))
    assert states(again(coverage)) == [(101, 199, "open")]
    look(coverage, 4260, hole=(101, 199))
    assert states(coverage) == [(101, 199, "permanent")]


# ------------------------------------------------------------------------ acceptances


def test_an_accepted_gap_names_who_and_why_and_once() -> None:
    coverage = with_hole()
    coverage.accept(4, 6, TOLD)
    before = coverage.copy()
    coverage.accept(4, 6, TOLD._replace(by="bob", at_ns=9))
    assert coverage == before
    (gap,) = again(coverage).gaps(KEY)
    assert (gap.first, gap.last, gap.state, gap.reason) == (4, 6, "accepted", "in_connection")
    assert (gap.accepted_by, gap.accepted_reason) == ("ann", "the venue never had it")


def test_what_was_accepted_and_comes_all_the_same_is_filled() -> None:
    coverage = with_hole()
    coverage.accept(4, 6, TOLD)
    arrive(coverage, 5, live=False)
    assert states(coverage) == [(4, 4, "accepted"), (5, 5, "filled"), (6, 6, "accepted")]


def test_a_permanent_gap_can_be_accepted() -> None:
    coverage = with_hole()
    look(coverage, 0, 60, 660, 4260)
    coverage.accept(5, 5, TOLD)
    assert states(coverage) == [(4, 4, "permanent"), (5, 5, "accepted"), (6, 6, "permanent")]


def test_numbers_of_one_connection_are_accepted_alone() -> None:
    coverage = SequenceCoverage()
    arrive(coverage, 1, 2, 5)
    arrive(coverage, 1, 2, 5, epoch="e2")
    coverage.accept(3, 4, TOLD._replace(epoch="e2"))
    found = [(gap.epoch, gap.state) for gap in again(coverage).gaps(KEY) if gap.unit == "seq"]
    assert found == [("e1", "open"), ("e2", "accepted")]


def test_a_gap_in_time_is_accepted() -> None:
    for coverage in (TimeCoverage(), SequenceCoverage()):
        for epoch, at in (("e1", 100), ("e2", 200)):
            coverage.opened(epoch, at)
        coverage.accept(101, 199, TOLD)
        assert states(again(coverage)) == [(101, 199, "accepted")]


@pytest.mark.parametrize("kind", [IdCoverage, TimeCoverage, SequenceCoverage])
def test_what_a_copy_is_told_its_original_does_not_know(
    kind: type[IdCoverage | TimeCoverage | SequenceCoverage],
) -> None:
    """A step that is not committed leaves no trace."""
    coverage = kind()
    coverage.see(Arrival("e1", True, np.array([1, 9]), np.array([100, 900])))
    before = list(coverage.rows()), dict(coverage.epochs)
    copy = coverage.copy()
    copy.see(Arrival("e1", True, np.array([12]), np.array([950])))
    copy.finished(2, 8, [(2, 8)], Look(1000, (60,)))
    copy.accept(2, 8, TOLD)
    assert list(copy.rows()) != before[0]
    assert (list(coverage.rows()), coverage.epochs) == before


# -------------------------------------------------------------------------- far ids


@pytest.mark.parametrize(
    ("odd", "gap"),
    [
        (ODD, (10_000_009, ODD - 1, "far_ahead")),
        (9_000_000 - 7, (9_000_000 - 6, 9_999_999, "far_behind")),
        (10_000_008 + FAR, (10_000_009, 10_000_007 + FAR, "far_ahead")),
    ],
)
def test_one_id_far_from_all_others_owes_nothing(odd: int, gap: tuple[int, int, str]) -> None:
    coverage = IdCoverage()
    for ids in itertools.permutations(
        [(10_000_000, 10_000_001), (odd,), range(10_000_002, 10_000_009)]
    ):
        coverage = IdCoverage()
        for each in ids:
            arrive(coverage, *each)
        (found,) = again(coverage).gaps(KEY)
        assert (found.first, found.last, found.reason) == gap
        assert found.state == "open"
    assert coverage.hull() == (10_000_000, 10_000_008)


def test_an_id_that_is_not_so_far_is_believed() -> None:
    coverage = IdCoverage()
    arrive(coverage, 1, 2, 1 + FAR)
    assert [gap.reason for gap in coverage.gaps(KEY)] == ["in_connection"]


@pytest.mark.parametrize("witness", ["neighbour", "heartbeat", "near heartbeat", "history"])
def test_a_second_witness_makes_a_far_hole_one_that_is_missing(witness: str) -> None:
    coverage = IdCoverage()
    arrive(coverage, 1, 2, ODD)
    if witness == "neighbour":
        arrive(coverage, ODD + 5, epoch="e2")
    elif witness == "history":
        arrive(coverage, ODD, live=False)
    else:
        coverage.know("e1", *[ODD + (witness != "heartbeat")] * 2)
    gaps = coverage.gaps(KEY)
    assert (gaps[0].first, gaps[0].last, gaps[0].reason) == (3, ODD - 1, "in_connection")


def test_an_old_id_is_no_more_believed_because_history_has_it() -> None:
    """It always has: that would owe everything since."""
    coverage = IdCoverage()
    arrive(coverage, 5 * FAR, 5 * FAR + 1, 7)
    arrive(coverage, 6, 7, 8, live=False)
    assert {gap.reason for gap in coverage.gaps(KEY) if gap.state == "open"} == {"far_behind"}


def test_what_a_heartbeat_alone_says_far_from_all_others_is_not_believed() -> None:
    coverage = IdCoverage()
    arrive(coverage, 1, 2)
    coverage.know("e1", 3, 3)
    coverage.know("e1", ODD, ODD)
    coverage.know("e1", 4, 4)
    told = [(gap.first, gap.last, gap.reason) for gap in coverage.gaps(KEY)]
    assert told == [(3, 4, "in_connection"), (5, ODD, "far_ahead")]


def test_what_is_accepted_of_a_far_hole_excuses_no_later_one() -> None:
    coverage = IdCoverage()
    arrive(coverage, 1, 2, ODD)
    coverage.accept(ODD - 1, ODD - 1, TOLD)
    assert states(coverage) == [(3, ODD - 1, "accepted")]
    arrive(coverage, 3, 4, 6, 7)
    assert states(again(coverage)) == [(5, 5, "open"), (8, ODD - 1, "accepted")]


def test_events_behind_a_far_id_are_not_out_of_order() -> None:
    coverage = IdCoverage()
    arrive(coverage, 1, 2)
    arrive(coverage, ODD, 3)
    numbers = np.array([4, 6, 5], dtype=np.int64)
    seen = coverage.see(Arrival("e1", live=True, numbers=numbers, received_ns=numbers))
    assert seen.out_of_order.tolist() == [False, False, True]
