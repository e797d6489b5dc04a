"""Every store keeps every kind of event, and answers the audit of it as its definition says."""

from __future__ import annotations

import string
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.coverage import COVERAGES, Arrival, StreamKey
from forebay.domain.digest import (
    HOUR_NS,
    MINUTE_NS,
    audited_rows,
    canonical_rows,
    digests_by,
    digests_by_hour,
    id_texts,
)
from forebay.domain.kinds import KINDS
from forebay.errors import ConfigError
from forebay.journal import Position
from forebay.ports import AUDIT_COLUMNS, Commit, Span
from forebay.stores.duckdb import DuckDBAudited, DuckDBStore
from tests.exam.ping import PING
from tests.support.audited_stores import AUDITED, an_audited_store
from tests.support.clickhouse_stores import an_audited_clickhouse
from tests.support.delivery import as_events, plain_rows
from tests.support.frames import LOG, T0
from tests.support.memory_store import MemoryAudited, MemoryStore, stored_gaps
from tests.tiers import count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.domain.channels import Unit
    from forebay.domain.kinds import EventKind
    from forebay.ports import Audited
    from tests.support.delivery import TableStore

TEXT = st.text(string.ascii_letters + string.digits + " '\"|%,é√", max_size=6)
NUMBER = st.integers(0, 2**62 - 1)
DIGITS = st.integers(-(10**38) + 1, 10**38 - 1)
DECIMALS = DIGITS.map(lambda units: Decimal((units < 0, tuple(map(int, str(abs(units)))), -18)))
TIMES = st.integers(T0, T0 + 3 * HOUR_NS)
BY_TYPE: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): TEXT,
    schema.LABEL: TEXT,
    pa.int64(): NUMBER,
    pa.bool_(): st.booleans(),
    schema.TIME: TIMES,
    schema.DECIMAL: DECIMALS,
    schema.DECIMALS: st.lists(DECIMALS, max_size=3),
}
OPTIONAL = {"venue_seq", "exchange_ts", "trades", "vwap", "size", "bid_price", "volume_24h",
            "bid_prices"}  # fmt: skip
KINDS_NOW = sorted(KINDS)


@st.composite
def rows_of_kind(draw: st.DrawFn, kind: EventKind) -> pa.Table:
    """Return some rows with all that a column can hold."""
    ids = draw(st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=6, unique=True))
    columns = []
    for field in kind.schema:
        cells = BY_TYPE.get(field.type, st.nothing())
        if field.name in OPTIONAL and kind.channel != "trade":
            cells = st.none() | cells
        if field.name == "event_id":
            values: list[Any] = [UUID(int=number).bytes for number in ids]
        elif field.name == "flags":
            values = draw(_many(st.sampled_from(["", "late", "late,ambiguous"]), len(ids)))
        else:
            values = draw(_many(cells, len(ids)))
        columns.append(column_of(values, field.type))
    return pa.Table.from_arrays(columns, schema=kind.schema)


def _many(cells: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(cells, min_size=count, max_size=count)


def column_of(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Return values as a column has them; ids are given by their bytes."""
    if kind == schema.LABEL:
        return pa.array(values, pa.string()).dictionary_encode()
    if kind == pa.uuid():
        return pa.ExtensionArray.from_storage(kind, pa.array(values, pa.binary(16)))
    return pa.array(values, kind)


def plain(table: pa.Table) -> list[tuple[object, ...]]:
    """Return rows in a fixed order; a list of a store may be a list of another."""
    return [tuple(map(str, row)) for row in plain_rows(table)]


def stores() -> Iterator[tuple[TableStore, Audited]]:
    """Make one of each, empty, with its part of the audit."""
    memory = MemoryStore()
    yield memory, MemoryAudited(memory)
    duck = DuckDBStore(None)

    def query(statement: str) -> pa.Table:
        with duck.connection() as connection:
            return connection.sql(statement).to_arrow_table()

    yield duck, DuckDBAudited(query)
    duck.close()


@pytest.fixture(params=AUDITED)
def sat(request: pytest.FixtureRequest) -> Iterator[tuple[TableStore, Audited]]:
    with an_audited_store(request.param) as made:
        yield made


STREAM = ("venue", "market", "symbol")
SETTINGS = settings(
    max_examples=count("rows of each kind"), suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("channel", KINDS_NOW)
@SETTINGS
@given(st.data())
def test_rows_of_every_kind_come_back_and_are_digested_as_they_are(
    channel: str, data: st.DataObject
) -> None:
    kind = KINDS[channel]
    rows = data.draw(rows_of_kind(kind))
    for store, audited in stores():
        _comes_back(store, audited, kind, rows)


@pytest.mark.drill
@pytest.mark.parametrize("channel", KINDS_NOW)
@SETTINGS
@given(st.data())
def test_rows_of_every_kind_come_back_from_a_server(channel: str, data: st.DataObject) -> None:
    kind = KINDS[channel]
    rows = without_null_lists(data.draw(rows_of_kind(kind)))
    with an_audited_clickhouse() as (store, audited):
        _comes_back(store, audited, kind, rows)


def without_null_lists(rows: pa.Table) -> pa.Table:
    """ClickHouse has no list that is null; such a one is stored as an empty one, its digest too."""
    columns = [
        pa.array([cell or [] for cell in column.to_pylist()], column.type)
        if pa.types.is_list(column.type)
        else column
        for column in rows.columns
    ]
    return pa.Table.from_arrays(columns, schema=rows.schema)


def _comes_back(store: TableStore, audited: Audited, kind: EventKind, rows: pa.Table) -> None:
    digests, ids = digests_by_hour(rows, kind), id_texts(rows).to_pylist()
    canonical = dict(zip(ids, canonical_rows(rows, kind).to_pylist(), strict=True))
    done = store.commit(Commit({"store": Position(LOG, 9)}, events={kind.table: as_events(rows)}))
    assert done.first[kind.table].all()
    assert plain(store.table(kind.table)) == plain(rows)
    account = audited.account(Span())
    assert {place: hour.digest for place, hour in account.hours.items()} == digests
    assert sum(hour.events for hour in account.hours.values()) == len(rows)
    assert account.position == Position(LOG, 9)
    assert account.ambiguous == sum("ambiguous" in f for f in rows["flags"].to_pylist())
    found = audited.find(kind.channel, ids[:3]).rows
    told = dict(zip(found["event_id"].to_pylist(), found["canonical"].to_pylist(), strict=True))
    assert told == {each: canonical[each] for each in ids[:3]}
    _answers_of_each_stream(audited, kind, rows)


def _answers_of_each_stream(audited: Audited, kind: EventKind, rows: pa.Table) -> None:
    compared = audited_rows(rows, kind)
    streams = list(zip(*(compared[name].to_pylist() for name in STREAM), strict=True))
    for key, hour in digests_by_hour(rows, kind):
        name = key.venue, key.market, key.symbol
        minutes = digests_by(compared.filter([each == name for each in streams]), MINUTE_NS)
        mine = {minute: digest for minute, digest in minutes.items() if minute // 60 == hour}
        assert dict(audited.minutes(key, hour).digests) == mine
        begin = hour * HOUR_NS
        answer = audited.rows(key, begin, begin + HOUR_NS)
        assert len(answer.rows) == sum(digest.count for digest in mine.values())
        assert answer.position == Position(LOG, 9)
        assert all(begin <= ns < begin + HOUR_NS for ns in answer.rows["event_ns"].to_pylist())


def quotes(count: int) -> pa.Table:
    """Return one quote a minute of one stream."""
    kind = KINDS["quote"]
    price = pa.array([Decimal(1)] * count, schema.DECIMAL)
    given_: dict[str, pa.Array] = {
        "event_id": column_of([UUID(int=number + 1).bytes for number in range(count)], pa.uuid()),
        "seq": pa.array(range(count), pa.int64()),
        "venue_seq": pa.array(range(7, count + 7), pa.int64()),
    }
    for field in kind.schema:
        if field.type == schema.LABEL:
            given_[field.name] = column_of(["x"] * count, schema.LABEL)
        elif field.type == schema.TIME:
            times = np.arange(count) * MINUTE_NS + T0 // HOUR_NS * HOUR_NS
            given_[field.name] = pa.array(times).cast(schema.TIME)
        elif field.type == schema.DECIMAL:
            given_[field.name] = price
        elif field.name == "flags":
            given_[field.name] = pa.array([""] * count)
    return pa.table([given_[name] for name in kind.schema.names], schema=kind.schema)


KEY = StreamKey("x", "x", "quote", "x")


def test_hours_outside_the_span_are_counted_and_not_hashed(sat: tuple[TableStore, Audited]) -> None:
    (store, audited), hour = sat, T0 // HOUR_NS
    store.commit(Commit({"store": Position(LOG, 1000)}, events={"quotes": as_events(quotes(150))}))
    hours = audited.account(Span(hour + 1, hour + 2)).hours
    hashed = {place[1] - hour: held.digest is not None for place, held in hours.items()}
    assert hashed == {0: False, 1: True, 2: False}
    assert [held.events for _, held in sorted(hours.items())] == [60, 60, 30]
    ends = [(held.first_number, held.last_number) for _, held in sorted(hours.items())]
    assert ends == [(7, 66), (67, 126), (127, 156)]
    assert hours[KEY, hour].first_ns == hour * HOUR_NS


def test_a_row_that_is_stored_twice_is_counted_twice() -> None:
    store = DuckDBStore(None)
    store.commit(Commit({"store": Position(LOG, 1)}, events={"quotes": as_events(quotes(3))}))
    store._session.run("INSERT INTO quotes FROM quotes WHERE seq = 1")
    with store.connection() as connection:
        audited = DuckDBAudited(lambda statement: connection.sql(statement).to_arrow_table())
        (hour,) = audited.account(Span()).hours.values()
        assert hour.events == 4
        assert hour.digest != next(iter(digests_by_hour(quotes(3), KINDS["quote"]).values()))
        begin = T0 // HOUR_NS * HOUR_NS
        assert len(audited.rows(KEY, begin, begin + HOUR_NS).rows) == 4
    store.close()


def test_an_audit_is_of_the_cursor_of_its_consumer_alone(sat: tuple[TableStore, Audited]) -> None:
    store, audited = sat
    assert audited.account(Span()).position is None
    store.commit(Commit({"archive": Position(LOG, 900)}))
    store.commit(Commit({"store": Position(LOG, 3)}))
    assert audited.account(Span()).position == Position(LOG, 3)
    assert audited.minutes(KEY, 0).position == Position(LOG, 3)
    assert audited.find("quote", [str(UUID(int=5))]).position == Position(LOG, 3)


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["e1", "e2", "e3"]),
        st.booleans(),
        st.lists(st.integers(0, 40), min_size=1, max_size=5),
        st.integers(0, 100),
    ),
    max_size=8,
)


@pytest.mark.parametrize("unit", ["id", "seq", "time"])
@SETTINGS
@given(ARRIVALS)
def test_coverage_of_every_unit_survives(unit: Unit, arrivals: list[Any]) -> None:
    held, key = COVERAGES[unit](), StreamKey("v", "spot", "trade", "A-B")
    for epoch, live, numbers, now in arrivals:
        held.opened(epoch, T0 + now)
        times = np.full(len(numbers), T0 + now + 1, dtype=np.int64)
        held.see(Arrival(epoch, live, np.array(numbers), times))
        held.know(epoch, min(numbers), max(numbers))
    for store, audited in stores():
        store.commit(Commit({"store": Position(LOG, 1)}, coverage={key: held}))
        told = dict(store.load().coverage)
        if list(held.rows()):
            assert sorted(told[key].rows()) == sorted(held.rows())
            assert told[key].gaps(key) == held.gaps(key) == stored_gaps(store)
            assert sorted(told[key].epochs) == sorted(held.epochs)
            assert sorted(audited.account(Span()).coverage[key].rows()) == sorted(held.rows())


def test_a_kind_that_is_added_later_gets_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "forebay.duckdb"
    DuckDBStore(path).close()
    monkeypatch.setitem(KINDS, PING.channel, PING)
    store = DuckDBStore(path)
    assert len(store.table("pings")) == 0
    store.close()


def test_an_audit_bears_a_database_that_lacks_the_table_of_a_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = DuckDBStore(None)
    monkeypatch.setitem(KINDS, PING.channel, PING)
    with store.connection() as connection:
        audited = DuckDBAudited(lambda statement: connection.sql(statement).to_arrow_table())
        assert audited.account(Span()).hours == {}
        pings = KEY._replace(channel="ping")
        assert dict(audited.minutes(pings, 0).digests) == {}
        assert audited.rows(pings, 0, HOUR_NS).rows.column_names == list(AUDIT_COLUMNS)
        assert len(audited.find("ping", [str(UUID(int=1))]).rows) == 0
    store.close()


def test_nothing_is_found_where_nothing_is_asked_for(sat: tuple[TableStore, Audited]) -> None:
    store, audited = sat
    store.commit(Commit({"store": Position(LOG, 3)}, events={"quotes": as_events(quotes(3))}))
    answer = audited.find("quote", [])
    assert len(answer.rows) == 0
    assert answer.position == Position(LOG, 3)


def test_tables_of_an_earlier_version_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "forebay.duckdb"
    store = DuckDBStore(path)
    store._session.run("UPDATE meta SET schema_version = 2")
    store.close()
    with pytest.raises(ConfigError, match="version 2, older") as refused:
        DuckDBStore(path)
    assert "`forebay rebuild --data DIR`" in refused.value.hint
