"""Planners of history, without a venue: what they ask for, and what follows from the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import Permanent, Stuck, Transient
from forebay.ports import HistoryRequest
from forebay.sources.history import Series, by_bars, by_id, by_time, by_token, drive
from forebay.sources.venue import AnsweredPart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forebay.domain.intervals import Interval
    from forebay.sources.venue import Pages

SECOND = 1_000_000_000


def run(pages: Pages, answer: Callable[[str], bytes]) -> tuple[list[str], tuple[Interval, ...]]:
    """Answer a plan to its end; return what it asked for, and what it returned."""
    asked: list[str] = []
    lacking: tuple[Interval, ...] = ()
    try:
        target = next(pages)
        while True:
            if isinstance(target, AnsweredPart):
                lacking += target.lacking
                target = next(pages)
                continue
            asked.append(target)
            assert len(asked) < 1000, "it does not end"
            target = pages.send(answer(target))
    except StopIteration as done:
        absent: tuple[Interval, ...] = done.value
        return asked, (*lacking, *absent)


def refused(request: HistoryRequest, pager: object, answer: Callable[[str], bytes]) -> str:
    with pytest.raises(Transient) as caught:
        run(pager.plan(request), answer)  # type: ignore[attr-defined]
    return str(caught.value)


def numbers(body: bytes) -> list[int]:
    return [int(word) for word in body.split()]


# ------------------------------------------------------------------------------- by id

ID = by_id(path=lambda symbol, after, rows: f"{symbol} {after} {rows}", ids=numbers, rows=10)


@given(st.sets(st.integers(1, 60)), st.integers(1, 60), st.integers(0, 30))
def test_by_id_lists_all_that_there_is_and_calls_absent_only_what_is_not(
    exist: set[int], first: int, more: int
) -> None:
    last = first + more
    listed: set[int] = set()

    def page(target: str) -> bytes:
        _, after, rows = target.split()
        assert 1 <= int(rows) <= 10
        found = [i for i in sorted(exist, reverse=True) if i < int(after)][: int(rows)]
        listed.update(found)
        return b" ".join(b"%d" % i for i in found)

    request = HistoryRequest("trade", "A-B", first, last)
    if not any(i <= last + 1 for i in exist):
        assert "is empty below" in refused(request, ID, page)
        return
    _, absent = run(ID.plan(request), page)
    wanted = set(range(first, last + 1))
    assert exist & wanted <= listed
    gone = {i for interval in absent for i in range(interval[0], interval[1] + 1)}
    assert not gone & exist
    known = [i for i in exist if i <= last + 1]
    assert {i for i in wanted - exist if i < max(known)} == gone, "what is beyond may be late"


def test_by_id_refuses_a_page_that_does_not_fall() -> None:
    told = refused(HistoryRequest("trade", "A-B", 1, 50), ID, lambda _: b"40 41")
    assert "below 52 is not in falling order" in told
    assert "cannot be read" in refused(
        HistoryRequest("trade", "A-B", 1, 5), ID, lambda _: b"<html>"
    )


# ----------------------------------------------------------------------------- by token

TOKEN = by_token(
    path=lambda request, token: f"{request.symbol} {request.first} {token}",
    token=lambda body: body.decode().partition("|")[2],
)
REQUEST = HistoryRequest("trade", "A-B", 5, 9, unit="time")


def test_by_token_reads_every_page_however_few_rows_it_has() -> None:
    following = {"": "170 rows|a", "a": "|b", "b": "3 rows|c", "c": "500 rows|"}
    asked, absent = run(
        TOKEN.plan(REQUEST), lambda target: following[target.split(" ")[2]].encode()
    )
    assert asked == ["A-B 5 ", "A-B 5 a", "A-B 5 b", "A-B 5 c"]
    assert absent == ()


@pytest.mark.parametrize("again", ["a", "b"])
def test_a_token_that_comes_again_is_a_source_that_does_not_advance(again: str) -> None:
    following = {"": "|a", "a": "|b", "b": f"|{again}"}
    told = refused(REQUEST, TOKEN, lambda target: following[target.split(" ")[2]].encode())
    assert "not advancing" in told
    assert repr(again) in told


def test_tokens_without_end_are_an_error_and_no_end() -> None:
    pages = iter(range(20_000))
    with pytest.raises(Stuck, match="our own bound"):
        for _ in iter_answers(TOKEN.plan(REQUEST), lambda _: f"|{next(pages)}".encode()):
            pass
    assert next(pages) == 10_000


def iter_answers(pages: Pages, answer: Callable[[str], bytes]) -> Iterator[str]:
    """Answer a plan for ever; return what it asks for."""
    target = next(pages)
    while True:
        assert isinstance(target, str)
        yield target
        target = pages.send(answer(target))


# ------------------------------------------------------------------------------ by time

TIME = by_time(
    path=lambda symbol, begin, end: f"{symbol} {begin} {end}",
    count=lambda body: len(body.split()),
    rows=4,
    window_s=10.0,
    step_ns=SECOND,
    margin_s=1.0,
)


@given(st.lists(st.integers(0, 60), unique=True), st.integers(0, 50), st.integers(0, 10))
def test_by_time_is_told_all_of_the_range_and_never_trusts_a_full_page(
    moments: list[int], first: int, more: int
) -> None:
    """A page holds at most four rows, the earliest of its window; begins are included."""
    told: set[int] = set()

    def page(target: str) -> bytes:
        _, begin, end = target.split()
        found = [m for m in sorted(moments) if int(begin) <= m * SECOND < int(end)][:4]
        told.update(found)
        return b" ".join(b"%d" % m for m in found)

    request = HistoryRequest("trade", "A-B", first * SECOND, (first + more) * SECOND, unit="time")
    run(TIME.plan(request), page)
    assert {m for m in moments if first - 1 <= m <= first + more + 1} <= told


def test_a_full_window_that_cannot_be_smaller_is_an_error() -> None:
    assert "full within the smallest window" in refused(REQUEST, TIME, lambda _: b"1 2 3 4")


# ------------------------------------------------------------------------------- driving


async def test_what_asking_raises_is_raised_and_nothing_more_is_asked() -> None:
    asked: list[str] = []

    async def ask(target: str) -> bytes:
        asked.append(target)
        if len(asked) == 2:
            raise Transient("no")
        return b"|a"

    with pytest.raises(Transient, match="no"):
        await drive(TOKEN.plan(REQUEST), ask)
    assert len(asked) == 2


# ----------------------------------------------------------------------------- by bars


def minutes(body: bytes) -> list[tuple[int, int]]:
    """The bars of a page ``1 2 3|next``, by the minute in which they open."""
    opened = [int(word) * 60 * SECOND for word in body.partition(b"|")[0].split()]
    return [(begin, begin + 60 * SECOND) for begin in opened]


BARS = by_bars(
    series={"1m": Series(step_s=60, page_s=3600)},
    path=lambda request, begin, end: f"{request.series} {begin // SECOND} {end // SECOND}",
    bars=lambda _, body: minutes(body),
    following=lambda body: body.decode().partition("|")[2],
    most_pages=9,
)


def asked_for(first: int, last: int, channel: str = "bar:1m") -> HistoryRequest:
    """Ask for the bars that open in minutes ``first`` to ``last``."""
    ends = first * 60 * SECOND, (last + 1) * 60 * SECOND - 1
    return HistoryRequest(channel, "A-B", *ends, "time")


def lacking(*minutes_of: tuple[int, int]) -> tuple[Interval, ...]:
    return tuple((first * 60 * SECOND, (last + 1) * 60 * SECOND - 1) for first, last in minutes_of)


def test_by_bars_reads_every_page_and_tells_which_periods_have_no_bar() -> None:
    pages = {"1m 0 600": "0 1|a", "a": "|b", "b": "4 5 6|c", "c": "9|"}
    asked, absent = run(BARS.plan(asked_for(0, 9)), lambda target: pages[target].encode())
    assert asked == ["1m 0 600", "a", "b", "c"]
    assert absent == lacking((2, 3), (7, 8))


def test_what_is_before_the_last_bar_of_a_page_is_answered_once_there_is_a_next() -> None:
    def parts(*pages: bytes) -> list[tuple[int, tuple[Interval, ...]]]:
        plan, left, found = BARS.plan(asked_for(0, 9)), [*pages], []
        target = next(plan)
        try:
            while True:
                if isinstance(target, AnsweredPart):
                    found.append((target.last // (60 * SECOND), target.lacking))
                    target = next(plan)
                else:
                    target = plan.send(left.pop(0))
        except StopIteration:
            return found

    assert parts(b"0 1|a", b"3|b", b"|c", b"5 6|") == [(1, ()), (3, lacking((2, 2)))]
    assert parts(b"0 1 2|") == [], "the end says it of all"
    assert parts(b"8 9|a", b"5 6|b", b"0|") == [], "they do not rise"


def test_bars_beyond_what_was_asked_for_say_nothing_of_it() -> None:
    _, absent = run(BARS.plan(asked_for(5, 6)), lambda _: b"1 2 3 9|")
    assert absent == lacking((5, 6))


@pytest.mark.parametrize(
    ("pages", "says"),
    [
        (["0|a", "1|b", "2|c", "2|d"], "tells a page twice"),
        (["0|a", "1|b", "2|c", "|b"], "names a page twice: 'b'"),
        (["0|a", "1|b", "2|c", "3|1m 0 600"], "names a page twice"),
        ([f"{number}|{number}" for number in range(99)], "more than 9 pages"),
        ([f"|{number}" for number in range(99)], "our own bound"),
    ],
    ids=["the same rows", "the same page", "the first page", "without end", "empty without end"],
)
def test_bars_whose_pages_do_not_advance_are_an_error_soon(pages: list[str], says: str) -> None:
    left = [*pages]
    with pytest.raises(Stuck) as caught:
        run(BARS.plan(asked_for(0, 9)), lambda _: left.pop(0).encode())
    assert says in str(caught.value)
    assert len(left) == len(pages) - (9 if len(pages) == 99 else 4)


def test_a_series_that_there_is_not_and_a_page_that_is_none() -> None:
    with pytest.raises(Permanent, match="no history of bar:2m of A-B"):
        run(BARS.plan(asked_for(0, 1, "bar:2m")), lambda _: b"")
    assert "cannot be read" in refused(asked_for(0, 1), BARS, lambda _: b"<html>")
