"""What the simulated exchange says and understands, against the published shapes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from forebay.lab.exchanges.coinbase import messages
from forebay.lab.exchanges.coinbase.messages import CommandRefused, parse_request
from forebay.lab.truth import Trades

if TYPE_CHECKING:
    from forebay.lab.exchanges.commands import Request

PRODUCTS = ("BTC-USD", "ETH-USD")
TRADES = Trades(1, "coinbase", "BTC-USD")


def ask(**document: object) -> Request:
    return parse_request(json.dumps(document).encode(), PRODUCTS)


def test_a_match_has_the_published_fields_in_their_order() -> None:
    trade = TRADES.event(5)
    document = json.loads(messages.match(trade))
    assert list(document) == [
        "type",
        "trade_id",
        "maker_order_id",
        "taker_order_id",
        "side",
        "size",
        "price",
        "product_id",
        "sequence",
        "time",
    ]
    assert document["type"] == "match"
    assert (document["trade_id"], document["sequence"]) == (trade.trade_id, trade.sequence)
    assert (document["price"], document["size"]) == (trade.price, trade.size)
    assert document["time"] == trade.time
    assert document["product_id"] == "BTC-USD"
    assert json.loads(messages.match(trade, "last_match"))["type"] == "last_match"


@pytest.mark.parametrize("index", range(8))
def test_the_feed_and_the_history_give_the_makers_side(index: int) -> None:
    trade = TRADES.event(index)
    opposite = {"buy": "sell", "sell": "buy"}[trade.side]
    assert json.loads(messages.match(trade))["side"] == opposite
    assert messages.history_row(trade)["side"] == opposite


def test_a_heartbeat_names_the_last_trade() -> None:
    trade = TRADES.event(9)
    assert json.loads(messages.heartbeat(trade)) == {
        "type": "heartbeat",
        "sequence": trade.sequence,
        "last_trade_id": trade.trade_id,
        "product_id": "BTC-USD",
        "time": trade.time,
    }


def test_subscriptions_are_grouped_by_channel() -> None:
    topics = [("matches", "A"), ("heartbeat", "A"), ("matches", "B")]
    assert json.loads(messages.subscriptions(topics)) == {
        "type": "subscriptions",
        "channels": [
            {"name": "matches", "product_ids": ["A", "B"]},
            {"name": "heartbeat", "product_ids": ["A"]},
        ],
    }


def test_a_product_says_how_fine_its_prices_are() -> None:
    product = messages.product("SKL-GBP", 4)
    assert product["quote_increment"] == "0.0001"
    assert (product["base_currency"], product["quote_currency"]) == ("SKL", "GBP")
    assert (product["id"], product["status"]) == ("SKL-GBP", "online")


def test_every_channel_is_crossed_with_every_product() -> None:
    request = ask(type="subscribe", product_ids=PRODUCTS, channels=["matches", "heartbeat"])
    assert request.subscribe
    assert request.topics == (
        ("matches", "BTC-USD"),
        ("matches", "ETH-USD"),
        ("heartbeat", "BTC-USD"),
        ("heartbeat", "ETH-USD"),
    )


def test_a_channel_may_name_its_own_products() -> None:
    channels = [{"name": "heartbeat", "product_ids": ["ETH-USD"]}, "matches"]
    request = ask(type="unsubscribe", product_ids=["BTC-USD"], channels=channels)
    assert not request.subscribe
    assert request.topics == (("heartbeat", "ETH-USD"), ("matches", "BTC-USD"))


def test_a_topic_named_twice_counts_once() -> None:
    request = ask(type="subscribe", product_ids=["BTC-USD"], channels=["matches", "matches"])
    assert request.topics == (("matches", "BTC-USD"),)


@pytest.mark.parametrize(
    ("document", "message", "reason"),
    [
        (
            {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["level3"]},
            "Failed to subscribe",
            "level3 is not a valid channel",
        ),
        (
            {"type": "subscribe", "product_ids": ["XXX-USD"], "channels": ["matches"]},
            "Failed to subscribe",
            "XXX-USD is not a valid product",
        ),
        (
            {"type": "unsubscribe", "channels": ["matches"]},
            "Failed to unsubscribe",
            "channels and product_ids are required",
        ),
        (
            {"type": "subscribe", "product_ids": "BTC-USD", "channels": {}},
            "Failed to subscribe",
            "channels and product_ids are required",
        ),
        ({"type": "dance"}, "Failed to process message", "'dance' is not a valid type"),
        ([1], "Failed to process message", "None is not a valid type"),
    ],
)
def test_what_cannot_be_done_is_refused(document: object, message: str, reason: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        parse_request(json.dumps(document).encode(), PRODUCTS)
    assert json.loads(messages.error(caught.value)) == {
        "type": "error",
        "message": message,
        "reason": reason,
    }


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe\xfd"])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(CommandRefused, match="Failed to parse message"):
        parse_request(raw, PRODUCTS)
