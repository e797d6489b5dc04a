"""Candles of Coinbase: rows of JSON numbers, exactly, and final only when they are over."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.services.projection import Projection
from forebay.sources.coinbase.protocol import CoinbaseParser
from tests.support.frames import SECOND, T0, batch, context
from tests.unit.sources.coinbase.test_feed_kinds import rows

if TYPE_CHECKING:
    from forebay.services.projection import Projected

MINUTE = T0 // SECOND // 60 * 60
ASKED = "GET /products/BTC-USD/candles?granularity={}&start=a&end=b"


def project(*bodies: bytes, granularity: object = 60, at_ns: int = T0, **asked: Any) -> Projected:  # noqa: ANN401
    fields = {"request": ASKED.format(granularity), **asked}
    told = batch(bodies, context("rest", **fields), received_ns=[at_ns] * len(bodies))
    return Projection({"coinbase": CoinbaseParser()}, {}).project([told])


def bars(*bodies: bytes, **how: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    return rows(project(*bodies, **how), "bars")


def test_a_row_is_a_bar() -> None:
    (bar,) = bars(b"[[%d, 0.1, 42, 1e1, 41.50, 12.3]]" % (MINUTE - 60))
    expected = {
        "timeframe": "1m", "session": "UTC", "of": "trade", "adjusted": False,
        "open_ts": (MINUTE - 60) * SECOND, "close_ts": MINUTE * SECOND,
        "event_ts": (MINUTE - 60) * SECOND, "exchange_ts": (MINUTE - 60) * SECOND,
        "low": "0.1", "high": "42", "open": "10", "close": "41.5", "volume": "12.3",
        "trades": None, "vwap": None, "origin": "backfill", "state": "final", "revision": 1,
        "symbol": "BTC-USD", "flags": "backfill",
    }  # fmt: skip
    assert {name: bar[name] for name in expected} == expected


@given(st.decimals("1e-18", "1e9", places=18))
def test_numbers_are_exact_in_every_spelling(number: Decimal) -> None:
    text = f"{number:f}"
    short = text.rstrip("0").rstrip(".")
    scientific = f"{number.normalize():e}"
    for spelled in (text, short, scientific, scientific.upper()):
        (bar,) = bars(f"[[{MINUTE - 60},{spelled},{spelled},{spelled},{spelled},0]]".encode())
        assert Decimal(bar["open"]) == number, spelled


@pytest.mark.parametrize(
    ("granularity", "timeframe"),
    [(60, "1m"), (300, "5m"), (900, "15m"), (3600, "1h"), (86400, "1d")],
)
def test_a_timeframe_is_its_length(granularity: int, timeframe: str) -> None:
    (bar,) = bars(
        b"[[1600041600,1,1,1,1,1]]", granularity=granularity, at_ns=1_700_000_000 * SECOND
    )
    assert bar["timeframe"] == timeframe
    assert bar["close_ts"] - bar["open_ts"] == granularity * SECOND


@pytest.mark.parametrize("granularity", ["21600", "61", "", "x", "-60", "%EF%BC%960"])
def test_lengths_that_have_no_name_are_counted_by_what_was_asked(granularity: str) -> None:
    projected = project(b"[[1,1,1,1,1,1]]", granularity=granularity)
    assert projected.frames == Counter(control=1, yielding=0, dead=0)
    assert projected.unbuilt == Counter({"GET /products/BTC-USD/candles": 1})


@pytest.mark.parametrize(
    ("after_end_s", "state"),
    [(-30, "provisional"), (0, "provisional"), (1.999, "provisional"), (2, "final"), (60, "final")],
)
def test_a_bar_is_final_once_it_is_over_by_either_clock(after_end_s: float, state: str) -> None:
    at_ns = (MINUTE + 60) * SECOND + round(after_end_s * SECOND)
    (bar,) = bars(b"[[%d,1,2,1,2,5]]" % MINUTE, at_ns=at_ns)
    assert bar["state"] == state


def test_what_follows_the_market_is_of_the_venue() -> None:
    (bar,) = bars(b"[[%d,1,1,1,1,1]]" % MINUTE, purpose="live", channels=("bar",))
    assert (bar["origin"], bar["flags"]) == ("venue", "")


def test_a_page_without_rows_and_one_for_another_kind_are_control() -> None:
    assert project(b"[]").frames == Counter(control=1, yielding=0, dead=0)
    unwanted = project(b"[[60,1,1,1,1,1]]", channels=("trade",))
    assert (unwanted.frames["control"], unwanted.unbuilt) == (1, Counter())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"[60,1,1,1,1]", "wrong_type"),
        (b"[60,1,1,1,1,1,1]", "wrong_type"),
        (b"[60,1,1,1,null,1]", "wrong_type"),
        (b'["60",1,1,1,1,1]', "wrong_type"),
        (b'{"time":60}', "wrong_type"),
        (b"[60,0,1,1,1,1]", "bad_price"),
        (b"[60,2,1,1,1,1]", "bad_price"),
        (b"[60,1,1,1,1,-1]", "bad_size"),
        (b"[60,1,1,1,1,1e999999999]", "bad_size"),
        (b"[60,1e-19,1,1,1,1]", "bad_price"),
        (b"[60,1,1,1,1,NaN]", "not_json"),
        (b"[-1,1,1,1,1,1]", "bad_time"),
        (b"[99999999999999,1,1,1,1,1]", "bad_time"),
    ],
)
def test_a_bad_row_costs_only_itself(row: bytes, reason: str) -> None:
    good = b"[%d,1,1,1,1,1]" % (MINUTE - 60)
    projected = project(b"[" + b",".join([good, row, good.replace(b",1]", b",2]")]) + b"]")
    if reason == "not_json":
        assert projected.reasons == Counter({reason: 1})
        return
    assert len(rows(projected, "bars")) == 2
    assert projected.reasons == Counter({reason: 1})


@pytest.mark.parametrize("body", [b'{"message":"NotFound"}', b"<html>", b"null", b"\xff"])
def test_a_body_that_is_no_page_is_one_dead_letter(body: bytes) -> None:
    assert project(body).frames == Counter(dead=1, yielding=0, control=0)
