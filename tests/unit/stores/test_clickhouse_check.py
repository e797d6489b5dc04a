"""What `check` says of a ClickHouse server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("clickhouse_connect", exc_type=ImportError)

from forebay.stores.clickhouse import check
from forebay.stores.clickhouse.check import complaints
from forebay.stores.clickhouse.ddl import statements
from forebay.stores.clickhouse.session import ClickHouseSession, Target
from tests.support.clickhouse import a_clickhouse, a_database

if TYPE_CHECKING:
    from collections.abc import Iterator

TRADES = "CREATE MATERIALIZED VIEW {db}.{name} {where} AS SELECT symbol, size FROM {db}.trades_rows"
SUMMING = "SummingMergeTree ORDER BY symbol"


@pytest.fixture
def session() -> Iterator[ClickHouseSession]:
    """One of a database with the tables that matter here."""
    server = a_clickhouse()
    with a_database(server) as name:
        session = ClickHouseSession(Target(server.url, name))
        session.run(f"CREATE DATABASE {name}")
        made = statements(session.name)
        for table in ("trades_rows", "state", "commits"):
            session.run(made[table])
        with contextlib.closing(session):
            yield session


def view(session: ClickHouseSession, name: str, where: str) -> None:
    session.run(TRADES.format(db=session.target.database, name=name, where=where))


def test_our_own_tables_are_nothing_to_complain_of(session: ClickHouseSession) -> None:
    assert complaints(session) == []


def test_no_database_yet_is_nothing_to_complain_of() -> None:
    with contextlib.closing(ClickHouseSession(Target(a_clickhouse().url, "no_such"))) as session:
        assert complaints(session) == []


def test_a_table_without_a_window_is_named_with_what_mends_it(session: ClickHouseSession) -> None:
    table = f"{session.target.database}.trades_rows"
    window, said = "non_replicated_deduplication_window", ""
    for alter in (f"MODIFY SETTING {window} = 0", f"RESET SETTING {window}"):
        session.run(f"ALTER TABLE {table} {alter}")
        (said,) = complaints(session)
        assert said.startswith(f"The table {table} remembers 0 inserts")
    session.run(said.partition(": run ")[2].rstrip("."))
    assert complaints(session) == []


def test_views_that_would_count_twice_are_named(session: ClickHouseSession) -> None:
    database = session.target.database
    view(session, "inner_sum", f"ENGINE = {SUMMING}")
    session.run(f"CREATE TABLE {database}.sums (symbol String, size Decimal(38, 18)) "
                f"ENGINE = {SUMMING} SETTINGS non_replicated_deduplication_window = 0")  # fmt: skip
    view(session, "outer_sum", f"TO {database}.sums")
    said = [text for text in complaints(session) if "materialized view" in text]
    assert [text.split()[3] for text in said] == [f"{database}.inner_sum", f"{database}.outer_sum"]
    assert all("SummingMergeTree" in text and "counts twice" in text for text in said)


def test_views_that_may_be_told_twice_are_not(session: ClickHouseSession) -> None:
    view(session, "latest", "ENGINE = ReplacingMergeTree ORDER BY symbol")
    known = f"ENGINE = {SUMMING} SETTINGS non_replicated_deduplication_window = 10000"
    view(session, "known", known)
    assert complaints(session) == []


def test_a_disk_that_is_nearly_full_is_named(
    session: ClickHouseSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "LEAST_FREE", 1.0)
    said = complaints(session)
    assert said
    assert all(text.startswith("The disk ") and "make space" in text for text in said)


def test_an_old_server_and_a_fixed_profile_are_named(
    session: ClickHouseSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = check._rows

    def rows(session: ClickHouseSession, sql: str) -> list[dict[str, Any]]:
        if "version()" in sql:
            return [{"version": "23.8.1.5"}]
        if "system.settings" in sql:
            return [{"name": "async_insert", "value": "1"}, {"name": "final", "value": "0"}]
        return ask(session, sql)

    monkeypatch.setattr(check, "_rows", rows)
    old, fixed = complaints(session)
    assert old == "ClickHouse is 23.8.1.5: upgrade it to 24.8 or later."
    assert fixed.startswith("The profile of the user fixes async_insert at 1, and it has to be 0")
