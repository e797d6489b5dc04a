"""Subscriptions of a simulated Kalshi: their commands, their numbers, and what breaks them."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from forebay.lab import faults
from forebay.lab.exchanges.kalshi import troubles
from forebay.lab.exchanges.kalshi.messages import ERRORS, market_id
from forebay.lab.exchanges.kalshi.truth import KalshiBook, of_kalshi
from tests.unit.lab.exchanges.kalshi.bench import A, B, build, connected, say, subscribed, told
from tests.unit.lab.fakes import SECOND, pass_time

if TYPE_CHECKING:
    from forebay.lab.exchanges.exchange import Exchange
    from forebay.lab.exchanges.model import Feed

COMMANDS: list[tuple[object, int]] = [
    (b"hello", 1),
    (b"[]", 1),
    ({"cmd": "subscribe"}, 2),
    ({"cmd": "subscribe", "params": {}}, 3),
    ({"cmd": "subscribe", "params": {"channels": ["ticker_v2"]}}, 8),
    ({"cmd": "subscribe", "params": {"channels": ["orderbook_delta"]}}, 14),
    ({"cmd": "unsubscribe", "params": {}}, 4),
    ({"cmd": "unsubscribe", "params": {"sids": [99]}}, 7),
    ({"cmd": "speak", "params": {}}, 5),
    ({"cmd": "update_subscription", "params": {"sids": [1, 2], "action": "add_markets"}}, 12),
    ({"cmd": "update_subscription", "params": {"sid": 99, "action": "add_markets"}}, 7),
    ({"cmd": "update_subscription", "params": {"sid": 1}}, 15),
    ({"cmd": "update_subscription", "params": {"sid": 1, "action": "dance"}}, 13),
    ({"cmd": "update_subscription", "params": {"sid": 1, "action": "add_markets"}}, 14),
]


@pytest.mark.parametrize(("command", "code"), COMMANDS)
def test_what_cannot_be_done_is_an_error_of_its_code(command: object, code: int) -> None:
    exchange = build()
    line, wire = subscribed(exchange, "trade")
    raw = command if isinstance(command, bytes) else json.dumps({"id": 3, **command}).encode()  # type: ignore[dict-item]
    exchange.received(line, raw, 0)
    (error,) = told(wire, "error")
    assert error["msg"] == {"code": code, "msg": ERRORS[code]}
    assert error.get("id") == (None if isinstance(command, bytes) else 3)


def test_frames_of_a_subscription_are_numbered_before_a_fault_strikes_them() -> None:
    often = {f"{feed}{name}": 0.1 for feed in ("", "book_") for name in ("drop", "late", "reorder")}
    exchange = build({**often, "duplicate": 0.1}, events=600)
    _, wire = subscribed(exchange, "orderbook_delta", "trade", "ticker")
    pass_time(exchange, 0, 3 * SECOND)

    numbers: dict[int, list[int]] = defaultdict(list)
    frames: dict[tuple[int, int], str] = {}
    for message in told(wire, "orderbook_snapshot", "orderbook_delta", "trade"):
        at = message["sid"], message["seq"]
        numbers[at[0]].append(at[1])
        assert frames.setdefault(at, json.dumps(message)) == json.dumps(message)
    assert [message for message in told(wire, "ticker") if "seq" in message] == []
    feeds: dict[int, Feed] = {1: "book", 2: "trade"}
    dropped = {sid: _dropped(exchange, feed) for sid, feed in feeds.items()}
    for sid, lost in dropped.items():
        heard = numbers[sid]
        holes = {*range(1, max(heard) + 1)} - {*heard}
        assert lost > 20
        assert lost - len(holes) in (0, 1, 2), "but for drops behind the last one heard"
        assert heard != sorted(heard), "what comes late keeps its number"
    assert len(numbers[2]) > len({*numbers[2]}), "what comes twice keeps its number"


def _dropped(exchange: Exchange, feed: Feed) -> int:
    """How many events of a feed no one was sent."""
    spans = [span for each in exchange.withheld(feed).values() for span in each["certain"]]
    return sum(last + 1 - first for first, last, why in spans if "drop" in why)


def test_a_subscription_is_changed_and_its_replies_count() -> None:
    exchange = build()
    line, wire = subscribed(exchange, "orderbook_delta", tickers=(A,))
    say(exchange, line, "update_subscription", sid=1, action="add_markets", market_tickers=[B])
    say(exchange, line, "update_subscription", sids=[1], action="get_snapshot", market_ticker=A)
    say(exchange, line, "update_subscription", sid=1, action="delete_markets", market_tickers=[A])
    say(exchange, line, "subscribe", channels=["trade"])
    say(exchange, line, "list_subscriptions")
    say(exchange, line, "unsubscribe", sids=[1])
    said = [
        (m["type"], m.get("seq"), m["msg"].get("market_ticker") or m["msg"].get("market_tickers"))
        for m in told(wire, "orderbook_snapshot", "ok")
        if isinstance(m["msg"], dict)
    ]
    assert said == [
        ("orderbook_snapshot", 1, A),
        ("ok", 2, [A, B]),
        ("orderbook_snapshot", 3, B),
        ("ok", 4, [A]),
        ("orderbook_snapshot", 5, A),
        ("ok", 6, [B]),
    ]
    *_, listed = told(wire, "ok")
    assert listed["msg"] == [
        {"channel": "orderbook_delta", "sid": 1},
        {"channel": "trade", "sid": 2},
    ]
    assert told(wire, "unsubscribed") == [{"id": 7, "sid": 1, "seq": 7, "type": "unsubscribed"}]
    pass_time(exchange, 0, SECOND // 50)
    assert {m["sid"] for m in told(wire, "trade", "orderbook_delta")} == {2}


def test_prices_of_no_are_told_as_asked() -> None:
    exchange = build(symbols=(A,))
    usual, yes = connected(exchange), connected(exchange)
    say(exchange, usual[0], "subscribe", channels=["orderbook_delta"], market_ticker=A)
    also = {"use_yes_price": True, "market_ids": [market_id(A)]}
    say(exchange, yes[0], "subscribe", channels=["orderbook_delta"], **also)
    pass_time(exchange, 0, SECOND // 5)
    _, asks = KalshiBook(of_kalshi(exchange.market.trades[A])).sides(99)
    snapshots = [told(wire, "orderbook_snapshot")[0]["msg"] for _, wire in (usual, yes)]
    no, of_yes = (
        [Decimal(price) for price, _ in snapshot["no_dollars_fp"]] for snapshot in snapshots
    )
    assert of_yes == [1 - price for price in no] == [Decimal(price) for price, _ in asks[::-1]]
    deltas = [told(wire, "orderbook_delta") for _, wire in (usual, yes)]
    for one, other in zip(*deltas, strict=True):
        price, turned = (Decimal(each["msg"]["price_dollars"]) for each in (one, other))
        assert turned == (1 - price if one["msg"]["side"] == "no" else price)
        assert one["msg"]["delta_fp"] == other["msg"]["delta_fp"]


# ------------------------------------------------------------------------------ troubles


def test_a_subscription_that_overflows_is_over() -> None:
    for trouble, code in ((troubles.OVERFLOW, 25), (troubles.FAILED, 10)):
        exchange = build()
        line, wire = subscribed(exchange, "orderbook_delta", "trade")
        exchange.switch(trouble, 0, on=True)
        assert [(m["sid"], m["msg"]["code"]) for m in told(wire, "error")] == [(1, code), (2, code)]
        exchange.switch(trouble, 0, on=False)
        say(exchange, line, "subscribe", channels=["trade"], market_ticker=A)
        pass_time(exchange, 0, SECOND // 50)
        assert {m["sid"] for m in told(wire, "trade", "orderbook_delta")} == {3}


def test_snapshots_go_wrong() -> None:
    exchange = build(symbols=(A,))
    for trouble in (troubles.NO_SNAPSHOT, troubles.UNANSWERED):
        exchange.switch(trouble, 0, on=True)
    line, wire = subscribed(exchange, "orderbook_delta", tickers=(A,))
    ask = {"sid": 1, "action": "get_snapshot", "market_ticker": A}
    say(exchange, line, "update_subscription", **ask)
    assert told(wire, "orderbook_snapshot", "ok") == []
    exchange.switch(troubles.UNANSWERED, 0, on=False)
    exchange.switch(troubles.ONE_SIDED, 0, on=True)
    say(exchange, line, "update_subscription", **ask)
    (snapshot,) = told(wire, "orderbook_snapshot")
    assert "yes_dollars_fp" in snapshot["msg"]
    assert "no_dollars_fp" not in snapshot["msg"]
    exchange.switch(troubles.ONE_SIDED, 0, on=False)
    exchange.switch(troubles.AGAIN, 0, on=True, settings={"every": 10})
    pass_time(exchange, 0, SECOND // 20)
    again = [m["seq"] for m in told(wire, "orderbook_snapshot")[1:]]
    assert len(again) == exchange.switched.hits(troubles.AGAIN) > 3
    deltas = [m["seq"] for m in told(wire, "orderbook_delta")]
    assert sorted([*again, *deltas]) == [*range(3, 3 + len(again) + len(deltas))]


def test_a_hole_in_the_numbers_is_what_was_withheld() -> None:
    exchange = build(symbols=(A,), events=400)
    exchange.switch(troubles.HOLE, 0, on=True, settings={"every": 50})
    _, wire = subscribed(exchange, "trade", "ticker", tickers=(A,))
    pass_time(exchange, 0, SECOND)
    heard = [message["seq"] for message in told(wire, "trade")]
    assert [*range(1, 401)] == sorted([*heard, *range(1, 401, 50)])
    assert [each for each, _, _ in exchange.withheld()[A]["certain"]] == [*range(100, 500, 50)]
    assert exchange.withheld("ticker")[A]["certain"] == []


def test_new_connections_begin_with_sids_that_nobody_had() -> None:
    exchange = build()
    exchange.switch(troubles.NEW_SIDS, 0, on=True)
    sids = [
        m["msg"]["sid"]
        for _ in range(2)
        for m in told(subscribed(exchange, "trade", "ticker")[1], "subscribed")
    ]
    assert len({*sids}) == 4
    assert min(sids) > 2


def test_what_is_told_gets_older_and_stays_in_order() -> None:
    exchange = build(symbols=(A,))
    _, wire = subscribed(exchange, "trade", tickers=(A,))
    exchange.switch(faults.AGEING, 0, on=True, settings={"ms_per_s": 500})
    pass_time(exchange, 0, 2 * SECOND)
    assert exchange.market.last(A) == 2_099
    (*_, last) = told(wire, "trade")
    assert 1_200 < last["seq"] < 1_500, "what is told after two seconds happened after 1.33"
    exchange.switch(faults.AGEING, 0, on=False)
    exchange.tick(2 * SECOND)
    assert [m["seq"] for m in told(wire, "trade")] == [*range(1, 2_001)]


def test_under_maintenance_nobody_is_connected() -> None:
    exchange = build()
    _, wire = subscribed(exchange, "trade")
    exchange.switch(troubles.MAINTENANCE, 0, on=True)
    assert wire.last() == ("close", 1012)
    assert exchange.refuses(0)


def test_pings_have_the_venue_s_body_each_ten_seconds_and_proofs_only_while_needed() -> None:
    exchange = build(idle=("KXI-1",))
    line, wire = connected(exchange)
    say(exchange, line, "subscribe", channels=["trade"], market_ticker="KXI-1")
    pass_time(exchange, 0, 31 * SECOND, SECOND // 10)
    assert [body for kind, body in wire.did if kind == "ping"] == [b"heartbeat"] * 3
