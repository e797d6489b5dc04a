"""Kinds of events: what each accepts, and that what is missing is never a number."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.channels import Channel
from forebay.domain.events import EventColumns, build_events
from forebay.domain.kinds import KINDS, kind_of_table
from forebay.domain.parsed import DeadLetter, Moments, RawEvents
from tests.support.frames import T0, batch, rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = dict[str, Any]

BEGIN, END = rfc3339(T0), rfc3339(T0 + 60 * 10**9)
LEVELS: Row = {
    "bid_prices": ["1.5", "1.4"],
    "bid_sizes": ["3", "0"],
    "ask_prices": ["1.6"],
    "ask_sizes": ["0.000000000000000001"],
}
GOOD: dict[str, Row] = {
    "trade": {"price": "1.5", "size": "2", "side": "buy"},
    "quote": {"bid_price": "1.5", "bid_size": "0", "ask_price": "1.6", "ask_size": "2"},
    "ticker": {
        "price": "1.5",
        **dict.fromkeys(("bid_price", "open_24h", "high_24h", "low_24h", "vwap_24h"), "1"),
        **dict.fromkeys(("size", "bid_size", "ask_size", "volume_24h"), "0"),
        "ask_price": "2",
    },
    "bar": {
        "timeframe": "1m",
        "session": "UTC",
        "of": "trade",
        "adjusted": "false",
        "open_ts": BEGIN,
        "close_ts": END,
        "open": "2",
        "high": "3",
        "low": "1",
        "close": "3",
        "volume": "0",
        "trades": 0,
        "vwap": "2",
        "origin": "venue",
        "state": "final",
        "revision": 1,
    },
    "book_snapshot": LEVELS,
    "book_delta": LEVELS,
    "market_series": {"change": "listed", "title": "Gold", "fee_multiplier": "1"},
    "market_event": {"series_symbol": "GOLD", "strike_ts": BEGIN, "mutually_exclusive": "true"},
    "market": {
        "event_symbol": "GOLD-26",
        "open_ts": BEGIN,
        "close_ts": END,
        "can_close_early": "false",
        "floor_strike": "-4.5",
        "cap_strike": "0.25",
        "settlement_delay_s": 1,
    },
}
STATEMENTS = ("market_series", "market_event", "market")
OPTIONAL = {
    **{kind: set(GOOD[kind]) for kind in STATEMENTS},
    "quote": {"bid_size", "ask_size"},
    "ticker": set(GOOD["ticker"]) - {"price"},
    "bar": {"trades", "vwap"},
}
"""Columns that a venue may leave out, by kind."""
NOT_NUMBERS = ["NaN", "", "1,5", "-1", "1e400", "1" * 21]


def raw(kind: str, rows: Sequence[Row], *, relative: bool = False) -> RawEvents:
    """Build what a parser makes of one frame a row."""
    frames = list(range(len(rows)))
    names = dict.fromkeys(name for row in rows for name in row)
    return RawEvents(
        channel=Channel(kind, "session" if relative else "observation", "time", relative=relative),
        native=frames if relative else None,
        frame=frames,
        item=[0] * len(rows),
        venue_symbol=["A-B"] * len(rows),
        symbol=["A-B"] * len(rows),
        time=[rfc3339(T0)] * len(rows),
        columns={name: [row.get(name) for row in rows] for name in names},
    )


def check(kind: str, *rows: Row) -> tuple[EventColumns, list[DeadLetter]]:
    return build_events(raw(kind, rows), batch([b"x"] * len(rows)))


def accepted(kind: str, *rows: Row) -> list[Row]:
    """Return the columns of the kind of rows that must all be accepted."""
    columns, dead = check(kind, *rows)
    assert not dead
    found: list[Row] = columns.table.select(KINDS[kind].columns.names).to_pylist()
    return found


def bad(kind: str, reason: str, **changed: object) -> tuple[str, str, Row]:
    return kind, reason, GOOD[kind] | changed


BAD = [
    *[bad("trade", "bad_price", price=text) for text in (*NOT_NUMBERS, "0", None)],
    *[bad("trade", "bad_size", size=text) for text in (*NOT_NUMBERS, "0", None)],
    *[bad("trade", "bad_side", side=text) for text in ("", "BUY", None)],
    *[
        bad("quote", "bad_price", **{name: text})
        for name in ("bid_price", "ask_price")
        for text in (*NOT_NUMBERS, "0", None)
    ],
    *[
        bad("quote", "bad_size", **{name: text})
        for name in ("bid_size", "ask_size")
        for text in NOT_NUMBERS
    ],
    *[bad("ticker", "bad_price", price=text) for text in (*NOT_NUMBERS, "0", None)],
    *[
        bad("ticker", "bad_price", **{name: text})
        for name in ("bid_price", "ask_price", "open_24h", "high_24h", "low_24h", "vwap_24h")
        for text in ("NaN", "0", "")
    ],
    *[
        bad("ticker", "bad_size", **{name: text})
        for name in ("size", "bid_size", "ask_size", "volume_24h")
        for text in ("NaN", "-1", "")
    ],
    *[
        bad("bar", "bad_value", **{name: text})
        for name in ("timeframe", "session", "of", "adjusted", "origin", "state")
        for text in ("", "x", None)
    ],
    *[
        bad("bar", "bad_price", **{name: text})
        for name in ("open", "high", "low", "close")
        for text in (*NOT_NUMBERS, "0", None)
    ],
    *[bad("bar", "bad_price", **{name: "3.1"}) for name in ("open", "close", "low")],
    *[bad("bar", "bad_price", **{name: "0.9"}) for name in ("open", "close", "high")],
    bad("bar", "bad_price", vwap="0"),
    *[bad("bar", "bad_size", volume=text) for text in (*NOT_NUMBERS, None)],
    *[bad("bar", "bad_value", trades=number) for number in (-1, 2**63, 10**400, -(10**400))],
    *[bad("bar", "bad_value", revision=number) for number in (0, -1, 2**63, None)],
    *[bad("bar", "bad_time", close_ts=text) for text in ("", "now", BEGIN, rfc3339(T0 - 1000))],
    *[bad("bar", "bad_time", **{name: None}) for name in ("open_ts", "close_ts")],
    *[
        bad(kind, reason, **changed)
        for kind in ("book_snapshot", "book_delta")
        for reason, changed in (
            ("bad_price", {"bid_prices": ["1.5"]}),
            ("bad_price", {"bid_sizes": ["3"]}),
            ("bad_price", {"ask_sizes": []}),
            ("bad_price", {"ask_prices": [], "ask_sizes": ["1"]}),
            ("bad_price", {"ask_prices": None}),
            ("bad_price", {"ask_sizes": None}),
            ("bad_price", {"ask_prices": None, "ask_sizes": None}),
            ("bad_price", {"bid_prices": ["1.5", "0"]}),
            ("bad_price", {"bid_prices": ["1.5", "NaN"]}),
            ("bad_price", {"bid_prices": ["1.5", None]}),
            ("bad_size", {"bid_sizes": ["3", "-1"]}),
            ("bad_size", {"bid_sizes": ["3", ""]}),
            ("bad_size", {"ask_sizes": [None]}),
        )
    ],
]


@pytest.mark.parametrize(("kind", "reason", "row"), BAD, ids=lambda value: repr(value)[-30:])
def test_a_bad_row_is_a_dead_letter_with_its_reason(kind: str, reason: str, row: Row) -> None:
    columns, dead = check(kind, row)
    assert [letter.reason for letter in dead] == [reason]
    assert len(columns.table) == len(columns.flags) == 0


def test_every_kind_is_asked_here() -> None:
    assert set(GOOD) == set(KINDS)
    assert {kind for kind, _, _ in BAD} == set(KINDS) - {*STATEMENTS}
    assert {name for name, kind in KINDS.items() if kind.holds} == {*STATEMENTS}
    assert all(kind_of_table(kind.table) is kind for kind in KINDS.values())


@pytest.mark.parametrize("kind", GOOD)
def test_each_column_is_required_or_null_where_it_is_absent(kind: str) -> None:
    for name in GOOD[kind]:
        without = {column: cell for column, cell in GOOD[kind].items() if column != name}
        for row in (without, GOOD[kind] | {name: None}):
            columns, dead = check(kind, row, row)
            if name in OPTIONAL.get(kind, ()):
                assert not dead
                assert columns.table[name].to_pylist() == [None, None]
            else:
                assert len(dead) == 2, name


@pytest.mark.parametrize("kind", OPTIONAL)
def test_what_is_absent_in_one_message_is_there_in_the_next(kind: str) -> None:
    nothing = dict.fromkeys(OPTIONAL[kind])
    found = accepted(kind, GOOD[kind] | nothing, GOOD[kind])
    assert [found[0][name] for name in sorted(nothing)] == [None] * len(nothing)
    assert all(found[1][name] is not None for name in nothing)


@pytest.mark.parametrize("kind", GOOD)
@given(data=st.data())
def test_a_bad_row_costs_only_itself_and_no_verdict_depends_on_neighbours(
    kind: str, data: st.DataObject
) -> None:
    rows = [row for of, _, row in BAD if of == kind]
    told = data.draw(st.lists(st.sampled_from([GOOD[kind], *rows]), max_size=12))
    names = KINDS[kind].columns.names
    alone = [check(kind, row) for row in told]
    columns, dead = check(kind, *told) if told else (None, [])
    assert {letter.frame: (letter.reason, letter.error) for letter in dead} == {
        place: (letter.reason, letter.error)
        for place, (_, letters) in enumerate(alone)
        for letter in letters
    }
    if columns is not None:
        expected = [row for made, _ in alone for row in made.table.select(names).to_pylist()]
        assert columns.table.select(names).to_pylist() == expected


# ----------------------------------------------------------------------------------- what is said


def test_a_quote_says_exact_numbers() -> None:
    (quote,) = accepted("quote", GOOD["quote"] | {"bid_size": "0.000000000000000001"})
    assert quote == {
        "bid_price": Decimal("1.5"),
        "bid_size": Decimal("0.000000000000000001"),
        "ask_price": Decimal("1.6"),
        "ask_size": Decimal(2),
    }


@pytest.mark.parametrize("kind", ["quote", "ticker"])
@pytest.mark.parametrize(
    ("bid", "ask", "flags"), [("1", "2", ""), ("2", "2", "crossed"), ("2.1", "2", "crossed")]
)
def test_a_bid_that_is_not_below_the_ask_is_crossed(
    kind: str, bid: str, ask: str, flags: str
) -> None:
    columns, _ = check(kind, GOOD[kind] | {"bid_price": bid, "ask_price": ask})
    assert columns.finish()["flags"].to_pylist() == [flags]


@pytest.mark.parametrize("name", ["bid_price", "ask_price"])
def test_a_ticker_with_one_side_is_not_crossed(name: str) -> None:
    columns, _ = check("ticker", GOOD["ticker"] | {name: None})
    assert columns.finish()["flags"].to_pylist() == [""]


@pytest.mark.parametrize("kind", ["book_snapshot", "book_delta"])
def test_a_book_is_told_in_the_venues_order(kind: str) -> None:
    empty: Row = {name: [] for name in LEVELS}
    one_side = LEVELS | {"ask_prices": [], "ask_sizes": []}
    assert accepted(kind, LEVELS, empty, one_side) == [
        {name: [Decimal(text) for text in row[name]] for name in LEVELS}
        for row in (LEVELS, empty, one_side)
    ]


def test_levels_stay_with_their_rows_when_others_are_refused() -> None:
    rows = [LEVELS | {"bid_sizes": None}, LEVELS, LEVELS | {"bid_prices": ["?"]}, LEVELS]
    columns, dead = check("book_delta", *rows)
    assert [letter.frame for letter in dead] == [0, 2]
    assert columns.table["bid_prices"].to_pylist() == [[Decimal("1.5"), Decimal("1.4")]] * 2
    assert columns.table["ask_sizes"].to_pylist() == [[Decimal("0.000000000000000001")]] * 2


SIGNED = {"0.25": "0.25", "-0.25": "-0.25", "-1e-18": "-0.000000000000000001", "-0300.00": "-300"}
UNSIGNED = ["0", "-0", "0.00", "-0e3", "--1", "+1", "- 1", "-", "-1e-19", "-" + "1" * 21]


@pytest.mark.parametrize("side", ["bid", "ask"])
@pytest.mark.parametrize("text", [*SIGNED, *UNSIGNED])
def test_a_difference_has_a_sign_and_is_never_0(side: str, text: str) -> None:
    sizes = [text] * len(LEVELS[f"{side}_prices"])
    row = LEVELS | {"bid_sizes": ["3", "1"], f"{side}_sizes": sizes}
    columns, dead = build_events(raw("book_delta", [row], relative=True), batch([b"x"]))
    assert [letter.reason for letter in dead] == ["bad_size"] * (text in UNSIGNED)
    told = {size for sizes in columns.table[f"{side}_sizes"].to_pylist() for size in sizes}
    assert told == ({Decimal(SIGNED[text])} if text in SIGNED else set())


def test_a_price_has_no_sign_wherever_sizes_have_one() -> None:
    row = LEVELS | {"bid_sizes": ["3", "-1"], "ask_prices": ["-1.6"]}
    _, dead = build_events(raw("book_delta", [row], relative=True), batch([b"x"]))
    assert [letter.reason for letter in dead] == ["bad_price"]


@pytest.mark.parametrize("name", ["open", "close"])
def test_a_bar_may_begin_and_end_at_its_edges(name: str) -> None:
    for edge in ("1", "3"):
        (bar,) = accepted("bar", GOOD["bar"] | {name: edge})
        assert bar[name] == Decimal(edge)


@pytest.mark.parametrize("unit_ns", [10**9, 10**6, 1000])
def test_times_of_a_bar_may_be_integers(unit_ns: int) -> None:
    rows = [GOOD["bar"]] * 3
    made = raw("bar", rows)
    begin = T0 // unit_ns
    ends = [begin + 60, begin, None]
    made.columns = dict(made.columns) | {
        "open_ts": Moments([begin] * 3, unit_ns),
        "close_ts": Moments(ends, unit_ns),
    }
    columns, dead = build_events(made, batch([b"x"] * 3))
    assert {letter.frame: letter.reason for letter in dead} == {1: "bad_time", 2: "bad_time"}
    times = columns.table.select(["open_ts", "close_ts"])
    assert [column.cast(pa.int64()).to_pylist() for column in times] == [
        [T0],
        [T0 + 60 * unit_ns],
    ]


def test_of_two_reasons_against_a_row_the_first_stays() -> None:
    _, dead = check("trade", GOOD["trade"] | {"price": "?", "size": "?", "side": "?"})
    assert dead == [DeadLetter(0, 0, "bad_price", "price '?' of A-B")]
