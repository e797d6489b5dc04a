"""A private DuckDB that is gone afterwards: room to compare more than memory holds."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from typing import TYPE_CHECKING

import duckdb

from forebay.stores.duckdb.session import identifier
from forebay.stores.duckdb.store import translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa


class DuckDBScratch:
    """Tables in memory that spill to a folder of their own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def create(self, name: str, rows: pa.Table) -> None:
        """Make (or make anew) a table with the columns of ``rows``, and put them in."""
        self._run(f"CREATE OR REPLACE TABLE {identifier(name)} AS FROM incoming", rows)

    def insert(self, name: str, rows: pa.Table) -> None:
        """Add rows to a table."""
        self._run(f"INSERT INTO {identifier(name)} FROM incoming", rows)

    def query(self, statement: str) -> pa.Table:
        """Answer the rows of one statement."""
        try:
            return self._connection.sql(statement).to_arrow_table()
        except duckdb.Error as error:
            raise translate(error) from error

    def _run(self, statement: str, incoming: pa.Table) -> None:
        self._connection.register("incoming", incoming)
        try:
            self._connection.execute(statement)
        except duckdb.Error as error:
            raise translate(error) from error
        finally:
            self._connection.unregister("incoming")


@contextlib.contextmanager
def open_scratch(*, memory_limit_mb: int = 1024) -> Iterator[DuckDBScratch]:
    """Open an empty scratch database; everything of it is removed at the end.

    Raises :class:`~forebay.errors.Transient` when neither memory nor disk is enough.
    """
    folder = tempfile.mkdtemp(prefix="forebay-scratch-")
    try:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_limit_mb}MB",
            "temp_directory": folder,
            "threads": 2,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(":memory:", config=config) as connection:
            yield DuckDBScratch(connection)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
