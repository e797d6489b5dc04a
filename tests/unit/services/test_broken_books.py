"""Books of differences: what one connection tells, what it loses, and how a book comes back."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from forebay.domain.channels import Channel
from forebay.services.checkpoints import BookCheckpoints
from forebay.sources.websocket.refetch import TRIES
from tests.support.frames import SECOND, T0
from tests.support.made_books import PARSERS, TICK_NS, Book, Change, Days, Market, Stored, Wire

LAG_NS = TICK_NS // 2
LOST = "A message of its connection was lost before it."
OVER = "No connection that carries the book was heard until then."
BROKEN = "A change before it took more from a level than it had."
BEFORE = "No snapshot of the book was received by then."


def ns(second: float) -> int:
    return T0 + round(second * SECOND)


@dataclass
class Line:
    """One connection that tells the book A, message by message."""

    epoch: str = "e1"
    drops: set[int] = field(default_factory=set)
    """Numbers of messages that are lost."""
    lag_ns: int = LAG_NS

    def __post_init__(self) -> None:
        self.wire = Wire(Market(["A", "B"]), self.epoch, lost=lambda m: m.number in self.drops)

    def opened(self, second: float) -> Line:
        self.wire.open(ns(second) + self.lag_ns)
        self.wire._answers = []
        return self

    def book(self, second: float, book: Book, symbol: str = "A") -> Line:
        self.wire.snapshot(symbol, book)
        return self._received(second)

    def adds(self, second: float, price: int, size: int, symbol: str = "A") -> Line:
        self.wire.tell(symbol, Change(ns(second), 0, price, size))
        return self._received(second)

    def closed(self, second: float) -> Line:
        self.wire.close(ns(second) + self.lag_ns)
        return self

    def _received(self, second: float) -> Line:
        self.wire.receive(ns(second) + self.lag_ns)
        return self


def stored(*lines: Line) -> Stored:
    return Stored(*(line.wire for line in lines))


def said(where: Stored, second: float | None) -> dict[int, int] | str:
    """Return the bids of A at a moment, or why they are unknown."""
    told = where.said("A", None if second is None else ns(second))
    return told if isinstance(told, str) else told[0]


def gaps(where: Stored) -> list[tuple[str, str, str, float, float]]:
    rows = where.query(
        'SELECT unit, symbol, reason, "first", "last" FROM gaps WHERE unit = \'time\' ORDER BY ALL'
    )
    return [
        (unit, symbol, why, (first - T0 - LAG_NS) / SECOND, (last - T0 - LAG_NS) / SECOND)
        for unit, symbol, why, first, last in zip(*rows.to_pydict().values(), strict=True)
    ]


def test_changes_are_added_up() -> None:
    line = Line().opened(0).book(1, ({5: 10, 6: 1}, {})).adds(2, 5, -4).adds(3, 6, -1)
    books = stored(line.adds(4, 7, 2).closed(9))
    expected = [BEFORE, {5: 10, 6: 1}, {5: 6, 6: 1}, {5: 6}, {5: 6, 7: 2}, {5: 6, 7: 2}, OVER]
    assert [said(books, second) for second in (0.5, 1.5, 2, 3.5, 4, 7.9, 8.5)] == expected
    assert said(books, None) == {5: 6, 7: 2}


def test_a_clock_that_is_behind_the_venues_makes_no_snapshot_an_earlier_one() -> None:
    line = Line(lag_ns=-2 * SECOND).opened(0).book(3, ({5: 1}, {})).adds(4, 5, 1)
    books = stored(line.book(8, ({5: 9}, {})).adds(9, 5, 1).closed(14))
    found = [said(books, second) for second in (0.5, 2, 3.5, 4.5, 7, 8.5, 9.5)]
    later = "The snapshot that it begins with was made later."
    assert found == [BEFORE, later, {5: 1}, {5: 2}, later, {5: 9}, {5: 10}]


def test_a_lost_message_leaves_a_hole_in_each_of_its_books_until_the_next_snapshot() -> None:
    line = Line(drops={4}).opened(0).book(1, ({5: 1}, {})).adds(2, 5, 1).adds(3, 5, 1)
    line.adds(4, 9, 1, "B").adds(5, 5, 1).adds(6, 5, 1)
    books = stored(line.book(7, ({5: 9}, {})).adds(8, 5, 1).closed(12))
    found = [said(books, second) for second in (2, 3.5, 4, 5, 6.5, 7.5, 8)]
    assert found == [{5: 2}, LOST, LOST, LOST, LOST, {5: 9}, {5: 10}]
    assert gaps(books) == [
        ("time", symbol, "in_connection", 3, 5) for symbol in "AB" for _ in range(2)
    ]


@pytest.mark.parametrize("whole", [False, True])
def test_a_message_lost_within_one_read_leaves_a_hole_without_length(whole: bool) -> None:
    """All have one receipt: what was lost between them is seen nevertheless."""
    line = Line(drops={4}).opened(0).book(1, ({5: 1}, {}))
    if whole:
        line.wire.snapshot("A", ({5: 1}, {}))
    else:
        line.wire.tell("A", Change(ns(2), 0, 5, 1))
    for second in (2.2, 2.4, 2.6, 2.8):
        line.wire.tell("A", Change(ns(second), 0, 5, 1))
    line.wire.receive(ns(3) + LAG_NS)
    books = stored(line.adds(4, 5, 1).book(5, ({5: 9}, {})).closed(8))
    found = [said(books, second) for second in (1.5, 2.6, 3.5, 4, 5.5)]
    assert found == [{5: 1}, LOST, LOST, LOST, {5: 9}]


def test_a_snapshot_that_comes_unasked_replaces_all_and_breaks_nothing() -> None:
    line = Line().opened(0).book(1, ({5: 1, 6: 1}, {})).adds(2, 5, 1)
    books = stored(line.book(3, ({6: 4, 7: 2}, {})).adds(4, 7, -2).closed(9))
    assert [said(books, second) for second in (2, 3.5, 4)] == [{5: 2, 6: 1}, {6: 4, 7: 2}, {6: 4}]
    assert gaps(books) == []


@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_change_that_came_late_is_not_added_to_a_snapshot_that_has_it(checkpoints: bool) -> None:
    """Its number says so: it is below another one that came before the snapshot."""
    line = Line().opened(0).book(1, ({5: 1}, {}))
    wire = line.wire
    wire.tell("A", Change(ns(2), 0, 5, 10))
    late = wire._under_way.pop()
    line.adds(2.5, 5, 1, "B").book(3, ({5: 11}, {}))
    wire._under_way.append(late)
    for second in (4, 4.5, 5, 6):
        line.adds(second, 5, 1)
    books = stored(line.closed(9))
    if checkpoints:
        assert BookCheckpoints(books.store, PARSERS, fewest=2).all() > 0
    assert [said(books, second) for second in (3.5, 4, 5, 6)] == [
        {5: 11}, {5: 12}, {5: 14}, {5: 15}
    ]  # fmt: skip


def test_a_book_that_breaks_although_nothing_is_missing_is_unknown_from_there() -> None:
    line = Line().opened(0).book(1, ({5: 3}, {})).adds(2, 5, -1).adds(3, 5, -5).adds(4, 5, 9)
    books = stored(line.closed(9))
    assert [said(books, second) for second in (2.5, 3, 4.5)] == [{5: 2}, BROKEN, BROKEN]
    assert said(books, None) == {5: 2}
    assert (books.at("A", None).as_of_ns, books.at("A", ns(5)).as_of_ns) == (ns(2), ns(2))
    again = Line().opened(0).book(1, ({5: 3}, {})).adds(2, 5, -4).book(3, ({}, {}))
    assert said(stored(again.closed(9)), 4) == {}


@pytest.mark.parametrize("breaks", ["lost", "broken"])
def test_no_checkpoint_is_made_of_what_is_not_known(breaks: str) -> None:
    line = Line(drops={8} if breaks == "lost" else set()).opened(0).book(1, ({5: 99}, {}))
    for number in range(2, 40):
        line.adds(number, 5, -110 if number == 8 and breaks == "broken" else 1)
    line.book(40, ({5: 1}, {}))
    for number in range(41, 60):
        line.adds(number, 5, 1)
    plain, quick = stored(line), stored(line)
    BookCheckpoints(quick.store, PARSERS, fewest=3).all()
    made = quick.store.table("book_checkpoints")["received_ts"].cast("int64").to_numpy()
    seconds = ((made - T0 - LAG_NS) / SECOND).tolist()
    assert [second for second in seconds if second < 41] == [4, 7]
    assert max(seconds) > 50
    for second in (7, 9, 41, 52):
        assert said(quick, second) == said(plain, second)


def test_what_one_connection_lost_another_ones_book_has() -> None:
    """Each has a book of its own: the changes of two do not add up."""
    one = Line("e1", drops={3}).opened(0).book(1, ({5: 1}, {}))
    two = Line("e2").opened(0).book(1.1, ({5: 1}, {}))
    for second in (2, 3, 4, 5):
        for line in (one, two):
            line.adds(second, 5, 1)
    one.book(4.5, ({5: 4}, {})).adds(6, 5, 1)
    books = stored(one.closed(9), two.closed(5.5))
    found = [said(books, second) for second in (2, 3, 4, 4.2, 5, 6)]
    assert found == [{5: 2}, {5: 3}, {5: 4}, {5: 4}, {5: 5}, {5: 6}]


def test_a_connection_that_is_over_leaves_the_book_to_the_others() -> None:
    """The last snapshot is of one that died: its book is not what it was."""
    one = Line("e1").opened(0).book(1, ({5: 1}, {})).adds(2, 5, 1)
    two = Line("e2").opened(2).book(3, ({5: 2}, {}))
    two.closed(4)
    silent = said(stored(one.closed(20), two), 15)
    assert silent == {5: 2}, "nobody told a change, so there was none"
    one = Line("e1").opened(0).book(1, ({5: 1}, {})).adds(2, 5, 1).adds(5, 5, 1)
    books = stored(one.closed(20), two)
    assert [said(books, second) for second in (3.5, 5, 15)] == [{5: 2}, {5: 3}, {5: 3}]
    assert said(books, None) == {5: 3}


def test_between_two_connections_nothing_is_known() -> None:
    one = Line("e1").opened(0).book(1, ({5: 1}, {})).closed(3)
    two = Line("e2").opened(6).book(6.5, ({5: 4}, {})).adds(7, 5, 1).closed(20)
    books = stored(one, two)
    assert [said(books, second) for second in (1.5, 4, 6.6, 7)] == [{5: 1}, OVER, {5: 4}, {5: 5}]


def test_differences_are_of_the_class_session_alone() -> None:
    for identity in ("native", "content", "observation"):
        with pytest.raises(ValueError, match="fit no other connection's snapshot"):
            Channel("book_delta", identity, "time", relative=True)


def test_one_book_that_cannot_be_had_for_ten_minutes_costs_the_others_nothing() -> None:
    """BK08: 50 books on a connection; one message is lost, and one book never comes again."""
    dice = random.Random(8)
    days = Days(Market([f"P-{number}" for number in range(50)], 8), dice)
    days.pass_(200, busy=1.0)
    losing: list[bool] = []
    wire = Wire(days.market, "e1", lost=lambda _: bool(losing) and losing.pop())
    days.open(wire)
    days.pass_(200)
    losing.append(True)
    since_ns = days.now_ns
    wire.withheld = "P-7".__eq__
    days.pass_(600 * SECOND // TICK_NS, busy=0.05)
    until_ns = days.now_ns
    assert not wire.refetch.exhausted
    (first, together), *again = wire.asked
    assert together == days.market.symbols
    assert {tuple(books) for _, books in again} == {("P-7",)}
    times = [first, *(at_ns for at_ns, _ in again)]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert len(times) < TRIES
    assert pauses == sorted(pauses)
    wire.withheld = lambda _: False
    days.pass_(300 * SECOND // TICK_NS, busy=0.05)
    days.close(wire)
    books = Stored(wire)
    for symbol in ["P-7", *days.market.symbols[::25]]:
        moments = [since_ns + 10 * SECOND, (since_ns + until_ns) // 2, until_ns]
        found = [books.said(symbol, at_ns) for at_ns in moments]
        whole = [days.market.at(symbol, at_ns) for at_ns in moments]
        assert found == ([LOST] * 3 if symbol == "P-7" else whole), symbol
        again_ns = days.now_ns - 5 * SECOND
        assert books.said(symbol, again_ns) == days.market.at(symbol, again_ns)
    assert len({gap[3:] for gap in gaps(books)}) == 1
    assert len(gaps(books)) == 2 * len(days.market.symbols)
