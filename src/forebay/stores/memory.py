"""A store in memory: for tests, and as the plainest statement of what a store does."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain import schema
from forebay.ports import Commit, Committed, StoreState
from forebay.stores.rows import coverage_rows, gap_rows, merged_flags

if TYPE_CHECKING:
    from forebay.domain.coverage import Gap, StreamCoverage, StreamKey
    from forebay.journal import Position

Row = dict[str, object]


class MemoryStore:
    """The :class:`~forebay.ports.Store` as dictionaries."""

    def __init__(self) -> None:
        """Start empty."""
        self._events: dict[str, dict[object, Row]] = {name: {} for name in schema.EVENT_TABLES}
        self._letters: dict[object, Row] = {}
        self._conflicts: dict[tuple[object, str], Row] = {}
        self._positions: dict[str, Position] = {}
        self._coverage: dict[StreamKey, StreamCoverage] = {}
        self._ordinals: dict[StreamKey, bytes] = {}

    def load(self) -> StoreState:
        """See :meth:`forebay.ports.Store.load`."""
        streams = {key: stream.copy() for key, stream in self._coverage.items()}
        return StoreState(dict(self._positions), streams, dict(self._ordinals))

    def commit(self, commit: Commit) -> Committed:
        """See :meth:`forebay.ports.Store.commit`."""
        inserted = duplicates = conflicts = 0
        for name, rows in commit.rows.items():
            table, content = self._events[name], schema.CONTENT[name]
            for row in _plain(rows):
                stored = table.setdefault(row["event_id"], row)
                stored["flags"] = merged_flags(str(stored["flags"]), str(row["flags"]))
                told = [[str(version[column]) for column in content] for version in (stored, row)]
                if stored is row:
                    inserted += 1
                elif told[0] == told[1]:
                    duplicates += 1
                else:
                    conflicts += 1
                    self._conflict(name, row, *told)
        if commit.dead_letters is not None:
            for row in _plain(commit.dead_letters):
                self._letters.setdefault(row["letter_id"], row)
        self._coverage |= {key: stream.copy() for key, stream in commit.coverage.items()}
        self._ordinals |= commit.ordinals
        self._positions[commit.consumer] = commit.position
        return Committed(inserted, duplicates, conflicts)

    def _conflict(self, name: str, row: Row, stored: list[str], incoming: list[str]) -> None:
        conflict: Row = {
            "event_id": row["event_id"],
            "table": name,
            "received_ts": row["received_ts"],
            "stored": "|".join(stored),
            "incoming": "|".join(incoming),
        }
        self._conflicts.setdefault((row["event_id"], "|".join(incoming)), conflict)

    def table(self, name: str) -> pa.Table:
        """See :meth:`forebay.ports.Store.table`."""
        if name == "coverage":
            return coverage_rows(self._coverage)
        if name == "gaps":
            return gap_rows(self._coverage)
        if name in self._events:
            return pa.Table.from_pylist(
                [_storable(row) for row in self._events[name].values()],
                schema=schema.EVENT_TABLES[name],
            )
        if name == "dead_letters":
            rows = [_storable(row) for row in self._letters.values()]
            return pa.Table.from_pylist(rows, schema=schema.DEAD_LETTERS)
        plain: dict[str, list[Row]] = {
            "conflicts": copy.deepcopy(list(self._conflicts.values())),
            "cursors": [
                {"consumer": consumer, "log_id": position.log_id, "seq": position.seq}
                for consumer, position in self._positions.items()
            ],
        }
        return pa.Table.from_pylist(plain[name])

    def gaps(self) -> list[Gap]:
        """See :meth:`forebay.ports.Store.gaps`."""
        return sorted(gap for key, stream in self._coverage.items() for gap in stream.gaps(key))

    def close(self) -> None:
        """Nothing to release."""


def _plain(rows: pa.Table) -> list[Row]:
    """Rows as dictionaries; times as integers, since Python's own have no nanoseconds."""
    numbered = pa.schema(
        [
            field.with_type(pa.int64()) if field.type == schema.TIME else field
            for field in rows.schema
        ]
    )
    plain: list[Row] = rows.cast(numbered).to_pylist()
    return plain


def _storable(row: Row) -> Row:
    """Arrow reads UUIDs back as objects but takes them as bytes."""
    return {
        name: getattr(value, "bytes", value) if name.endswith("_id") else value
        for name, value in row.items()
    }
