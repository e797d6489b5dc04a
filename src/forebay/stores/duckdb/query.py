"""Read-only queries: one statement, no side effects, bounded in time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import duckdb

from forebay.errors import ForebayError, Permanent, Transient, Unreachable
from forebay.ports import Reader
from forebay.stores.duckdb.gaps import show_gaps
from forebay.stores.kind import address

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    import pyarrow as pa

READ_ONLY_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""A query never makes this machine fetch anything."""

_READS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def check_read_only(sql: str) -> None:
    """Raise :class:`~forebay.errors.Permanent` unless ``sql`` is one statement that only reads."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise Permanent(f"The query cannot be parsed: {error}") from error
    if len(statements) != 1:
        message = f"The query has {len(statements)} statements; it must be exactly one."
        raise Permanent(message, hint="Run them one after another.")
    if statements[0].type not in _READS:
        message = f"Only queries that read are answered, not {statements[0].type.name}."
        raise Permanent(message, hint="Use SELECT, WITH, FROM, DESCRIBE, SUMMARIZE or EXPLAIN.")


def read_only_query(
    connection: duckdb.DuckDBPyConnection, sql: str, *, timeout_s: float
) -> pa.Table:
    """Return the rows of one reading statement as an Arrow table.

    ``connection`` must be the caller's own. Raises :class:`~forebay.errors.Permanent` for a
    query that is wrong and :class:`~forebay.errors.Transient` for one that takes too long or
    too much memory.
    """
    check_read_only(sql)
    timer = threading.Timer(timeout_s, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        connection.execute("BEGIN TRANSACTION READ ONLY").fetchall()
        try:
            return connection.sql(sql).to_arrow_table()
        finally:
            connection.execute("ROLLBACK").fetchall()
    except duckdb.InterruptException as error:
        message = f"The query took longer than {timeout_s:g} s and was stopped."
        raise Transient(message, hint="Narrow it down, or raise query.timeout_s.") from error
    except duckdb.OutOfMemoryException as error:
        message = "The query needs more memory than it may use."
        raise Transient(message, hint="Narrow it down, or raise store.memory_limit_mb.") from error
    except duckdb.Error as error:
        raise Permanent(f"The query failed: {error}") from error
    finally:
        timer.cancel()


class DuckDBReader(Reader):
    """Reads through a connection of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    @classmethod
    def of_file(cls, path: Path, *, memory_limit_mb: int | None = None) -> Self:
        """Open a database file that no process holds.

        Raises :class:`~forebay.errors.Unreachable` if it is held or absent. Queries take as much
        memory as the machine lets them unless there is a limit.
        """
        if not path.exists() or not path.stat().st_size:
            raise _absent(path)
        settings = dict(READ_ONLY_SETTINGS)
        if memory_limit_mb is not None:
            settings |= {"memory_limit": f"{memory_limit_mb}MB", "threads": 2}
        try:
            connection = duckdb.connect(address(path), read_only=True, config=settings)
        except duckdb.Error as error:
            raise _unreadable(path, error) from error
        if connection.execute("SELECT 1 FROM duckdb_tables() LIMIT 1").fetchone() is None:
            connection.close()
            raise _absent(path)  # who made it ended before its first tables
        return cls(connection)

    def query(self, sql: str, *, timeout_s: float = 3600.0) -> pa.Table:
        """See :func:`read_only_query`; what is told of gaps beside their table comes with it."""
        if "gaps" in sql.lower():
            show_gaps(self._connection)
        return read_only_query(self._connection, sql, timeout_s=timeout_s)

    def interrupt(self) -> None:
        """See :meth:`forebay.ports.Reader.interrupt`."""
        self._connection.interrupt()

    def close(self) -> None:
        """See :meth:`forebay.ports.Reader.close`."""
        self._connection.close()


def _absent(path: Path) -> Unreachable:
    message = f"There is no database at {path}: nothing was delivered, or it was lost."
    hint = "Run `forebay run` or `forebay replay`, or `forebay rebuild` if it was lost."
    return Unreachable(message, hint=hint)


def _unreadable(path: Path, error: duckdb.Error) -> ForebayError:
    text = str(error).splitlines()[0]
    if "lock" in text.lower():
        hint = "It is being opened or closed by a capture; try again in a second."
        return Unreachable(f"The database {path} is held by another process: {text}", hint=hint)
    return Permanent(f"The database {path} cannot be opened: {text}")
