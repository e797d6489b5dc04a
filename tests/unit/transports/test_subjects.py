"""Subjects: who watches one symbol gets it alone, whatever it is called."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.frames import Context
from forebay.domain.kinds import KINDS
from forebay.domain.messages import (
    EventsTold,
    FrameOrigin,
    Head,
    LettersTold,
    Mark,
    Message,
    Step,
    Told,
)
from forebay.transports.subjects import prefixes_of, subjects, token
from tests.exam.ping import PING
from tests.support.frames import LOG

ORIGIN = FrameOrigin(Context(venue="v", source="ws", purpose="live", collector="c", epoch="e"), {})


def message(kind: str, *rows: dict[str, Any]) -> Message:
    table = KINDS[kind].schema
    names = ("venue", "symbol", "timeframe")
    columns = [
        pa.array([row[field.name] for row in rows], pa.string()).cast(field.type)
        if field.name in names
        else pa.nulls(len(rows), field.type)
        for field in table
    ]
    return told(EventsTold(ORIGIN, kind, False), pa.Table.from_arrays(columns, schema=table))


def told(what: Told, rows: pa.Table | None = None) -> Message:
    return Message(Head(Step(LOG, 1, 9), 0, what), rows)


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        ("trade", "trades"),
        ("quote", "quotes"),
        ("ticker", "tickers"),
        ("book_snapshot", "books"),
        ("book_delta", "books"),
    ],
)
def test_a_subject_is_kind_venue_and_symbol(kind: str, prefix: str) -> None:
    rows = [{"venue": "v", "symbol": symbol} for symbol in ("BTC-USD", "ETH/USD", "BTC-USD")]
    assert subjects(message(kind, *rows)) == [
        f"{prefix}.v.BTC-USD",
        f"{prefix}.v.ETH/USD",
        f"{prefix}.v.BTC-USD",
    ]


def test_a_bar_has_its_timeframe_too() -> None:
    bars = message("bar", {"venue": "v", "symbol": "EURUSD", "timeframe": "1m"})
    assert subjects(bars) == ["bars.v.EURUSD.1m"]


def test_a_kind_that_was_added_has_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, PING.channel, PING)
    prefix = PING.table
    assert subjects(message(PING.channel, {"venue": "v", "symbol": "S"})) == [f"{prefix}.v.S"]
    assert prefix in prefixes_of(PING.topic)


def test_prefixes_of_a_topic_are_those_of_its_kinds() -> None:
    assert prefixes_of("trade_archive") == ["trades"]
    assert prefixes_of("book_archive") == ["books"]
    assert prefixes_of("market_archive") == ["market_events", "market_series", "markets"]


def test_what_is_no_event_has_no_subject() -> None:
    assert subjects(told(Mark(0, {}, {}))) == []
    assert subjects(told(LettersTold(), schema.DEAD_LETTERS.empty_table())) == []


def test_a_name_is_escaped_as_the_contract_says() -> None:
    assert token("a.b*c>d e/f-g_h") == "a%2Eb%2Ac%3Ed%20e/f-g_h"
    assert token("é€") == "%C3%A9%E2%82%AC"


@given(st.text(st.characters(codec="utf-8")))
@example("")
@example("%")
@example("\0\r\n\t\x7f")
def test_a_token_is_one_and_says_what_it_was(name: str) -> None:
    made = token(name)
    assert re.fullmatch(r"[!-~]+", made)
    assert not set(made) & set(".*>")
    assert (unquote(made) if name else made) == (name or "%")
