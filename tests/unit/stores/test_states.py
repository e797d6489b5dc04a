"""Views of states: from when to when what was said held, the same in every store with SQL."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.domain.kinds import KINDS
from forebay.journal import Position
from forebay.ports import Commit, Events
from forebay.stores.duckdb import DuckDBStore
from forebay.stores.states import state_columns
from tests.support.clickhouse_stores import a_clickhouse_store
from tests.support.event_tables import table_of
from tests.support.frames import LOG, T0

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Row = dict[str, Any]

MARKET = KINDS["market"]
EMPTY: Row = dict.fromkeys(MARKET.schema.names)
SEEN = ("status", "result", "close_ts")


def statement(number: int, received: int, **said: object) -> Row:
    """A row, its times being small numbers behind T0."""
    times = ("event_ts", "changed_ts", "created_ts", "close_ts")
    placed = {name: T0 + said[name] for name in times if isinstance(said.get(name), int)}  # type: ignore[operator]
    return {
        **EMPTY,
        **dict.fromkeys(("venue", "market", "symbol"), "x"),
        **dict.fromkeys(("venue_symbol", "collector", "epoch", "flags"), ""),
        **dict.fromkeys(("unknown", "impossible"), ""),
        "log_id": LOG,
        "event_id": number.to_bytes(16, "big"),
        "seq": number,
        "received_ts": T0 + received,
        "event_ts": T0 + received,
        **said,
        **placed,
    }


def model(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    """Fold statements of one market in plain Python."""
    timed, newest = [], None
    for place, row in enumerate(sorted(rows, key=lambda row: (row["received_ts"], row["seq"]))):
        changed = row["changed_ts"]
        begin = row["received_ts"] if changed is None or changed == newest else changed
        if place == 0:
            begin = min(row["event_ts"], row["received_ts"])
        newest = max(filter(None, (newest, changed)), default=None)
        timed.append((begin, row["received_ts"], row["seq"], row))
    timed.sort(key=lambda each: each[:3])
    born = min((row["created_ts"] for row in rows if row["created_ts"] is not None), default=None)
    folds: dict[int | None, Row] = {}
    states = []
    for begin, _, _, row in timed:
        born = row["created_ts"] if row["created_ts"] is not None else born
        fold = folds.setdefault(born, {})
        fold |= {name: row[name] for name in SEEN if row[name] is not None}
        states.append((begin, row["change"], *(fold.get(name) for name in SEEN)))
    ends = [state[0] for state in states[1:]] + [None]
    pairs = zip(states, ends, strict=True)
    return [(state[0], end, *state[1:]) for state, end in pairs if end is None or end > state[0]]


def commit(rows: Sequence[Row], number: int) -> Commit:
    nothing = np.zeros(len(rows), dtype=np.bool_)
    events = Events(table_of("market", rows), nothing, nothing)
    return Commit({"store": Position(LOG, number)}, events={MARKET.table: events})


def states_of(table: pa.Table) -> list[tuple[object, ...]]:
    times = ("valid_from", "valid_to", "close_ts")
    columns = [
        table[name].cast(pa.int64()).to_pylist() if name in times else table[name].to_pylist()
        for name in ("valid_from", "valid_to", "change", *SEEN)
    ]
    return sorted(zip(*columns, strict=True), key=lambda row: row[0])


def in_duckdb(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    store = DuckDBStore(None)
    store.commit(commit(rows, 1))
    with store.connection() as connection:
        found = connection.sql("SELECT * FROM market_states").to_arrow_table()
    store.close()
    assert found.column_names == state_columns(MARKET).names
    return states_of(found)


def in_clickhouse(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    with a_clickhouse_store() as store:
        store.commit(commit(rows, 1))
        return states_of(store.table("market_states"))


@pytest.mark.parametrize("states", [in_duckdb, in_clickhouse, model])
def test_a_state_holds_from_its_statement_to_the_next(
    states: Callable[[Sequence[Row]], list[tuple[object, ...]]],
) -> None:
    rows = [
        statement(1, 10, change="created", event_ts=3, close_ts=90),
        statement(2, 12, change="listed", changed_ts=5, created_ts=2, status="active", close_ts=90),
        statement(3, 20, change="close_date_updated", close_ts=50),
        statement(4, 51, change="determined", changed_ts=50, result="yes"),
        statement(5, 60, change="listed", changed_ts=50, created_ts=2, status="finalized"),
        # The name is used once more, for something else.
        statement(6, 80, change="listed", changed_ts=79, created_ts=75, status="active"),
    ]
    expected = [
        (3, 5, "created", None, None, 90),
        (5, 20, "listed", "active", None, 90),
        (20, 50, "close_date_updated", "active", None, 50),
        (50, 60, "determined", "active", "yes", 50),
        (60, 79, "listed", "finalized", "yes", 50),
        (79, None, "listed", "active", None, None),
    ]
    assert states(rows) == [
        (T0 + begin, end and T0 + end, *said, close and T0 + close)
        for begin, end, *said, close in expected
    ]


TIMES = st.none() | st.integers(0, 9)
STATEMENTS = st.fixed_dictionaries(
    {
        "received": st.integers(10, 20),
        "changed_ts": TIMES,
        "created_ts": st.none() | st.integers(0, 2),
        "status": st.none() | st.sampled_from("abc"),
        "result": st.none() | st.sampled_from(["yes", "no"]),
        "close_ts": TIMES,
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STATEMENTS, min_size=1, max_size=8))
def test_states_are_what_the_fold_in_plain_words_gives(told: list[Row]) -> None:
    rows = [
        statement(n, said.pop("received"), change=str(n), **said) for n, said in enumerate(told, 1)
    ]
    for row in rows:
        row["event_ts"] = row["changed_ts"] if row["changed_ts"] is not None else row["received_ts"]
    found = in_duckdb(rows)
    assert found == model(rows)
    assert all(left[1] == right[0] for left, right in pairwise(found))
    assert found[-1][1] is None


def test_a_store_of_before_gets_the_tables_and_views_of_new_kinds(tmp_path: Path) -> None:
    path = tmp_path / "forebay.duckdb"
    store = DuckDBStore(path)
    held = [kind for kind in KINDS.values() if kind.holds]
    with store.connection() as connection:
        for kind in held:
            connection.execute(f"DROP VIEW {kind.states}")
            connection.execute(f"DROP TABLE {kind.table}")
    store.close()
    again = DuckDBStore(path)
    again.commit(commit([statement(1, 10, change="listed", status="active")], 1))
    with again.connection() as connection:
        for kind in held:
            rows = connection.execute(f"FROM {kind.states}").fetchall()
            assert len(rows) == int(kind is MARKET)
    again.close()
