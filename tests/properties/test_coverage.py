"""Coverage by ids: the same facts in any order, split or repeated, give the same sets and gaps."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.domain.coverage import Arrival, Gap, IdCoverage, StreamKey
from forebay.domain.coverage.gaps import EPOCHS
from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    from forebay.domain.intervals import Interval

KEY = StreamKey("coinbase", "spot", "trade", "BTC-USD")
IDS = st.integers(0, 30)
RANGES = st.tuples(IDS, IDS).map(lambda ends: (min(ends), max(ends)))


@dataclass(frozen=True)
class Fact:
    """Something that coverage is told."""

    what: str
    first: int
    last: int

    def tell(self, coverage: IdCoverage, epoch: str) -> None:
        if self.what in ("live", "fill"):
            arrive(coverage, self.first, self.last, epoch, live=self.what == "live")
        elif self.what == "know":
            coverage.know(epoch, self.last, self.last)
        else:
            coverage.finished(self.first, self.last, [(self.first, self.last)])

    def pieces(self, at: int) -> list[Fact]:
        """Tell the same in two parts; what the venue's latest id is cannot be split."""
        if self.what == "know" or not self.first < at <= self.last:
            return [self]
        return [Fact(self.what, self.first, at - 1), Fact(self.what, at, self.last)]


def arrive(
    coverage: IdCoverage, first: int, last: int, epoch: str = "e1", *, live: bool = True
) -> None:
    """Have all ids of a range arrive at once."""
    ids = np.arange(first, last + 1, dtype=np.int64)
    coverage.see(Arrival(epoch, live, ids, ids * 1000))


FACTS = st.builds(
    lambda what, ends: Fact(what, *ends),
    st.sampled_from(["live", "live", "live", "fill", "know", "miss"]),
    RANGES,
)
CONNECTIONS = st.lists(st.lists(FACTS, max_size=6), max_size=EPOCHS)


def told(epochs: list[tuple[str, list[Fact]]]) -> IdCoverage:
    coverage = IdCoverage()
    for epoch, facts in epochs:
        for fact in facts:
            fact.tell(coverage, epoch)
    return coverage


def sets(coverage: IdCoverage) -> dict[str, list[Interval]]:
    return {name: list(getattr(coverage, name)) for name in IdCoverage.sets}


@given(CONNECTIONS, st.randoms(use_true_random=False), IDS)
def test_order_split_and_repetition_do_not_matter(
    epochs: list[list[Fact]], dice: random.Random, at: int
) -> None:
    named = [(f"epoch-{number}", facts) for number, facts in enumerate(epochs)]
    plain = told(named)
    again = [
        (epoch, [part for fact in facts for part in fact.pieces(at)] + facts[:2])
        for epoch, facts in named + named[:2]
    ]
    # Connections alternate as they like.
    pairs = [(epoch, fact) for epoch, facts in again for fact in facts]
    dice.shuffle(pairs)
    shuffled = told([(epoch, [fact]) for epoch, fact in pairs])
    assert sets(shuffled) == sets(plain)
    assert shuffled.gaps(KEY) == plain.gaps(KEY)


def expected_gaps(epochs: list[list[Fact]]) -> dict[int, tuple[str, str]]:
    """Return reason and state of every missing id, one at a time, from the words' definitions."""
    live: set[int] = set()
    fill: set[int] = set()
    asked: set[int] = set()
    known: set[int] = set()
    spanned: set[int] = set()
    for facts in epochs:
        heard: set[int] = set()
        for fact in facts:
            ids = set(range(fact.first, fact.last + 1))
            if fact.what == "live":
                live |= ids
                heard |= ids
            elif fact.what == "know":
                known.add(fact.last)
                heard.add(fact.last)
            elif fact.what == "fill":
                fill |= ids
            else:
                asked |= ids
        spanned |= set(range(min(heard), max(heard) + 1)) if heard else set()
    exist = live | known
    owed = set(range(min(exist), max(exist) + 1)) if exist else set()

    def verdict(missing: int) -> tuple[str, str]:
        if missing in asked - fill:
            return "absent_from_history", "permanent"
        reason = "in_connection" if missing in spanned else "between_connections"
        return reason, "filled" if missing in fill else "open"

    return {missing: verdict(missing) for missing in owed - live}


@given(CONNECTIONS)
def test_gaps_are_what_is_missing_with_its_reason(epochs: list[list[Fact]]) -> None:
    gaps = told([(str(number), facts) for number, facts in enumerate(epochs)]).gaps(KEY)
    found = {
        missing: (gap.reason, gap.state)
        for gap in gaps
        for missing in range(gap.first, gap.last + 1)
    }
    assert found == expected_gaps(epochs)
    assert sum(gap.last - gap.first + 1 for gap in gaps) == len(found), "no id is in two gaps"
    assert gaps == sorted(gaps)
    assert {(gap.key, gap.unit, gap.epoch) for gap in gaps} <= {(KEY, "id", "")}


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.lists(IDS, min_size=1, max_size=6)),
        max_size=8,
    )
)
def test_what_was_seen_before_and_what_is_out_of_order(
    arrivals: list[tuple[str, bool, list[int]]],
) -> None:
    coverage = IdCoverage()
    had: set[int] = set()
    latest: dict[str, int] = {}
    for epoch, live, ids in arrivals:
        numbers = np.array(ids, dtype=np.int64)
        seen = coverage.see(Arrival(epoch, live, numbers, numbers))
        assert seen.before.tolist() == [number in had for number in ids]
        overtaken = []
        for number in ids:
            overtaken.append(live and number < latest.get(epoch, 0))
            if live:
                latest[epoch] = max(number, latest.get(epoch, 0))
        assert seen.out_of_order.tolist() == overtaken
        had |= set(ids)


@given(CONNECTIONS)
def test_a_copy_lives_its_own_life(epochs: list[list[Fact]]) -> None:
    coverage = told([(str(number), facts) for number, facts in enumerate(epochs)])
    clone = coverage.copy()
    assert clone == coverage
    before = sets(coverage)
    for fact in (
        Fact("live", 40, 50),
        Fact("fill", 52, 53),
        Fact("know", 60, 60),
        Fact("miss", 55, 56),
    ):
        fact.tell(clone, "other")
    assert sets(coverage) == before
    assert set(clone.arrived()["id", ""]) >= {(40, 50), (52, 53)}


@given(CONNECTIONS, st.lists(FACTS, max_size=6))
def test_what_is_read_back_goes_on_as_it_would_have(
    epochs: list[list[Fact]], more: list[Fact]
) -> None:
    """A store may have written the epochs when they began, and not how far they got since."""
    coverage = IdCoverage()
    begun: dict[str, int] = {}
    for number, facts in enumerate(epochs):
        for fact in facts:
            fact.tell(coverage, f"epoch-{number}")
            for epoch, last in coverage.epochs.items():
                begun.setdefault(epoch, last)
    written = [(epoch, begun[epoch]) for epoch in coverage.epochs]
    again = IdCoverage.from_rows(list(coverage.rows()), written)
    exact = IdCoverage.from_rows(coverage.rows(), list(coverage.epochs.items()))
    assert sets(again) == sets(exact) == sets(coverage)
    for fact in more:
        for one in (coverage, again, exact):
            fact.tell(one, "epoch-0")
    assert sets(again) == sets(exact) == sets(coverage)
    assert again.gaps(KEY) == exact.gaps(KEY) == coverage.gaps(KEY)


def test_what_is_out_of_order_is_known_after_a_restart() -> None:
    coverage = IdCoverage()
    arrive(coverage, 1, 3)
    begun = list(coverage.epochs.items())
    arrive(coverage, 4, 9)
    again = IdCoverage.from_rows(coverage.rows(), begun)
    late = Arrival("e1", live=True, numbers=np.array([8, 10]), received_ns=np.array([8, 10]))
    assert again.see(late).out_of_order.tolist() == [True, False]


def weight(coverage: IdCoverage) -> int:
    """Bytes of all that a coverage holds."""
    return sum(
        sys.getsizeof(ends) + sum(map(sys.getsizeof, ends))
        for name in IdCoverage.sets
        for ends in (getattr(coverage, name)._firsts, getattr(coverage, name)._lasts)
    )


@pytest.mark.parametrize("holes", [0, 50])
def test_memory_is_bounded_by_holes_not_by_events(holes: int) -> None:
    """Two million ids in blocks of a thousand, in random order, from three connections."""
    size, count = 1000, 2000
    dice = random.Random(7)
    blocks = list(range(count))
    withheld = set(dice.sample(blocks[1:-1], holes))
    told = [block for block in blocks if block not in withheld]
    dice.shuffle(told)
    coverage, most = IdCoverage(), 0
    for number, block in enumerate(told):
        first, last = block * size, block * size + size - 1
        arrive(coverage, first, last, f"e{number % 3}")
        coverage.know(f"e{number % 3}", last, last)
        most = max(most, len(coverage.live))
    neighbours = sum(block + 1 in withheld for block in withheld)
    assert coverage.live.count() == len(told) * size >= 1_900_000
    assert [len(getattr(coverage, name)) for name in IdCoverage.sets] == [
        holes - neighbours + 1,
        0,
        0,
        1,
        1,
    ]
    assert most <= count / 2, "no more pieces than blocks that stand alone"
    assert weight(coverage) < 1_000 + 150 * holes
    assert len(coverage.gaps(KEY)) == holes - neighbours


def test_single_ids_in_random_order_end_as_one_interval() -> None:
    ids = list(range(20_000))
    random.Random(3).shuffle(ids)
    covered = IdCoverage()
    most = 0
    for native in ids:
        arrive(covered, native, native)
        most = max(most, len(covered.live))
    assert list(covered.live) == [(0, 19_999)]
    assert 4_000 < most < 6_000, "at worst every fourth stood alone"
    assert weight(covered) < 1_000, "and nothing is left of it"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 11), RANGES), max_size=40))
def test_how_far_connections_got_is_bounded_and_only_of_late(
    told: list[tuple[int, tuple[int, int]]],
) -> None:
    coverage = IdCoverage()
    hulls: dict[int, tuple[int, int]] = {}
    for epoch, (first, last) in told:
        coverage = coverage.copy()
        coverage.span(f"e{epoch}", first, last)
        least, greatest = hulls.pop(epoch, (first, last))
        hulls[epoch] = min(least, first), max(greatest, last)
        if len(hulls) > EPOCHS:
            del hulls[next(iter(hulls))]
        kept = {f"e{name}": hull[1] for name, hull in hulls.items()}
        assert list(coverage.copy().epochs.items()) == list(kept.items())
        assert all(coverage.spanned.holes(*hull) == IntervalSet() for hull in hulls.values())


@pytest.mark.parametrize("origin", ["live", "fill"])
def test_what_history_lacked_and_then_arrived_is_not_absent(origin: str) -> None:
    coverage = told([("e1", [Fact("live", 1, 3), Fact("live", 7, 9)])])
    coverage.finished(4, 6, [(4, 6)])
    assert [(gap.first, gap.last, gap.state) for gap in coverage.gaps(KEY)] == [(4, 6, "permanent")]
    arrive(coverage, 5, 5, live=origin == "live")
    assert list(coverage.absent) == [(4, 4), (6, 6)]
    states = {gap.first: gap.state for gap in coverage.gaps(KEY)}
    assert states == (
        {4: "permanent", 6: "permanent"} | ({5: "filled"} if origin == "fill" else {})
    )


def test_a_stream_of_fills_alone_owes_nothing() -> None:
    coverage = told([("e1", [Fact("fill", 1, 3), Fact("fill", 9, 9), Fact("miss", 5, 6)])])
    assert coverage.hull() is None
    assert coverage.gaps(KEY) == []


def test_the_lost_tail_of_a_connection_is_a_gap() -> None:
    coverage = told([("e1", [Fact("live", 1, 5), Fact("know", 8, 8)])])
    (gap,) = coverage.gaps(KEY)
    assert gap == Gap(*KEY, "id", "", 6, 8, "in_connection", "open")
