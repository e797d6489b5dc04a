"""Broken books are asked for together, with growing pauses, a bounded number of times."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from forebay.sources.websocket.refetch import LONGEST_S, TRIES, Refetch
from tests.support.frames import SECOND

PAIRS = [f"P-{number}" for number in range(50)]
TEN_MINUTES = 600


def test_books_that_broke_together_are_asked_for_together_and_once() -> None:
    books = Refetch()
    books.broken(PAIRS, 0)
    assert books.due(0) == PAIRS
    books.broken(PAIRS, 1)
    assert books.due(1) == []
    for pair in PAIRS[1:]:
        books.arrived(pair, SECOND)
    assert books.due(2 * SECOND) == PAIRS[:1]


def asked(books: Refetch, until_s: int) -> list[int]:
    """Return at which seconds the first pair is asked for, if it is looked each second."""
    return [second for second in range(until_s) if books.due(second * SECOND) == PAIRS[:1]]


def test_a_book_that_never_comes_is_asked_for_ten_times_with_growing_pauses() -> None:
    books = Refetch()
    books.broken(PAIRS[:1], 0)
    seconds = asked(books, TEN_MINUTES)
    assert not books.exhausted
    assert books.due(10**6 * SECOND) == PAIRS[:1]
    assert len(seconds) == TRIES - 1
    pauses = [later - sooner for sooner, later in pairwise(seconds)]
    assert all(later == 2 * sooner for sooner, later in pairwise(pauses))
    last_s = 10**6 + LONGEST_S
    assert books.due(round((last_s - 1) * SECOND)) == []
    assert len(books.exhausted) == 0
    assert books.due(round(last_s * SECOND)) == []
    assert [*books.exhausted] == ["P-0"]


def test_a_book_that_comes_and_breaks_at_once_is_asked_for_no_more_often() -> None:
    """As one whose checksum never matches: it must not become a storm."""
    books, seconds = Refetch(), []
    books.broken(PAIRS[:1], 0)
    for second in range(TEN_MINUTES):
        if books.due(second * SECOND):
            seconds.append(second)
            books.arrived("P-0", second * SECOND)
            books.broken(PAIRS[:1], second * SECOND)
    assert len(seconds) == TRIES - 1
    assert not books.exhausted


def test_a_book_that_stayed_whole_is_asked_for_at_once_when_it_breaks_again() -> None:
    """As on a line that loses a message now and then."""
    books = Refetch()
    for second in range(0, 3600, 3):
        books.broken(PAIRS[:1], second * SECOND)
        assert books.due(second * SECOND) == PAIRS[:1]
        books.arrived("P-0", second * SECOND + SECOND)
    books.broken(PAIRS[:1], 3598 * SECOND + 1)
    assert [second for second in range(3598, 3610) if books.due(second * SECOND)] == [3599, 3603]


def test_a_book_that_is_to_come_unasked_is_asked_for_if_it_does_not() -> None:
    books = Refetch()
    books.expected(PAIRS, 10 * SECOND)
    assert books.due(9 * SECOND) == []
    for pair in PAIRS[2:]:
        books.arrived(pair, 9 * SECOND)
    assert books.due(10 * SECOND) == PAIRS[:2]


def test_what_is_not_awaited_may_arrive_and_what_is_forgotten_is_not_asked_for() -> None:
    books = Refetch()
    books.arrived("P-0", 0)
    books.broken(PAIRS, 0)
    books.forget(PAIRS[1:])
    assert books.due(0) == ["P-0"]


def test_a_thousand_failed_resyncs_leave_nothing_behind() -> None:
    books, now_ns = Refetch(), 0
    for number in range(1000):
        names = [f"{number}-{pair}" for pair in PAIRS[:5]]
        books.broken(names, now_ns)
        for _ in range(TRIES + 2):
            books.due(now_ns)
            books.arrived(names[0], now_ns)
            books.forget(books.exhausted)
            now_ns += round(LONGEST_S * SECOND)
        assert len(books) <= len(names)
    books.due(now_ns)
    assert len(books) == 0


EVENTS = st.lists(
    st.tuples(st.sampled_from(["broken", "arrived", "due"]), st.sampled_from(PAIRS[:3]),
              st.integers(0, 4 * SECOND)), max_size=60)  # fmt: skip


@given(EVENTS)
def test_every_broken_book_is_asked_for_or_given_up_and_no_other_is(
    events: list[tuple[str, str, int]],
) -> None:
    """Between two requests for a book at least the shortest pause passes, whatever happens."""
    books, broken, last, now_ns = Refetch(), set[str](), dict[str, int](), 0
    for what, symbol, later_ns in events:
        now_ns += later_ns
        if what == "broken":
            books.broken([symbol], now_ns)
            broken.add(symbol)
        elif what == "arrived":
            books.arrived(symbol, now_ns)
            broken.discard(symbol)
        else:
            for each in books.due(now_ns):
                assert each in broken
                assert now_ns - last.get(each, -(10**12)) >= 2 * SECOND
                last[each] = now_ns
    found = set[str]()
    for second in range(0, 10**4, 300):
        found |= {*books.due(now_ns + second * SECOND), *books.exhausted}
    assert found == broken
