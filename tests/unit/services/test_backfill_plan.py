"""Which gaps are asked for and when, without asyncio."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.ports import HistoryRequest
from forebay.services import backfiller
from forebay.services.backfiller import CONSIDERED, BackfillPlanner, coalesce, overlap

if TYPE_CHECKING:
    from typing import Any

S = 1_000_000_000


class Highest(random.Random):
    """Dice that always show the most."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


OTHERS = [{"market": "perpetual"}, {"channel": "quote"}, {"symbol": "ETH-USD"}, {"unit": "time"}]
"""What makes numbers those of another stream, or of another meaning."""


def gap(first: int, last: int, symbol: str = "BTC-USD") -> HistoryRequest:
    return HistoryRequest("trade", symbol, first, last)


def test_a_filled_gap_is_asked_again_only_on_later_evidence() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0, base_s=1.0)
    gaps = [gap(10, 20)]
    assert planner.plan(gaps, 5, 0) == gaps
    assert planner.plan(gaps, 99, 9 * S) == [], "it is running"
    planner.filled(gaps[0], 100, 10 * S)
    assert planner.plan(gaps, 99, 900 * S) == [], "deliver has not read the answers"
    assert planner.plan(gaps, 100, 900 * S) == gaps, "it has, and the gap is open still"


def test_what_is_asked_in_vain_thins_out_to_hours() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0, base_s=1.0, hopeless_s=30.0)
    gaps, now, waits = [gap(10, 20)], 0, []
    for _ in range(8):
        began = now
        while not planner.plan(gaps, 1000, now):
            now += S // 2
        waits.append((now - began) / S)
        planner.filled(gaps[0], 1, now)
    assert waits == [0, 1, 1, 2, 4, 8, 16, 30]

    planner, asked = BackfillPlanner(Highest(), settle_s=0), 0
    for second in range(48 * 3600):
        if planner.plan(gaps, 1000, second * S):
            planner.filled(gaps[0], 1, second * S)
            asked += 1
    assert asked == 23, "some in the first hours, then one in six of them"


def test_what_was_looked_for_before_the_process_began_waits_as_it_would_have() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0)
    gaps = [replace(gap(10, 20), looked_ns=5000 * S, wait_s=600)]
    assert planner.plan(gaps, 0, 7 * S, 5599 * S) == []
    assert planner.plan(gaps, 0, 8 * S, 5600 * S) == gaps
    planner.filled(gaps[0], 0, 9 * S)
    assert planner.plan(gaps, 0, 609 * S, 0) == []
    assert planner.plan(gaps, 0, 611 * S, 0) == gaps, "and goes on thinning out"


def test_a_clock_that_went_back_does_not_keep_a_gap_waiting() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0)
    gaps = [replace(gap(10, 20), looked_ns=5000 * S, wait_s=600)]
    assert planner.plan(gaps, 0, 7 * S, 4999 * S) == gaps


def test_a_gap_that_shrinks_from_its_front_settles_too() -> None:
    planner = BackfillPlanner(Highest(), settle_s=1.0)
    assert planner.plan([gap(10, 2000)], 0, 0) == []
    assert planner.plan([gap(11, 2000)], 0, S // 2) == []
    assert planner.plan([gap(12, 2000)], 0, S) == [gap(12, 2000)]


def test_a_failed_fill_backs_off_and_tells_how_long() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0, base_s=1.0)
    request = gap(1, 2)
    assert planner.plan([request], 0, 0) == [request]
    assert planner.failed(request, 0) == 1.0
    assert planner.plan([request], 0, S - 1) == []
    assert planner.plan([request], 0, S) == [request]
    assert planner.failed(request, S) == 2.0


def test_what_is_refused_thins_out_to_hours_too() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0, base_s=1.0, cap_s=4.0, hopeless_s=30.0)
    request, now, waits = gap(10, 20), 0, []
    for _ in range(8):
        assert planner.plan([request], 0, now) == [request]
        waits.append(planner.failed(request, now, refused=True))
        now += round(waits[-1] * S)
    assert waits == [1, 1, 2, 4, 8, 16, 30, 30]


def test_other_gaps_do_not_wait_for_a_failing_one() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0, at_once=1)
    bad, good = gap(1, 2), gap(50_000, 50_001)
    assert planner.plan([bad], 0, 0) == [bad]
    planner.failed(bad, 0)
    assert planner.plan([bad, good], 0, 0) == [good]


def test_moving_edges_are_the_same_gap() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0)
    assert planner.plan([gap(10, 20)], 0, 0) == [gap(10, 20)]
    assert planner.plan([gap(15, 40)], 0, 0) == [], "overlaps what is running"
    planner.filled(gap(10, 20), 100, 0)
    assert planner.plan([gap(15, 40)], 99, 900 * S) == []
    assert planner.plan([gap(15, 40)], 100, 900 * S) == [gap(15, 40)]
    assert planner.failed(gap(15, 40), 900 * S) == 1.0, "what was answered ended the failures"


def test_no_more_than_so_many_at_once() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0, at_once=2)
    gaps = [gap(n * 10_000, n * 10_000 + 5) for n in range(5)]
    first = planner.plan(gaps, 0, 0)
    assert len(first) == 2
    assert planner.plan(gaps, 0, 0) == []
    planner.filled(first[0], 10, 0)
    assert planner.plan(gaps, 0, 0) == [gaps[2]]


def test_what_is_closed_is_forgotten() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0)
    for n in range(1000):
        request = gap(n, n)
        assert planner.plan([request], n, n * S) == [request]
        planner.filled(request, n + 10**6, n * S)
    assert len(planner._asked) == 1  # its memory is the point
    assert planner.plan([], 0, 0) == []
    assert planner.plan([gap(999, 999)], 0, 0) == [gap(999, 999)]


def test_a_running_fill_is_remembered_though_its_gap_is_gone() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0)
    planner.plan([gap(1, 5)], 0, 0)
    assert planner.plan([], 0, 0) == []
    planner.filled(gap(1, 5), 7, 0)
    assert planner.plan([], 0, 0) == []


def test_near_gaps_become_one_request_of_at_most_a_page() -> None:
    gaps = [gap(3, 3), gap(1, 1), gap(1000, 1000), gap(1001, 1001), gap(1, 9, "ETH-USD")]
    assert coalesce(gaps, 1000) == [
        gap(1, 1000),
        gap(1001, 1001),
        gap(1, 9, "ETH-USD"),
    ]
    assert coalesce([gap(1, 5000), gap(5001, 5001)], 1000) == [gap(1, 5000), gap(5001, 5001)]
    assert coalesce([gap(1, 500), gap(2, 3)], 1000) == [gap(1, 500)]
    assert coalesce([], 1000) == []


def test_every_gap_is_inside_a_request_and_requests_do_not_overlap() -> None:
    rng = random.Random(5)
    for _ in range(200):
        gaps, at = [], 0
        for _ in range(rng.randrange(1, 30)):
            first = at + rng.randrange(2, 900)
            at = first + rng.randrange(0, 1500)
            gaps.append(gap(first, at))
        joined = coalesce(rng.sample(gaps, len(gaps)), 1000)
        for one in gaps:
            assert sum(j.first <= one.first and one.last <= j.last for j in joined) == 1
        assert all(not overlap(a, b) for a in joined for b in joined if a is not b)
        alone = {g.last - g.first for g in gaps}
        assert all(j.last - j.first < 1000 or j.last - j.first in alone for j in joined)


def test_requests_overlap_that_share_a_number() -> None:
    assert overlap(gap(1, 5), gap(5, 9))
    assert not overlap(gap(1, 5), gap(6, 9))


@pytest.mark.parametrize("changed", OTHERS, ids=lambda changed: next(iter(changed)))
def test_streams_and_units_keep_apart(changed: dict[str, Any]) -> None:
    one, other = gap(1, 5), replace(gap(1, 5), **changed)
    assert not overlap(one, other)
    assert set(coalesce([one, replace(other, first=2, last=6)], 1000)) == {
        one,
        replace(other, first=2, last=6),
    }


@pytest.mark.parametrize("changed", OTHERS, ids=lambda changed: next(iter(changed)))
def test_a_gap_does_not_wait_for_the_fill_of_another_stream(changed: dict[str, Any]) -> None:
    planner = BackfillPlanner(Highest(), settle_s=0)
    one, other = gap(1, 5), replace(gap(1, 5), **changed)
    assert planner.plan([one], 0, 0) == [one]
    assert planner.plan([one, other], 0, 0) == [other]


@pytest.mark.parametrize("changed", OTHERS, ids=lambda changed: next(iter(changed)))
def test_a_gap_settles_for_itself(changed: dict[str, Any]) -> None:
    planner = BackfillPlanner(Highest(), settle_s=1.0)
    one, other = gap(1, 5), replace(gap(1, 5), **changed)
    assert planner.plan([one], 0, 0) == []
    assert planner.plan([one, other], 0, S) == [one], "the other was seen only now"


def test_a_joined_request_is_of_the_stream_of_its_gaps() -> None:
    perpetual = [replace(gap(n, n), market="perpetual") for n in (1, 5)]
    assert coalesce(perpetual, 1000) == [replace(gap(1, 5), market="perpetual")]


def test_gaps_in_time_are_not_joined_by_a_number_of_ids() -> None:
    gaps = [replace(gap(n, n + 1), unit="time") for n in (1, 5)]
    assert coalesce(gaps, 1000) == gaps


def test_a_flood_of_gaps_is_worked_off_from_its_front() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0, at_once=1)
    gaps = [gap(n * 10_000, n * 10_000) for n in range(3 * CONSIDERED)]
    order = []
    for n in range(3 * CONSIDERED):
        (request,) = planner.plan(gaps, 10, n)
        order.append(request)
        planner.filled(request, 1, n)
        gaps.pop(0)
    assert order == [gap(n * 10_000, n * 10_000) for n in range(3 * CONSIDERED)]


def test_a_gap_is_asked_for_once_it_has_settled() -> None:
    planner = BackfillPlanner(Highest(), settle_s=1.0)
    assert planner.plan([gap(10, 20)], 0, 0) == []
    assert planner.plan([gap(10, 25)], 0, S - 1) == [], "its end grew: it is the same gap"
    assert planner.plan([gap(10, 30)], 0, S) == [gap(10, 30)]


def test_a_gap_that_closed_and_opened_again_is_new() -> None:
    planner = BackfillPlanner(Highest(), settle_s=1.0)
    assert planner.plan([gap(10, 20)], 0, 0) == []
    assert planner.plan([], 0, S // 2) == []
    assert planner.plan([gap(10, 20)], 0, S) == []
    assert planner.plan([gap(10, 20)], 0, 2 * S) == [gap(10, 20)]


def test_a_gap_settles_while_other_fills_run() -> None:
    planner = BackfillPlanner(Highest(), settle_s=1.0, at_once=1)
    first, second = gap(10, 20), gap(50_000, 50_001)
    planner.plan([first], 0, 0)
    assert planner.plan([first], 0, S) == [first]
    assert planner.plan([first, second], 0, 2 * S) == []
    planner.filled(first, 1, 3 * S)
    assert planner.plan([first, second], 0, 3 * S) == [second]


def test_gaps_that_cannot_be_filled_starve_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    considered = CONSIDERED // 10  # the time this takes grows with its square
    monkeypatch.setattr(backfiller, "CONSIDERED", considered)
    planner = BackfillPlanner(Highest(), settle_s=0, at_once=2)
    delisted = [gap(n * 10_000, n * 10_000 + 1, "AAA-USD") for n in range(considered + 10)]
    wanted, now = gap(5, 6), 0
    for _ in range(2 * considered):
        for request in planner.plan([*delisted, wanted], 0, now):
            if request == wanted:
                return
            planner.failed(request, now)
        now += S // 100
    raise AssertionError("it was never asked for")


def test_a_symbol_whose_history_fails_has_one_place_and_leaves_the_others() -> None:
    planner = BackfillPlanner(Highest(), settle_s=0, at_once=2, span=1, base_s=0.001, cap_s=0.001)
    bad = [gap(number, number, "AAA-USD") for number in range(10, 10 + 2 * CONSIDERED, 2)]
    good = [gap(number, number, "BTC-USD") for number in range(10, 20, 2)]
    done, now, running = set[HistoryRequest](), 0, list[HistoryRequest]()
    for _ in range(8):
        now += S
        left = [*bad, *(each for each in good if each not in done)]
        chosen = planner.plan(left, 10_000, now)
        running += chosen
        for request in [each for each in running if each.symbol == "BTC-USD"]:
            planner.filled(request, 1, now)
            done.add(request)
            running.remove(request)
        assert sum(each.symbol == "AAA-USD" for each in running) <= 2
        for request in list(running) if now % (2 * S) == 0 else ():
            planner.failed(request, now)
            running.remove(request)
    assert done == set(good)
