"""Interval sets against plain sets of integers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.intervals import Interval, IntervalSet

ENDS = st.integers(-8, 24)
INTERVALS = st.lists(st.tuples(ENDS, ENDS), max_size=12)
"""Reversed ones too: they stand for nothing."""


def members(intervals: list[Interval] | IntervalSet) -> set[int]:
    return {value for first, last in intervals for value in range(first, last + 1)}


def check_form(made: IntervalSet) -> None:
    """Sorted, not empty, disjoint and not adjacent: so equal sets are equal objects."""
    for first, last in made:
        assert first <= last
    for (_, last), (first, _) in pairwise(made):
        assert last + 1 < first


@given(INTERVALS)
def test_adding_is_union(intervals: list[Interval]) -> None:
    made = IntervalSet()
    model: set[int] = set()
    for first, last in intervals:
        made.add(first, last)
        model |= set(range(first, last + 1))
        assert members(made) == model
        check_form(made)


@given(INTERVALS)
def test_what_can_be_asked_of_a_set(intervals: list[Interval]) -> None:
    made, model = IntervalSet(intervals), members(intervals)
    assert made.count() == len(model)
    assert bool(made) == bool(model)
    assert {value for value in range(-12, 28) if value in made} == model
    assert len(made) == sum(value - 1 not in model for value in model)
    if model:
        assert (made.first, made.last) == (min(model), max(model))


@given(INTERVALS, ENDS, ENDS)
def test_within_and_holes_split_a_range(intervals: list[Interval], first: int, last: int) -> None:
    made, model = IntervalSet(intervals), members(intervals)
    asked = set(range(first, last + 1))
    inside, outside = made.within(first, last), made.holes(first, last)
    assert members(inside) == model & asked
    assert members(outside) == asked - model
    check_form(inside)
    check_form(outside)
    assert members(made) == model


@given(INTERVALS, INTERVALS)
def test_algebra(one: list[Interval], other: list[Interval]) -> None:
    left, right = IntervalSet(one), IntervalSet(other)
    for made, model in (
        (left & right, members(one) & members(other)),
        (left | right, members(one) | members(other)),
        (left - right, members(one) - members(other)),
    ):
        assert members(made) == model
        check_form(made)
    assert (left == right) == (members(one) == members(other))
    assert members(left) == members(one), "operands stay as they were"
    assert members(right) == members(other), "operands stay as they were"


@given(INTERVALS, ENDS, ENDS)
def test_a_copy_lives_its_own_life(intervals: list[Interval], first: int, last: int) -> None:
    made = IntervalSet(intervals)
    clone = made.copy()
    assert clone == made
    clone.add(first, last)
    assert members(made) == members(intervals)
    answer = made | IntervalSet()
    answer.add(first, last)
    assert members(made) == members(intervals)
    part = made.within(-8, 24)
    part.add(first, last)
    assert members(made) == members(intervals)


@given(st.permutations(range(40)))
def test_order_does_not_matter(order: list[int]) -> None:
    made = IntervalSet()
    for value in order:
        made.add(value)
        assert len(made) <= 20, "never more intervals than holes can make"
    assert list(made) == [(0, 39)]


def test_a_million_in_order_are_one_interval() -> None:
    made = IntervalSet()
    for value in range(1_000_000):
        made.add(value)
    assert list(made) == [(0, 999_999)]


def test_an_empty_set_has_no_ends() -> None:
    for end in ("first", "last"):
        with pytest.raises(IndexError):
            getattr(IntervalSet(), end)


def test_it_is_no_set_of_anything_else() -> None:
    assert IntervalSet([(1, 2)]) != {1, 2}
    assert repr(IntervalSet([(3, 4), (1, 2)])) == "IntervalSet([(1, 4)])"
    with pytest.raises(TypeError):
        hash(IntervalSet())
