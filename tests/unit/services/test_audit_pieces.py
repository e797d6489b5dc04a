"""How a differing hour is cut into pieces whose rows are compared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forebay.services.audit.compare import ROWS_AT_ONCE, Minute, stretches

MINUTES = st.lists(
    st.tuples(st.integers(0, 59), st.integers(0, 2 * ROWS_AT_ONCE), st.booleans()),
    unique_by=lambda each: each[0],
).map(lambda each: [Minute(*one) for one in sorted(each)])


def test_neighbours_are_one_piece_and_a_long_way_is_two() -> None:
    few = [Minute(1, 5, False), Minute(2, 5, True), Minute(9, 5, False)]
    many = [Minute(1, 5, False), Minute(2, ROWS_AT_ONCE, True), Minute(9, 5, False)]

    assert stretches(few) == [(1, 9)]
    assert stretches(many) == [(1, 1), (9, 9)]
    assert stretches([Minute(3, 7, True)]) == []


@given(MINUTES)
def test_every_minute_that_differs_is_in_one_piece_of_bounded_size(minutes: list[Minute]) -> None:
    found = stretches(minutes)

    taken = [each for first, last in found for each in minutes if first <= each.minute <= last]
    assert len(taken) == len(set(taken))
    assert {each for each in minutes if not each.agrees} <= set(taken)
    for first, last in found:
        part = [each for each in minutes if first <= each.minute <= last]
        assert not part[0].agrees
        assert not part[-1].agrees
        assert len(part) == 1 or sum(each.rows for each in part) <= ROWS_AT_ONCE
