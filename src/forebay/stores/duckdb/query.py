"""Read-only queries: one statement, no side effects, bounded in time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from forebay.errors import ForebayError, Permanent, Transient, Unreachable
from forebay.ports import Reader
from forebay.stores.duckdb import letters
from forebay.stores.duckdb.gaps import show_gaps
from forebay.stores.duckdb.products import allow_products
from forebay.stores.kind import address

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from duckdb.sqltypes import DuckDBPyType

READ_ONLY_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""A query never makes this machine fetch anything."""

_READS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
COUNTED = 1_000_000
"""Rows beyond a limit that are counted."""
_BATCH = 100_000
_NOT_IN_ARROW = {"bit", "bignum", "uhugeint", "time with time zone", "variant", "geometry"}
_NESTED = {"list", "array", "struct", "map", "union"}


def _check(sql: str) -> None:
    """Raise :class:`~forebay.errors.Permanent` unless ``sql`` is one statement that only reads."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise Permanent(f"The query cannot be parsed: {sentence(error)}") from error
    if len(statements) != 1:
        message = f"The query has {len(statements)} statements; it must be exactly one."
        raise Permanent(message, hint="Run them one after another.")
    if statements[0].type not in _READS:
        message = f"Only queries that read are answered, not {statements[0].type.name}."
        raise Permanent(message, hint="Use SELECT, WITH, FROM, DESCRIBE, SUMMARIZE or EXPLAIN.")


def _fetched(relation: duckdb.DuckDBPyRelation, limit: int | None) -> pa.Table:
    """Return the first rows; how many there are is then in the metadata as ``rows``."""
    names = relation.columns
    relation = _transferable(relation)
    if limit is None:
        return relation.to_arrow_table().rename_columns(names)
    read = "to_arrow_reader" if hasattr(relation, "to_arrow_reader") else "fetch_arrow_reader"
    reader: pa.RecordBatchReader = getattr(relation, read)(_BATCH)  # the latter is the older name
    first: list[pa.RecordBatch] = []
    count = 0
    for batch in reader:
        if count < limit:
            first.append(batch.slice(0, limit - count))
        count += batch.num_rows
        if count > limit + COUNTED:
            break
    counted = f"{limit + COUNTED}+" if count > limit + COUNTED else str(count)
    table = pa.Table.from_batches(first, reader.schema).rename_columns(names)
    return table.replace_schema_metadata({"rows": counted})


def _transferable(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Return a relation whose columns Arrow can hold: the others are texts."""
    strange = [_mentions(kind) for kind in relation.types]
    if not any(strange):
        return relation
    columns = (f"#{n}::VARCHAR" if odd else f"#{n}" for n, odd in enumerate(strange, 1))
    return relation.project(", ".join(columns))


def _mentions(kind: DuckDBPyType) -> bool:
    """Return whether a type is one that Arrow has not, or holds one."""
    if kind.id in _NOT_IN_ARROW:
        return True
    nested = kind.children if kind.id in _NESTED else ()
    return any(isinstance(child, type(kind)) and _mentions(child) for _, child in nested)


def sentence(error: Exception) -> str:
    """Return what a driver says as one line, with the place but without its picture."""
    said, _, _ = str(error).partition("\tCandidate ")
    place = next((line for line in str(error).splitlines() if line.startswith("LINE ")), "")
    lines = [line for line in said.splitlines() if not line.startswith("LINE ")]
    words = " ".join(line.strip() for line in lines if line.strip(" ^"))
    return f"{words} ({place})" if place else words


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

    def query(self, sql: str, *, timeout_s: float = 3600.0, limit: int | None = None) -> pa.Table:
        """See :meth:`forebay.ports.Reader.query`; gaps come with what other tables say of them."""
        _check(sql)
        connection = self._connection
        if "gaps" in sql.lower():
            show_gaps(connection)
        if letters.TABLE in sql.lower():
            letters.show_letter_states(connection)
        timer = threading.Timer(timeout_s, connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            allow_products(connection, sql)
            connection.execute("BEGIN TRANSACTION READ ONLY").fetchall()
            try:
                return _fetched(connection.sql(sql), limit)
            finally:
                connection.execute("ROLLBACK").fetchall()
        except duckdb.InterruptException as error:
            message = f"The query took longer than {timeout_s:g} s and was stopped."
            raise Transient(message, hint="Narrow it down, or raise query.timeout_s.") from error
        except duckdb.OutOfMemoryException as error:
            message = "The query needs more memory than it may use."
            hint = "Narrow it down, or raise store.memory_limit_mb."
            raise Transient(message, hint=hint) from error
        except (duckdb.Error, pa.ArrowException) as error:
            raise Permanent(f"The query failed: {sentence(error)}") from error
        finally:
            timer.cancel()
            timer.join()  # it holds the connection, which DuckDB misses aloud if it outlives Python

    def interrupt(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
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
