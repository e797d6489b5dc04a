"""Stores of every kind, empty, each with its part of the audit."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.stores.duckdb import DuckDBAudited, DuckDBStore
from tests.support.clickhouse_stores import an_audited_clickhouse
from tests.support.memory_store import MemoryAudited, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.ports import Audited
    from tests.support.delivery import TableStore

AUDITED = ("memory", "duckdb", "clickhouse")


@contextlib.contextmanager
def an_audited_store(name: str) -> Iterator[tuple[TableStore, Audited]]:
    """Make the one of a name; the test is skipped if its server cannot be had."""
    if name == "memory":
        memory = MemoryStore()
        yield memory, MemoryAudited(memory)
    elif name == "clickhouse":
        with an_audited_clickhouse() as served:
            yield served
    else:
        duck = DuckDBStore(None)
        with duck.connection() as connection:
            yield duck, DuckDBAudited(lambda sql: connection.sql(sql).to_arrow_table())
        duck.close()
