"""Tickers and books of the simulated exchange: what is heard, and what faults leave of it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from forebay.lab.exchanges.coinbase import messages
from forebay.lab.faults import parse_faults
from forebay.lab.truth import BookTruth, Tickers, Trades, events
from tests.unit.lab.fakes import (
    BTC,
    ETH,
    SECOND,
    TICK,
    FakeWire,
    Message,
    build,
    command,
    indices,
    join,
    pass_time,
)

if TYPE_CHECKING:
    from forebay.lab.exchanges.exchange import Exchange

ALL = ("matches", "ticker", "level2_batch", "heartbeat")
TRADES = Trades(5, "coinbase", BTC)


def side(levels: object) -> dict[str, str]:
    assert isinstance(levels, list)
    return {str(price): str(size) for price, size in levels}


def heard_book(heard: list[Message]) -> tuple[dict[str, str], dict[str, str]]:
    """The book that a listener has in the end, as anybody would fold it."""
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    for message in heard:
        if message["type"] == "snapshot":
            bids, asks = side(message["bids"]), side(message["asks"])
            continue
        changes = message["changes"]
        assert isinstance(changes, list)
        for at, price, size in changes:
            levels = {"buy": bids, "sell": asks}[at]
            levels[price] = size
            if not Decimal(size):
                del levels[price]
    return bids, asks


def true_book(exchange: Exchange, symbol: str = BTC) -> tuple[dict[str, str], dict[str, str]]:
    bids, asks = BookTruth(exchange.market.trades[symbol]).sides(exchange.market.last(symbol))
    return dict(bids), dict(asks)


def signed(**changed: str) -> bytes:
    """A subscription to level2 as somebody with an account makes it."""
    document = json.loads(command(channels=("level2",)))
    document |= {
        "key": messages.KEY,
        "passphrase": messages.PASSPHRASE,
        "timestamp": 1_767_225_600,
        "signature": messages.signature("1767225600"),
    }
    return json.dumps(document | changed).encode()


# --------------------------------------------------------------- subscribing


def test_a_book_begins_with_the_whole_of_it_and_goes_on_with_each_change() -> None:
    exchange = build(events=300)
    _, wire = join(exchange, channels=("level2_batch",))
    pass_time(exchange, 0, SECOND)
    acknowledged, snapshot, *updates = wire.messages()
    book = BookTruth(TRADES).snapshot(99)
    assert acknowledged["channels"] == [{"name": "level2_50", "product_ids": [BTC]}]
    assert (snapshot["type"], snapshot["time"]) == ("snapshot", book.time)
    assert side(snapshot["bids"]) == dict(book.bids)
    assert side(snapshot["asks"]) == dict(book.asks)
    deltas = [BookTruth(TRADES).delta(index) for index in range(100, 400)]
    assert [update["time"] for update in updates] == [delta.time for delta in deltas]
    words = {"bid": "buy", "ask": "sell"}
    for update, delta in zip(updates, deltas, strict=True):
        assert update["changes"] == [[words[at], price, size] for at, price, size in delta.changes]


def test_the_folded_book_is_the_truth_at_every_tick() -> None:
    exchange = build()
    _, wire = join(exchange, channels=("level2_batch",))
    for now in range(0, SECOND, TICK):
        exchange.tick(now)
        assert heard_book(wire.messages("snapshot", "l2update")) == true_book(exchange)


def test_tickers_come_at_once_and_then_with_their_trades() -> None:
    exchange = build(events=300)
    _, wire = join(exchange, channels=("ticker",))
    pass_time(exchange, 0, SECOND)
    first, *tickers = wire.messages("ticker")
    latest = Tickers(TRADES).last(99)
    due = list(events(Tickers(TRADES).event, 100, 400))
    assert latest is not None
    assert (first["time"], first["trade_id"]) == (latest.time, TRADES.event(latest.index).trade_id)
    origin = TRADES.first_trade_id
    assert [t["trade_id"] for t in tickers] == [origin + event.index for event in due]


def test_a_ticker_has_the_published_fields() -> None:
    told = Tickers(TRADES).last(500)
    assert told is not None
    trade = TRADES.event(told.index)
    document = json.loads(messages.ticker(told, trade))
    assert set(document) == {
        *("type", "sequence", "product_id", "price", "open_24h", "volume_24h", "low_24h"),
        *("high_24h", "volume_30d", "best_bid", "best_bid_size", "best_ask", "best_ask_size"),
        *("side", "time", "trade_id", "last_size"),
    }
    assert (document["side"], document["last_size"]) == (trade.side, trade.size)
    assert (document["best_bid"], document["best_ask_size"]) == (told.bid_price, told.ask_size)
    assert Decimal(document["volume_30d"]) == 30 * Decimal(told.volume_24h)


def test_one_index_is_a_trade_a_change_of_the_book_and_perhaps_a_ticker() -> None:
    exchange = build(events=200)
    _, wire = join(exchange, channels=ALL)
    pass_time(exchange, 0, SECOND)
    assert indices(exchange, wire) == list(range(100, 300))
    assert len(wire.messages("l2update")) == 200
    assert len(wire.messages("ticker")) == 1 + len(list(events(Tickers(TRADES).event, 100, 300)))


def test_the_book_alone_starts_the_clock_and_owes_no_trade() -> None:
    exchange = build(events=50)
    join(exchange, channels=("level2_batch",))
    pass_time(exchange, 0, SECOND)
    status = exchange.status()
    assert status["symbols"] == {BTC: {"first": None, "last": 149}}
    assert status["feeds"] == {"book": {BTC: {"first": 100, "last": 149}}}
    assert exchange.withheld()[BTC]["certain"] == []


def test_an_unsubscribed_book_falls_silent_by_either_of_its_names() -> None:
    exchange = build()
    line, wire = join(exchange, channels=ALL)
    exchange.received(line, command("unsubscribe", channels=("level2_batch",)), 0)
    pass_time(exchange, 0, SECOND // 10)
    assert wire.messages("l2update") == []
    exchange.received(line, command(channels=("level2_50",)), SECOND // 10)
    pass_time(exchange, SECOND // 10, SECOND // 5)
    assert len(wire.messages("snapshot")) == 2
    assert heard_book(wire.messages("snapshot", "l2update")) == true_book(exchange)


# ------------------------------------------------------------------- signing


def test_level2_wants_a_signature() -> None:
    exchange = build()
    _, wire = join(exchange, channels=("level2", "matches"))
    (refusal,) = wire.messages()
    assert refusal["message"] == "Failed to subscribe"
    assert "level2, level3, and full channels now require authentication" in str(refusal["reason"])
    assert not exchange.market.clock_started


def test_a_signed_level2_is_the_book() -> None:
    exchange = build(events=100)
    wire = FakeWire()
    line = exchange.connected(wire, 0)
    exchange.received(line, signed(), 0)
    pass_time(exchange, 0, SECOND)
    assert wire.messages("subscriptions")[0]["channels"] == [
        {"name": "level2", "product_ids": [BTC]}
    ]
    assert len(wire.messages("l2update")) == 100
    assert heard_book(wire.messages("snapshot", "l2update")) == true_book(exchange)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"key": "other"}, "Invalid API Key"),
        ({"passphrase": "other"}, "Invalid Passphrase"),
        ({"signature": "bm90IGl0"}, "invalid signature"),
        ({"timestamp": "1767225601"}, "invalid signature"),
    ],
)
def test_a_wrong_signature_is_refused(changed: dict[str, str], reason: str) -> None:
    exchange = build()
    wire = FakeWire()
    exchange.received(exchange.connected(wire, 0), signed(**changed), 0)
    (refusal,) = wire.messages()
    assert refusal["message"] == "Authentication Failed"
    assert json.loads(str(refusal["reason"])) == {"message": reason}


# -------------------------------------------------------------------- faults

TRADE_FAULTS = {
    "drop": 0.02,
    "duplicate": 0.02,
    "reorder": 0.02,
    "corrupt": 0.02,
    "late": 0.02,
    "disconnect": 0.005,
    "halfopen": 0.001,
}


def told_of_trades(faults: dict[str, float], channels: tuple[str, ...]) -> list[list[int]]:
    """Indices of the trades that each of the connections was sent, one after the other."""
    exchange, now = build(faults, events=2_000), 0
    wires = []
    while not exchange.market.finished:
        wires.append(join(exchange, now, channels=channels)[1])
        while exchange.status()["connections"] and not exchange.market.finished:
            now += TICK
            exchange.tick(now)
    return [indices(exchange, wire) for wire in wires]


def test_trades_fare_alike_whatever_else_is_subscribed() -> None:
    assert told_of_trades(TRADE_FAULTS, ("matches",)) == told_of_trades(TRADE_FAULTS, ALL)


def test_trades_fare_alike_whatever_strikes_tickers_and_books() -> None:
    faults = {f"{feed}_{name}": 0.05 for feed in ("ticker", "book") for name in ("drop", "late")}
    assert told_of_trades(TRADE_FAULTS, ALL) == told_of_trades({**TRADE_FAULTS, **faults}, ALL)


def test_faults_of_trades_leave_the_book_of_a_living_connection_alone() -> None:
    faults = {name: rate for name, rate in TRADE_FAULTS.items() if name != "disconnect"}
    exchange = build(faults | {"halfopen": 0.0}, events=1_000)
    _, wire = join(exchange, channels=ALL)
    pass_time(exchange, 0, 2 * SECOND)
    assert len(wire.messages("l2update")) == 1_000
    assert heard_book(wire.messages("snapshot", "l2update")) == true_book(exchange)
    assert exchange.withheld("book")[BTC]["certain"] == []


@pytest.mark.parametrize("fault", ["disconnect", "book_disconnect", "book_halfopen"])
def test_who_comes_back_gets_the_book_anew_and_has_it_right(fault: str) -> None:
    exchange, now, returns = build({fault: 0.01}, events=2_000), 0, 0
    line, wire = join(exchange, now, channels=("matches", "level2_batch"))
    while not exchange.market.finished:
        now += TICK
        exchange.tick(now)
        if line.ended or line.muted:
            exchange.disconnected(line)
            line, wire = join(exchange, now, channels=("matches", "level2_batch"))
            returns += 1
        assert len(wire.messages("snapshot")) == 1
        assert heard_book(wire.messages("snapshot", "l2update")) == true_book(exchange)
    assert returns > 3


def test_a_dropped_ticker_is_told_as_withheld_and_one_that_never_was_is_not() -> None:
    exchange = build({"ticker_drop": 0.2}, events=1_000)
    _, wire = join(exchange, channels=("ticker",))
    pass_time(exchange, 0, 2 * SECOND)
    due = {event.index for event in events(Tickers(TRADES).event, 100, 1_100)}
    fates = {i: exchange.faults.of_event(BTC, i, "ticker") for i in due}
    dropped = {i for i, fate in fates.items() if fate}
    said = exchange.withheld("ticker")[BTC]["certain"]
    assert len(dropped) > 10
    assert {i for first, last, _ in said for i in range(first, last + 1)} == dropped
    assert {reason for _, _, reason in said} == {"drop"}
    assert len(wire.messages("ticker")) == 1 + len(due) - len(dropped)
    assert exchange.withheld()[BTC]["certain"] == []


def test_what_happens_while_nobody_listens_is_an_outage_of_its_feed_alone() -> None:
    exchange = build()
    line, _ = join(exchange, channels=("level2_batch",))
    join(exchange)
    pass_time(exchange, 0, SECOND // 10)
    exchange.disconnected(line)
    pass_time(exchange, SECOND // 10, SECOND // 5)
    assert exchange.withheld("book")[BTC]["certain"] == [(200, 299, "outage")]
    assert exchange.withheld()[BTC]["certain"] == []
    assert exchange.withheld("ticker")[BTC]["certain"] == []


def test_faults_have_dice_of_their_own_by_feed() -> None:
    faults = build({"drop": 0.1, "ticker_drop": 0.1, "book_drop": 0.1}).faults
    struck = [
        {i for i in range(1_000) if faults.of_event(BTC, i, feed)}
        for feed in ("trade", "ticker", "book")
    ]
    assert all(len(each) > 50 for each in struck)
    assert len({frozenset(each) for each in struck}) == 3


def test_faults_of_a_feed_are_named_after_it() -> None:
    assert parse_faults("book_disconnect=0.1,ticker_drop=0.2,drop=0.3") == {
        "book_disconnect": 0.1,
        "ticker_drop": 0.2,
        "drop": 0.3,
    }


def test_symbols_do_not_mix() -> None:
    exchange = build(symbols=(BTC, ETH), events=400)
    _, wire = join(exchange, symbols=(BTC, ETH), channels=("level2_batch",))
    pass_time(exchange, 0, SECOND)
    for symbol in (BTC, ETH):
        heard = [m for m in wire.messages("snapshot", "l2update") if m["product_id"] == symbol]
        assert heard_book(heard) == true_book(exchange, symbol)
