"""Statements of a registry: nothing is refused, and what cannot be is named in its own row."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.channels import Channel
from forebay.domain.events import build_events
from forebay.domain.kinds import KINDS
from forebay.domain.parsed import Moments, RawEvents
from tests.support.frames import T0, batch, context, rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = dict[str, Any]
DAY = 86_400 * 10**9
OPENS, CLOSES = rfc3339(T0), rfc3339(T0 + DAY)
CELLS: dict[str, tuple[Sequence[object], Sequence[object]]] = {
    "title": (["Gold?", "a|b", None, ""], []),
    "open_ts": ([OPENS, None, "", "0001-01-01T00:00:00Z"], ["now", "9999-12-31T00:00:00Z"]),
    "close_ts": ([CLOSES, None], ["2026-13-01T00:00:00Z"]),
    "can_close_early": (["true", "false", None], ["maybe"]),
    "floor_strike": (["-4.25", "4184.96", None, ""], ["x", "--1", "1e400"]),
    "settlement_delay_s": ([0, 1, None], [1 << 70]),
    "price_level_structure": (["deci_cent", "never_seen"], []),
}
"""By column, cells that can be and cells that cannot."""
CELL = {
    name: st.sampled_from([*((cell, False) for cell in good), *((cell, True) for cell in bad)])
    for name, (good, bad) in CELLS.items()
}


def statements(rows: Sequence[Row]) -> list[Row]:
    """Return what becomes of rows of one answer; none of them may be a dead letter."""
    count = len(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    raw = RawEvents(
        channel=Channel("market", "content", "none"),
        market="prediction",
        frame=[0] * count,
        item=list(range(count)),
        venue_symbol=[f"M{place}" for place in range(count)],
        symbol=[f"M{place}" for place in range(count)],
        time=[rfc3339(T0 - 30 * DAY)] * count,
        columns={name: [row.get(name) for row in rows] for name in names},
    )
    columns, dead = build_events(raw, batch([b"x"], context("rest", purpose="live")))
    assert not dead
    found: list[Row] = columns.finish().to_pylist()
    return found


@given(st.lists(st.fixed_dictionaries(CELL), min_size=1, max_size=8))
def test_every_row_is_stored_and_names_what_of_it_cannot_be(told: list[dict[str, Any]]) -> None:
    rows = statements([{name: cell for name, (cell, _) in row.items()} for row in told])
    for row, cells in zip(rows, told, strict=True):
        wrong = {name for name, (_, bad) in cells.items() if bad}
        assert set(filter(None, row["impossible"].split(","))) == wrong
        assert all(row[name] is None for name in wrong)
        assert row["price_level_structure"] == cells["price_level_structure"][0]
        assert row["title"] == (cells["title"][0] or None)


def test_one_market_that_cannot_be_is_named_alone() -> None:
    good = {"open_ts": OPENS, "close_ts": CLOSES, "floor_strike": "-4.25", "cap_strike": "4"}
    backwards = good | {"open_ts": CLOSES, "close_ts": OPENS, "floor_strike": "5"}
    rows = statements([good] * 999 + [backwards])
    assert [row["symbol"] for row in rows if row["impossible"]] == ["M999"]
    assert rows[999]["impossible"] == "close_ts,cap_strike"
    assert rows[999]["close_ts"] is not None, "it is what the venue said"
    assert rows[0]["floor_strike"] == Decimal("-4.25")


def test_times_may_be_integers_and_zero_is_none() -> None:
    raw = RawEvents(
        channel=Channel("market", "content", "none"),
        frame=[0, 0, 0],
        item=[0, 1, 2],
        venue_symbol=["M", "N", "O"],
        symbol=["M", "N", "O"],
        time=None,
        columns={"open_ts": Moments([T0 // 10**9, 0, None], 10**9)},
    )
    columns, dead = build_events(raw, batch([b"x"]))
    found = columns.finish()
    assert not dead
    assert found["open_ts"].cast("int64").to_pylist() == [T0 // 10**9 * 10**9, None, None]
    assert found["impossible"].to_pylist() == ["", "", ""]


@pytest.mark.parametrize("name", ["market", "market_event", "market_series"])
def test_what_a_parser_knows_is_no_content(name: str) -> None:
    assert not {"unknown", "impossible"} & {*KINDS[name].content}
    assert {"change", "changed_ts", "title"} < {*KINDS[name].content}


def test_an_answer_that_did_not_change_is_the_same_row_and_never_late() -> None:
    row = {"open_ts": OPENS, "status": "active", "change": "listed"}
    first, again = statements([row])[0], statements([row | {"unknown": "status"}])[0]
    other = statements([row | {"status": "closed"}])[0]
    assert first["event_id"] == again["event_id"] != other["event_id"]
    assert (first["unknown"], again["unknown"]) == ("", "status")
    assert first["flags"] == "", "a market that opened long ago is not late"
