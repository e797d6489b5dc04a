"""Kalshi's list of markets: how it is asked, and what it says of each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from forebay.domain.listing import ListPage, ListQuery, read_pages
from forebay.errors import Stuck, Unusable
from forebay.sources.kalshi.directory import DIRECTORY
from forebay.times import to_ns
from tests.support.recordings import DATA

if TYPE_CHECKING:
    from pathlib import Path

TICKER = "KXGOLD15M-26AUG050800-00"
ROW = {
    "ticker": TICKER,
    "event_ticker": "KXGOLD15M-26AUG050800",
    "status": "active",
    "open_time": "2026-08-05T11:45:00Z",
    "close_time": "2026-08-05T12:00:00Z",
    "price_level_structure": "linear_cent",
}


def page(*rows: object, cursor: str = "") -> bytes:
    return json.dumps({"markets": rows, "cursor": cursor}).encode()


def asked(query: ListQuery) -> dict[str, str]:
    path = urlsplit(DIRECTORY.first(query))
    assert path.path == "/markets"
    return {name: value for name, (value,) in parse_qs(path.query).items() if name != "limit"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (ListQuery(head="KXGOLD15M-"), {"series_ticker": "KXGOLD15M", "status": "open"}),
        (ListQuery(head="KXGOLD15M-26AUG"), {"series_ticker": "KXGOLD15M", "status": "open"}),
        (ListQuery(head="KXMVE"), {"status": "open"}),
        (ListQuery(head="", state="coming"), {"status": "unopened"}),
        (ListQuery(names=("A-1", "B-1.5")), {"tickers": "A-1,B-1.5"}),
        (
            ListQuery(head="A-", state="ended", since_ns=5 * 10**9 + 1, until_ns=9 * 10**9 + 1),
            {"series_ticker": "A", "min_close_ts": "5", "max_close_ts": "10"},
        ),
    ],
)
def test_only_what_is_needed_is_asked_for(query: ListQuery, expected: dict[str, str]) -> None:
    assert asked(query) == expected


def test_a_page_that_follows_is_of_the_same_list() -> None:
    first = DIRECTORY.first(ListQuery(names=("A-1", "B-1")))
    second = DIRECTORY.following(first, page(cursor="a/b=="))
    third = DIRECTORY.following(second, page(cursor="c"))
    of = [parse_qs(urlsplit(path).query) for path in (first, second, third)]
    assert [each.pop("cursor", None) for each in of] == [None, ["a/b=="], ["c"]]
    assert of[0] == of[1] == of[2]
    assert DIRECTORY.following(third, page()) == DIRECTORY.following(third, b"{}") == ""


async def told(*bodies: bytes) -> int:
    """Page through ``bodies``; return how many markets were told."""
    found: list[ListPage] = []
    left = list(bodies)

    async def ask(_: str) -> bytes:
        return left.pop(0)

    await read_pages(DIRECTORY, ListQuery(head="A-"), ask, found.append)
    assert not left
    return sum(len(each.markets) for each in found)


async def test_only_a_missing_cursor_ends_a_list() -> None:
    """HD02: pages of 170, 0, 3 and 500 rows with a token each are all read."""
    counts = (170, 0, 3, 500)
    made = [
        page(*({**ROW, "ticker": f"A-{n}-{m}"} for m in range(count)), cursor=str(n))
        for n, count in enumerate(counts)
    ]
    assert await told(*made, page()) == sum(counts)


async def test_a_cursor_that_repeats_and_an_answer_that_is_none_are_errors() -> None:
    with pytest.raises(Stuck):
        await told(*(page(ROW, cursor=str(n)) for n in (1, 2, 3, 2)))
    with pytest.raises(Unusable):
        await told(b"<html>")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("initialized", "coming"),
        ("active", "open"),
        ("inactive", "open"),
        ("never_seen", "open"),
        *((word, "ended") for word in ("closed", "determined", "disputed", "amended", "finalized")),
    ],
)
def test_a_status_means_a_state(status: str, state: str) -> None:
    (market,) = DIRECTORY.read(page({**ROW, "status": status})).markets
    assert market.state == state
    assert bool(market.unknown) == (status == "never_seen")


def test_an_early_settlement_is_among_the_ends() -> None:
    row = {**ROW, "close_time": "2027-01-01T00:00:00Z", "settlement_ts": "2026-08-05T11:50:00.5Z"}
    (market,) = DIRECTORY.read(page(row)).markets
    assert market.ends_ns == (to_ns("2027-01-01T00:00:00Z"), to_ns("2026-08-05T11:50:00.5Z"))
    assert market.belongs == ("/series/KXGOLD15M", "/events/KXGOLD15M-26AUG050800")


def test_one_row_that_cannot_be_costs_itself_alone() -> None:
    """KA04: the impossible one is marked alone, and 999 others are updated."""
    rows: list[object] = [{**ROW, "ticker": f"A-{n}"} for n in range(999)]
    rows += [{**ROW, "ticker": "A-BAD", "close_time": "2026-08-05T11:00:00Z"}, {"ticker": 7}, 5]
    found = DIRECTORY.read(page(*rows))
    assert [market.symbol for market in found.markets if market.impossible] == ["A-BAD"]
    assert len(found.markets) == 1000
    assert len(found.unreadable) == 2


def test_odd_cells_are_no_times_and_a_new_structure_is_told() -> None:
    odd = {"open_time": "0001-01-01T00:00:00Z", "close_time": 5, "settlement_ts": "soon"}
    row = {**ROW, **odd, "price_level_structure": "micro_cent", "event_ticker": None}
    (market,) = DIRECTORY.read(page(row)).markets
    assert (market.open_ns, market.ends_ns, market.belongs) == (None, (), ())
    assert market.unknown == (("price_level_structure", "micro_cent"),)


@pytest.mark.parametrize(
    "path",
    [
        DATA / "kalshi-rest" / "markets_list_response.json",
        *(DATA / "kalshi" / "metadata").glob("*"),
    ],
    ids=lambda path: path.stem,
)
def test_recorded_answers_have_no_word_that_is_unknown(path: Path) -> None:
    if not path.exists():
        pytest.skip("the recording is not beside this checkout")
    said = json.loads(path.read_text(encoding="utf-8"))["response"]
    found = DIRECTORY.read(json.dumps({"markets": said["markets"]}).encode())
    assert len(found.markets) == len(said["markets"]) > 0
    assert not any(market.unknown or market.impossible for market in found.markets)
    for market in found.markets:
        assert market.state == ("ended" if path.parent.name == "metadata" else "open")
        assert market.open_ns is not None
        assert all(end > market.open_ns for end in market.ends_ns)
