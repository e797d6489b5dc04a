"""What is said to Coinbase, and which pages it is asked for."""

from __future__ import annotations

import json

import msgspec
import pytest

from forebay.lab.exchanges.coinbase.messages import parse_request, subscriptions
from forebay.sources import coinbase
from forebay.sources.coinbase.connector import (
    CANDLE_ROWS,
    CANDLES_AGAIN,
    LEFT_OUT,
    MINUTE_S,
    CoinbaseSession,
    candles_path,
    latest_candles_path,
    probe_path,
    trade_ids,
    trades_path,
)
from forebay.sources.venue import NOTHING, ConnectionPurpose, MessageVerdict, PollRound
from tests.support.frames import as_json, heartbeat, match, rest_row

DEEP = b"[" * 100_000
ASKED = ConnectionPurpose(("BTC-USD", "ETH-USD"), ("trade",))
MINUTE_NS = 60_000_000_000


def session(*channels: str) -> CoinbaseSession:
    return CoinbaseSession(ConnectionPurpose(ASKED.symbols, channels or ASKED.channels))


def test_trades_are_asked_for_as_ever() -> None:
    products = b'["BTC-USD","ETH-USD"],"channels":["matches","heartbeat"]'
    assert session().opened(0) == [b'{"type":"subscribe","product_ids":' + products + b"}"]


@pytest.mark.parametrize(
    ("kinds", "wire"),
    [
        (("trade",), ["matches", "heartbeat"]),
        (("quote",), ["heartbeat", "ticker"]),
        (("ticker", "quote"), ["heartbeat", "ticker"]),
        (("book_delta", "book_snapshot"), ["heartbeat", "level2_batch"]),
        (("trade", "ticker", "book_delta"), ["matches", "heartbeat", "ticker", "level2_batch"]),
    ],
)
def test_the_kinds_asked_for_decide_what_is_subscribed_to(
    kinds: tuple[str, ...], wire: list[str]
) -> None:
    (message,) = session(*kinds).opened(0)
    assert json.loads(message)["channels"] == wire


def test_every_kind_that_is_declared_comes_over_the_feed_or_by_a_poll() -> None:
    for kind in coinbase.VENUE.channels:
        if kind not in coinbase.VENUE.polls:
            (message,) = session(kind).opened(0)
            assert len(json.loads(message)["channels"]) == 2, kind


def acknowledged(**channels: list[str]) -> bytes:
    listed = [{"name": name, "product_ids": ids} for name, ids in channels.items()]
    return as_json({"type": "subscriptions", "channels": listed})


def test_the_acknowledgement_accepts_what_it_lists() -> None:
    both = ["BTC-USD", "ETH-USD"]
    said = session("trade", "quote").received(acknowledged(matches=both, ticker=both), 0)
    assert said.accepted == ConnectionPurpose(ASKED.symbols, ("trade", "quote")).streams
    assert len(said.accepted) == 4
    assert not said.refused
    for payload in (match(1), heartbeat(1), b"{}", b"[]", b"null", b"", b"\xff", DEEP,
                    b'{"type":["subscriptions"]}', b'{"type":"heartbeat","x":"\xff"}'):  # fmt: skip
        assert session().received(payload, 0) == NOTHING


def test_what_the_acknowledgement_leaves_out_is_refused() -> None:
    talk = session("trade", "quote")
    said = talk.received(acknowledged(matches=["BTC-USD", "ETH-USD"], ticker=["ETH-USD"]), 0)
    assert said.accepted == {("trade", "BTC-USD"), ("trade", "ETH-USD"), ("quote", "ETH-USD")}
    assert said.refused == {("quote", "BTC-USD"): LEFT_OUT}
    again = talk.received(acknowledged(ticker=["BTC-USD"]), 0)
    assert again == MessageVerdict(accepted=frozenset({("quote", "BTC-USD")})), (
        "it is late, and counts"
    )


def test_books_are_acknowledged_under_another_name_than_asked_for() -> None:
    both = ["BTC-USD", "ETH-USD"]
    said = session("book_snapshot", "book_delta").received(acknowledged(level2_50=both), 0)
    assert len(said.accepted) == 4
    assert not said.refused


def test_a_simulated_exchange_acknowledges_every_kind_that_is_asked_for() -> None:
    """The names in an acknowledgement are the exchange's, not ours."""
    kinds = [kind for kind in coinbase.VENUE.channels if kind not in coinbase.VENUE.polls]
    talk = session(*kinds)
    (asked,) = talk.opened(0)
    topics = parse_request(asked, {"BTC-USD", "ETH-USD"}).topics
    assert talk.received(subscriptions(topics), 0).refused == {}


def test_an_empty_acknowledgement_accepts_nothing_and_data_does() -> None:
    talk = session("trade", "quote")
    said = talk.received(acknowledged(), 0)
    assert not said.accepted
    assert "lists nothing" in said.complaint
    assert talk.received(match(1, "BTC-USD"), 0).accepted == {("trade", "BTC-USD")}
    assert talk.received(heartbeat(1, "ETH-USD"), 0).accepted == set()


def test_an_acknowledgement_without_a_list_accepts_everything() -> None:
    assert session().received(b'{"type":"subscriptions"}', 0).accepted == ASKED.streams


@pytest.mark.parametrize(
    ("reason", "blamed"),
    [
        ("ticker is not a valid channel", {"quote"}),
        ("no product matches BTC-USD", {"quote", "trade"}),
        ("matches and ticker are closed", set()),
    ],
)
def test_a_channel_is_blamed_where_no_product_is_named(reason: str, blamed: set[str]) -> None:
    verdict = session("trade", "quote").received(as_json({"type": "error", "reason": reason}), 0)
    assert {kind for kind, _ in verdict.refused} == blamed
    assert reason in verdict.refusal


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        ({"message": "Failed to subscribe"}, True),
        ({"message": "oops", "reason": "ETH-USD is gone"}, True),
        ({"message": "Internal error"}, False),
        ({}, False),
    ],
)
def test_an_error_later_on_is_a_complaint_and_ends_a_subscription_it_speaks_of(
    said: dict[str, str], ends: bool
) -> None:
    talk = session()
    talk.received(acknowledged(matches=["BTC-USD", "ETH-USD"]), 0)
    payload = as_json({"type": "error", **said})
    verdict = talk.received(payload, 0)
    assert verdict.complaint
    assert bool(verdict.refusal) is ends
    assert any(mark in payload for mark in talk.marks), "or it would not be heard"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"message": "Failed to subscribe", "reason": "BTC-XXX is not a valid product"}, "BTC-XXX"),
        ({"message": "Failed to subscribe"}, "Failed to subscribe"),
        ({}, "no reason given"),
    ],
)
def test_a_refusal_says_why_and_what_to_do(said: dict[str, str], reason: str) -> None:
    verdict = session().received(as_json({"type": "error", **said}), 0)
    assert reason in verdict.refusal
    assert "forebay symbols" in verdict.refusal


def test_only_marked_messages_are_heard_after_the_acceptance() -> None:
    assert not session().attentive
    assert session().tick_s is None


# -------------------------------------------------------------------------------- pages


def test_history_is_asked_for_below_an_id() -> None:
    assert trades_path("BTC-USD", 500) == "/products/BTC-USD/trades?limit=1000&after=500"
    assert trades_path("A-B", 5, 10) == "/products/A-B/trades?limit=10&after=5"
    assert probe_path("A-B") == "/products/A-B/trades?limit=1&after=2"


def test_the_least_id_of_a_page_leads_to_the_next_one() -> None:
    assert trade_ids(as_json([rest_row(9), rest_row(7), rest_row(4)])) == [9, 7, 4]
    assert trade_ids(b"[]") == []
    for body in (b"<html>", b"{}", DEEP, b"\xff", b'[{"trade_id":"4"}]'):
        with pytest.raises(msgspec.DecodeError if body != DEEP else ValueError):
            trade_ids(body)


def test_paging_goes_on_over_a_row_that_is_poison_otherwise() -> None:
    page = as_json([rest_row(9), rest_row(8, price=None), rest_row(7, time=5)])
    assert trade_ids(page) == [9, 8, 7]


def test_candles_are_asked_for_with_both_ends() -> None:
    assert candles_path("BTC-USD", 1_767_225_600, 1_767_225_660) == (
        "/products/BTC-USD/candles?granularity=60"
        "&start=2026-01-01T00:00:00Z&end=2026-01-01T00:01:00Z"
    )


@pytest.mark.parametrize("late_ns", [0, 2_000_000_000, MINUTE_NS - 1])
def test_a_poll_asks_for_the_last_closed_candles_and_for_no_open_one(late_ns: int) -> None:
    opened_ns = 1_767_225_600 * 1_000_000_000
    path = latest_candles_path(PollRound(("A-B",), 0, opened_ns + late_ns))
    assert path == candles_path("A-B", 1_767_225_600 - 5 * 60, 1_767_225_600 - 60)
    assert 1 < CANDLES_AGAIN <= CANDLE_ROWS
    assert coinbase.VENUE.polls["bar"].every_s == MINUTE_S
