"""The simulated exchange without sockets: its protocol, its faults and their ledger."""

from __future__ import annotations

import json
import re

import pytest

from forebay.lab.exchanges.exchange import MAX_BACKLOG, Exchange
from forebay.lab.truth import Trades
from tests.unit.lab.fakes import (
    BTC,
    ETH,
    SECOND,
    TICK,
    FakeWire,
    build,
    command,
    indices,
    join,
    pass_time,
)


def certain(exchange: Exchange) -> dict[int, str]:
    """Index to reason, of all that was certainly withheld."""
    said = exchange.withheld()[BTC]["certain"]
    return {i: why for first, last, why in said for i in range(first, last + 1)}


def struck(exchange: Exchange, fault: str, end: int) -> set[int]:
    """The closed form of where a fault strikes."""
    fates = {i: exchange.faults.of_event(BTC, i) for i in range(100, end)}
    return {i for i, fate in fates.items() if fate and fate[0] == fault}


# ---------------------------------------------------------------- the protocol


def test_a_subscription_is_acknowledged_and_followed_by_the_last_match() -> None:
    exchange = build()
    _, wire = join(exchange, channels=("matches", "heartbeat"))
    acknowledged, last = wire.messages()
    assert acknowledged["channels"] == [
        {"name": "matches", "product_ids": [BTC]},
        {"name": "heartbeat", "product_ids": [BTC]},
    ]
    truth = Trades(5, "coinbase", BTC).event(99)
    assert (last["type"], last["trade_id"], last["price"]) == (
        "last_match",
        truth.trade_id,
        truth.price,
    )
    assert wire.waiting == 0


def test_live_matches_go_on_where_the_last_match_was() -> None:
    exchange = build(events=50)
    _, wire = join(exchange)
    pass_time(exchange, 0, SECOND)
    assert indices(exchange, wire) == list(range(100, 150))
    assert wire.waiting == 0


def test_subscribing_again_brings_no_second_last_match() -> None:
    exchange = build()
    line, wire = join(exchange)
    exchange.received(line, command(), 1)
    exchange.received(line, command(symbols=(BTC,), channels=("heartbeat",)), 2)
    assert len(wire.messages("last_match")) == 1
    assert len(wire.messages("subscriptions")) == 3


def test_an_unsubscribed_product_falls_silent_and_the_rest_go_on() -> None:
    exchange = build(symbols=(BTC, ETH))
    line, wire = join(exchange, symbols=(BTC, ETH))
    pass_time(exchange, 0, SECOND // 10)
    exchange.received(line, command("unsubscribe", (BTC,)), SECOND // 10)
    assert wire.messages("subscriptions")[-1]["channels"] == [
        {"name": "matches", "product_ids": [ETH]}
    ]
    heard = len(indices(exchange, wire))
    pass_time(exchange, SECOND // 10, SECOND // 5)
    assert len(indices(exchange, wire)) == heard
    assert len(indices(exchange, wire, ETH)) > heard


def test_an_error_answers_what_cannot_be_done_and_starts_no_clock() -> None:
    exchange = build()
    wire = FakeWire()
    line = exchange.connected(wire, 0)
    exchange.received(line, command(channels=("candles",)), 0)
    exchange.received(line, b"hello", 0)
    assert [m["message"] for m in wire.messages("error")] == [
        "Failed to subscribe",
        "Failed to parse message",
    ]
    assert not exchange.market.clock_started
    assert exchange.status()["symbols"] == {BTC: {"first": None, "last": 99}}


def test_who_does_not_subscribe_within_five_seconds_is_closed() -> None:
    exchange = build()
    wire = FakeWire()
    exchange.connected(wire, 0)
    exchange.tick(5 * SECOND - 1)
    assert wire.last()[0] == "ping"
    exchange.tick(5 * SECOND)
    assert wire.last() == ("close", 1008)
    assert exchange.status()["connections"] == 0


def test_who_subscribed_in_time_may_stay_even_with_nothing_left() -> None:
    exchange = build()
    line, wire = join(exchange)
    exchange.received(line, command("unsubscribe"), 0)
    pass_time(exchange, 0, 6 * SECOND, SECOND)
    assert "close" not in [kind for kind, _ in wire.did]


def test_heartbeats_come_each_second_and_go_on_after_the_end() -> None:
    exchange = build(events=10)
    _, wire = join(exchange, channels=("matches", "heartbeat"))
    pass_time(exchange, 0, 5 * SECOND)
    beats = wire.messages("heartbeat")
    assert len(beats) == 6
    truth = Trades(5, "coinbase", BTC)
    assert beats[0]["last_trade_id"] == truth.event(99).trade_id
    assert beats[-1]["last_trade_id"] == truth.event(109).trade_id
    assert beats[-1]["sequence"] == truth.event(109).sequence


def test_a_heartbeat_counts_what_was_withheld_too() -> None:
    exchange = build({"drop": 1.0}, events=10)
    _, wire = join(exchange, channels=("matches", "heartbeat"))
    pass_time(exchange, 0, 2 * SECOND)
    assert wire.messages("match") == []
    last = Trades(5, "coinbase", BTC).event(109).trade_id
    assert wire.messages("heartbeat")[-1]["last_trade_id"] == last


def test_pings_come_every_100_ms_with_a_number() -> None:
    exchange = build()
    _, wire = join(exchange)
    pass_time(exchange, 0, SECOND)
    pings = [payload for kind, payload in wire.did if kind == "ping"]
    assert pings == [b"%d" % number for number in range(1, 12)]


def test_two_connections_get_the_same() -> None:
    exchange = build(events=200)
    (_, one), (_, two) = join(exchange), join(exchange)
    pass_time(exchange, 0, SECOND)
    assert indices(exchange, one) == indices(exchange, two) == list(range(100, 300))


def test_a_slow_consumer_is_given_up_and_its_tail_is_in_doubt() -> None:
    exchange = build()
    _, wire = join(exchange)
    pass_time(exchange, 0, SECOND // 10)
    wire.bytes_behind = MAX_BACKLOG + 1
    exchange.tick(SECOND // 10 + TICK)
    assert wire.last()[0] == "abort"
    assert exchange.withheld()[BTC]["in_doubt"] == [(100, 199, "slow consumer")]


# ---------------------------------------------------------- outages and bounds


def test_what_happens_while_nobody_is_connected_is_an_outage() -> None:
    exchange = build()
    line, _ = join(exchange)
    pass_time(exchange, 0, SECOND // 10)
    exchange.disconnected(line)
    pass_time(exchange, SECOND // 10, SECOND // 5)
    _, again = join(exchange, SECOND // 5)
    pass_time(exchange, SECOND // 5, 3 * SECOND // 10)
    # 300 was the last to happen before the return, and the last match tells of it.
    assert again.messages("last_match")[0]["trade_id"] == (
        exchange.market.trades[BTC].first_trade_id + 299
    )
    assert set(certain(exchange)) == set(range(200, 299))
    assert set(certain(exchange).values()) == {"outage"}
    assert exchange.withheld()[BTC]["in_doubt"][0] == (100, 199, "closed by peer")


def test_a_second_connection_covers_an_outage_of_the_first() -> None:
    exchange = build()
    line, _ = join(exchange)
    join(exchange)
    pass_time(exchange, 0, SECOND // 10)
    exchange.disconnected(line)
    pass_time(exchange, SECOND // 10, SECOND // 5)
    assert certain(exchange) == {}


def test_bounds_are_what_is_owed_and_what_happened() -> None:
    exchange = build(events=10)
    assert exchange.status()["symbols"][BTC] == {"first": None, "last": 99}
    assert exchange.withheld()[BTC]["certain"] == []
    join(exchange)
    pass_time(exchange, 0, SECOND)
    status = exchange.status()
    assert status["symbols"][BTC] == {"first": 100, "last": 109}
    assert (status["clock_started"], status["finished"], status["connections"]) == (True, True, 1)
    assert (status["venue"], status["seed"], status["step_us"]) == ("coinbase", 5, 1_000)


# -------------------------------------------------------------------- the faults


def test_drop_withholds_and_says_so() -> None:
    exchange = build({"drop": 0.1}, events=300)
    (_, one), (_, two) = join(exchange), join(exchange)
    pass_time(exchange, 0, SECOND)
    dropped = struck(exchange, "drop", 400)
    assert len(dropped) > 10
    assert indices(exchange, one) == sorted(set(range(100, 400)) - dropped)
    assert indices(exchange, one) == indices(exchange, two)
    assert certain(exchange) == dict.fromkeys(sorted(dropped), "drop")


def test_duplicate_sends_twice_and_withholds_nothing() -> None:
    exchange = build({"duplicate": 0.1}, events=300)
    _, wire = join(exchange)
    pass_time(exchange, 0, SECOND)
    twice = struck(exchange, "duplicate", 400)
    assert indices(exchange, wire) == sorted([*range(100, 400), *twice])
    assert certain(exchange) == {}
    assert exchange.withheld()[BTC]["late_or_duplicate"]["duplicate"] == len(twice) > 10


def test_reorder_swaps_with_the_next_and_withholds_nothing() -> None:
    exchange = build({"reorder": 0.1}, events=300)
    _, wire = join(exchange)
    pass_time(exchange, 0, SECOND)
    heard = indices(exchange, wire)
    assert sorted(heard) == list(range(100, 400))
    swapped = {at + 100 for at, index in enumerate(heard) if index == at + 101}
    assert len(swapped) > 10
    assert swapped <= struck(exchange, "reorder", 400)
    assert all(abs(index - at - 100) <= 1 for at, index in enumerate(heard))
    assert certain(exchange) == {}


def test_a_last_event_that_waits_for_a_next_one_is_sent_at_the_end() -> None:
    exchange = build({"reorder": 1.0}, events=3)
    _, wire = join(exchange)
    pass_time(exchange, 0, SECOND)
    assert indices(exchange, wire) == [101, 100, 102]
    assert exchange.status()["finished"]


def test_corrupt_sends_no_json_and_counts_as_withheld() -> None:
    exchange = build({"corrupt": 0.1}, events=300)
    _, wire = join(exchange)
    pass_time(exchange, 0, SECOND)
    poison = struck(exchange, "corrupt", 400)
    broken = [p for p in wire.payloads() if not p.endswith(b"}")]
    assert len(broken) == len(poison) > 10
    assert certain(exchange) == dict.fromkeys(sorted(poison), "corrupt")
    said = exchange.withheld()[BTC]
    assert sorted(said["poison"] + said["poison_in_doubt"]) == sorted(poison)


def test_late_events_arrive_50_to_500_ms_out_of_order() -> None:
    exchange = build({"late": 0.1}, events=300)
    _, wire = join(exchange)
    pass_time(exchange, 0, SECOND)
    heard = indices(exchange, wire)
    assert sorted(heard) == list(range(100, 400))
    late = struck(exchange, "late", 400)
    prompt = [index for index in heard if index not in late]
    assert prompt == sorted(prompt)
    behind = [index for at, index in enumerate(heard) if index in late and max(heard[:at]) > index]
    assert len(behind) > 10
    assert exchange.withheld()[BTC]["late_or_duplicate"]["late"] == len(late)


def test_what_is_held_back_is_in_doubt_and_lost_with_its_connection() -> None:
    exchange = build({"late": 1.0}, events=10)
    line, _ = join(exchange)
    pass_time(exchange, 0, 20_000_000)
    said = exchange.withheld()[BTC]
    assert (said["in_doubt"], said["certain"]) == ([(100, 109, "held")], [])
    assert not exchange.status()["finished"]
    exchange.disconnected(line)
    assert certain(exchange) == dict.fromkeys(range(100, 110), "late")
    assert exchange.status()["finished"]


def test_disconnect_closes_everybody_and_withholds_the_event() -> None:
    exchange = build({"disconnect": 0.02}, events=2_000, seed=9)
    endings: list[tuple[str, bytes | int]] = []
    now, returned = 0, set()
    while not exchange.market.finished:
        wires = [join(exchange, now)[1] for _ in range(2)]
        returned.add(exchange.market.last(BTC))
        while exchange.status()["connections"] and not exchange.market.finished:
            now += TICK
            exchange.tick(now)
        endings += [wire.last() for wire in wires if wire.last()[0] in ("close", "cut")]
    codes = {code for kind, code in endings if kind == "close"}
    assert codes == {1001, 1011, 1012}
    assert "cut" in {kind for kind, _ in endings}
    cuts = struck(exchange, "disconnect", 2_100)
    reported = certain(exchange)
    # An event that cut, or came before the return, is told by the last match at times.
    assert cuts - set(reported) <= returned
    assert {"disconnect", "outage", "disconnect+outage"} >= set(reported.values())
    assert not any(index in reported for index in returned)
    reasons = {why for _, _, why in exchange.withheld()[BTC]["in_doubt"]}
    assert "disconnect" in str(reasons)


def test_half_open_silences_one_connection_for_good() -> None:
    exchange = build({"halfopen": 0.01}, events=1_000)
    line, wire = join(exchange, channels=("matches", "heartbeat"))
    pass_time(exchange, 0, 3 * SECOND)
    first = min(struck(exchange, "halfopen", 1_100))
    assert indices(exchange, wire) == list(range(100, first))
    assert certain(exchange) == dict.fromkeys(range(first, 1_100), "halfopen")
    done = len(wire.did)
    exchange.received(line, command(channels=("heartbeat",)), 3 * SECOND)
    pass_time(exchange, 3 * SECOND, 59 * SECOND, SECOND)
    assert len(wire.did) == done
    exchange.tick(70 * SECOND)
    assert wire.last()[0] == "abort"
    assert exchange.status()["connections"] == 0


def test_half_open_leaves_the_other_connection_alone() -> None:
    rates = {"halfopen": 0.01}
    first, second = sorted(struck(build(rates), "halfopen", 2_000))[:2]
    exchange = build(rates, events=second - 100)
    wires = [join(exchange)[1] for _ in range(2)]
    pass_time(exchange, 0, 2 * SECOND)
    heard = sorted((indices(exchange, wire) for wire in wires), key=len)
    assert heard == [list(range(100, first)), list(range(100, second))]
    assert certain(exchange) == {}


def test_a_half_open_connection_is_not_revived_by_a_disconnect() -> None:
    exchange = build({"halfopen": 0.01, "disconnect": 0.02}, events=1_000)
    wires = [join(exchange)[1] for _ in range(2)]
    pass_time(exchange, 0, 2 * SECOND)
    ends = [[kind for kind, _ in wire.did if kind in ("close", "cut")] for wire in wires]
    assert max(map(len, ends)) <= 1


def test_a_fault_strikes_nobody_when_nobody_listens() -> None:
    exchange = build({"corrupt": 1.0}, events=10)
    line, _ = join(exchange)
    exchange.disconnected(line)
    pass_time(exchange, 0, SECOND)
    said = exchange.withheld()[BTC]
    assert said["certain"] == [(100, 109, "outage")]
    assert (said["poison"], said["poison_in_doubt"]) == ([], [])


@pytest.mark.parametrize("seed", range(4))
def test_delivered_and_withheld_are_everything_and_disjoint(seed: int) -> None:
    rates = {"drop": 0.02, "duplicate": 0.02, "reorder": 0.02, "corrupt": 0.02, "late": 0.02}
    exchange = build({**rates, "halfopen": 0.001}, events=1_000, seed=seed)
    wires = [join(exchange)[1] for _ in range(2)]
    pass_time(exchange, 0, 2 * SECOND)
    delivered = {index for wire in wires for index in indices(exchange, wire)}
    withheld = certain(exchange)
    assert delivered | set(withheld) == set(range(100, 1_100))
    assert not delivered & set(withheld)
    assert all(re.fullmatch(r"[a-z+]+", why) for why in withheld.values())


def test_status_and_withheld_are_json() -> None:
    exchange = build({"drop": 0.1}, events=50)
    join(exchange)
    pass_time(exchange, 0, SECOND)
    said = exchange.withheld()
    assert json.loads(json.dumps(exchange.status()))["symbols"][BTC]["last"] == 149
    assert set(json.loads(json.dumps(said))[BTC]) == {
        "certain",
        "in_doubt",
        "poison",
        "poison_in_doubt",
        "late_or_duplicate",
    }
