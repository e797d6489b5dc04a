"""One ClickHouse for all tests of a process that need one: each has a database of its own."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from forebay.lab.clickhouse_server import clickhouse
from tests.support.servers import needs_clickhouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clickhouse_connect.driver.client import Client

    from forebay.lab.clickhouse_server import ClickHouseServer

_numbers = itertools.count()


def a_clickhouse() -> ClickHouseServer:
    """Return one that lives as long as this process; the test is skipped if none can be had."""
    needs_clickhouse()
    server = _shared()
    server.thaw()  # a test that failed may have left it so
    if not server.pid:
        asyncio.run(server.start())
    server.forget()
    return server


@functools.cache
def _shared() -> ClickHouseServer:
    ending = contextlib.ExitStack()
    atexit.register(ending.close)
    return ending.enter_context(running_clickhouse())


@contextlib.contextmanager
def running_clickhouse(
    folder: Path | None = None, *, settings: Mapping[str, str] | None = None, login: str = ""
) -> Iterator[ClickHouseServer]:
    """Run one while the context is open, for tests that are not asynchronous themselves."""
    needs_clickhouse()
    made = folder or Path(tempfile.mkdtemp(prefix="forebay-clickhouse-"))
    with asyncio.Runner() as runner:
        served = clickhouse(made, clock=SystemClock(), settings=settings, login=login)
        try:
            yield runner.run(served.__aenter__())
        finally:
            runner.run(served.__aexit__(None, None, None))
            if folder is None:
                shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def a_database(server: ClickHouseServer) -> Iterator[str]:
    """Give the name of a database that nobody has, and drop it at the end."""
    name = f"test_{next(_numbers)}"
    try:
        yield name
    finally:
        server.ask(f"DROP DATABASE IF EXISTS {name} SYNC")


@contextlib.contextmanager
def a_client(server: ClickHouseServer, database: str = "") -> Iterator[Client]:
    """A client beside the store under test; the database is made if there is none."""
    from clickhouse_connect import get_client

    if database:
        server.ask(f"CREATE DATABASE IF NOT EXISTS {database}")
    with get_client(
        host="127.0.0.1",
        port=server.port,
        database=database or "default",
        autogenerate_session_id=False,
    ) as client:
        yield client
