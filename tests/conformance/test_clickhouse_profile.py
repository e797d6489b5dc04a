"""What an administrator set for everybody changes nothing of what is stored, and when.

The engine as a library never puts an insert off, as ``async_insert`` has a server do: of that, only
that the setting is overridden can be seen here.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from forebay.domain.kinds import KINDS
from forebay.journal import Position
from forebay.ports import Commit, Span
from tests.support.clickhouse import a_clickhouse, running_clickhouse
from tests.support.delivery import as_events
from tests.support.frames import LOG, Told, rows_of

pytest.importorskip("clickhouse_connect", exc_type=ImportError)

from forebay.stores.clickhouse.audit import ClickHouseAudited
from forebay.stores.clickhouse.check import complaints
from forebay.stores.clickhouse.session import ALWAYS, INSERTING, ClickHouseSession, Target, encoded
from forebay.stores.clickhouse.store import ClickHouseStore

if TYPE_CHECKING:
    from pathlib import Path

HARSH = {
    "async_insert": "1",
    "wait_for_async_insert": "0",
    "async_insert_busy_timeout_min_ms": "600000",
    "async_insert_busy_timeout_max_ms": "600000",
    "insert_deduplicate": "0",
    "deduplicate_insert": "disable",
    "do_not_merge_across_partitions_select_final": "1",
    "max_insert_block_size": "2",
    "min_insert_block_size_rows": "1",
    "max_partitions_per_insert_block": "1",
    "join_use_nulls": "1",
    "session_timezone": "Asia/Kolkata",
}
UNNOTICED = [
    {"limit": "1"},
    {
        "use_query_cache": "1",
        "query_cache_nondeterministic_function_handling": "save",
        "query_cache_system_table_handling": "save",
    },
]
"""What would have an answer be a part of it, or an earlier one."""
INSERT = "INSERT INTO forebay.others SETTINGS insert_deduplication_token = 'a'"
OTHERS = (
    "CREATE TABLE forebay.others (n Int64) ENGINE = MergeTree ORDER BY n "
    "SETTINGS non_replicated_deduplication_window = 100"
)


def test_every_insert_says_that_it_waits() -> None:
    assert INSERTING["async_insert"] == 0


def test_an_answer_that_is_cut_short_is_an_error() -> None:
    with contextlib.closing(ClickHouseSession(Target(a_clickhouse().url))) as session:
        told = session.rows("SELECT name FROM system.settings WHERE name LIKE '%overflow_mode%'")
    modes = {name.decode() for name in told["name"].to_pylist()}
    assert len(modes) > 8
    assert {name: ALWAYS.get(name) for name in modes} == dict.fromkeys(modes, "throw")


def _again(session: ClickHouseSession) -> None:
    """Two inserts of one token are one, two without are two: a store relies on both."""
    row = encoded(pa.table({"n": [5]}))
    for token in ("b", "b", None, None):
        session.insert("others", ["n"], row, token)
    told = session.rows(f"SELECT count() AS found FROM {session.name('others')} WHERE n = 5")  # noqa: S608
    assert told["found"].to_pylist() == [3]


@pytest.mark.parametrize(
    "unnoticed", [UNNOTICED[0], pytest.param(UNNOTICED[1], marks=pytest.mark.drill)]
)
def test_what_is_committed_is_there_whatever_the_profile_says(
    tmp_path: Path, unnoticed: dict[str, str]
) -> None:
    rows = rows_of(*(Told(number) for number in range(1, 8)))
    commit = Commit({"store": Position(LOG, 9)}, events={KINDS["trade"].table: as_events(rows)})
    with running_clickhouse(tmp_path, settings=HARSH | unnoticed) as server:
        target = Target(server.url)
        server.ask("CREATE DATABASE forebay")
        server.ask(OTHERS)  # which has the profile as it is
        for _ in range(2):
            server.ask(f"{INSERT} VALUES (1)")
        assert server.ask("SELECT count() FROM forebay.others") == "2"
        with contextlib.closing(ClickHouseStore(target)) as store:
            assert store.commit(commit).inserted == 7
            _again(store._session)
            server.kill()
        asyncio.run(server.start())
        with (
            contextlib.closing(ClickHouseStore(target)) as store,
            contextlib.closing(store.reader()) as reader,
            contextlib.closing(ClickHouseSession(target)) as session,
        ):
            audited = ClickHouseAudited(lambda sql: reader.query(sql, timeout_s=60))
            account = audited.account(Span())
            assert sum(hour.events for hour in account.hours.values()) == 7
            assert account.position == Position(LOG, 9)
            assert complaints(session) == []
