"""How a differing hour is cut into pieces whose rows are compared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.digest import Digest
from forebay.services.audit.compare import ROWS_AT_ONCE, stretches

MINUTES = st.dictionaries(
    st.integers(0, 59), st.tuples(st.integers(0, 2 * ROWS_AT_ONCE), st.booleans())
)
"""By minute, how many rows it has and whether both sides agree."""


def pieces(minutes: dict[int, tuple[int, bool]], *, every: bool = False) -> list[tuple[int, int]]:
    stored = {minute: Digest(rows, 1, 1) for minute, (rows, _) in minutes.items()}
    right = {m: Digest(rows, 1, 1 if agrees else 2) for m, (rows, agrees) in minutes.items()}
    return stretches(stored, right, every=every)


def test_neighbours_are_one_piece_and_a_long_way_is_two() -> None:
    few = {1: (5, False), 2: (5, True), 9: (5, False)}
    many = {1: (5, False), 2: (ROWS_AT_ONCE, True), 9: (5, False)}

    assert pieces(few) == [(1, 9)]
    assert pieces(many) == [(1, 1), (9, 9)]
    assert pieces({3: (7, True)}) == []
    assert pieces({3: (7, True)}, every=True) == [(3, 3)]


def test_a_minute_that_one_side_lacks_differs() -> None:
    some = {4: Digest(1, 1, 1)}

    assert stretches(some, {}) == stretches({}, some) == [(4, 4)]


@given(MINUTES)
def test_every_minute_that_differs_is_in_one_piece_of_bounded_size(
    minutes: dict[int, tuple[int, bool]],
) -> None:
    found = pieces(minutes)

    taken = [each for first, last in found for each in minutes if first <= each <= last]
    assert len(taken) == len(set(taken))
    assert {minute for minute, (_, agrees) in minutes.items() if not agrees} <= set(taken)
    for first, last in found:
        part = [minutes[each] for each in minutes if first <= each <= last]
        assert not minutes[first][1]
        assert not minutes[last][1]
        assert len(part) == 1 or sum(rows for rows, _ in part) <= ROWS_AT_ONCE
