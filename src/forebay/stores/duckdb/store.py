"""Rows, coverage, gaps, dead letters and cursor in one DuckDB transaction."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

import duckdb
import numpy as np

from forebay.domain.coverage import Gap, StreamKey
from forebay.errors import ConfigError, Corrupt, ForebayError, Permanent, Transient, Unreachable
from forebay.ports import Commit, Committed, StoreState
from forebay.stores.duckdb import ddl, state
from forebay.stores.duckdb.events import insert_events, insert_letters
from forebay.stores.duckdb.query import READ_ONLY_SETTINGS, read_only_query
from forebay.stores.duckdb.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

T = TypeVar("T")
_RESTARTABLE = (duckdb.FatalException, duckdb.InternalException)
_TRANSIENT = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException)

_DAMAGED = ("not a valid DuckDB database", "Corrupt database", "Could not read enough bytes")
"""What DuckDB says of damaged files, under various exceptions."""


def translate(error: duckdb.Error) -> ForebayError:
    """Answer a driver's error as one of ours."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "Conflicting lock" in text or "set lock on file" in text:
        hint = "Stop the other process, or ask the running capture through its socket."
        return Unreachable(f"The database is open in another process: {text}.", hint=hint)
    if isinstance(error, duckdb.SerializationException) or any(say in text for say in _DAMAGED):
        hint = "Move it away; it is rebuilt from the journal."
        return Corrupt(f"The database is damaged: {text}.", hint=hint)
    if isinstance(error, (*_TRANSIENT, *_RESTARTABLE)):
        return Transient(f"DuckDB could not store: {text}.", hint="Check space and permissions.")
    return Permanent(f"DuckDB refused: {text}.")


class DuckDBStore:
    """The :class:`~forebay.ports.Store` in one DuckDB file; ``path`` None keeps it in memory."""

    def __init__(self, path: Path | None, *, memory_limit_mb: int = 1024) -> None:
        """Open or create the database.

        Raises :class:`~forebay.errors.Unreachable` while another process holds it,
        :class:`~forebay.errors.Corrupt` if it is damaged or no database, and
        :class:`~forebay.errors.ConfigError` if it was written by a newer Forebay.
        """
        self._path = path
        self._settings: dict[str, str | bool | int | float | list[str]] = {
            **READ_ONLY_SETTINGS,
            "memory_limit": f"{memory_limit_mb}MB",
            "threads": 2,
        }
        self._lock = threading.Lock()
        self._broken = False
        self._session = self._connect()
        self._gaps: dict[StreamKey, tuple[Gap, ...]] = {}
        self._epochs: dict[StreamKey, str] = {}
        """As they are stored, to write those alone that changed: a statement is dear."""
        self._recalled = False
        self._recall()

    def _recall(self) -> None:
        """Learn what is stored: a commit that failed may have happened all the same."""
        gaps: dict[StreamKey, tuple[Gap, ...]] = {}
        for gap in self.gaps():
            key = StreamKey(gap.venue, gap.channel, gap.symbol)
            gaps[key] = (*gaps.get(key, ()), gap)
        self._epochs = {key: stream.epoch for key, stream in self.load().coverage.items()}
        self._gaps = gaps
        self._recalled = True

    def _connect(self) -> Session:
        target = str(self._path) if self._path else ":memory:"
        try:
            session = Session(duckdb.connect(target, config=self._settings))
            for statement in ddl.statements():
                session.run(statement)
            found = session.run("SELECT schema_version FROM meta")
            if not found:
                session.run("INSERT INTO meta VALUES (?)", [ddl.SCHEMA_VERSION])
            elif found[0][0] > ddl.SCHEMA_VERSION:
                session.connection.close()
                message = f"{target} has tables of version {found[0][0]}, newer than this Forebay."
                raise ConfigError(message, hint="Upgrade Forebay.")
        except duckdb.Error as error:
            raise translate(error) from error
        return session

    def query(self, sql: str, *, timeout_s: float = 60.0) -> pa.Table:
        """Answer a reading statement; see :func:`~forebay.stores.duckdb.query.read_only_query`."""
        with self.reader() as connection:
            return read_only_query(connection, sql, timeout_s=timeout_s)

    def reader(self) -> duckdb.DuckDBPyConnection:
        """Answer a second connection to the same database, for use in another thread."""
        return self._session.connection.cursor()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Session]:
        with self._lock:
            if self._broken:
                self._session.connection.close()
                self._session = self._connect()
                self._broken = False
            session = self._session
            try:
                session.run("BEGIN")
                yield session
                session.run("COMMIT")
            except duckdb.Error as error:
                self._broken = isinstance(error, _RESTARTABLE)
                with contextlib.suppress(duckdb.Error):
                    session.run("ROLLBACK")
                raise translate(error) from error
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    session.run("ROLLBACK")
                raise

    # ------------------------------------------------------------- reading

    def load(self) -> StoreState:
        """See :meth:`forebay.ports.Store.load`."""
        with self._transaction() as session:
            return StoreState(state.read_positions(session), state.read_coverage(session))

    def table(self, name: str) -> pa.Table:
        """See :meth:`forebay.ports.Store.table`."""
        with self._transaction() as session:
            return session.connection.sql(f'SELECT * FROM "{name}"').to_arrow_table()

    def gaps(self) -> list[Gap]:
        """See :meth:`forebay.ports.Store.gaps`."""
        with self._transaction() as session:
            return state.read_gaps(session)

    def close(self) -> None:
        """See :meth:`forebay.ports.Store.close`."""
        with self._lock:
            self._session.connection.close()

    # ------------------------------------------------------------- writing

    def commit(self, commit: Commit) -> Committed:
        """See :meth:`forebay.ports.Store.commit`."""
        if not self._recalled:
            self._recall()
        self._recalled = False
        try:
            total = self._commit(commit)
        except BaseException:
            with contextlib.suppress(ForebayError):
                self._recall()
            raise
        self._recalled = True
        return total

    def _commit(self, commit: Commit) -> Committed:
        total = Committed()
        gaps = {key: tuple(stream.gaps(key)) for key, stream in commit.coverage.items()}
        epochs = {key: stream.epoch for key, stream in commit.coverage.items()}
        with self._transaction() as session:
            for name, rows in commit.rows.items():
                covered = commit.covered.get(name, np.zeros(len(rows), dtype=np.bool_))
                total += insert_events(session, name, rows, covered)
            if commit.dead_letters is not None:
                insert_letters(session, commit.dead_letters)
            if commit.coverage:
                state.write_coverage(session, commit.coverage)
            if moved := _unlike(gaps, self._gaps, ()):
                state.write_gaps(session, {key: commit.coverage[key] for key in moved})
            if begun := _unlike(epochs, self._epochs, ""):
                state.write_epochs(session, {key: commit.coverage[key] for key in begun})
            state.write_position(session, commit.consumer, commit.position)
        self._gaps |= gaps
        self._epochs |= epochs
        return total


def _unlike(
    now: Mapping[StreamKey, T], stored: Mapping[StreamKey, T], nothing: T
) -> set[StreamKey]:
    return {key for key, value in now.items() if value != stored.get(key, nothing)}
