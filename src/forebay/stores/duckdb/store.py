"""Rows, coverage, gaps, dead letters and cursor in one DuckDB transaction.

A batch is made idempotent by joining it with what is stored around its own time, one range
of time per cluster of the batch: one range over a batch with a single late row would read
the whole table. Rows that coverage has already are looked up without a range, so that an id
told again with another time is found too.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.coverage import Gap
from forebay.errors import ConfigError, Corrupt, ForebayError, Permanent, Transient, Unreachable
from forebay.journal import Position
from forebay.ports import Commit, Committed, StoreState
from forebay.stores.duckdb import ddl
from forebay.stores.duckdb.query import READ_ONLY_SETTINGS, read_only_query
from forebay.stores.rows import coverage_from, coverage_rows, gap_rows, repeated_in_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

CLUSTER_GAP_NS = 600_000_000_000
"""Rows further apart than this in time are looked up in ranges of their own."""
MAX_CLUSTERS = 16
"""Above this, neighbouring clusters share a range: each costs a query of its own."""

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


def run(
    connection: duckdb.DuckDBPyConnection, statement: str, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Execute and fetch to the end: a result left open would block the connection."""
    return connection.execute(statement, list(parameters)).fetchall()


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
        self._connection = self._connect()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        target = str(self._path) if self._path else ":memory:"
        try:
            connection = duckdb.connect(target, config=self._settings)
            for statement in ddl.statements():
                run(connection, statement)
            found = run(connection, "SELECT schema_version FROM meta")
            if not found:
                run(connection, "INSERT INTO meta VALUES (?)", [ddl.SCHEMA_VERSION])
            elif found[0][0] > ddl.SCHEMA_VERSION:
                connection.close()
                message = f"{target} has tables of version {found[0][0]}, newer than this Forebay."
                raise ConfigError(message, hint="Upgrade Forebay.")
        except duckdb.Error as error:
            raise translate(error) from error
        return connection

    def query(self, sql: str, *, timeout_s: float = 60.0) -> pa.Table:
        """Answer a reading statement; see :func:`~forebay.stores.duckdb.query.read_only_query`."""
        with self.reader() as connection:
            return read_only_query(connection, sql, timeout_s=timeout_s)

    def reader(self) -> duckdb.DuckDBPyConnection:
        """Answer a second connection to the same database, for use in another thread."""
        return self._connection.cursor()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock:
            if self._broken:
                self._connection.close()
                self._connection = self._connect()
                self._broken = False
            connection = self._connection
            try:
                run(connection, "BEGIN")
                yield connection
                run(connection, "COMMIT")
            except duckdb.Error as error:
                self._broken = isinstance(error, _RESTARTABLE)
                with contextlib.suppress(duckdb.Error):
                    run(connection, "ROLLBACK")
                raise translate(error) from error
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    run(connection, "ROLLBACK")
                raise

    # ------------------------------------------------------------- reading

    def load(self) -> StoreState:
        """See :meth:`forebay.ports.Store.load`."""
        with self._transaction() as connection:
            cursors = run(connection, "SELECT consumer, log_id, seq FROM cursors")
            coverage = run(connection, "SELECT * FROM coverage")
            epochs = run(connection, "SELECT * FROM stream_epochs")
        positions = {consumer: Position(log_id, seq) for consumer, log_id, seq in cursors}
        return StoreState(positions, coverage_from(coverage, epochs))

    def table(self, name: str) -> pa.Table:
        """See :meth:`forebay.ports.Store.table`."""
        with self._transaction() as connection:
            return connection.sql(f'SELECT * FROM "{name}"').to_arrow_table()

    def gaps(self) -> list[Gap]:
        """See :meth:`forebay.ports.Store.gaps`."""
        with self._transaction() as connection:
            rows = run(connection, "SELECT * FROM gaps")
        return sorted(Gap(*row) for row in rows)

    def close(self) -> None:
        """See :meth:`forebay.ports.Store.close`."""
        with self._lock:
            self._connection.close()

    # ------------------------------------------------------------- writing

    def commit(self, commit: Commit) -> Committed:
        """See :meth:`forebay.ports.Store.commit`."""
        total = Committed()
        with self._transaction() as connection:
            for name, rows in commit.rows.items():
                covered = commit.covered.get(name, np.zeros(len(rows), dtype=np.bool_))
                done = _insert_events(connection, name, rows, covered)
                total = Committed(
                    total.inserted + done.inserted,
                    total.duplicates + done.duplicates,
                    total.conflicts + done.conflicts,
                )
            if commit.dead_letters is not None:
                _insert_letters(connection, commit.dead_letters)
            if commit.coverage:
                _replace_coverage(connection, commit)
            _count_frames(connection, commit)
            run(connection, "DELETE FROM cursors WHERE consumer = ?", [commit.consumer])
            run(
                connection,
                "INSERT INTO cursors VALUES (?, ?, ?)",
                [commit.consumer, commit.position.log_id, commit.position.seq],
            )
        return total


def time_clusters(event_ns: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Answer the ranges of time that the rows lie in, at most :data:`MAX_CLUSTERS` of them."""
    ordered = np.sort(event_ns)
    steps = ordered[1:] - ordered[:-1]
    wide = np.flatnonzero(steps > CLUSTER_GAP_NS)
    if len(wide) >= MAX_CLUSTERS:
        widest = np.argpartition(steps, -(MAX_CLUSTERS - 1))[-(MAX_CLUSTERS - 1) :]
        wide = np.sort(widest)
    firsts = ordered[np.concatenate(([0], wide + 1))]
    lasts = ordered[np.concatenate((wide, [len(ordered) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _registered(
    connection: duckdb.DuckDBPyConnection, rows: pa.Table
) -> contextlib.AbstractContextManager[None]:
    @contextlib.contextmanager
    def scope() -> Iterator[None]:
        connection.register("incoming", rows)
        try:
            yield
        finally:
            # Refused in an aborted transaction, whose own error is the one to hear of.
            with contextlib.suppress(duckdb.Error):
                connection.unregister("incoming")

    return scope()


def _insert_events(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    rows: pa.Table,
    covered: npt.NDArray[np.bool_],
) -> Committed:
    """Insert what is new; what is known stays as it was and is compared with what came."""
    if not len(rows):
        return Committed()
    again = repeated_in_batch(rows)
    numbered = rows.append_column("row", pa.array(np.arange(len(rows))))
    fresh = np.ones(len(rows), dtype=np.bool_)
    fresh[again] = False
    with _registered(connection, numbered):
        known = _known_rows(connection, name, numbered, covered & fresh)
        fresh[known] = False
        new = rows.filter(pa.array(fresh)) if not fresh.all() else rows
    with _registered(connection, new):
        run(connection, f"INSERT INTO {name} SELECT * FROM incoming")
    repeats = numbered.filter(pa.array(~fresh))
    conflicts = _record_conflicts(connection, name, repeats) if len(repeats) else 0
    return Committed(len(new), len(repeats) - conflicts, conflicts)


def _known_rows(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    numbered: pa.Table,
    covered: npt.NDArray[np.bool_],
) -> list[int]:
    """Answer the numbers of the rows of ``incoming`` that the table has.

    Rows of ``covered`` are looked up wherever they are, the others around their own time.
    """
    event_ns = numbered.column("event_ts").cast(pa.int64()).to_numpy()
    known: set[int] = set()
    for first, last in time_clusters(event_ns):
        found = run(
            connection,
            f"SELECT i.row FROM incoming i JOIN {name} t ON i.event_id = t.event_id "
            "WHERE t.event_ts BETWEEN make_timestamp_ns(?) AND make_timestamp_ns(?)",
            [first, last],
        )
        known.update(row for (row,) in found)
    elsewhere = sorted(set(np.flatnonzero(covered).tolist()) - known)
    if elsewhere:
        found = run(
            connection,
            f"SELECT i.row FROM incoming i JOIN {name} t ON i.event_id = t.event_id "
            "WHERE list_contains(?, i.row)",
            [elsewhere],
        )
        known.update(row for (row,) in found)
    return list(known)


def _record_conflicts(connection: duckdb.DuckDBPyConnection, name: str, repeats: pa.Table) -> int:
    """Keep what was told differently under a known id; answer how many rows did so."""
    content = schema.CONTENT[name]
    differs = " OR ".join(f"i.{column} IS DISTINCT FROM t.{column}" for column in content)
    stored, incoming = (
        "to_json(struct_pack("
        + ", ".join(f"{column} := {alias}.{column}::VARCHAR" for column in content)
        + "))::VARCHAR"
        for alias in "ti"
    )
    with _registered(connection, repeats):
        run(
            connection,
            f"CREATE OR REPLACE TEMP TABLE told AS SELECT i.event_id, '{name}' AS \"table\", "
            f"i.received_ts, {stored} AS stored, {incoming} AS incoming "
            f"FROM incoming i JOIN {name} t ON i.event_id = t.event_id WHERE {differs}",
        )
    run(
        connection,
        "INSERT INTO conflicts SELECT DISTINCT ON (event_id, incoming) * FROM told "
        "ANTI JOIN conflicts USING (event_id, incoming) ORDER BY received_ts",
    )
    counted = run(connection, "SELECT count(*) FROM told")
    return int(counted[0][0])


def _insert_letters(connection: duckdb.DuckDBPyConnection, letters: pa.Table) -> None:
    with _registered(connection, letters):
        run(
            connection,
            "INSERT INTO dead_letters SELECT DISTINCT ON (letter_id) * FROM incoming "
            "ANTI JOIN dead_letters USING (letter_id) ORDER BY seq",
        )


def _replace_coverage(connection: duckdb.DuckDBPyConnection, commit: Commit) -> None:
    streams = [list(key) for key in commit.coverage]
    keys = pa.table(
        dict(zip(("venue", "channel", "symbol"), zip(*streams, strict=True), strict=True))
    )
    replaced: dict[str, Callable[[], pa.Table]] = {
        "coverage": lambda: coverage_rows(commit.coverage),
        "gaps": lambda: gap_rows(commit.coverage),
        "stream_epochs": lambda: _epoch_rows(commit),
    }
    for table, rows in replaced.items():
        with _registered(connection, keys):
            run(
                connection, f"DELETE FROM {table} WHERE (venue, channel, symbol) IN (FROM incoming)"
            )
        with _registered(connection, rows()):
            run(connection, f"INSERT INTO {table} SELECT * FROM incoming")


def _epoch_rows(commit: Commit) -> pa.Table:
    rows = [
        {"venue": v, "channel": c, "symbol": s, "epoch": stream.epoch, "last": stream.epoch_last}
        for (v, c, s), stream in commit.coverage.items()
    ]
    names = [(name, pa.string()) for name in ("venue", "channel", "symbol", "epoch")]
    return pa.Table.from_pylist(rows, schema=pa.schema([*names, ("last", pa.int64())]))


def _count_frames(connection: duckdb.DuckDBPyConnection, commit: Commit) -> None:
    for outcome, frames in commit.frames.items():
        before = run(connection, "SELECT frames FROM frame_account WHERE outcome = ?", [outcome])
        run(connection, "DELETE FROM frame_account WHERE outcome = ?", [outcome])
        total = frames + (before[0][0] if before else 0)
        run(connection, "INSERT INTO frame_account VALUES (?, ?)", [outcome, total])
