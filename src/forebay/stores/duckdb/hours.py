"""Which hours of event tables have rows that no Parquet file has, and one hour into a file.

A commit that puts a row into an hour leaves a note of the hour in its own transaction, unless
there is one; the note goes when a file made after it holds all of the hour. So a kill at any
moment costs at most a file that is made once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.digest import HOUR_NS
from forebay.ports import HourNote
from forebay.stores.duckdb.session import SqlSession
from forebay.stores.kind import address
from forebay.text import literal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import duckdb


class HourNotes:
    """The notes as they are stored, and the ones whose file is being made."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], int] = {}
        self._begun: dict[tuple[str, int], int] = {}
        self._number = 0

    def recall(self, session: SqlSession) -> None:
        """Learn what is stored; what was begun stays so."""
        self._last = {}
        for table, start_ns, number in session.run("SELECT * FROM hours_to_write"):
            key = (table, start_ns)
            self._last[key] = max(number, self._last.get(key, 0))
            self._number = max(number, self._number)

    def write(self, session: SqlSession, table: str, hours: Iterable[int]) -> None:
        """Note the hours, given by their starts, that no note speaks of."""
        keys = [(table, start_ns) for start_ns in hours]
        new = [key for key in keys if self._last.get(key, 0) <= self._begun.get(key, 0)]
        if new:
            self._number += 1
            values = ", ".join(["(?, ?, ?)"] * len(new))
            parameters = [part for key in new for part in (*key, self._number)]
            session.run(f"INSERT INTO hours_to_write VALUES {values}", parameters)
            self._last |= dict.fromkeys(new, self._number)

    def all(self) -> list[HourNote]:
        """Return every hour that is noted, oldest first."""
        notes = [HourNote(*key, number) for key, number in self._last.items()]
        return sorted(notes, key=lambda note: (note.start_ns, note.table))

    def begin(self, note: HourNote) -> None:
        """From now on, rows of the hour are of a later note: its file may not have them."""
        self._begun[note.table, note.start_ns] = note.number

    def finish(self, session: SqlSession, note: HourNote) -> None:
        """Remove a note, and those before it, of an hour whose file is durable."""
        session.run(
            'DELETE FROM hours_to_write WHERE "table" = ? AND start_ns = ? AND number <= ?',
            list(note),
        )
        if self._last.get(note[:2], 0) <= note.number:
            self._last.pop(note[:2], None)
            self._begun.pop(note[:2], None)


def export_hour(connection: duckdb.DuckDBPyConnection, note: HourNote, path: Path) -> int:
    """Write the rows of an hour to a Parquet file at ``path``; return how many they are."""
    first, end = note.start_ns, note.start_ns + HOUR_NS
    written = SqlSession(connection).run(
        f"COPY (SELECT * FROM {note.table} WHERE event_ts >= make_timestamp_ns({first}) "
        f"AND event_ts < make_timestamp_ns({end}) "
        "ORDER BY venue, market, symbol, event_ts, event_id) "
        f"TO {literal(address(path))} (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
    )
    return int(written[0][0])
