"""Digests that ClickHouse computes, of whatever a table can hold; and which rows it counts."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.coverage import StreamKey
from forebay.domain.digest import (
    HOUR_NS,
    MINUTE_NS,
    Digest,
    StreamHour,
    audited_rows,
    canonical_rows,
    digests_by,
    digests_by_hour,
    id_texts,
)
from forebay.domain.kinds import KINDS
from forebay.journal import Position
from forebay.ports import AUDIT_COLUMNS, AUDIT_TEXTS, Span
from forebay.stores.duckdb import DuckDBAudited, DuckDBStore
from tests.conformance.test_kinds_and_audit import BY_TYPE, OPTIONAL, column_of
from tests.exam.ping import PING
from tests.support.clickhouse import a_clickhouse, a_database
from tests.support.frames import T0, Told
from tests.support.frames import rows_of as rows_of_trades
from tests.tiers import count

pytest.importorskip("clickhouse_connect", exc_type=ImportError)

from forebay.stores.clickhouse.audit import ClickHouseAudited
from forebay.stores.clickhouse.ddl import rows_of, statements
from forebay.stores.clickhouse.query import ClickHouseReader
from forebay.stores.clickhouse.session import ClickHouseSession, Target, encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.domain.kinds import EventKind
    from forebay.ports import Audited

    Tables = dict[str, pa.Table]

LOG = "0011aabb"
TRADE = KINDS["trade"]
KEY = StreamKey("coinbase", "spot", "trade", "BTC-USD")
HOUR = T0 // HOUR_NS
BEGIN = HOUR * HOUR_NS
FIRST_HOUR, LAST_HOUR = -(2**63) // HOUR_NS + 1, (2**63 - 1) // HOUR_NS - 1
TIMES = st.one_of(
    st.integers(FIRST_HOUR * HOUR_NS, LAST_HOUR * HOUR_NS),
    st.integers(FIRST_HOUR, LAST_HOUR).map(lambda hour: hour * HOUR_NS),
    st.integers(-2 * HOUR_NS, 2 * HOUR_NS),
)
TEXTS = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=6)
"""What DuckDB takes for a text; ClickHouse takes more."""
SETTINGS = settings(
    max_examples=count("rows of each kind") // 2, suppress_health_check=[HealthCheck.too_slow]
)
QUOTED = """A"B'C\\|D%;--{E}\\'"""


class Database:
    """The tables of a store, without one."""

    def __init__(self, url: str, name: str) -> None:
        target = Target(url, name)
        self.session = ClickHouseSession(target)
        self.session.run(f"CREATE DATABASE IF NOT EXISTS {name}")
        for statement in statements(self.session.name).values():
            self.session.run(statement)
        self.reader = ClickHouseReader(target)
        self.audited = ClickHouseAudited(self.reader.query)
        self._tokens = itertools.count()

    def empty(self, *tables: str) -> None:
        for table in tables:
            self.session.run(f"TRUNCATE TABLE {self.session.name(table)}")

    def insert(self, table: str, rows: pa.Table) -> None:
        token = str(next(self._tokens))
        self.session.insert(table, rows.column_names, encoded(rows), token)

    def keep(self, kind: EventKind, rows: pa.Table) -> None:
        rank = pa.array([0] * len(rows), pa.int64())
        self.insert(rows_of(kind.table), rows.append_column("rank", rank))

    @contextlib.contextmanager
    def keeping(self, tables: Tables) -> Iterator[None]:
        for channel, rows in tables.items():
            self.keep(KINDS[channel], rows)
        try:
            yield
        finally:
            self.empty(*(rows_of(KINDS[channel].table) for channel in tables))

    def move(self, position: Position) -> None:
        row = {"kind": "cursor", "consumer": "store", "version": position.seq}
        row |= {"log_id": position.log_id, "seq": position.seq}
        self.insert("state", pa.Table.from_pylist([row]))


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    server = a_clickhouse()
    with a_database(server) as name:
        made = Database(server.url, name)
        with contextlib.closing(made.reader), contextlib.closing(made.session):
            yield made


@st.composite
def any_rows(draw: st.DrawFn, kind: EventKind) -> pa.Table:
    """Return rows with the widest times, texts and decimals; see ``rows_of_kind``."""
    ids = draw(st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=6, unique=True))
    cells = {**BY_TYPE, schema.TIME: TIMES, pa.string(): TEXTS, schema.LABEL: TEXTS}
    columns = []
    for field in kind.schema:
        own = cells.get(field.type, st.nothing())
        if field.name in OPTIONAL:
            own = st.none() | own
        values: list[Any] = [UUID(int=number).bytes for number in ids]
        if field.name != "event_id":
            values = draw(st.lists(own, min_size=len(ids), max_size=len(ids)))
        columns.append(column_of([_stored(value, field) for value in values], field.type))
    return pa.Table.from_arrays(columns, schema=kind.schema)


def _stored(value: Any, field: pa.Field) -> Any:  # noqa: ANN401
    """ClickHouse has no list that is null."""
    return [] if value is None and pa.types.is_list(field.type) else value


@contextlib.contextmanager
def duck(tables: Tables) -> Iterator[DuckDBAudited]:
    store = DuckDBStore(None)
    for channel, rows in tables.items():
        store._session.run(f"INSERT INTO {KINDS[channel].table} FROM incoming", incoming=rows)
    with store.connection() as connection:
        yield DuckDBAudited(lambda statement: connection.sql(statement).to_arrow_table())
    store.close()


@SETTINGS
@given(st.fixed_dictionaries({channel: any_rows(kind) for channel, kind in KINDS.items()}))
def test_digests_are_those_of_python_and_of_duckdb(database: Database, tables: Tables) -> None:
    hours: dict[StreamHour, Digest] = {}
    for channel, rows in tables.items():
        hours |= digests_by_hour(rows, KINDS[channel])
    with duck(tables) as duckdb, database.keeping(tables):
        for audited in (database.audited, duckdb):
            account = audited.account(Span()).hours
            assert {place: held.digest for place, held in account.items()} == hours
            for channel, rows in tables.items():
                _one_kind(audited, KINDS[channel], rows)


def _one_kind(audited: Audited, kind: EventKind, rows: pa.Table) -> None:
    found = audited.find(kind.channel, id_texts(rows).to_pylist()).rows["canonical"]
    assert sorted(found.to_pylist()) == sorted(canonical_rows(rows, kind).to_pylist())
    (key, hour), digest = next(iter(digests_by_hour(rows, kind).items()))
    assert sum(audited.minutes(key, hour).digests.values(), Digest()) == digest
    begin = hour * HOUR_NS
    assert len(audited.rows(key, begin, begin + HOUR_NS).rows) == digest.count


def trades(*seqs: int, log_id: str = LOG, symbol: str = "BTC-USD") -> pa.Table:
    """Return a trade for each frame, a second after the one before."""
    told = [Told(seq, time_ns=BEGIN + seq * 10**9, symbol=symbol) for seq in seqs]
    rows = rows_of_trades(*told)
    given = {
        "seq": pa.array(seqs, pa.int64()),
        "log_id": pa.array([log_id] * len(rows)).dictionary_encode(),
    }
    for name, column in given.items():
        place = rows.column_names.index(name)
        rows = rows.set_column(place, rows.schema.field(place), column)
    return rows


@pytest.fixture
def trading(database: Database) -> Iterator[Database]:
    yield database
    database.empty(rows_of(TRADE.table), "state")


def test_what_is_stored_beyond_the_cursor_is_not_told(trading: Database) -> None:
    """It is of a commit whose cursor has not moved yet, as far as this audit has seen."""
    trading.keep(TRADE, trades(7, 8, 9))
    trading.keep(TRADE, trades(99, log_id="another"))
    trading.move(Position(LOG, 9))
    account = trading.audited.account(Span())
    assert account.position == Position(LOG, 9)
    assert account.hours[KEY, HOUR].events == 3
    minutes = trading.audited.minutes(KEY, HOUR)
    assert (minutes.position, minutes.digests[HOUR * 60].count) == (Position(LOG, 9), 2)
    rows = trading.audited.rows(KEY, BEGIN, BEGIN + HOUR_NS)
    assert sorted(rows.rows["seq"].to_pylist()) == [7, 8, 99]
    ids = id_texts(trades(7, 9)).to_pylist()
    assert trading.audited.find("trade", ids).rows["seq"].to_pylist() == [7]


def test_an_audit_beside_commits_is_of_the_cursor_it_saw_first(trading: Database) -> None:
    trading.keep(TRADE, trades(1))
    trading.move(Position(LOG, 2))
    seqs = itertools.count(2)

    def query(statement: str) -> pa.Table:
        answer = trading.reader.query(statement)
        seq = next(seqs)  # between any two statements something is stored
        trading.keep(TRADE, trades(seq))
        trading.move(Position(LOG, seq + 1))
        return answer

    audited = ClickHouseAudited(query)
    for _ in range(2):
        account = audited.account(Span())
        assert account.position is not None
        assert account.hours[KEY, HOUR].events == account.position.seq - 1


def test_what_is_stored_twice_is_told_twice_by_every_answer(trading: Database) -> None:
    for seqs in ((1, 2), (2,)):
        trading.keep(TRADE, trades(*seqs))
    trading.move(Position(LOG, 3))
    assert trading.audited.account(Span()).hours[KEY, HOUR].events == 3
    assert [told.count for told in trading.audited.minutes(KEY, HOUR).digests.values()] == [3]
    found = trading.audited.rows(KEY, BEGIN, BEGIN + HOUR_NS)
    assert sorted(found.rows["seq"].to_pylist()) == [1, 2, 2]


def test_hours_outside_the_span_are_counted_and_not_hashed(trading: Database) -> None:
    trading.keep(TRADE, trades(1, 3601))
    hours = trading.audited.account(Span(HOUR + 1)).hours
    assert [(hours[KEY, HOUR + n].events, hours[KEY, HOUR + n].digest is None) for n in (0, 1)] == [
        (1, True),
        (1, False),
    ]


def test_a_stream_is_found_however_it_is_spelled(trading: Database) -> None:
    rows = trades(1, symbol=QUOTED)
    trading.keep(TRADE, rows)
    key = KEY._replace(symbol=QUOTED)
    (told,) = trading.audited.rows(key, BEGIN, BEGIN + HOUR_NS).rows.to_pylist()
    assert told == audited_rows(rows, TRADE).to_pylist()[0]
    assert trading.audited.minutes(key, HOUR).digests == digests_by(
        audited_rows(rows, TRADE), MINUTE_NS
    )


def test_a_kind_without_a_table_has_nothing(
    trading: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, PING.channel, PING)
    audited = ClickHouseAudited(trading.reader.query)
    pings = KEY._replace(channel="ping")
    assert audited.account(Span()).hours == {}
    assert audited.minutes(pings, 0).digests == {}
    rows = audited.rows(pings, 0, HOUR_NS).rows
    assert rows.column_names == list(AUDIT_COLUMNS)
    assert len(audited.find("ping", [str(UUID(int=1))]).rows) == 0
    expected = [pa.string() if name in AUDIT_TEXTS else pa.int64() for name in AUDIT_COLUMNS]
    assert rows.schema.types == audited.rows(KEY, 0, 1).rows.schema.types == expected
