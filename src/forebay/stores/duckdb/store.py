"""Rows, coverage, gaps, dead letters and cursor in one DuckDB transaction."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from forebay.errors import ConfigError, Corrupt, ForebayError, Permanent, Transient, Unreachable
from forebay.ports import Commit, Committed, HourFiles, HourNote, ReadableStore, StoreState
from forebay.stores.cursors import has_happened, moves_on
from forebay.stores.duckdb import ddl, state
from forebay.stores.duckdb.events import (
    first_told,
    insert_events,
    insert_letter_states,
    insert_letters,
)
from forebay.stores.duckdb.hours import HourNotes, export_hour
from forebay.stores.duckdb.query import READ_ONLY_SETTINGS, DuckDBReader
from forebay.stores.duckdb.session import SqlSession
from forebay.stores.duckdb.state import Written
from forebay.stores.kind import address
from forebay.stores.rows import replayed_letters
from forebay.text import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa


_RESTARTABLE = (duckdb.FatalException, duckdb.InternalException)
_TRANSIENT = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException)

CHECKPOINT_MB = 96
"""How much DuckDB's own log may hold, about 300 000 trades: moving it into the table costs the
more, the bigger the table is, and reading it again after a kill most of a second."""
_DAMAGED = (
    "not a valid DuckDB database",
    "Corrupt database",
    "Could not read enough bytes",
    "This WAL was created for",
)
"""What DuckDB says of damaged files, under various exceptions. The last is of an older copy of a
database beside the log of a newer one: what lies between is in neither, and stays so."""


def translate(error: duckdb.Error) -> ForebayError:
    """Return a driver's error as one of ours."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "Conflicting lock" in text or "set lock on file" in text:
        hint = "Stop the other process, or ask the running capture through its socket."
        return Unreachable(f"The database is open in another process: {text}.", hint=hint)
    if isinstance(error, duckdb.SerializationException) or any(say in text for say in _DAMAGED):
        hint = "`forebay rebuild` makes it anew from the journal, and keeps this one."
        return Corrupt(f"The database is damaged: {text}.", hint=hint)
    if isinstance(error, (*_TRANSIENT, *_RESTARTABLE)):
        return Transient(f"DuckDB could not store: {text}.", hint="Check space and permissions.")
    return Permanent(f"DuckDB refused: {text}.")


class DuckDBStore(ReadableStore, HourFiles):
    """All of a store in one DuckDB file; ``path`` None keeps it in memory."""

    def __init__(self, path: Path | None, *, memory_limit_mb: int = 1024) -> None:
        """Open or create the database.

        Raises :class:`~forebay.errors.Unreachable` while another process holds it,
        :class:`~forebay.errors.Corrupt` if it is damaged or no database, and
        :class:`~forebay.errors.ConfigError` if it was written by a Forebay of other tables.
        """
        self._path = path
        self._settings: dict[str, str | bool | int | float | list[str]] = {
            **READ_ONLY_SETTINGS,
            "memory_limit": f"{memory_limit_mb}MB",
            "threads": 2,
            "checkpoint_threshold": f"{min(CHECKPOINT_MB, memory_limit_mb // 8)}MB",
        }
        self._lock = threading.Lock()
        self._committing = threading.Lock()
        self._broken = False
        self._session = self._connect()
        self._notes = HourNotes()
        self._written: Written | None = None
        self._recall()

    def _recall(self) -> Written:
        """Learn what is stored: a commit that failed may have happened all the same."""
        with self._transaction() as session:
            self._notes.recall(session)
            written = Written(state.read_coverage(session), state.read_gaps(session))
        self._written = written
        return written

    def _connect(self) -> SqlSession:
        target = address(self._path) if self._path else ":memory:"
        try:
            session = SqlSession(duckdb.connect(target, config=self._settings))
            try:
                _prepare(session, target)
            except BaseException:
                session.connection.close()
                raise
        except duckdb.Error as error:
            raise translate(error) from error
        return session

    def reader(self) -> DuckDBReader:
        return DuckDBReader(self.connection())

    def connection(self) -> duckdb.DuckDBPyConnection:
        """Return a second connection to the same database, for use in another thread."""
        return self._session.connection.cursor()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[SqlSession]:
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
            except BaseException as error:
                with contextlib.suppress(duckdb.Error):
                    session.run("ROLLBACK")
                if not isinstance(error, duckdb.Error):
                    raise
                self._broken = isinstance(error, _RESTARTABLE)
                raise translate(error) from error

    # ------------------------------------------------------------- reading

    def load(self) -> StoreState:
        with self._transaction() as session:
            return StoreState(
                state.read_positions(session),
                state.read_coverage(session),
                state.read_ordinals(session),
            )

    def table(self, name: str) -> pa.Table:
        """Return all rows of a table: for tests and small tables, big ones are queried."""
        with self._transaction() as session:
            return session.connection.sql(f"FROM {identifier(name)}").to_arrow_table()

    def rarities(self) -> frozenset[tuple[str, str]]:
        with self._transaction() as session:
            rows = session.run(
                "SELECT letter_id::VARCHAR, '' FROM dead_letters "
                f"WHERE letter_id NOT IN ({replayed_letters()}) "
                "UNION ALL SELECT event_id::VARCHAR, incoming FROM conflicts"
            )
        return frozenset(rows)

    def close(self) -> None:
        with self._lock:
            self._session.connection.close()

    # ------------------------------------------------------------- writing

    def commit(self, commit: Commit) -> Committed:
        with self._committing:  # what is known of the store changes with what is stored
            written = self._written or self._recall()
            self._written = None  # until the answer is there, what is stored is not known
            try:
                total = self._commit(commit, written)
            except BaseException:
                with contextlib.suppress(ForebayError):
                    self._recall()
                raise
            self._written = written
            return total

    def _commit(self, commit: Commit, written: Written) -> Committed:
        first, conflicts = {}, 0
        with self._transaction() as session:
            now = state.read_positions(session)
            happened, trusted = has_happened(commit, now), moves_on(commit, now)
            for name, events in commit.events.items():
                if not len(events.rows):
                    continue
                vouched_new = events.vouched_new if trusted else np.zeros_like(events.vouched_new)
                inserted = insert_events(
                    session, name, events.rows, events.seen_before, vouched_new
                )
                first[name] = inserted.first
                conflicts += inserted.conflicts
                self._notes.write(session, name, inserted.hours)
            letters: dict[tuple[str, str], int] = {}
            if commit.dead_letters is not None and len(commit.dead_letters):
                letters = insert_letters(session, commit.dead_letters, insert=not happened)
            if not happened:
                if commit.letter_states is not None:
                    insert_letter_states(session, commit.letter_states)
                written.write_streams(session, commit.coverage, commit.ordinals)
                state.write_positions(session, commit.positions, now)
        return Committed(first, conflicts, letters)

    def first_told(self, table: str, rows: pa.Table) -> npt.NDArray[np.bool_]:
        with self._transaction() as session:
            return first_told(session, table, rows)

    def derive(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table that can be made again. Raises as :meth:`commit`."""
        with self._transaction() as session:
            session.run(f"INSERT INTO {identifier(table)} FROM incoming", incoming=rows)

    # ------------------------------------------------------------- hours

    def hours_to_write(self) -> list[HourNote]:
        with self._lock:
            return self._notes.all()

    def export_hour(self, note: HourNote, path: Path) -> int:
        with self._lock:  # a commit is either in the file, or leaves a note of its own
            self._notes.begin(note)
            connection = self.connection()
        try:
            with connection:
                return export_hour(connection, note, path)
        except duckdb.Error as error:
            raise translate(error) from error

    def hour_written(self, note: HourNote) -> None:
        with self._transaction() as session:
            self._notes.finish(session, note)


def _prepare(session: SqlSession, target: str) -> None:
    """Make what is missing; raises :class:`~forebay.errors.ConfigError` if it is of another age."""
    session.run("BEGIN")
    session.run(ddl.META)
    found = session.run("SELECT schema_version FROM meta")
    version = found[0][0] if found else ddl.SCHEMA_VERSION
    if version != ddl.SCHEMA_VERSION:
        newer = version > ddl.SCHEMA_VERSION
        again = "`forebay rebuild --data DIR` makes it anew from the journal, and keeps this one."
        message = f"{target} has tables of version {version}, {'newer' if newer else 'older'}"
        raise ConfigError(
            f"{message} than this Forebay's.", hint="Upgrade Forebay." if newer else again
        )
    for statement in ddl.statements():
        session.run(statement)
    if not found:
        session.run("INSERT INTO meta VALUES (?)", [ddl.SCHEMA_VERSION])
    session.run("COMMIT")
