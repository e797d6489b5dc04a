"""Stores in databases of their own, on the one ClickHouse of this test process."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.support.clickhouse import a_clickhouse, a_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.stores.clickhouse.store import ClickHouseStore


@contextlib.contextmanager
def a_clickhouse_store() -> Iterator[ClickHouseStore]:
    """Give a new store; the test is skipped if there is no ClickHouse."""
    server = a_clickhouse()
    from forebay.stores.clickhouse.store import ClickHouseStore  # noqa: PLC0415 - an extra

    with a_database(server) as database, contextlib.closing(
        ClickHouseStore(server.url, database=database)
    ) as store:
        yield store
