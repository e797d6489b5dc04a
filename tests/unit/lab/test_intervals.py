"""Sets of indices as intervals, against Python's own sets."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from forebay.lab.ledger import TruthIntervals

if TYPE_CHECKING:
    from collections.abc import Iterable

pairs = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=12,
)


def numbers(intervals: Iterable[tuple[int, int]]) -> set[int]:
    return {i for first, last in intervals for i in range(first, last + 1)}


@given(pairs)
def test_it_holds_what_was_added_in_maximal_intervals(intervals: list[tuple[int, int]]) -> None:
    added = TruthIntervals(intervals)
    assert numbers(added) == numbers(intervals)
    kept = list(added)
    assert all(first <= last for first, last in kept)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(kept))


@given(pairs)
def test_order_and_repetition_do_not_matter(intervals: list[tuple[int, int]]) -> None:
    again = TruthIntervals([*reversed(intervals), *intervals])
    assert list(TruthIntervals(intervals)) == list(again)


@given(pairs, pairs)
def test_minus_and_update(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    a, b = TruthIntervals(left), TruthIntervals(right)
    assert numbers(a.minus(b)) == numbers(left) - numbers(right)
    assert list(a) == list(TruthIntervals(left))
    a.update(b)
    assert numbers(a) == numbers(left) | numbers(right)


@example([(0, 1)], 1, 0)
@given(pairs, st.integers(0, 70), st.integers(0, 70))
def test_within(intervals: list[tuple[int, int]], first: int, last: int) -> None:
    inside = numbers(intervals) & set(range(first, last + 1))
    assert numbers(TruthIntervals(intervals).within(first, last)) == inside


def test_memory_grows_with_holes_and_not_with_members() -> None:
    many = TruthIntervals()
    for index in range(100_000):
        if index != 5_000:
            many.add(index)
    assert list(many) == [(0, 4_999), (5_001, 99_999)]
