"""Tickers, quotes and books of Coinbase, from its frames to rows and dead letters."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from forebay.services.projection import Projection
from forebay.sources.coinbase.protocol import CoinbaseParser
from tests.support.frames import T0, batch, context, heartbeat, l2update, match, snapshot, ticker

if TYPE_CHECKING:
    from forebay.services.projection import Projected

WAYS = [0, 10**9]
"""Frames are read as columns, or one by one."""
DAY = 86_400 * 10**9


def project(*payloads: bytes, fewest: int = 10**9, **asked: Any) -> Projected:  # noqa: ANN401
    parser = CoinbaseParser(fewest)
    return Projection({"coinbase": parser}, {}).project([batch(payloads, context(**asked))])


def rows(projected: Projected, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table, decimals as texts without trailing zeros."""
    tables = projected.events
    if table not in tables:
        return []
    told = tables[table].rows
    times = [name for name in told.column_names if name.endswith("_ts")]
    for name in times:
        told = told.set_column(told.column_names.index(name), name, told[name].cast(pa.int64()))
    return [{name: plain(cell) for name, cell in row.items()} for row in told.to_pylist()]


def plain(cell: Any) -> Any:  # noqa: ANN401 - any cell
    if isinstance(cell, list):
        return [plain(member) for member in cell]
    if type(cell).__name__ == "Decimal":
        return f"{cell:f}".rstrip("0").rstrip(".")
    return cell


def account(projected: Projected) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many rows each table got, and the reasons of dead letters."""
    return (
        {table: len(told.rows) for table, told in projected.events.items()},
        dict(projected.reasons),
    )


# --------------------------------------------------------------------------------- tickers


def test_a_ticker_is_a_ticker_and_a_quote() -> None:
    projected = project(ticker())
    (row,) = rows(projected, "tickers")
    expected = {
        "price": "100.5", "size": "1008.2", "bid_size": "3", "ask_size": "4",
        "volume_24h": "3479861.1", "bid_price": "100.4", "ask_price": "100.6", "open_24h": "99",
        "high_24h": "102", "low_24h": "98", "vwap_24h": None, "event_ts": T0, "exchange_ts": T0,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    (quote,) = rows(projected, "quotes")
    best = {"bid_price": "100.4", "bid_size": "3", "ask_price": "100.6", "ask_size": "4"}
    assert {name: quote[name] for name in best} == best
    assert quote["event_ts"] == T0
    assert projected.frames == Counter(yielding=1)


def test_sizes_that_the_venue_does_not_tell_are_null() -> None:
    projected = project(ticker(best_bid_size=None, best_ask_size=None, last_size=None))
    (quote,), (row,) = rows(projected, "quotes"), rows(projected, "tickers")
    assert (quote["bid_size"], quote["ask_size"]) == (None, None)
    assert (row["bid_size"], row["ask_size"], row["size"]) == (None, None, None)


NEVER_TRADED = ticker(price="0", trade_id=None, last_size=None, open_24h="0", high_24h="0",
                      low_24h="0", volume_24h="0", time=None)  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param(NEVER_TRADED, {"quotes": 1}, id="never traded"),
        pytest.param(ticker(price=None, trade_id=0), {"quotes": 1}, id="no price"),
        pytest.param(ticker(best_bid="0"), {"tickers": 1}, id="no bid, as 0"),
        pytest.param(ticker(best_ask=""), {"tickers": 1}, id="no ask, as nothing"),
        pytest.param(ticker(best_ask=None), {"tickers": 1}, id="no ask"),
        pytest.param(ticker(open_24h="0", low_24h=""), {"tickers": 1, "quotes": 1}, id="new"),
        pytest.param(ticker(price="0.00", trade_id=0, best_bid="0"), {}, id="nothing at all"),
    ],
)
def test_what_does_not_exist_is_absent_and_never_zero(
    payload: bytes, expected: dict[str, int]
) -> None:
    projected = project(payload)
    assert account(projected) == (expected, {})
    assert projected.frames == (Counter(yielding=1) if expected else Counter(control=1))
    for row in rows(projected, "tickers"):
        prices = {row[name] for name in ("bid_price", "ask_price", "open_24h", "low_24h")}
        assert "0" not in prices
        assert None in prices


@pytest.mark.parametrize(
    ("payload", "expected", "reasons"),
    [
        (ticker(price="x"), {"quotes": 1}, {"bad_price": 1}),
        (ticker(price="0"), {"quotes": 1}, {"bad_price": 1}),
        (ticker(price=None), {"quotes": 1}, {"bad_price": 1}),
        (ticker(best_bid="-1"), {}, {"bad_price": 2}),
        (ticker(volume_24h="much"), {"quotes": 1}, {"bad_size": 1}),
        (ticker(time="yesterday"), {}, {"bad_time": 2}),
        (ticker(price=5), {}, {"wrong_type": 1}),
        (ticker(product_id=None), {}, {"missing_field": 1}),
        (ticker("btc"), {}, {"unknown_symbol": 1}),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else "",
)
def test_poison_in_one_kind_costs_not_the_other(
    payload: bytes, expected: dict[str, int], reasons: dict[str, int]
) -> None:
    assert account(project(payload)) == (expected, reasons)


def test_the_two_events_of_a_frame_are_two_items() -> None:
    letters = project(ticker(best_bid="-1")).letters
    assert letters is not None
    assert sorted(letters["item"].to_pylist()) == [0, 1]
    assert len(set(letters["letter_id"].to_pylist())) == 2


def test_a_crossed_ticker_is_stored_and_flagged() -> None:
    projected = project(ticker(best_bid="101", best_ask="100"))
    assert {row["flags"] for row in rows(projected, "quotes")} == {"crossed"}


# ----------------------------------------------------------------------------------- books


def test_a_snapshot_is_a_row_of_all_levels_at_the_time_of_receipt() -> None:
    projected = project(snapshot([["100", "1"], ["99.50", "2"]], [["101", "0.5"]]))
    (row,) = rows(projected, "book_snapshots")
    assert (row["bid_prices"], row["bid_sizes"]) == (["100", "99.5"], ["1", "2"])
    assert (row["ask_prices"], row["ask_sizes"]) == (["101"], ["0.5"])
    assert row["event_ts"] == row["received_ts"]
    assert row["exchange_ts"] is None
    assert row["flags"] == ""


def test_a_snapshot_may_tell_its_time() -> None:
    told = snapshot([], [["101", "1"]], time="2021-04-17T16:43:37.000001Z")
    found = rows(project(told, snapshot(None, None)), "book_snapshots")
    assert [row["event_ts"] - T0 for row in found] == [1000, 2_001_000_000]
    assert [row["bid_prices"] for row in found] == [[], []]
    assert [row["ask_prices"] for row in found] == [["101"], []]


@pytest.mark.parametrize("fewest", WAYS)
def test_changes_are_by_side_in_the_venues_order(fewest: int) -> None:
    projected = project(
        l2update(("buy", "100", "0.00000000")),
        l2update(("sell", "101", "2"), ("buy", "99", "1"), ("sell", "102", "3")),
        l2update(("sell", "103", "4")),
        l2update(),
        fewest=fewest,
    )
    found = rows(projected, "book_deltas")
    assert [row["bid_prices"] for row in found] == [["100"], ["99"], [], []]
    assert [row["bid_sizes"] for row in found] == [["0"], ["1"], [], []]
    assert [row["ask_prices"] for row in found] == [[], ["101", "102"], ["103"], []]
    assert [row["ask_sizes"] for row in found] == [[], ["2", "3"], ["4"], []]
    assert [row["seq"] for row in found] == [1, 2, 3, 4]


@pytest.mark.parametrize("fewest", WAYS)
@pytest.mark.parametrize(
    ("time", "known"),
    [
        ("0001-01-01T00:00:00Z", False),
        ("0001-01-01T00:00:00.000000Z", False),
        ("1999-12-31T23:59:59Z", False),
        ("2008-12-31T23:59:59.9Z", False),
        ("2009-01-01T00:00:00Z", True),
        ("2021-04-18T16:43:38Z", True),
        ("2021-04-18T16:43:40Z", False),
        ("2021-04-18T18:43:30+02:00", True),
        ("9999-01-01T00:00:00Z", False),
        (None, False),
    ],
)
def test_changes_whose_time_cannot_be_are_valid_and_have_none(
    time: str | None, known: bool, fewest: int
) -> None:
    projected = project(
        l2update(("buy", "1", "1")),
        l2update(("buy", "1", "2"), time=time),
        l2update(("buy", "1", "3")),
        fewest=fewest,
    )
    found = rows(projected, "book_deltas")
    assert [row["bid_sizes"] for row in found] == [["1"], ["2"], ["3"]]
    assert (found[1]["exchange_ts"] is not None) is known
    assert (found[1]["event_ts"] == found[1]["received_ts"]) is not known
    assert found[0]["event_ts"] == found[2]["event_ts"] == T0


def test_a_time_that_is_none_at_all_is_a_dead_letter() -> None:
    for text in ("yesterday", "2021-13-45T00:00:00Z", "2021-04-17T16:43:37"):
        projected = project(l2update(("buy", "1", "1"), time=text), l2update(("buy", "1", "2")))
        assert account(projected) == ({"book_deltas": 1}, {"bad_time": 1})


@pytest.mark.parametrize("fewest", WAYS)
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (l2update(("bid", "1", "2")), "bad_side"),
        (l2update(("buy", "1", "2"), ("", "1", "2")), "bad_side"),
        (l2update(("buy", "x", "2")), "bad_price"),
        (l2update(("buy", "0", "2")), "bad_price"),
        (l2update(("buy", "1", "-2")), "bad_size"),
        (l2update(("buy", "1", "")), "bad_size"),
        (l2update(("buy", "1")), "wrong_type"),
        (l2update(changes=None), "missing_field"),
        (l2update(("buy", "1", "2"), changes=[["buy", 1, "2"]]), "wrong_type"),
        (l2update(("buy", "1", "2"), product="x"), "unknown_symbol"),
        (snapshot([["1"]], []), "wrong_type"),
        (snapshot([["x", "1"]], []), "bad_price"),
        (snapshot([["1", "1"]], [["2", "y"]]), "bad_size"),
        (snapshot([], []).replace(b'"asks":[],', b""), "missing_field"),
        (snapshot([], [], product="x-"), "unknown_symbol"),
    ],
    ids=lambda value: repr(value)[:70],
)
def test_a_malformed_book_is_dead_and_its_neighbours_are_not(
    payload: bytes, reason: str, fewest: int
) -> None:
    good = l2update(("buy", "1", "2"))
    projected = project(good, payload, good, snapshot([], []), fewest=fewest)
    assert account(projected)[1] == {reason: 1}
    assert account(projected)[0] == {"book_deltas": 2, "book_snapshots": 1}
    assert projected.frames == Counter(yielding=3, dead=1, control=0)


def test_a_snapshot_whose_best_bid_is_above_its_best_ask_is_flagged() -> None:
    crossed = snapshot([["99", "1"], ["101", "1"]], [["102", "1"], ["100", "1"]])
    touching = snapshot([["100", "1"]], [["100", "1"]])
    right = snapshot([["99", "1"]], [["100", "1"]])
    found = rows(project(crossed, right, touching, snapshot([], [["1", "1"]])), "book_snapshots")
    assert [row["flags"] for row in found] == ["crossed", "", "crossed", ""]


# ------------------------------------------------------------------------- what is asked for

EVERYTHING = (ticker(), match(7), snapshot([], []), l2update(("buy", "1", "1")), heartbeat(9))
TABLES = {
    "trade": "trades",
    "ticker": "tickers",
    "quote": "quotes",
    "book_snapshot": "book_snapshots",
    "book_delta": "book_deltas",
}


@pytest.mark.parametrize("fewest", WAYS)
@pytest.mark.parametrize(
    "channels", [(), *((kind,) for kind in TABLES), ("trade", "quote"), ("bar",)]
)
def test_only_the_kinds_that_were_asked_for_are_told(
    channels: tuple[str, ...], fewest: int
) -> None:
    projected = project(*EVERYTHING, fewest=fewest, channels=channels)
    expected = {TABLES[kind]: 1 for kind in channels if kind in TABLES} or (
        {} if channels else dict.fromkeys(TABLES.values(), 1)
    )
    assert account(projected) == (expected, {})
    assert projected.frames.total() == len(EVERYTHING)
    assert projected.unbuilt == Counter()
    trades = [stream for stream in projected.coverage if stream.channel == "trade"]
    assert bool(trades) is ("trade" in (channels or TABLES)), "a heartbeat tells of trades"


def test_symbols_that_were_not_asked_for_are_dead_letters_of_any_kind() -> None:
    projected = project(*EVERYTHING[:4], symbols=("ETH-USD",))
    assert account(projected) == ({}, {"unknown_symbol": 4})
