"""Kalshi's websocket: both generations of its fields, one axis of prices, and what is no event."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.sources.kalshi.messages import complement
from forebay.sources.kalshi.protocol import KalshiParser
from tests.support.kalshi import MARKET, delta, parsed, snapshot, ticker, told, trade

D = Decimal


def only(kind: str, *payloads: bytes, **about: object) -> dict[str, Any]:
    rows, dead = told(*payloads, **about)
    assert not dead
    (row,) = rows.pop(kind)
    assert not rows
    return row


@given(st.integers(1, 18).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, 10**n - 1))))
def test_a_bid_for_no_is_turned_round_exactly_and_back(parts: tuple[int, int]) -> None:
    places, digits = parts
    price = f"0.{digits:0{places}d}"
    assert D(complement(price)) == 1 - D(price)
    assert complement(complement(price)) == price


@pytest.mark.parametrize("price", ["0.0000", "1.0000", "-0.1000", "2", "", "x", "0." + "1" * 19])
def test_what_is_no_price_of_a_contract_has_no_other_side(price: str) -> None:
    rows, dead = told(delta(price_dollars=price, side="no"))
    assert not rows
    assert [letter.reason for letter in dead] == ["bad_price"]


def test_a_change_is_told_on_the_axis_of_yes_with_its_sign() -> None:
    yes = only("book_delta", delta(side="yes", delta_fp="-10.25"))
    no = only("book_delta", delta(5, sid=2, side="no"))
    assert (yes["bid_prices"], yes["bid_sizes"]) == ([D("0.49")], [D("-10.25")])
    assert (yes["ask_prices"], yes["ask_sizes"]) == ([], [])
    assert (no["ask_prices"], no["ask_sizes"]) == ([D("0.51")], [D("0.10")])
    assert yes["symbol"] == yes["venue_symbol"] == MARKET
    assert yes["market"] == "prediction"
    assert str(yes["event_ts"])[:26] == "2026-08-11 00:15:33.463921"
    assert yes["event_id"] != no["event_id"]


@pytest.mark.parametrize(
    "older",
    [
        {"yes_price_dollars": None, "yes_price": 48, "count_fp": None, "count": 21},
        {"yes_price": 0, "count_fp": "21.00", "count": 0},
        {"taker_outcome_side": None, "taker_book_side": None, "count_fp": "21"},
        {"taker_outcome_side": None, "taker_side": None, "count_fp": "21"},
        {"ts_ms": None, "count_fp": "21", "ts": 1_786_407_333},
    ],
    ids=["whole", "zeros beside", "taker_side", "book side", "seconds"],
)
def test_both_generations_of_a_trade_mean_the_same(older: dict[str, Any]) -> None:
    row = only("trade", trade(**older))
    assert (row["price"], row["size"], row["side"]) == (D("0.48"), D(21), "buy")
    assert row["trade_id"] == "e0689eae-74d2-776c-57f3-000000000007"


def test_a_trade_that_says_nothing_of_its_price_is_none() -> None:
    nothing = {"yes_price_dollars": None}
    for message in (trade(**nothing), trade(count_fp=None), trade(**nothing, yes_price=0)):
        rows, dead = told(message)
        assert not rows
        assert next(letter.reason for letter in dead) in ("missing_field", "bad_price")
    assert only("trade", trade(taker_outcome_side="no"))["side"] == "sell"
    assert told(trade(taker_outcome_side="maybe"))[1][0].reason == "bad_side"


def test_a_book_is_whole_whatever_its_levels_are_called() -> None:
    told_as = (
        {"yes_dollars_fp": [["0.4800", "41.20"]], "no_dollars_fp": [["0.5100", "3.00"]]},
        {"yes_dollars": [["0.48", "41.20"]], "no_dollars": [["0.51", 3]], "yes": [[1, 1]]},
    )
    for sides in told_as:
        row = only("book_snapshot", snapshot(**sides))
        assert (row["bid_prices"], row["bid_sizes"]) == ([D("0.48")], [D("41.2")])
        assert (row["ask_prices"], row["ask_sizes"]) == ([D("0.49")], [D(3)])
    whole = only("book_snapshot", snapshot(yes=[[48, 7]]))
    assert (whole["bid_prices"], whole["ask_prices"]) == ([D("0.48")], [])
    empty = only("book_snapshot", snapshot())
    assert (empty["bid_prices"], empty["ask_prices"]) == ([], [])
    assert empty["exchange_ts"] is None
    rows, dead = told(snapshot(yes_levels=[["0.48", "1"]]))
    assert (rows, [letter.reason for letter in dead]) == ({}, ["missing_field"])


def test_a_ticker_has_no_bid_of_0_and_no_ask_of_1() -> None:
    row = only("ticker", ticker())
    assert (row["price"], row["size"]) == (D("0.48"), D("21.74"))
    assert (row["bid_price"], row["ask_price"]) == (D("0.48"), D("0.49"))
    assert row["volume_24h"] is None
    row = only("ticker", ticker(yes_bid_dollars="0.0000", yes_ask_dollars="1.0000"))
    assert (row["bid_price"], row["ask_price"]) == (None, None)
    never = parsed(ticker(price_dollars="0.0000"))
    assert (never.events, never.control, never.dead) == ([], 1, [])


def test_every_number_of_a_subscription_is_told_acknowledgements_included() -> None:
    frames = [snapshot(1), trade(1), b'{"id":2,"sid":1,"seq":2,"type":"ok","msg":{}}', delta(3),
              b"junk", delta(5, delta_fp=None), delta(6), ticker(),
              b'{"id":3,"sid":2,"seq":2,"type":"unsubscribed"}']  # fmt: skip
    found = parsed(*frames)
    counted = {each.line: each for each in found.counted}
    assert counted.keys() == {"1", "2"}
    books, trades = counted["1"], counted["2"]
    assert (list(books.frames), list(books.numbers)) == ([0, 2, 3, 6], [1, 2, 3, 6])
    assert set(books.kinds) == {"book_snapshot", "book_delta"}
    assert (trades.kinds, list(trades.numbers)) == (("trade",), [1, 2])
    assert sorted(letter.reason for letter in found.dead) == ["missing_field", "not_json"]


def test_what_a_subscription_carries_is_said_before_anything_of_it_comes() -> None:
    """So that a loss shows between replies alone: of a market in which nothing happens."""
    replies = [
        b'{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}',
        b'{"id":1,"type":"subscribed","msg":{"channel":"market_lifecycle_v2","sid":2}}',
        b'{"id":1,"type":"subscribed","msg":{"channel":"ticker","sid":3}}',
        b'{"id":1,"type":"subscribed","msg":[]}',
        b'{"id":1,"type":"subscribed","msg":{"channel":"trade","sid":%d}}' % (1 << 70),
        b'{"id":1,"type":"subscribed","msg":{"channel":"trade","sid":-1}}',
    ]
    found = parsed(*replies)
    assert (found.control, found.dead) == (6, [])
    assert [(each.line, each.kinds, [*each.frames], [*each.numbers]) for each in found.counted] == [
        ("1", ("book_delta", "book_snapshot"), [0], [0]),
        ("2", ("market", "market_event"), [1], [0]),
    ], "the first message has the number 1, and may be lost as well as any other"
    (reply,) = parsed(b'{"id":2,"sid":1,"seq":9,"type":"ok"}').counted
    assert (reply.kinds, list(reply.numbers)) == ((), [9])


def test_what_is_not_captured_is_counted_and_what_is_not_known_is_a_dead_letter() -> None:
    found = parsed(b'{"type":"fill","sid":9,"msg":{}}', b'{"type":"quake","sid":9,"msg":{}}',
                   b'{"type":"subscribed","id":1,"msg":{"channel":"trade","sid":1}}')  # fmt: skip
    assert (found.control, dict(found.unbuilt)) == (2, {"fill": 1})
    assert [(letter.frame, letter.reason) for letter in found.dead] == [(1, "unknown_type")]


def test_of_a_market_that_was_not_asked_for_nothing_is_taken() -> None:
    rows, dead = told(trade(), delta(), symbols=("KXB-1",))
    assert not rows
    assert [letter.reason for letter in dead] == ["unknown_symbol"] * 2
    assert set(told(trade(), delta(), channels=("trade",))[0]) == {"trade"}


def test_a_frame_that_is_torn_says_what_it_may_have_been() -> None:
    may = KalshiParser().may_tell
    torn = delta()[:-30]
    assert may(torn, {"book_delta"}, MARKET)
    assert not may(torn, {"book_delta"}, "KXB-1")
    assert not may(trade()[:80], {"book_delta"}, MARKET)


def test_a_lifecycle_says_what_it_says_and_nothing_else() -> None:
    life = b'{"type":"market_lifecycle_v2","sid":4,"seq":5,"msg":{"market_ticker":"KXA-1",%s}}'
    created = life % (
        b'"event_type":"created","open_ts":1786407300,"close_ts":1786408200,'
        b'"additional_metadata":{"title":"T","event_ticker":"KXA","floor_strike":4405.11,'
        b'"strike_type":"greater_or_equal","can_close_early":true}'
    )
    row = only("market", created, symbols=("*",))
    assert (row["change"], row["title"], row["event_symbol"]) == ("created", "T", "KXA")
    assert (row["floor_strike"], row["can_close_early"]) == (D("4405.11"), True)
    assert str(row["close_ts"])[:19] == "2026-08-11 00:30:00"
    assert (row["status"], row["result"], row["unknown"], row["series_symbol"]) == (
        None, None, "", "KXA")  # fmt: skip
    settled = life % b'"event_type":"settled","settled_ts":1786408300'
    row = only("market", settled)
    assert row["settled_ts"] == row["event_ts"] == row["changed_ts"]
    assert only("market", life % b'"event_type":"exploded"')["unknown"] == "change"
    event = b'{"type":"event_lifecycle","sid":4,"seq":6,"msg":{"event_ticker":"KXA","title":"E"}}'
    assert only("market_event", event)["title"] == "E"
