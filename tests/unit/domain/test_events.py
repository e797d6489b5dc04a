"""Trades: what is accepted, flagged or dead, and that a bad row costs only itself."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.identity import NATIVE_ID_LIMIT, native_id, stream_prefix
from forebay.domain.parsed import DeadLetter
from forebay.domain.trades import TradeColumns, build_trades
from tests.support.frames import (
    HOUR,
    SECOND,
    T0,
    Told,
    batch,
    context,
    raw_trades,
    rows_of,
    told_batch,
)

GOOD = Told(7)
NOT_DECIMALS = [
    "NaN", "nan", "Infinity", "-Infinity", "inf", "", " ", " 1", "1 ", "1\n", "\n1", "1_000",
    "1,5", "0x10", "one", "-", ".", "1.2.3", "\u0661", "1\x00", "1e400", "1e-400", "1e", "é",
    "0.0000000000000000001", "1.1234567890123456789", "1" * 21, "9" * 38, "1" * 5000,
]  # fmt: skip
SILENTLY_WRONG = ["698985998041613074396", "3e-77", "10e-57", "0.01e32", "1" + "0" * 400]
"""What a bare cast turns into some other number without an error."""
NOT_POSITIVE = ["0", "0.000000000000000000", "-1", "-0.5", "-0", "+1"]
NOT_TIMES = [
    "", "1618677817", "1618677817000", "2021-04-17T16:43:37.089723", "2021-04-17 16:43:37",
    "2021-04-17", "2021-04-17Z", "2021-02-30T00:00:00Z", "2021-04-17T24:00:00Z",
    "2021-04-17T23:59:60Z", "9999-12-31T00:00:00Z", "2605-11-01T00:00:00Z", "yesterday",
]  # fmt: skip
IMPLAUSIBLE = [
    "1970-01-19T17:37:57.817Z",  # seconds read as milliseconds
    "2008-12-31T23:59:59.999999Z",
    "2021-04-18T16:43:39Z",  # over a day ahead of the receipt
    "2099-01-01T00:00:00Z",
]
BAD = [
    *[(GOOD.but(price=text), "bad_price") for text in NOT_DECIMALS + SILENTLY_WRONG + NOT_POSITIVE],
    *[(GOOD.but(size=text), "bad_size") for text in NOT_DECIMALS + SILENTLY_WRONG + NOT_POSITIVE],
    *[(GOOD.but(time=text), "bad_time") for text in NOT_TIMES],
    *[(GOOD.but(time=text), "implausible_time") for text in IMPLAUSIBLE],
    *[(GOOD.but(side=text), "bad_side") for text in ("", "BUY", "buy?", "bid", "Sell")],
    *[(GOOD.but(trade_id=native), "bad_id") for native in (-1, NATIVE_ID_LIMIT, 1 << 64, 10**400)],
]


def check(trades: list[Told]) -> tuple[TradeColumns, list[DeadLetter]]:
    return build_trades(raw_trades(trades), told_batch(trades))


@pytest.mark.parametrize(("told", "reason"), BAD, ids=lambda value: repr(value)[-40:])
def test_a_bad_trade_is_a_dead_letter_with_its_reason(told: Told, reason: str) -> None:
    columns, dead = check([told])
    assert [letter.reason for letter in dead] == [reason]
    assert len(columns.table) == len(columns.ids) == len(columns.flags) == 0


def test_a_dead_letter_shows_the_value_but_not_megabytes_of_it() -> None:
    _, dead = check([GOOD, GOOD.but(price="-5"), GOOD.but(price="x" * 10_000_000)])
    assert dead[0] == DeadLetter(1, 0, "bad_price", "price '-5' of BTC-USD")
    assert len(dead[1].error) < 300


def test_one_of_each_bad_kind_among_ten_thousand_costs_only_itself() -> None:
    trades = [Told(index + 1, price=f"{index + 1}.5") for index in range(10_000)]
    places = range(17, 17 + 73 * len(BAD), 73)
    for place, (bad, _) in zip(places, BAD, strict=True):
        trades[place] = bad
    columns, dead = check(trades)
    assert {(letter.frame, letter.reason) for letter in dead} == {
        (place, reason) for place, (_, reason) in zip(places, BAD, strict=True)
    }
    good = [trade for place, trade in enumerate(trades) if place not in set(places)]
    assert columns.ids.tolist() == [trade.trade_id for trade in good]
    assert columns.table["price"].to_pylist() == [Decimal(trade.price) for trade in good]


@given(st.lists(st.one_of(st.sampled_from([told for told, _ in BAD]), st.just(GOOD)), max_size=24))
def test_a_verdict_does_not_depend_on_the_neighbours(trades: list[Told]) -> None:
    alone = {told: check([told]) for told in set(trades)}
    columns, dead = check(trades)
    assert {letter.frame: (letter.reason, letter.error) for letter in dead} == {
        place: (letter.reason, letter.error)
        for place, told in enumerate(trades)
        for letter in alone[told][1]
    }
    rows = [row for told in trades for row in alone[told][0].finish().to_pylist()]
    assert columns.finish().to_pylist() == rows


@given(st.integers(1, 10**38 - 1), st.booleans())
def test_decimals_are_exact_to_18_places(units: int, trailing: bool) -> None:
    text = f"{units // 10**18}.{units % 10**18:018d}"
    table = rows_of(GOOD.but(price=text if trailing else text.rstrip("0").rstrip(".")))
    assert table["price"][0].as_py() == Decimal(text)
    assert table["price"].cast(pa.string())[0].as_py() == str(Decimal(text))


@given(st.from_regex(r"[0-9eE.+-]{1,45}", fullmatch=True))
def test_what_is_accepted_is_what_was_written(text: str) -> None:
    columns, dead = check([GOOD.but(size=text)])
    if not dead:
        assert columns.table["size"][0].as_py() == Decimal(text)


def test_a_row_holds_what_was_told() -> None:
    told = Told(280_232, "0.00001305", "985", "sell", T0 + 89_723_000, "SKL-BTC", T0 + 130_000_001)
    times = ["event_ts", "exchange_ts", "received_ts"]
    (row,) = rows_of(told).drop_columns(times).to_pylist()
    assert isinstance(row["event_id"], UUID)
    assert row["event_id"] == native_id(
        stream_prefix("coinbase", "spot", "trade", "SKL-BTC"), 280232
    )
    assert (row["venue"], row["symbol"], row["venue_symbol"]) == ("coinbase", "SKL-BTC", "SKL-BTC")
    assert (row["price"], row["size"]) == (Decimal("0.00001305"), Decimal(985))
    assert (row["trade_id"], row["side"], row["flags"]) == ("280232", "sell", "")
    assert [column[0].value for column in rows_of(told).select(times)] == [
        T0 + 89_723_000,
        T0 + 89_723_000,
        T0 + 130_000_001,
    ]
    assert rows_of(told).schema == schema.TRADES


@pytest.mark.parametrize(("unit", "floored"), [(1, 123_456_789), (1000, 123_456_000),
                                               (10**6, 123_000_000), (SECOND, 0)])  # fmt: skip
def test_event_ts_is_floored_to_the_unit_and_exchange_ts_is_not(unit: int, floored: int) -> None:
    told = GOOD.but(time="2021-04-17T16:43:37.123456789Z")
    columns, _ = build_trades(raw_trades([told], time_unit_ns=unit), told_batch([told]))
    assert columns.table["event_ts"][0].value == T0 + floored
    assert columns.table["exchange_ts"][0].value == T0 + 123_456_789


def test_a_time_in_another_zone_is_the_same_moment() -> None:
    table = rows_of(GOOD.but(time="2021-04-17T18:43:37+02:00"))
    assert table["event_ts"][0].value == T0


@pytest.mark.parametrize(
    ("behind_ns", "flags"),
    [
        (60 * SECOND, ""),
        (60 * SECOND + 1000, "late"),
        (HOUR, "late"),
        (-5 * SECOND, ""),
        (-5 * SECOND - 1000, "skewed"),
        (-24 * HOUR, "skewed"),
        (0, ""),
    ],
)
def test_late_and_skewed_begin_just_beyond_their_bounds(behind_ns: int, flags: str) -> None:
    table = rows_of(GOOD.but(received_ns=GOOD.time_ns + behind_ns))
    assert table["flags"].to_pylist() == [flags]


def test_history_is_backfill_and_never_late() -> None:
    trades = [GOOD, GOOD.but(received_ns=T0 + 30 * 24 * HOUR), GOOD.but(received_ns=T0 - HOUR)]
    columns, dead = build_trades(raw_trades(trades), told_batch(trades, context("rest")))
    assert not dead
    assert columns.finish()["flags"].to_pylist() == ["backfill", "backfill", "backfill,skewed"]


def test_no_trades_make_no_rows() -> None:
    columns, dead = build_trades(raw_trades([]), batch([]))
    assert (len(columns.finish()), dead) == (0, [])


def test_streams_of_one_batch_keep_their_own_ids() -> None:
    trades = [Told(5, symbol="A-B"), Told(5, symbol="C-D"), Told(6, symbol="A-B", size="0")]
    columns, dead = check(trades)
    assert [columns.symbols[code] for code in columns.codes] == ["A-B", "C-D"]
    assert columns.table["symbol"].to_pylist() == ["A-B", "C-D"]
    assert len(set(columns.table["event_id"].to_pylist())) == 2
    assert [letter.frame for letter in dead] == [2]
    assert np.array_equal(columns.ids, [5, 5])
