"""A book beside a dictionary that is sorted for each look."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain import book as module
from forebay.domain.book import Book, Levels, levels_of, scaled, text_of
from forebay.domain.schema import DECIMAL, DECIMALS

if TYPE_CHECKING:
    from collections.abc import Sequence

    Told = list[tuple[int, int]]

NOTHING = Levels()


def levels(told: Sequence[tuple[int, int]]) -> Levels:
    return Levels([price for price, _ in told], [size for _, size in told])


class Naive:
    """Two dictionaries."""

    def __init__(self) -> None:
        self.known = False
        self.sides: list[dict[int, int]] = [{}, {}]

    def tell(self, what: str, *told: Told) -> None:
        if what == "replace":
            self.known, self.sides = True, [{}, {}]
        for side, changes in zip(self.sides, told, strict=True):
            for price, size in changes if self.known else ():
                side[price] = size

    def best(self, count: int | None = None) -> tuple[Told, Told]:
        bids, asks = (
            [(price, size) for price, size in side.items() if size] for side in self.sides
        )
        return sorted(bids, reverse=True)[:count], sorted(asks)[:count]


class Sums(Naive):
    """Two dictionaries to whose values is added."""

    def tell(self, what: str, *told: Told) -> None:
        if what == "replace":
            super().tell(what, *told)
            return
        for side, changes in zip(self.sides, told, strict=True):
            for price, change in changes if self.known else ():
                side[price] = side.get(price, 0) + change
                if side[price] < 0:
                    self.known, self.sides = False, [{}, {}]


SOME = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), max_size=6)
STEPS = st.tuples(st.sampled_from(["apply"] * 5 + ["replace"]), SOME, SOME, st.integers(0, 5))


@given(st.lists(STEPS, max_size=40), st.integers(0, 8))
def test_a_book_is_what_a_dictionary_is(steps: list[tuple[str, Told, Told, int]], few: int) -> None:
    book, naive = Book(), Naive()
    module.UNSORTED_AFTER, before = few, module.UNSORTED_AFTER
    try:
        for what, bids, asks, look in steps:
            getattr(book, what)(levels(bids), levels(asks))
            naive.tell(what, bids, asks)
            assert (book.state == "known") is naive.known
            if look:  # not after each change, so that many gather
                expected = naive.best(look)
                assert (book.bids.best(look), book.asks.best(look)) == expected
                highest, lowest = (side[0][0] if side else None for side in expected)
                assert (book.bids.best_price, book.asks.best_price) == (highest, lowest)
                assert book.crossed is (
                    highest is not None and lowest is not None and highest >= lowest
                )
                assert (len(book.bids), len(book.asks)) == tuple(map(len, naive.best()))
        assert (book.bids.best(), book.asks.best()) == naive.best()
        assert book.known_to == (None, None)
    finally:
        module.UNSORTED_AFTER = before


CHANGES = st.lists(st.tuples(st.integers(1, 8), st.integers(-3, 4).filter(bool)), max_size=6)
RELATIVE = st.tuples(st.sampled_from(["add"] * 7 + ["replace"]), CHANGES, CHANGES, st.booleans())


@given(st.lists(RELATIVE, max_size=40), st.integers(0, 8))
def test_a_book_of_differences_is_the_sum_of_them_or_unknown(
    steps: list[tuple[str, Told, Told, bool]], few: int
) -> None:
    """It is unknown from the first one on that takes more than there is, until a snapshot."""
    book, sums = Book(relative=True), Sums()
    module.UNSORTED_AFTER, before = few, module.UNSORTED_AFTER
    try:
        for what, *changes, look in steps:
            told = [[(p, abs(size)) for p, size in side] for side in changes]
            if what == "replace":
                book.replace(*map(levels, told))
            else:
                book.apply(*map(levels, changes))
            sums.tell(what, *(told if what == "replace" else changes))
            if look:
                assert (book.state == "known") is sums.known
                assert (book.bids.best(), book.asks.best()) == sums.best()
                assert (len(book.bids), len(book.asks)) == tuple(map(len, sums.best()))
        assert (book.state == "known") is sums.known
        assert (book.bids.best(), book.asks.best()) == sums.best()
    finally:
        module.UNSORTED_AFTER = before


def test_a_level_that_is_used_up_exactly_is_gone_and_its_neighbour_is_another() -> None:
    """0.10 and 0.20 come, 0.30 goes; 0.5500 and 0.5509 are two levels."""
    book, part = Book(relative=True), 10**16
    book.replace(NOTHING, NOTHING)
    for change in (10, 20, -30):
        book.apply(levels([(48 * part, change * part)]), NOTHING)
    book.apply(levels([(5500 * 10**14, 1), (5509 * 10**14, 2)]), NOTHING)
    assert book.bids.best() == [(5509 * 10**14, 2), (5500 * 10**14, 1)]


def test_a_snapshot_replaces_all_that_was_before() -> None:
    book = Book()
    book.replace(levels([(100, 1), (99, 1)]), levels([(102, 1)]))
    book.replace(levels([(101, 1), (98, 1)]), NOTHING)
    assert book.bids.best() == [(101, 1), (98, 1)]
    assert book.asks.best() == []


def test_changes_before_the_first_snapshot_say_nothing() -> None:
    book = Book()
    book.apply(levels([(100, 1)]), NOTHING)
    assert (book.state, len(book.bids)) == ("unknown", 0)
    book.replace(NOTHING, NOTHING)
    assert (book.state, len(book.bids)) == ("known", 0)


def test_a_level_pushed_out_of_the_depth_does_not_come_back() -> None:
    """Asks 1 to 10; 2.5 comes and goes; 11 comes: Kraken's right answer has no 10."""
    book = Book(depth=10)
    book.replace(levels([(9, 10)]), levels([(price * 10, 1) for price in range(1, 11)]))
    assert book.known_to == (None, 100)
    book.apply(NOTHING, levels([(25, 1)]))
    assert book.known_to == (None, 90)
    book.apply(NOTHING, levels([(25, 0)]))
    book.apply(NOTHING, levels([(110, 1)]))
    assert [price for price, _ in book.asks.best()] == [*range(10, 100, 10), 110]


@given(SOME, SOME, SOME, st.integers(1, 4))
def test_a_book_of_some_depth_is_the_best_of_what_it_knew(
    bids: Told, asks: Told, more: Told, depth: int
) -> None:
    book, whole = Book(depth), Book()
    for each in (book, whole):
        each.replace(levels(bids), levels(asks))
    assert book.bids.best() == whole.bids.best(depth)
    for change in more:
        before = dict(book.bids.best())
        book.apply(levels([change]), NOTHING)
        expected = {**before, change[0]: change[1]}
        kept = sorted(((p, s) for p, s in expected.items() if s), reverse=True)[:depth]
        assert book.bids.best() == kept


def test_a_side_that_is_known_in_part_and_empty_is_known_to_no_price() -> None:
    book = Book(depth=1)
    book.replace(levels([(5, 1)]), NOTHING)
    book.apply(levels([(5, 0)]), NOTHING)
    assert book.known_to == (0, None)


@pytest.mark.parametrize(("bid", "ask", "crossed"), [(2, 3, False), (3, 3, True), (4, 3, True)])
def test_a_book_is_crossed_when_its_bid_is_not_below_its_ask(
    bid: int, ask: int, crossed: bool
) -> None:
    book = Book()
    book.replace(levels([(bid, 1)]), levels([(ask, 1)]))
    assert book.crossed is crossed


# ------------------------------------------------------------------------------- exact numbers

NUMBERS = st.integers(0, 10**38 - 1) | st.integers(0, 10**20)
EXACTLY = Context(prec=60)


def decimal(number: int) -> Decimal:
    return Decimal(number).scaleb(-18, EXACTLY)


@given(st.lists(NUMBERS, max_size=8), st.integers(0, 8))
def test_decimals_are_integers(numbers: list[int], skipped: int) -> None:
    array = pa.array(map(decimal, numbers), DECIMAL)[skipped:]
    assert scaled(array) == numbers[skipped:]


@given(NUMBERS)
def test_a_text_has_all_digits_and_no_zeros_behind(number: int) -> None:
    text = text_of(number)
    assert Decimal(text) == decimal(number)
    assert "." not in text or text[-1] not in "0."
    assert text == "0" or not text.startswith("00")


def test_levels_are_those_of_all_rows_in_their_order() -> None:
    rows = pa.table(
        {
            name: pa.chunked_array([pa.array([[1, 2], []], DECIMALS), pa.array([[3]], DECIMALS)])
            for name in ("bid_prices", "bid_sizes")
        }
    )
    found = levels_of(rows[1:], "bid")
    assert found == Levels([3 * 10**18], [3 * 10**18])
    assert levels_of(rows[:0], "bid") == Levels([], [])
    assert len(levels_of(rows, "bid").prices) == 3
