"""Stores on the one ClickHouse of this test process, empty for each test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.support.clickhouse import a_clickhouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.journal import Position
    from forebay.ports import Audited
    from forebay.stores.clickhouse.store import ClickHouseStore
    from tests.support.delivery import TableStore

DATABASE = "forebay_exam"
UNMERGED = (
    "MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, "
    "max_bytes_to_merge_at_min_space_in_pool = 1"
)


@contextlib.contextmanager
def a_clickhouse_store() -> Iterator[ClickHouseStore]:
    """Give an empty store; the test is skipped if there is no ClickHouse."""
    store = another_store()
    empty(store)
    with contextlib.closing(store):
        yield store


@contextlib.contextmanager
def an_audited_clickhouse() -> Iterator[tuple[ClickHouseStore, Audited]]:
    """Give an empty store and its part of the audit."""
    with a_clickhouse_store() as store, contextlib.closing(store.reader()) as reader:
        from forebay.stores.clickhouse.audit import ClickHouseAudited

        yield store, ClickHouseAudited(lambda sql: reader.query(sql, timeout_s=60))


def another_store() -> ClickHouseStore:
    """Give a store of the same database, as another process has it."""
    server = a_clickhouse()
    from forebay.stores.clickhouse.session import Target
    from forebay.stores.clickhouse.store import ClickHouseStore

    return ClickHouseStore(Target(server.url, DATABASE))


def empty(store: ClickHouseStore) -> None:
    """Take all rows out of a store: tables take far longer to make."""
    store.load()
    for table in _tables(store):
        store._session.run(f"TRUNCATE TABLE {store._session.name(table)} SYNC")
    # A merge would hide that a row is there twice.
    store._session.run(f"ALTER TABLE {store._session.name('trades_rows')} {UNMERGED}")


def _tables(store: ClickHouseStore) -> list[str]:
    found = store._session.rows(
        f"SELECT DISTINCT table FROM system.parts WHERE database = '{DATABASE}' "  # noqa: S608
        "AND active AND rows > 0 AND table != 'meta'"
    )
    return [name.decode() for name in found["table"].to_pylist()] if len(found) else []


def doubled(store: ClickHouseStore) -> dict[str, tuple[int, int]]:
    """Return which tables have a row twice, merged or not: rows and different ids."""
    from forebay.domain.kinds import KINDS
    from forebay.stores.clickhouse.ddl import rows_of

    counts = [
        f"SELECT '{kind.table}' AS name, count() AS n, uniqExact(event_id) AS ids "  # noqa: S608
        f"FROM {store._session.name(rows_of(kind.table))}"
        for kind in KINDS.values()
    ]
    rows = store._session.rows(" UNION ALL ".join(counts)).to_pylist()
    return {row["name"].decode(): (row["n"], row["ids"]) for row in rows if row["n"] != row["ids"]}


def set_clickhouse_cursor(store: TableStore, consumer: str, position: Position) -> None:
    """Move a cursor behind the back of a store."""
    session = store._session  # type: ignore[attr-defined]
    state = session.name("state")
    session.run(
        f"INSERT INTO {state} (kind, consumer, log_id, seq, version) "  # noqa: S608
        f"SELECT 'cursor', '{consumer}', '{position.log_id}', {position.seq}, "
        f"max(version) + 1 FROM {state}"
    )
