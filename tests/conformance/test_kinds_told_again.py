"""An event of any kind that is told again is stored once, and stores say which row told it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.kinds import KINDS
from forebay.journal import Position
from forebay.ports import Commit, Events
from forebay.stores.duckdb import DuckDBStore, events
from tests.conformance.test_kinds_and_audit import (
    KINDS_NOW,
    SETTINGS,
    column_of,
    plain,
    rows_of_kind,
    stores,
)
from tests.support.delivery import as_events
from tests.support.frames import LOG, T0

if TYPE_CHECKING:
    from forebay.domain.kinds import EventKind

VALUES: dict[pa.DataType, tuple[Any, ...]] = {
    pa.string(): ("x", "y"),
    schema.LABEL: ("x", "y"),
    pa.int64(): (1, 2, None),
    pa.bool_(): (False, True),
    schema.TIME: (T0, T0 + 1),
    schema.DECIMAL: (Decimal(1), Decimal("1.000000000000000001"), None),
    schema.DECIMALS: ([Decimal(1), Decimal(2)], [Decimal(1)], [Decimal(2), Decimal(1)], []),
}
"""By type, what a column holds first and what it is changed to."""


def one_row(kind: EventKind, **changed: object) -> pa.Table:
    """Return one event, some of whose columns are as given."""
    cells = {field.name: VALUES.get(field.type, (None,))[0] for field in kind.schema}
    cells |= {"event_id": UUID(int=7).bytes, "flags": ""} | changed
    columns = [column_of([cells[field.name]], field.type) for field in kind.schema]
    return pa.Table.from_arrays(columns, schema=kind.schema)


def commit(kind: EventKind, rows: pa.Table, seq: int = 9) -> Commit:
    return Commit({"store": Position(LOG, seq)}, events={kind.table: as_events(rows)})


def of_another_frame(rows: pa.Table) -> pa.Table:
    place = rows.schema.get_field_index("seq")
    later = pa.array(rows["seq"].to_numpy() + 1)
    return rows.set_column(place, rows.schema.field(place), later)


@pytest.mark.parametrize("channel", KINDS_NOW)
@SETTINGS
@given(st.data())
def test_a_row_is_the_first_that_told_its_event_however_often_its_commit_is_repeated(
    channel: str, data: st.DataObject
) -> None:
    kind = KINDS[channel]
    rows = data.draw(rows_of_kind(kind))
    twice = pa.concat_tables([rows, rows])
    first = np.arange(len(twice)) < len(rows)
    others = of_another_frame(rows)
    told = Events(twice, seen_before=~first, vouched_new=first)
    for store, _ in stores():
        for _ in range(3):
            done = store.commit(Commit({"store": Position(LOG, 9)}, events={kind.table: told}))
            assert done.first[kind.table].tolist() == first.tolist()
            assert done.conflicts == 0
        done = store.commit(commit(kind, others, seq=10))
        assert not done.first[kind.table].any()
        assert done.conflicts == 0
        assert plain(store.table(kind.table)) == plain(rows)
        assert store.first_told(kind.table, twice).tolist() == first.tolist()
        assert not store.first_told(kind.table, others).any()


def changes(kind: EventKind) -> list[tuple[str, object]]:
    """Return every column but the id with each other value."""
    return [
        (field.name, value)
        for field in kind.schema
        if field.name != "event_id"
        for value in VALUES[field.type][1:]
        if not (field.name == "event_ts" and value is None)
    ]


@pytest.mark.parametrize("channel", KINDS_NOW)
def test_other_content_is_a_conflict_in_every_column_of_it_and_in_no_other(channel: str) -> None:
    kind = KINDS[channel]
    rows = one_row(kind)
    for store, _ in stores():
        store.commit(commit(kind, rows))
        found = set()
        for name, value in changes(kind):
            told = one_row(kind, **{name: value})
            if store.commit(commit(kind, told, seq=10)).conflicts:
                found.add(name)
            assert plain(store.table(kind.table)) == plain(rows), name
        assert found == set(kind.content)


def test_what_is_absent_is_content_too() -> None:
    kind = KINDS["ticker"]
    absent = one_row(kind, volume_24h=None)
    for store, _ in stores():
        store.commit(commit(kind, absent))
        assert store.commit(commit(kind, absent, seq=10)).conflicts == 0
        assert store.commit(commit(kind, one_row(kind), seq=11)).conflicts == 1
        assert len(store.table("conflicts")) == 1


@pytest.mark.parametrize("channel", KINDS_NOW)
def test_many_rows_are_the_rows_that_few_are(channel: str) -> None:
    """From some number on, a store may append rows by another plan."""
    kind, count = KINDS[channel], events.MANY_ROWS
    rows = pa.concat_tables([one_row(kind)] * count).combine_chunks()
    ids = [UUID(int=number + 1) for number in range(count)]
    told = column_of([each.bytes for each in ids], pa.uuid())
    rows = rows.set_column(0, kind.schema.field(0), told)
    store = DuckDBStore(None)
    assert store.commit(commit(kind, rows)).first[kind.table].all()
    stored = store.table(kind.table)
    assert list(map(str, stored["event_id"].to_pylist())) == list(map(str, ids)), "in order"
    assert plain(stored) == plain(rows)
    store.close()
