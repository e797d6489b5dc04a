"""Books as they were: each moment is known, or unknown for a reason."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from forebay.domain.book import text_of
from forebay.domain.frames import EpochAccepted, EpochClosed, FrameKind, encode_control
from forebay.services.book_bases import Stream
from forebay.services.books import book_at
from forebay.services.checkpoints import BookCheckpoints
from forebay.stores.duckdb import DuckDBStore
from tests.support.delivery import PARSERS, deliver
from tests.support.frames import (
    PRODUCT,
    SECOND,
    T0,
    batch,
    context,
    l2update,
    rfc3339,
    snapshot,
    ticker,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from forebay.domain.frames import FrameBatch
    from forebay.services.books import BookAt
    from tests.support.frames import Source

STREAM = Stream("coinbase", "spot", PRODUCT)
LAG_NS = 50_000_000
"""So much after the venue's time a frame is received."""
OPEN, CLOSE = EpochAccepted(), "close"


@dataclass
class Line:
    """One connection and what it tells, by the venue's seconds after T0."""

    told: list[tuple[float, Any]] = field(default_factory=list)
    epoch: str = "e1"
    collector: str = "c1"
    live: bool = True

    def at(self, second: float, what: Any, **more: Any) -> Line:  # noqa: ANN401
        """Tell an update at a time, or anything else as it is."""
        if isinstance(what, tuple):
            what = l2update(what, time=rfc3339(T0 + round(second * SECOND)), **more)
        self.told.append((second, what))
        return self


def frames(*lines: Line, lag_ns: int = LAG_NS) -> Iterator[FrameBatch]:
    """Return everything that is told in the order of receipt, numbered as in one journal."""
    told = sorted(
        (
            (second, place, what, line)
            for line in lines
            for place, (second, what) in enumerate(line.told)
        ),
        key=lambda entry: (entry[0], lines.index(entry[3]), entry[1]),
    )
    seq = 1
    for line, group in groupby(told, key=lambda entry: entry[3]):
        for is_bytes, part in groupby(group, key=lambda entry: isinstance(entry[2], bytes)):
            entries = list(part)
            source: Source = "ws" if line.live else "file"
            origin = context(source, line.epoch, collector=line.collector, symbols=(PRODUCT,),
                             channels=("book_snapshot", "book_delta", "ticker"))  # fmt: skip
            received = [T0 + round(second * SECOND) + lag_ns for second, *_ in entries]
            payloads = [
                what if is_bytes else encode_control(
                    what if what is OPEN else EpochClosed("over", silent_ns=0))
                for _, _, what, _ in entries
            ]  # fmt: skip
            kind = FrameKind.TEXT if is_bytes else FrameKind.CONTROL
            yield batch(payloads, origin, kind=kind, received_ns=received, first_seq=seq)
            seq += len(entries)


class Books:
    """A store in memory with what lines tell, and its books."""

    def __init__(
        self, *lines: Line, runs: Sequence[Sequence[FrameBatch]] = (), lag_ns: int = LAG_NS
    ) -> None:
        self.store = DuckDBStore(None)
        deliver(self.store, runs or [[each] for each in frames(*lines, lag_ns=lag_ns)])

    def query(self, statement: str) -> pa.Table:
        with closing(self.store.reader()) as reader:
            return reader.query(statement, timeout_s=60.0)

    def at(self, second: float | None) -> BookAt:
        at_ns = None if second is None else T0 + round(second * SECOND)
        return book_at(self.query, STREAM, at_ns, PARSERS)

    def said(self, second: float | None) -> str:
        """Return bids and asks as ``price:size``, or the reason."""
        found = self.at(second)
        if found.reason:
            assert (found.book.state, found.book.bids.best()) == ("unknown", [])
            return found.reason
        sides = [
            " ".join(f"{text_of(price)}:{text_of(size)}" for price, size in side.best())
            for side in (found.book.bids, found.book.asks)
        ]
        return " | ".join(sides)


def as_of(found: BookAt) -> float | None:
    return None if found.as_of_ns is None else (found.as_of_ns - T0) / SECOND


BEFORE = "No snapshot of the book was received by then."
NOT_HEARD = "No connection that carries the book was heard until then."
ENDED = "The recorded connection was over by then."
UNREAD = "A message before it could not be read."
FIRST = snapshot([["100", "1"], ["99", "2"]], [["101", "3"]])


def one_line(*, live: bool = True) -> Line:
    line = Line(live=live).at(0, OPEN) if live else Line(live=False)
    return (
        line.at(1, FIRST)
        .at(2, ("buy", "100", "0"))
        .at(3, ("sell", "101", "5"))
        .at(4, ("buy", "98.50", "1"))
    )


@pytest.mark.parametrize("live", [True, False], ids=["live", "recorded"])
@pytest.mark.parametrize(
    ("second", "said"),
    [
        (0.5, BEFORE),
        (1.04, BEFORE),
        (1.05, "100:1 99:2 | 101:3"),
        (2, "99:2 | 101:3"),
        (2.999, "99:2 | 101:3"),
        (3, "99:2 | 101:5"),
        (3.999, "99:2 | 101:5"),
        (None, "99:2 98.5:1 | 101:5"),
    ],
)
def test_a_moment_is_the_snapshot_and_the_changes_until_then(
    second: float | None, said: str, live: bool
) -> None:
    assert Books(one_line(live=live)).said(second) == said


@pytest.mark.parametrize("live", [True, False], ids=["live", "recorded"])
def test_the_moment_of_the_last_change_may_have_had_another(live: bool) -> None:
    """Venues tell several messages of one time, and other products and channels are no clock."""
    over = NOT_HEARD if live else ENDED
    line = one_line(live=live).at(4, ("sell", "102", "1"))
    assert Books(line).said(4) == over
    assert Books(line.at(4.01, ("sell", "103", "1"))).said(4) == "99:2 98.5:1 | 101:5 102:1"
    elsewhere = l2update(("buy", "98", "1"), time=rfc3339(T0 + 5 * SECOND), product="ETH-USD")
    for other in (elsewhere, ticker(time=rfc3339(T0 + 5 * SECOND))):
        assert Books(one_line(live=live).at(4.02, other)).said(4.01) == over


def test_beyond_the_last_heard_moment_nothing_is_known() -> None:
    books = Books(one_line().at(9, ticker(time=rfc3339(T0 + 9 * SECOND))))
    assert (books.said(4.5), as_of(books.at(4.5))) == (NOT_HEARD, 4)
    closed = Books(one_line().at(9, CLOSE))
    assert closed.said(8) == "99:2 98.5:1 | 101:5"
    assert (closed.said(8.1), as_of(closed.at(8.1))) == (NOT_HEARD, 4), "one may be under way"
    assert (closed.said(None), as_of(closed.at(None))) == ("99:2 98.5:1 | 101:5", 4)


def test_a_recording_goes_on_as_long_as_anything_was_heard() -> None:
    books = Books(one_line(live=False).at(9, ticker(time=rfc3339(T0 + 9 * SECOND))))
    assert books.said(8) == "99:2 98.5:1 | 101:5"
    assert books.said(8.1) == ENDED


@pytest.mark.parametrize("live", [True, False], ids=["live", "recorded"])
def test_after_a_reconnect_the_old_book_is_gone_and_between_nothing_is_known(live: bool) -> None:
    first = one_line(live=live)
    second = Line(epoch="e2", live=live)
    if live:
        first.at(4, CLOSE)
        second.at(6, OPEN)
    second.at(6, snapshot([["101", "1"], ["98", "1"]], [])).at(7, ("buy", "97", "1"))
    books = Books(first, second)
    assert books.said(3.9) == "99:2 | 101:5"
    assert books.said(5) == (NOT_HEARD if live else ENDED)
    assert as_of(books.at(5)) == 4
    assert books.said(6.05) == "101:1 98:1 | "
    assert books.said(7) == (NOT_HEARD if live else ENDED)
    assert books.said(None) == "101:1 98:1 97:1 | "


def test_a_quick_reconnect_leaves_no_ghosts() -> None:
    """What the old connection told a moment before the new snapshot is not told again to it."""
    first = one_line(live=False).at(4.9, ("buy", "100.5", "7"))
    second = Line(epoch="e2", live=False).at(4.95, snapshot([["98", "1"]], []))
    books = Books(first, second.at(5, ("sell", "103", "1")).at(6, ("sell", "104", "1")))
    assert books.said(5) == "98:1 | 103:1"


def test_a_second_snapshot_on_a_connection_replaces_the_book_whole() -> None:
    line = one_line().at(5, snapshot([["99", "9"]], [["102", "1"]])).at(6, ("buy", "1", "1"))
    books = Books(line.at(8, CLOSE))
    assert books.said(4) == "99:2 98.5:1 | 101:5"
    assert books.said(5.05) == "99:9 | 102:1"
    assert books.said(6) == "99:9 1:1 | 102:1"
    assert books.query("FROM gaps").num_rows == 0


def test_a_snapshot_is_known_from_the_first_change_behind_it() -> None:
    """It is received later than the venue made it: changes behind it may be older than that."""
    line = Line().at(0, OPEN).at(1, FIRST).at(1.01, ("buy", "100", "4")).at(3, CLOSE)
    assert Books(line).said(1.01) == "100:4 99:2 | 101:3"
    assert Books(line, lag_ns=3600 * SECOND).said(1.01) == "100:4 99:2 | 101:3"
    assert Books(line).said(1.0) == BEFORE


def test_a_snapshot_with_a_time_of_its_own_is_known_from_then() -> None:
    told = snapshot([["1", "1"]], [], time=rfc3339(T0 + SECOND))
    books = Books(Line().at(0, OPEN).at(1, told).at(2, ("buy", "2", "2")).at(4, CLOSE))
    assert [books.said(second) for second in (0.999, 1, 2)] == [BEFORE, "1:1 | ", "2:2 1:1 | "]


def test_changes_without_a_time_keep_their_place() -> None:
    line = one_line().at(5, l2update(("buy", "98", "1"), time="0001-01-01T00:00:00Z"))
    books = Books(line.at(5.01, ("buy", "98", "2")).at(6.2, CLOSE))
    assert books.said(5.3) == NOT_HEARD
    assert books.said(5.01) == "99:2 98.5:1 98:2 | 101:5"
    assert books.said(None) == "99:2 98.5:1 98:2 | 101:5"


@pytest.mark.parametrize(
    ("poison", "spoils"),
    [
        (b"\x00\xff garbage", True),
        (l2update(("buy", "x", "1")), True),
        (l2update(("buy", "x", "1"), product="ETH-USD"), False),
        (b'{"type":"surprise"}', False),
        (b'{"type":"match","trade_id":4', False),
        (ticker()[:-9], False),
        (b'{"type":"l2upd', True),
        (b'{"type":"l2update","product_id":"BTC', True),
        (b'{"type":"l2update","product_id":"ETH-USD","ch', False),
        (b'{"type":"snapshot","product_id":"BTC-USD","as', True),
    ],
)
def test_a_message_that_cannot_be_read_may_have_been_a_change(poison: bytes, spoils: bool) -> None:
    books = Books(one_line().at(5, poison).at(6, ("buy", "97", "1")).at(8, CLOSE))
    good = "99:2 98.5:1 97:1 | 101:5"
    assert books.said(3.9) == "99:2 | 101:5"
    assert books.said(6) == (UNREAD if spoils else good)
    assert books.said(None) == ("99:2 98.5:1 | 101:5" if spoils else good)
    mended = Books(one_line().at(5, poison).at(6, FIRST).at(7, ("buy", "97", "1")).at(9, CLOSE))
    assert mended.said(7) == "100:1 99:2 97:1 | 101:3"


def test_a_change_that_came_with_what_cannot_be_read_is_not_left_out() -> None:
    late = l2update(("buy", "98", "1"), time=rfc3339(T0 + 4_500_000_000))
    books = Books(one_line().at(5, late).at(5, b"\x00 garbage"))
    assert books.said(3.9) == "99:2 | 101:5"
    assert books.said(4.7) == UNREAD


def test_a_book_that_is_crossed_is_shown_as_it_was_told() -> None:
    books = Books(one_line().at(5, ("buy", "102", "1")).at(7, CLOSE))
    assert books.said(5) == "102:1 99:2 98.5:1 | 101:5"
    assert books.at(5).book.crossed
    assert not books.at(4).book.crossed


@pytest.mark.drill
def test_two_collectors_tell_one_book_whoever_was_first() -> None:
    changes = [
        (second / 10, ("buy", str(90 + second % 7), str(second % 3))) for second in range(20, 80)
    ]
    lines = [Line(epoch=f"e{n}", collector=f"c{n}").at(n / 100, OPEN) for n in range(2)]
    lines[0].at(1, FIRST)
    lines[1].at(4, OPEN)
    alone = Line().at(0, OPEN).at(1, FIRST)
    for at, (second, change) in enumerate(changes):
        alone.at(second, change)
        payload = l2update(change, time=rfc3339(T0 + round(second * SECOND)))
        lines[0].at(second + 0.01 * (at % 2), payload)
        if second > 4.5:
            lines[1].at(second + 0.01 * (1 - at % 2), payload)
        if second == 4.5:
            size = Books(alone).at(None).book.bids.best()
            bids = [[text_of(price), text_of(amount)] for price, amount in size]
            lines[1].at(second + 0.005, snapshot(bids, [["101", "3"]]))
    expected, both = Books(alone), Books(*lines)
    told = both.query("SELECT epoch, count(*) AS n FROM book_deltas GROUP BY ALL").to_pylist()
    assert len(told) == 2, "each of them was first sometimes"
    assert sum(row["n"] for row in told) == len(changes)
    for second, _ in changes:
        assert both.said(second) == expected.said(second), second


def test_nothing_stored_is_unknown() -> None:
    books = Books(Line().at(0, OPEN).at(1, ("buy", "1", "1")))
    assert books.said(1) == BEFORE
    assert books.said(None) == "No snapshot of the book was received."
    assert books.at(None).at_ns is None


# --------------------------------------------------------------------------------- checkpoints

FEWEST = 40
"""Changes between two checkpoints, here."""


def long_line(messages: int = 600, *, snapshots: Sequence[int] = (0,), live: bool = True) -> Line:
    """Build a connection with changes all over a small book, one to three a message."""
    line, dice = Line(live=live), random.Random(5)
    if live:
        line.at(0, OPEN)
    for number in range(messages):
        second = 1 + number / 10
        if number in snapshots:
            line.at(second - 0.05, FIRST)
        changes = [
            (side, str(dice.randrange(*RANGES[side])), dice.choice("0123"))
            for side in dice.choices(("buy", "sell"), k=dice.choice((1, 1, 2, 3)))
        ]  # fmt: skip
        line.at(second, l2update(*changes, time=rfc3339(T0 + round(second * SECOND))))
    return line


RANGES = {"buy": (50, 100), "sell": (101, 150)}


def checkpointed(books: Books) -> BookCheckpoints:
    maker = BookCheckpoints(books.store, PARSERS, fewest=FEWEST)
    maker.all()
    return maker


def test_a_book_read_from_a_checkpoint_is_the_book_read_from_its_snapshot() -> None:
    line = long_line(snapshots=(0, 333))
    plain, quick = Books(line), Books(line)
    checkpointed(quick)
    assert len(quick.store.table("book_checkpoints")) > 8
    for number in range(0, 600, 23):
        second = 1 + number / 10
        assert quick.said(second) == plain.said(second), second
        assert as_of(quick.at(second)) == as_of(plain.at(second))
    assert quick.said(None) == plain.said(None)
    assert quick.said(0.5) == BEFORE


def test_reading_any_moment_is_bounded() -> None:
    """One base, and less than two checkpoints' worth of changes, however long the line is."""
    quick = Books(long_line(3000))
    checkpointed(quick)
    largest = max(map(len, quick.store.table("book_checkpoints")["bid_prices"].to_pylist())) * 2
    bound = 1 + max(FEWEST, largest) + FEWEST
    read = [quick.at(1 + number / 10).rows_read for number in range(0, 3000, 211)]
    assert max(read) <= bound < 200
    assert quick.at(None).rows_read <= bound
    unbounded = Books(long_line(3000)).at(None).rows_read
    assert unbounded > 3000


def test_checkpoints_go_on_where_another_process_left_them() -> None:
    """They follow from the events alone, so those that were lost are made again as they were."""
    books, once = Books(long_line()), Books(long_line())
    checkpointed(once)
    for _ in range(3):
        assert BookCheckpoints(books.store, PARSERS, fewest=FEWEST).step() == STREAM
    checkpointed(books)
    tables = [each.store.table("book_checkpoints") for each in (books, once)]
    assert len(tables[0]) > 8
    assert tables[0].equals(tables[1])
    maker = checkpointed(books)
    assert maker.step() is None
    assert books.store.table("book_checkpoints").equals(tables[0])


def test_no_checkpoint_is_made_behind_a_message_that_cannot_be_read() -> None:
    line = long_line(snapshots=(0, 400)).at(21.01, b"\x00 garbage")
    line.told.sort(key=lambda entry: entry[0])
    plain, quick = Books(line), Books(line)
    checkpointed(quick)
    made = quick.store.table("book_checkpoints")["received_ts"].cast("int64").to_numpy()
    seconds = (made - T0 - LAG_NS) / SECOND
    assert (seconds < 21).any()
    assert not ((seconds > 21) & (seconds < 41)).any()
    assert (seconds > 41).any()
    for second in (20.5, 22, 35, 45.5):
        assert quick.said(second) == plain.said(second)
    assert quick.said(35) == UNREAD


def test_a_checkpoint_that_something_came_before_is_not_believed() -> None:
    """A recording of the same time is replayed later, and has a change that was missing."""
    line = long_line(live=False)
    late = Line(epoch="e9", collector="c9", live=False)
    late.at(20.02, ("buy", "60", "77")).at(61, ("buy", "1", "1"))
    both, quick = Books(line, late), Books(line)
    checkpointed(quick)
    later = [replace(each, seqs=each.seqs + 10_000) for each in frames(late)]
    deliver(quick.store, [later])
    assert "60:77" in both.said(20.1)
    for second in (20.1, 25, 40, 60.5):
        assert quick.said(second) == both.said(second), second


def test_while_two_connections_tell_a_book_no_checkpoint_is_made() -> None:
    one = long_line()
    other = Line(epoch="e2", collector="c2").at(10, OPEN).at(10, FIRST)
    other.at(11, ("buy", "55.5", "1")).at(50, ("buy", "55.5", "2")).at(60.8, CLOSE)
    plain, quick = Books(one, other), Books(one, other)
    checkpointed(quick)
    made = quick.store.table("book_checkpoints")["received_ts"].cast("int64").to_numpy()
    assert all((made - T0) / SECOND < 11.1)
    for second in (10, 12, 30, 55):
        assert quick.said(second) == plain.said(second)
