"""The streams of Massive: many events a frame, each for itself."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from forebay.services.projection import Projection
from forebay.sources.massive.protocol import MassiveParser
from tests.support.frames import SECOND, as_json, batch, context
from tests.unit.sources.coinbase.test_feed_kinds import rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.services.projection import Projected

T0_MS = 1_700_000_040_000
T0 = T0_MS * 1_000_000
FOREX = {
    "C": {"ev": "C", "p": "EUR/USD", "x": 48, "a": 1.0822, "b": 1.0821, "t": T0_MS + 123},
    "CA": {"ev": "CA", "pair": "EUR/USD", "o": 1.0821, "c": 1.0822, "h": 1.0823, "l": 1.0820,
           "v": 77, "s": T0_MS, "e": T0_MS + 60_000},
    "CAS": {"ev": "CAS", "pair": "EUR/USD", "o": 1.0821, "c": 1.0822, "h": 1.0823, "l": 1.0820,
            "v": 7, "s": T0_MS, "e": T0_MS + 1000},
}  # fmt: skip
CRYPTO = {
    "XT": {"ev": "XT", "pair": "BTC-USD", "p": 33021.9, "s": 0.0616, "t": T0_MS + 123, "c": [2],
           "i": "14272084", "x": 3, "r": T0_MS + 130},
    "XQ": {"ev": "XQ", "pair": "BTC-USD", "bp": 33052.79, "bs": 0.48, "ap": 33073.19, "as": 0.601,
           "t": T0_MS + 123, "x": 2, "r": T0_MS + 130},
    "XA": {"ev": "XA", "pair": "BTC-USD", "o": 100, "h": 102, "l": 99, "c": 101, "v": 6.0367,
           "vw": 100.5, "z": 0.1, "s": T0_MS, "e": T0_MS + 60_000},
    "XAS": {"ev": "XAS", "pair": "BTC-USD", "o": 100, "h": 102, "l": 99, "c": 101, "v": 6.0367,
            "vw": 100.5, "z": 0, "s": T0_MS, "e": T0_MS + 1000},
}  # fmt: skip
TABLES = {"C": "quotes", "XQ": "quotes", "XT": "trades"}
PRICES = [("C", "a"), ("C", "b"), ("CA", "o"), ("CA", "h"), ("CA", "l"), ("CA", "c"), ("CA", "v"),
          ("CA", "s"), ("CA", "e"), ("C", "t"), ("C", "p"), ("CAS", "pair"), ("XT", "p"),
          ("XT", "s"), ("XT", "t"), ("XT", "i"), ("XT", "x"), ("XT", "pair"), ("XQ", "bp"),
          ("XQ", "bs"), ("XQ", "ap"), ("XQ", "as"), ("XQ", "t"), ("XA", "o"),
          ("XAS", "v")]  # fmt: skip


def event(kind: str, /, **changed: object) -> dict[str, object]:
    """Build an event; ``changed`` replaces or adds fields, ``...`` takes one out."""
    whole = {**FOREX, **CRYPTO}[kind] | changed
    return {name: value for name, value in whole.items() if value is not ...}


def project(*payloads: bytes, at_ns: int = T0 + 62 * SECOND, **asked: Any) -> Projected:  # noqa: ANN401
    """Project frames of either market."""
    fields = {"venue": "massive", "market": "forex", "symbols": (), **asked}
    told = batch(payloads, context(**fields), received_ns=[at_ns] * len(payloads))
    return Projection({"massive": MassiveParser()}, {}).project([told])


def only(kind: str, /, *, at_ns: int = T0 + 62 * SECOND, **changed: object) -> dict[str, Any]:
    """Return the row that one event is."""
    projected = project(as_json([event(kind, **changed)]), at_ns=at_ns)
    (row,) = rows(projected, TABLES.get(kind, "bars"))
    return row


def test_a_quote_of_currencies_has_no_sizes() -> None:
    row = only("C")
    expected = {"market": "forex", "symbol": "EUR-USD", "venue_symbol": "EUR/USD",
                "bid_price": "1.0821", "ask_price": "1.0822", "bid_size": None, "ask_size": None,
                "event_ts": T0 + 123_000_000, "exchange_ts": T0 + 123_000_000}  # fmt: skip
    assert {name: row[name] for name in expected} == expected


def test_a_quote_of_cryptocurrencies_has_sizes() -> None:
    row = only("XQ")
    expected = {"market": "crypto", "symbol": "BTC-USD", "bid_price": "33052.79",
                "bid_size": "0.48", "ask_price": "33073.19", "ask_size": "0.601"}  # fmt: skip
    assert {name: row[name] for name in expected} == expected


def test_a_trade_is_named_by_its_exchange_and_id() -> None:
    row = only("XT")
    expected = {"market": "crypto", "symbol": "BTC-USD", "trade_id": "3:14272084", "side": "buy",
                "price": "33021.9", "size": "0.0616", "event_ts": T0 + 123_000_000}  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert only("XT", x=4)["event_id"] != row["event_id"]
    assert only("XT", i=14272084)["event_id"] == row["event_id"]


@pytest.mark.parametrize(
    ("conditions", "side"),
    [([1], "sell"), ([2], "buy"), ([0], "unknown"), ([], "unknown"), ([1, 2], "unknown"),
     ([0, 1], "sell"), (None, "unknown"), (..., "unknown")],
)  # fmt: skip
def test_the_condition_says_which_side_took(conditions: object, side: str) -> None:
    assert only("XT", c=conditions)["side"] == side


@pytest.mark.parametrize(
    ("kind", "timeframe", "of", "market"),
    [("CA", "1m", "quote", "forex"), ("CAS", "1s", "quote", "forex"),
     ("XA", "1m", "trade", "crypto"), ("XAS", "1s", "trade", "crypto")],
)  # fmt: skip
def test_a_bar_is_of_its_length_and_market(kind: str, timeframe: str, of: str, market: str) -> None:
    row = only(kind)
    expected = {"timeframe": timeframe, "of": of, "market": market, "adjusted": False,
                "origin": "venue", "state": "final", "open_ts": T0, "trades": None}  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["close_ts"] - row["open_ts"] == (60 if timeframe == "1m" else 1) * SECOND
    assert row["vwap"] == (None if market == "forex" else "100.5")


@pytest.mark.parametrize(("late_s", "state"), [(-1, "provisional"), (0, "final"), (2, "final")])
def test_a_bar_of_the_stream_is_final_once_it_is_over(late_s: int, state: str) -> None:
    assert only("CA", at_ns=T0 + (60 + late_s) * SECOND)["state"] == state


def test_a_frame_holds_events_of_several_kinds_in_order() -> None:
    told = [event("C"), event("CA"), event("C", t=T0_MS + 124), event("XT"), event("XQ")]
    projected = project(as_json(told))
    assert projected.frames == Counter(control=0, yielding=1, dead=0)
    assert len(rows(projected, "quotes")) == 3
    assert {row["market"] for row in rows(projected, "quotes")} == {"forex", "crypto"}
    assert len(rows(projected, "bars")) == len(rows(projected, "trades")) == 1


@pytest.mark.parametrize(("kind", "field"), PRICES)
def test_a_field_that_is_missing_costs_its_event_alone(kind: str, field: str) -> None:
    told = as_json([event(kind), event(kind, **{field: ...}), event("C", t=T0_MS + 500)])
    projected = project(told)
    assert projected.reasons == Counter(missing_field=1)
    assert sum(len(rows(projected, table)) for table in ("quotes", "trades", "bars")) == 2


@pytest.mark.parametrize(
    ("kind", "changed", "reason"),
    [
        ("CA", {"h": 1.08}, "bad_price"),
        ("CA", {"l": 1.09}, "bad_price"),
        ("CA", {"v": -1}, "bad_size"),
        ("CA", {"e": T0_MS + 1000}, "bad_time"),  # a second is no minute
        ("CAS", {"e": T0_MS + 60_000}, "bad_time"),
        ("CA", {"s": T0_MS + 1, "e": T0_MS + 60_001}, "bad_time"),
        ("CA", {"s": T0_MS // 1000, "e": T0_MS // 1000 + 60}, "bad_time"),
        ("C", {"t": T0_MS // 1000}, "implausible_time"),
        ("C", {"t": 5_815_518_660_978}, "implausible_time"),  # in the year 2154
        ("C", {"t": T0_MS * 1000}, "bad_time"),
        ("C", {"t": T0_MS * 1_000_000}, "bad_time"),
        ("C", {"t": -1}, "bad_time"),
        ("C", {"a": 0}, "bad_price"),
        ("C", {"b": -1}, "bad_price"),
        ("C", {"a": "x"}, "wrong_type"),
        ("XT", {"p": 0}, "bad_price"),
        ("XT", {"s": 0}, "bad_size"),
        ("XT", {"i": ""}, "bad_id"),
        ("XT", {"c": 1}, "wrong_type"),
        ("XQ", {"as": -1}, "bad_size"),
        ("C", {"ev": "CB"}, "unknown_type"),
        ("C", {"ev": 7}, "unknown_type"),
        ("C", {"ev": ...}, "missing_field"),
    ],
)
def test_what_cannot_be_costs_its_event_alone(
    kind: str, changed: dict[str, object], reason: str
) -> None:
    projected = project(as_json([event(kind, **changed), event("C", t=T0_MS + 500)]))
    assert projected.reasons == Counter({reason: 1})
    assert len(rows(projected, "quotes")) == 1


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(b'{"ev":"C"}', "wrong_type"), (b"7", "wrong_type"), (b"", "not_json"), (b"[{", "not_json"),
     (b"\xff", "not_json"), (b"[" * 100_000, "not_json"), (b"[7]", "wrong_type"),
     (b"<html>", "not_json")],
)  # fmt: skip
def test_what_is_no_array_of_events_is_dead(payload: bytes, reason: str) -> None:
    projected = project(payload)
    assert projected.reasons == Counter({reason: 1})
    assert projected.frames["yielding"] == 0


def test_numbers_as_texts_and_unknown_fields_are_taken() -> None:
    assert only("C", a="1.0822", novel={"x": 1})["ask_price"] == "1.0822"


def test_an_empty_array_a_status_and_what_was_not_asked_for_are_control() -> None:
    status = as_json([{"ev": "status", "status": "connected", "message": "x"}])
    projected = project(b"[]", status, as_json([event("CA")]), channels=("quote",))
    assert projected.frames == Counter(control=3, yielding=0, dead=0)
    assert not projected.unbuilt


def test_books_are_counted_as_not_captured() -> None:
    projected = project(as_json([{"ev": "XL2", "pair": "BTC-USD", "b": [], "a": [], "t": T0_MS}]))
    assert (projected.frames["control"], projected.unbuilt) == (1, Counter(XL2=1))


def test_a_pair_that_was_not_asked_for_is_dead() -> None:
    told = as_json([event("C"), event("C", p="GBP/USD"), event("C", p="EUR-USD", t=T0_MS + 9)])
    projected = project(told, symbols=("EUR-USD",))
    assert projected.reasons == Counter(unknown_symbol=1)
    assert [row["symbol"] for row in rows(projected, "quotes")] == ["EUR-USD"] * 2


# --------------------------------------------------------------- the same by REST


def paged(path: str, *told: Mapping[str, object], market: str = "crypto") -> Projected:
    asked: dict[str, Any] = {"venue": "massive", "market": market, "request": f"GET {path}",
             "symbols": ("BTC-USD" if market == "crypto" else "EUR-USD",)}  # fmt: skip
    page = as_json({"status": "OK", "request_id": "a", "results": list(told)})
    at_ns = [T0 + 3600 * SECOND]
    return Projection({"massive": MassiveParser()}, {}).project(
        [batch([page], context("rest", **asked), received_ns=at_ns)]
    )


TRADE = {"conditions": [2], "exchange": 3, "id": "14272084",
         "participant_timestamp": T0 + 123_456_789, "price": 33021.9, "size": 0.0616}  # fmt: skip
QUOTE = {"ask_exchange": 48, "ask_price": 1.0822, "bid_exchange": 48, "bid_price": 1.0821,
         "participant_timestamp": T0 + 123_456_789}  # fmt: skip


def test_one_trade_by_the_stream_and_by_rest_is_one_event() -> None:
    (row,) = rows(paged("/v3/trades/X:BTC-USD?limit=1", TRADE), "trades")
    streamed = only("XT")
    assert row["event_id"] == streamed["event_id"]
    assert row["event_ts"] == streamed["event_ts"] == T0 + 123_000_000
    assert row["exchange_ts"] == T0 + 123_456_789, "the nanoseconds are kept"
    content = ("trade_id", "price", "size", "side", "symbol", "market")
    assert {name: row[name] for name in content} == {name: streamed[name] for name in content}


def test_one_quote_by_the_stream_and_by_rest_is_one_event() -> None:
    (row,) = rows(paged("/v3/quotes/C:EUR-USD?limit=1", QUOTE, market="forex"), "quotes")
    assert row["event_id"] == only("C")["event_id"]
    assert row["exchange_ts"] == T0 + 123_456_789


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"participant_timestamp": 5_815_518_660_978}, "implausible_time"),
        ({"participant_timestamp": T0_MS}, "implausible_time"),
        ({"participant_timestamp": 5_815_518_660_978_000_000}, "implausible_time"),
        ({"participant_timestamp": ...}, "missing_field"),
        ({"price": ...}, "missing_field"),
        ({"size": 0}, "bad_size"),
        ({"id": ...}, "missing_field"),
    ],
)
def test_a_row_that_cannot_be_costs_itself_and_the_page_is_stored(
    changed: dict[str, object], reason: str
) -> None:
    bad = {name: value for name, value in {**TRADE, **changed}.items() if value is not ...}
    projected = paged("/v3/trades/X:BTC-USD", {**TRADE, "id": "1"}, bad, {**TRADE, "id": "2"})
    assert projected.reasons == Counter({reason: 1})
    assert [row["trade_id"] for row in rows(projected, "trades")] == ["3:1", "3:2"]


@pytest.mark.parametrize("results", ["", ',"results":null', ',"results":[]'])
def test_a_page_without_rows_is_control(results: str) -> None:
    asked: dict[str, Any] = {"venue": "massive", "market": "crypto", "symbols": ("BTC-USD",),
             "request": "GET /v3/trades/X:BTC-USD"}  # fmt: skip
    told = batch([f'{{"status":"OK"{results}}}'.encode()], context("rest", **asked))
    projected = Projection({"massive": MassiveParser()}, {}).project([told])
    assert projected.frames == Counter(control=1, yielding=0, dead=0)


def test_quotes_say_how_long_they_took_and_bars_do_not() -> None:
    quote, bar = as_json([event("C")]), as_json([event("CA")])
    assert project(quote, bar).delays == {"massive": (1, 62 * SECOND - 123_000_000)}
    assert project(bar).delays == {}
