"""The closed form of trades, and the digests that audits compare."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import pytest

from forebay.errors import ConfigError
from forebay.lab.truth import (
    DEFAULT_START_NS,
    Trade,
    Trades,
    TruthDigest,
    parse_start,
    parse_symbols,
)
from forebay.lab.truth.texts import decimal_text, fixed, iso_micros, uuid_text

SYMBOLS = ("BTC-USD", "ETH-USD", "SKL-GBP", "BAND-BTC", "YFI-BTC", "CRV-EUR", "NU-GBP")


def market(symbol: str = "BTC-USD", seed: int = 7, **how: int) -> Trades:
    return Trades(seed, "coinbase", symbol, **how)


def recorded(trade_id: int, size: str, side: str, event_ts: int) -> Trade:
    """A trade of a public recording, as far as a digest looks at it."""
    return Trade(
        index=0,
        venue="coinbase",
        symbol="SKL-GBP",
        trade_id=trade_id,
        price="0.5752",
        size=size,
        side=side,
        event_ts=event_ts,
        sequence=1,
        maker_order_id="",
        taker_order_id="",
    )


RECORDED = (
    recorded(82007, "1008.2", "sell", 1618677809571587000),
    recorded(82008, "985", "buy", 1618677817270697000),
)


def test_an_event_does_not_depend_on_what_was_asked_before() -> None:
    indices = [*range(300), 39_999, 40_000, 10**6, 10**9]
    in_order = {index: market().event(index) for index in indices}
    shuffled = list(indices)
    random.Random(3).shuffle(shuffled)
    asked = market()
    assert {index: asked.event(index) for index in shuffled} == in_order


def test_a_slice_is_the_same_events() -> None:
    whole = list(market().events(0, 500))
    assert list(market().events(123, 321)) == whole[123:321]
    assert [trade.index for trade in whole] == list(range(500))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_numbers_are_plain_positive_decimals_within_bounds(symbol: str) -> None:
    trades = market(symbol)
    prices, decimals = [], set()
    for index in range(0, 80_000, 37):
        trade = trades.event(index)
        assert re.fullmatch(r"\d+\.\d{2,8}", trade.price)
        assert re.fullmatch(r"\d+(\.\d{1,8})?", trade.size)
        assert Decimal(trade.size) > 0
        prices.append(Decimal(trade.price))
        decimals.add(len(trade.size.partition(".")[2]))
    assert 0 < min(prices) < max(prices) < min(prices) * Decimal("1.2")
    assert decimals == set(range(9))
    assert len({len(str(p).partition(".")[2]) for p in prices}) == 1
    assert trades.price_decimals == len(trades.event(0).price.partition(".")[2])


def test_the_price_moves_slowly_and_far() -> None:
    prices = [Decimal(trade.price) for trade in market().events(0, 20_000)]
    assert max(prices) > min(prices) * Decimal("1.08")
    steps = [abs(b - a) for a, b in pairwise(prices)]
    assert max(steps) < prices[0] / 200


def test_ids_are_contiguous_and_sequences_rise_with_holes() -> None:
    trades = list(market().events(0, 2_000))
    ids = [trade.trade_id for trade in trades]
    assert ids == list(range(ids[0], ids[0] + 2_000))
    assert ids[0] % 1_000_000 == 0
    assert 1_000_000 <= ids[0] <= 50_000_000
    steps = [b.sequence - a.sequence for a, b in pairwise(trades)]
    assert min(steps) >= 1
    assert len(set(steps)) > 1


def test_every_event_and_order_has_an_id_of_its_own() -> None:
    events = [trade for symbol in SYMBOLS for trade in market(symbol).events(0, 500)]
    assert len({trade.event_id for trade in events}) == len(events)
    orders = {o for trade in events for o in (trade.maker_order_id, trade.taker_order_id)}
    assert len(orders) == 2 * len(events)
    assert all(str(UUID(order)) == order for order in orders)


def test_both_sides_occur_about_equally() -> None:
    sides = [trade.side for trade in market().events(0, 2_000)]
    assert set(sides) == {"buy", "sell"}
    assert 800 < sides.count("buy") < 1_200


def test_time_never_goes_back_and_is_whole_microseconds() -> None:
    times = [trade.event_ts for trade in market(step_us=3).events(0, 5_000)]
    assert times == sorted(times)
    assert all(time % 1_000 == 0 for time in times)
    assert times[0] == DEFAULT_START_NS


def test_some_blocks_of_sixteen_share_one_microsecond_and_others_do_not() -> None:
    trades = list(market().events(0, 16 * 200))
    blocks = [{t.event_ts for t in trades[at : at + 16]} for at in range(0, len(trades), 16)]
    sizes = [len(block) for block in blocks]
    assert set(sizes) == {1, 16}
    assert 20 < sizes.count(1) < 80


def test_start_and_step_move_time_and_nothing_else() -> None:
    here = market().event(1_003)
    there = market(start_ns=10**18 + 999, step_us=50).event(1_003)
    assert there.event_ts % 1_000 == 0
    offset = (here.event_ts - DEFAULT_START_NS) // 1_000_000  # steps of 1 ms
    assert there.event_ts == 10**18 + offset * 50_000
    assert here.row().replace(str(here.event_ts), "") == there.row().replace(
        str(there.event_ts), ""
    )


def test_another_seed_or_symbol_is_another_market() -> None:
    def look(trades: Trades) -> list[str]:
        return [trade.size for trade in trades.events(0, 10)]

    assert look(market(seed=1)) != look(market(seed=2))
    assert look(market("AAA-USD")) != look(market("AAB-USD"))
    assert market(seed=1).event(0).event_id == market(seed=2).event(0).event_id


def test_an_event_id_is_a_version_8_uuid_of_stream_and_trade_id() -> None:
    # The stream's 60 bits are the first of sha256("coinbase|spot|trade|BTC-USD"):
    # ebeba404b774 67a a99e..., and so split around the version.
    trade = market().event(5)
    text = uuid_text(trade.event_id)
    assert text[:23] == "ebeba404-b774-867a-8000"
    assert int(text[24:], 16) == trade.trade_id
    assert UUID(text).version == 8
    assert UUID(text).variant == "specified in RFC 4122"


def test_the_canonical_row_of_a_recorded_trade() -> None:
    assert RECORDED[0].row() == (
        "40f41ee2-d10c-8d5b-8000-000000014057|coinbase|spot|SKL-GBP|1618677809571587000|82007"
        "|0.575200000000000000|1008.200000000000000000|sell"
    )


def test_the_digest_of_two_recorded_trades() -> None:
    # Computed apart from this project, with bit strings, decimal.Decimal and hashlib.
    assert TruthDigest.of(RECORDED).document() == {
        "count": 2,
        "ids": "81e83dc5a2191ab700000000000280af",
        "rows": "f5ed8539bc4ad1c9903cb88d0e1caa99",
    }


def test_a_digest_does_not_depend_on_order_and_adds_up() -> None:
    trades = list(market().events(0, 200))
    whole = TruthDigest.of(trades)
    assert TruthDigest.of(reversed(trades)) == whole
    left, right = TruthDigest.of(trades[:77]), TruthDigest.of(trades[77:])
    assert (left.ids + right.ids) % 2**128 == whole.ids
    assert (left.rows + right.rows) % 2**128 == whole.rows


@pytest.mark.parametrize(
    ("field", "value"),
    [("price", "0.5753"), ("size", "1008.3"), ("side", "buy"), ("event_ts", 1618677809571588000)],
)
def test_a_digest_sees_every_changed_field(field: str, value: str | int) -> None:
    document = {name: getattr(RECORDED[0], name) for name in Trade.__struct_fields__}
    changed = Trade(**{**document, field: value})
    assert TruthDigest.of([changed]).rows != TruthDigest.of([RECORDED[0]]).rows
    assert TruthDigest.of([changed]).ids == TruthDigest.of([RECORDED[0]]).ids


def test_an_empty_digest_is_zero() -> None:
    assert TruthDigest.of([]).document() == {"count": 0, "ids": "0" * 32, "rows": "0" * 32}


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [(985, 0, "985"), (10082, 1, "1008.2"), (7, 6, "0.000007"), (100, 2, "1.00"), (99, 2, "0.99")],
)
def test_decimal_text(units: int, decimals: int, text: str) -> None:
    assert decimal_text(units, decimals) == text
    assert Decimal(fixed(text)) == Decimal(text)
    assert len(fixed(text).partition(".")[2]) == 18


def test_iso_micros_has_six_decimals() -> None:
    assert iso_micros(1618677817089723000) == "2021-04-17T16:43:37.089723Z"
    assert iso_micros(1618677817000000999) == "2021-04-17T16:43:37.000000Z"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-01-01T00:00:00Z", DEFAULT_START_NS),
        ("2026-01-01T01:00:00.000001+01:00", DEFAULT_START_NS + 1_000),
        ("1767225600000000999", DEFAULT_START_NS),
    ],
)
def test_a_start_is_iso_or_nanoseconds(text: str, ns: int) -> None:
    assert parse_start(text) == ns


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yesterday", "is not a time"),
        ("2026-01-01T00:00:00", "no time zone"),
        ("9999999999999999999", "between 1970 and 2100"),
        ("1960-01-01T00:00:00Z", "between 1970 and 2100"),
    ],
)
def test_a_wrong_start_is_refused_with_a_hint(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_start(text)
    assert "2026-01-01T00:00:00Z" in caught.value.hint


def test_symbols_are_listed_with_commas() -> None:
    assert parse_symbols("BTC-USD, ETH-USD") == ("BTC-USD", "ETH-USD")


@pytest.mark.parametrize("text", ["", "btc-usd", "BTCUSD", "BTC-USD,", "A|B-USD"])
def test_what_is_no_symbol_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a symbol"):
        parse_symbols(text)


def test_a_symbol_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="named twice"):
        parse_symbols("BTC-USD,BTC-USD")


def test_the_lab_loads_nothing_of_what_it_examines() -> None:
    program = (
        "import sys, forebay.lab.exchanges.server, forebay.lab.exchanges.coinbase\n"
        "import forebay.lab.truth, forebay.cli.lab\n"
        "print(*(m for m in sys.modules if m.startswith('forebay.')))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "forebay.lab.truth" in answer
    ours = ("", ".wiring", ".wiring.streams", ".wiring.complaints")
    every_command = {f"forebay.app{name}" for name in ours}
    examined = {"domain", "sources", "journal", "stores", "services", "app", "ports"}
    assert [m for m in {*answer} - every_command if m.split(".")[1] in examined] == []
