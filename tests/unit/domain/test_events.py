"""Events: what is accepted, flagged or dead, and that a bad row costs only itself."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.channels import Channel
from forebay.domain.events import EventColumns, build_events
from forebay.domain.identity import NATIVE_ID_LIMIT, native_id, stream_prefix
from forebay.domain.kinds import KINDS
from forebay.domain.parsed import DeadLetter, Moments
from tests.support.frames import (
    HOUR,
    LOG,
    SECOND,
    T0,
    TRADES,
    Told,
    batch,
    context,
    raw_trades,
    rows_of,
    told_batch,
)

if TYPE_CHECKING:
    from forebay.domain.channels import Unit
    from forebay.domain.identity import IdentityClass
    from tests.support.frames import Source

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
    "2021-04-17T23:59:61Z", "2021-04-17T23:60:00Z", "2021-04-17T23:59:60",
    "9999-12-31T00:00:00Z", "2605-11-01T00:00:00Z", "yesterday",
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


def check(trades: list[Told]) -> tuple[EventColumns, list[DeadLetter]]:
    return build_events(raw_trades(trades), told_batch(trades))


@pytest.mark.parametrize(("told", "reason"), BAD, ids=lambda value: repr(value)[-40:])
def test_a_bad_trade_is_a_dead_letter_with_its_reason(told: Told, reason: str) -> None:
    columns, dead = check([told])
    assert [letter.reason for letter in dead] == [reason]
    assert len(columns.table) == len(columns.numbers) == len(columns.flags) == 0


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
    assert columns.numbers.tolist() == [trade.trade_id for trade in good]
    assert columns.table["price"].to_pylist() == [Decimal(trade.price) for trade in good]


def plain(columns: EventColumns) -> list[dict[str, object]]:
    """Return the rows but for where their frames are."""
    rows: list[dict[str, object]] = columns.finish().drop_columns(["seq"]).to_pylist()
    return rows


@given(st.lists(st.one_of(st.sampled_from([told for told, _ in BAD]), st.just(GOOD)), max_size=24))
def test_a_verdict_does_not_depend_on_the_neighbours(trades: list[Told]) -> None:
    alone = {told: check([told]) for told in set(trades)}
    columns, dead = check(trades)
    assert {letter.frame: (letter.reason, letter.error) for letter in dead} == {
        place: (letter.reason, letter.error)
        for place, told in enumerate(trades)
        for letter in alone[told][1]
    }
    rows = [row for told in trades for row in plain(alone[told][0])]
    assert plain(columns) == rows


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


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("1E-8", "0.00000001"),
        ("1e+2", "100"),
        ("6.02e19", "60200000000000000000"),
        ("150e-19", "0.000000000000000015"),
        ("0.00000000000000000001E2", "0.000000000000000001"),
        ("1.10e-17", "0.000000000000000011"),
    ],
)
def test_an_exponent_that_is_exact_is_read(text: str, digits: str) -> None:
    table = rows_of(GOOD.but(price=text, size=digits))
    assert table["price"].to_pylist() == table["size"].to_pylist() == [Decimal(digits)]


@pytest.mark.parametrize("text", ["1E-19", "1e20", "12e-19", "0e5", "-1E-8", "+1e3", "1e-999"])
def test_an_exponent_that_has_no_place_or_sign_is_refused(text: str) -> None:
    assert [letter.reason for letter in check([GOOD.but(size=text)])[1]] == ["bad_size"]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31T15:59:60.25-08:00", "2017-01-01T00:00:00.25Z"),
    ],
)
def test_a_leap_second_is_the_one_behind_it(text: str, same: str) -> None:
    trades = [GOOD.but(time=each) for each in (text, "no time", same)]
    columns, dead = check(trades)
    assert [letter.frame for letter in dead] == [1]
    assert len(set(columns.table["exchange_ts"].to_pylist())) == 1


def test_a_row_holds_what_was_told() -> None:
    told = Told(280_232, "0.00001305", "985", "sell", T0 + 89_723_000, "SKL-BTC", T0 + 130_000_001)
    times = ["event_ts", "exchange_ts", "received_ts"]
    (row,) = rows_of(told).drop_columns(times).to_pylist()
    assert isinstance(row["event_id"], UUID)
    assert row["event_id"] == native_id(
        stream_prefix("coinbase", "spot", "trade", "SKL-BTC"), 280232
    )
    assert (row["venue"], row["symbol"], row["venue_symbol"]) == ("coinbase", "SKL-BTC", "SKL-BTC")
    assert (row["market"], row["collector"], row["epoch"]) == ("spot", "c1", "e1")
    assert (row["log_id"], row["seq"], row["venue_seq"]) == (LOG, 1, 280_232)
    assert (row["price"], row["size"]) == (Decimal("0.00001305"), Decimal(985))
    assert (row["trade_id"], row["side"], row["flags"]) == ("280232", "sell", "")
    assert [column[0].value for column in rows_of(told).select(times)] == [
        T0 + 89_723_000,
        T0 + 89_723_000,
        T0 + 130_000_001,
    ]
    assert rows_of(told).schema == KINDS["trade"].schema


@pytest.mark.parametrize(("unit", "floored"), [(1, 123_456_789), (1000, 123_456_000),
                                               (10**6, 123_000_000), (SECOND, 0)])  # fmt: skip
def test_event_ts_is_floored_to_the_unit_and_exchange_ts_is_not(unit: int, floored: int) -> None:
    told = GOOD.but(time="2021-04-17T16:43:37.123456789Z")
    channel = replace(TRADES, time_unit_ns=unit)
    columns, _ = build_events(raw_trades([told], channel), told_batch([told]))
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
    columns, dead = build_events(raw_trades(trades), told_batch(trades, context("rest")))
    assert not dead
    assert columns.finish()["flags"].to_pylist() == ["backfill", "backfill", "backfill,skewed"]


def test_no_trades_make_no_rows() -> None:
    columns, dead = build_events(raw_trades([]), batch([]))
    assert (len(columns.finish()), dead) == (0, [])


def test_streams_of_one_batch_keep_their_own_ids() -> None:
    trades = [Told(5, symbol="A-B"), Told(5, symbol="C-D"), Told(6, symbol="A-B", size="0")]
    columns, dead = check(trades)
    assert [columns.symbols[code] for code in columns.codes] == ["A-B", "C-D"]
    assert columns.table["symbol"].to_pylist() == ["A-B", "C-D"]
    assert len(set(columns.table["event_id"].to_pylist())) == 2
    assert [letter.frame for letter in dead] == [2]
    assert np.array_equal(columns.numbers, [5, 5])


# ------------------------------------------------------------------------- whose frame it was


def test_the_envelope_says_whose_frame_it_was_and_where_it_is() -> None:
    origin = context(epoch="e7", collector="c9", market="perpetual")
    trades = [Told(5), Told(6, price="?"), Told(7)]
    told = told_batch(trades, origin, first_seq=40)
    columns, _ = build_events(raw_trades(trades, market="perpetual"), told)
    names = ["venue", "market", "collector", "epoch", "log_id", "seq"]
    assert [tuple(row.values()) for row in columns.finish().select(names).to_pylist()] == [
        ("coinbase", "perpetual", "c9", "e7", LOG, 40),
        ("coinbase", "perpetual", "c9", "e7", LOG, 42),
    ]


def test_spot_and_perpetual_of_one_symbol_share_no_id() -> None:
    tables = [
        build_events(raw_trades([GOOD], market=market), told_batch([GOOD]))[0].finish()
        for market in ("spot", "perpetual")
    ]
    assert len({table["event_id"][0].as_py() for table in tables}) == 2


# ------------------------------------------------------------------- why frames were asked for


@pytest.mark.parametrize("source", ["ws", "rest", "file"])
@pytest.mark.parametrize(
    ("purpose", "flags"),
    [("live", "late"), ("recording", "late"), ("history", "backfill")],
)
def test_the_purpose_and_not_the_way_makes_a_backfill(
    source: Source, purpose: str, flags: str
) -> None:
    told = GOOD.but(received_ns=T0 + HOUR)
    origin = context(source, purpose=purpose)
    columns, _ = build_events(raw_trades([told]), told_batch([told], origin))
    assert columns.finish()["flags"].to_pylist() == [flags]


def test_an_event_of_a_filtered_recording_is_partial() -> None:
    columns, _ = build_events(raw_trades([GOOD]), told_batch([GOOD], context("file", partial=True)))
    assert columns.finish()["flags"].to_pylist() == ["partial"]


# --------------------------------------------------------------------------- what is counted


@pytest.mark.parametrize(
    ("identity", "unit", "number"),
    [
        ("native", "id", 7),
        ("native", "seq", 70),
        ("native", "time", None),
        ("session", "seq", 70),
        ("session", "none", None),
        ("content", "seq", 70),
        ("content", "time", None),
        ("observation", "seq", 70),
        ("observation", "none", None),
    ],
)
def test_venue_seq_is_the_number_that_coverage_counts(
    identity: IdentityClass, unit: Unit, number: int | None
) -> None:
    raw = raw_trades([GOOD], Channel("trade", identity, unit))
    raw.sequence = [70]
    columns, dead = build_events(raw, told_batch([GOOD]))
    assert not dead
    assert columns.table["venue_seq"].to_pylist() == [number]
    assert columns.numbers.tolist() == [number or 0]


@pytest.mark.parametrize("identity", ["native", "session"])
def test_where_no_sequence_is_given_the_ids_are_it(identity: IdentityClass) -> None:
    raw = raw_trades([GOOD], Channel("trade", identity, "seq"))
    columns, _ = build_events(raw, told_batch([GOOD]))
    assert columns.table["venue_seq"].to_pylist() == [7]


@pytest.mark.parametrize("number", [-1, NATIVE_ID_LIMIT, 1 << 64])
def test_a_number_that_cannot_be_counted_costs_its_row(number: int) -> None:
    raw = raw_trades([Told(1), Told(2)], Channel("trade", "content", "seq"))
    raw.sequence = [number, 5]
    columns, dead = build_events(raw, told_batch([Told(1), Told(2)]))
    assert columns.numbers.tolist() == [5]
    assert [(letter.frame, letter.reason) for letter in dead] == [(0, "bad_id")]


def test_what_counts_the_venues_integers_must_give_some() -> None:
    raw = raw_trades([GOOD])
    raw.native = ["seven"]
    with pytest.raises(TypeError, match="counts integers of the venue"):
        build_events(raw, told_batch([GOOD]))


# ----------------------------------------------------------------------------- ids as texts

TEXT_IDS = Channel("trade", "native", "time")


def texts(*natives: str | None) -> tuple[EventColumns, list[DeadLetter]]:
    trades = [GOOD] * len(natives)
    raw = raw_trades(trades, TEXT_IDS)
    raw.native = list(natives)
    return build_events(raw, told_batch(trades))


def test_an_id_that_is_a_text_is_the_event_whoever_tells_it() -> None:
    columns, dead = texts("8f5a-1", "8f5a-2", "8f5a-1", "8F5A-1")
    assert not dead
    one, two, again, upper = columns.table["event_id"].to_pylist()
    assert one == again
    assert len({one, two, upper}) == 3
    assert columns.table["trade_id"].to_pylist() == ["8f5a-1", "8f5a-2", "8f5a-1", "8F5A-1"]
    assert columns.table["venue_seq"].null_count == 4


@pytest.mark.parametrize("missing", ["", None])
def test_an_id_that_is_missing_costs_its_row(missing: str | None) -> None:
    columns, dead = texts("a", missing, "b")
    assert columns.table["trade_id"].to_pylist() == ["a", "b"]
    assert [(letter.frame, letter.reason) for letter in dead] == [(1, "bad_id")]


# ------------------------------------------------------------------------------------- times


def at(*values: int | None, unit_ns: int) -> tuple[EventColumns, list[DeadLetter]]:
    trades = [Told(n + 1) for n in range(len(values))]
    raw = raw_trades(trades, replace(TRADES, time_unit_ns=1))
    raw.time = Moments(values, unit_ns)
    return build_events(raw, told_batch(trades))


@pytest.mark.parametrize("unit_ns", [1, 1000, 10**6, SECOND])
def test_integers_are_times_in_their_unit(unit_ns: int) -> None:
    columns, dead = at(T0 // unit_ns, T0 // unit_ns + 1, unit_ns=unit_ns)
    assert not dead
    assert columns.table["exchange_ts"].cast(pa.int64()).to_pylist() == [T0, T0 + unit_ns]
    assert columns.table["event_ts"].cast(pa.int64()).to_pylist() == [T0, T0 + unit_ns]


@pytest.mark.parametrize("bad", [None, -1, 2**63 // SECOND + 1, 2**63, 10**400, -(10**400)])
def test_an_integer_that_is_no_time_costs_its_row(bad: int | None) -> None:
    columns, dead = at(T0 // SECOND, bad, T0 // SECOND, unit_ns=SECOND)
    assert columns.numbers.tolist() == [1, 3]
    assert [(letter.frame, letter.reason) for letter in dead] == [(1, "bad_time")]


@pytest.mark.parametrize(
    ("told_in", "read_as"), [(10**6, SECOND), (SECOND, 10**6), (1000, 1), (1, 1000)]
)
def test_an_integer_in_another_unit_than_declared_is_implausible(
    told_in: int, read_as: int
) -> None:
    columns, dead = at(T0 // told_in, unit_ns=read_as)
    assert len(columns.table) == 0
    assert {letter.reason for letter in dead} < {"implausible_time", "bad_time"}


def test_a_time_that_is_missing_costs_its_row() -> None:
    raw = raw_trades([Told(1), Told(2)])
    raw.time = [None, "2021-04-17T16:43:37Z"]
    columns, dead = build_events(raw, told_batch([Told(1), Told(2)]))
    assert columns.numbers.tolist() == [2]
    assert [(letter.frame, letter.reason) for letter in dead] == [(0, "bad_time")]


def test_where_a_venue_gives_no_time_the_event_is_when_it_was_received() -> None:
    told = GOOD.but(received_ns=T0 + 123_456_789)
    raw = raw_trades([told], Channel("trade", "observation", "time", time_unit_ns=10**6))
    raw.time = None
    columns, dead = build_events(raw, told_batch([told]))
    assert not dead
    (row,) = columns.finish().drop_columns(["event_ts", "received_ts"]).to_pylist()
    assert row["exchange_ts"] is None
    assert columns.table["received_ts"][0].value == T0 + 123_456_789
    assert columns.table["event_ts"][0].value == T0 + 123_000_000
    assert row["flags"] == ""
