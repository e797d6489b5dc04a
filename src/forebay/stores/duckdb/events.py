"""Events and dead letters into their tables, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.digest import HOUR_NS, first_of_each_id
from forebay.domain.kinds import kind_of_table
from forebay.stores.lookups import Lookup, times_of
from forebay.stores.rows import AMBIGUOUS
from forebay.text import identifier

if TYPE_CHECKING:
    import numpy.typing as npt

    from forebay.stores.duckdb.session import SqlSession

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]

MANY_ROWS = 1000
"""From so many on, a better plan for appending rows is worth the time that it takes to make."""


class Inserted(NamedTuple):
    """What became of a batch."""

    first: Mask
    """Which rows are the first that told their event, see ``ports.Committed``; shape (n,)."""
    conflicts: int
    hours: list[int]
    """Starts of the hours, UTC nanoseconds, in which rows are new or changed."""


def insert_events(
    session: SqlSession, name: str, rows: pa.Table, seen_before: Mask, vouched_new: Mask
) -> Inserted:
    """Insert what is new; what is known stays as it was and is compared with what came.

    The masks are of ``ports.Events``, shape (n,), and n is not 0.
    """
    lookup = _Lookup(session, name, rows)
    first = first_of_each_id(rows)
    known = lookup.known_ids(first, seen_before, vouched_new)
    begins = first == np.arange(len(rows))
    fresh = begins & ~known
    told = _only(rows, fresh)
    if len(told):
        session.run(_insertion(name, told), incoming=told)
    if len(told) == len(rows):
        return Inserted(fresh, 0, _hours(rows))
    lookup.find(np.flatnonzero(~begins & ~known), at=first)
    lookup.record_conflicts()
    repeats = _only(rows, ~fresh)
    changed = pa.concat_tables([told, _flag_ambiguous(session, name, repeats)])
    return Inserted(fresh | begins & lookup.same_frame, len(lookup.conflicts), _hours(changed))


def _insertion(name: str, rows: pa.Table) -> str:
    """Return the statement that appends ``rows``.

    Where DuckDB can read its input in numbered parts, it lets each thread collect some and copies
    them into the table's own afterwards, which takes twice as long. A range has no such parts, so
    with an empty one beside them rows go to where they belong at once, in their order.
    """
    statement = f"INSERT INTO {name} FROM incoming"
    if len(rows) < MANY_ROWS:
        return statement
    nothing = ", ".join(["NULL"] * rows.num_columns)
    return f"{statement} UNION ALL SELECT {nothing} FROM range(0)"


def _only(rows: pa.Table, mask: Mask) -> pa.Table:
    return rows if mask.all() else rows.filter(pa.array(mask))


def first_told(session: SqlSession, name: str, rows: pa.Table) -> Mask:
    """Return which of ``rows``, all of them stored before, are the first of their event."""
    lookup = _Lookup(session, name, rows)
    lookup.find(np.arange(len(rows)), at=None)
    begins: Mask = first_of_each_id(rows) == np.arange(len(rows))
    return lookup.same_frame & begins


def _hours(rows: pa.Table) -> list[int]:
    hours: list[int] = (np.unique(times_of(rows) // HOUR_NS) * HOUR_NS).tolist()
    return hours


class _Lookup(Lookup):
    """The rows of one batch that the table has, and what it has of those that differ."""

    def __init__(self, session: SqlSession, name: str, rows: pa.Table) -> None:
        super().__init__(rows.append_column("row", pa.array(np.arange(len(rows)))))
        self._session = session
        self._name = name
        content = [identifier(column) for column in kind_of_table(name).content]
        differs = " OR ".join(f"i.{column} IS DISTINCT FROM t.{column}" for column in content)
        stored, came = (
            "to_json(struct_pack("
            + ", ".join(f"{column} := {alias}.{column}::VARCHAR" for column in content)
            + "))::VARCHAR"
            for alias in "ti"
        )
        self._select = (
            f"SELECT i.row, CASE WHEN {differs} THEN {stored} END AS stored, "
            f"CASE WHEN {differs} THEN {came} END AS came, "
            "i.seq = t.seq AND i.log_id = t.log_id AS same_frame "
            f"FROM incoming i JOIN {name} t ON i.event_id = t.event_id"
        )

    def look(self, which: Rows, between: tuple[int, int] | None) -> None:
        """See :meth:`forebay.stores.lookups.Lookup.look`."""
        statement = self._select
        if between:
            statement += " WHERE t.event_ts BETWEEN make_timestamp_ns(?) AND make_timestamp_ns(?)"
        rows = self.rows if len(which) == len(self.rows) else self.rows.take(pa.array(which))
        answer = self._session.columns(statement, between or (), rows)
        self.found[answer["row"]] = True
        self.same_frame[answer["row"]] |= np.asarray(answer["same_frame"], dtype=np.bool_)
        differing = np.flatnonzero(~np.ma.getmaskarray(answer["stored"]))
        for index in differing.tolist():
            row, stored, came = (answer[name][index] for name in ("row", "stored", "came"))
            self.conflicts[int(row)] = (stored, came)

    def record_conflicts(self) -> None:
        """Keep what was told differently under a known id, once each."""
        if not self.conflicts:
            return
        which = self.rows.take(pa.array(self.conflicts))
        stored, came = zip(*self.conflicts.values(), strict=True)
        told = pa.table(
            {
                "event_id": which["event_id"],
                "table": pa.repeat(self._name, len(which)),
                "received_ts": which["received_ts"],
                "stored": stored,
                "incoming": came,
            }
        )
        self._session.run(
            "INSERT INTO conflicts SELECT DISTINCT ON (event_id, i.incoming) i.* FROM incoming i "
            "ANTI JOIN conflicts USING (event_id, incoming) ORDER BY received_ts",
            incoming=told,
        )


def _flag_ambiguous(session: SqlSession, name: str, repeats: pa.Table) -> pa.Table:
    """Flag what is received again and ambiguous this time as that, and return it.

    Other flags of a stored row stay as they are; ``ambiguous`` is the last of them by name.
    """
    told = repeats.filter(pc.match_substring(repeats["flags"], AMBIGUOUS))
    if len(told):
        session.run(
            f"UPDATE {name} SET flags = ltrim(flags || ',{AMBIGUOUS}', ',') "
            "WHERE event_id IN (SELECT event_id FROM incoming) AND event_ts BETWEEN "
            "(SELECT min(event_ts) FROM incoming) AND (SELECT max(event_ts) FROM incoming) "
            f"AND NOT list_contains(string_split(flags, ','), '{AMBIGUOUS}')",
            incoming=told,
        )
    return told


def insert_letter_states(session: SqlSession, states: pa.Table) -> None:
    """Insert what became of dead letters, each row once."""
    session.run(
        "INSERT INTO letter_states SELECT DISTINCT ON (letter_id, state, run) * FROM incoming "
        "ANTI JOIN letter_states USING (letter_id, state, run)",
        incoming=states,
    )


def insert_letters(
    session: SqlSession, letters: pa.Table, *, insert: bool
) -> dict[tuple[str, str], int]:
    """Insert dead letters that are not there yet; return how many are of these frames.

    By venue and reason. Without ``insert`` they have been inserted.
    """
    if insert:
        session.run(
            "INSERT INTO dead_letters SELECT DISTINCT ON (letter_id) * FROM incoming "
            "ANTI JOIN dead_letters USING (letter_id) ORDER BY seq",
            incoming=letters,
        )
    told = session.run(
        "SELECT venue, reason, count(DISTINCT letter_id) FROM incoming "
        "SEMI JOIN dead_letters USING (letter_id, log_id, seq) "
        "GROUP BY venue, reason ORDER BY min(seq)",
        incoming=letters,
    )
    return {(venue, reason): count for venue, reason, count in told}
