"""Events and dead letters into their tables, once.

What coverage vouches for as new is inserted without a look. Anything else is looked up around its
own time, one range of time per cluster of such rows: one range over a batch with a single late
row would read the whole table. Only an id that is known, but not at that time, is looked for
everywhere, so that one received again with another time is found too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.digest import HOUR_NS, first_of_each_id
from forebay.domain.kinds import kind_of_table
from forebay.stores.rows import AMBIGUOUS
from forebay.text import identifier

if TYPE_CHECKING:
    import numpy.typing as npt

    from forebay.stores.duckdb.session import SqlSession

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]

CLUSTER_GAP_NS = 600_000_000_000
"""Rows further apart than this in time are looked up in ranges of their own."""
AROUND_NS = 60_000_000_000
"""How far from its own time a row is looked for: a venue that tells an id again with another time
mostly tells it a little finer or later. Further away, only coverage knows that it was told."""
MAX_CLUSTERS = 64
"""Above this, neighbouring clusters share a range: each costs a query of its own."""
MANY_ROWS = 1000
"""From so many on, a better plan for appending rows is worth the time that it takes to make."""


def time_clusters(event_ns: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the ranges of time that the rows lie in, at most :data:`MAX_CLUSTERS` of them."""
    ordered = np.sort(event_ns)
    steps = ordered[1:] - ordered[:-1]
    wide = np.flatnonzero(steps > CLUSTER_GAP_NS)
    if len(wide) >= MAX_CLUSTERS:
        widest = np.argpartition(steps, -(MAX_CLUSTERS - 1))[-(MAX_CLUSTERS - 1) :]
        wide = np.sort(widest)
    firsts = ordered[np.concatenate(([0], wide + 1))]
    lasts = ordered[np.concatenate((wide, [len(ordered) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


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


def _times(rows: pa.Table) -> npt.NDArray[np.int64]:
    event_ns: npt.NDArray[np.int64] = rows.column("event_ts").cast(pa.int64()).to_numpy()
    return event_ns


def _hours(rows: pa.Table) -> list[int]:
    hours: list[int] = (np.unique(_times(rows) // HOUR_NS) * HOUR_NS).tolist()
    return hours


class _Lookup:
    """The rows of one batch that the table has, and what it has of those that differ."""

    def __init__(self, session: SqlSession, name: str, rows: pa.Table) -> None:
        self._session = session
        self._name = name
        self._rows = rows.append_column("row", pa.array(np.arange(len(rows))))
        self._times = _times(rows)
        self._found = np.zeros(len(rows), dtype=np.bool_)
        self.same_frame = np.zeros(len(rows), dtype=np.bool_)
        """Of each row, whether the stored one came with the same frame."""
        self.conflicts: dict[int, tuple[str, str]] = {}
        """By row, the content that is stored and the other one that came."""
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

    def known_ids(self, first: Rows, seen_before: Mask, vouched_new: Mask) -> Mask:
        """Return of each row whether its id was stored before; ``first`` is the row of its id."""
        vouched = _of_id(first, vouched_new)
        self.find(np.flatnonzero(~vouched), at=None)
        owed = (seen_before | _of_id(first, self._found)) & ~vouched & ~self._found
        self.find_anywhere(np.flatnonzero(owed))
        return _of_id(first, self._found)

    def find(self, which: Rows, *, at: Rows | None) -> None:
        """Look for rows around their own time, or around that of the rows ``at`` names."""
        times = self._times[which if at is None else at[which]]
        if not len(which):
            return
        order = np.argsort(times, kind="stable")
        for begin, end in time_clusters(times):
            low, high = np.searchsorted(times[order], [begin, end + 1])
            self._note(
                f"{self._select} WHERE t.event_ts BETWEEN make_timestamp_ns(?) "
                "AND make_timestamp_ns(?)",
                [begin - AROUND_NS, end + AROUND_NS],
                which[order[low:high]],
            )

    def find_anywhere(self, which: Rows) -> None:
        """Look for rows in the whole table."""
        if len(which):
            self._note(self._select, [], which)

    def _note(self, statement: str, parameters: list[int], which: Rows) -> None:
        rows = self._rows if len(which) == len(self._rows) else self._rows.take(pa.array(which))
        answer = self._session.columns(statement, parameters, rows)
        self._found[answer["row"]] = True
        self.same_frame[answer["row"]] |= np.asarray(answer["same_frame"], dtype=np.bool_)
        differing = np.flatnonzero(~np.ma.getmaskarray(answer["stored"]))
        for index in differing.tolist():
            row, stored, came = (answer[name][index] for name in ("row", "stored", "came"))
            self.conflicts[int(row)] = (stored, came)

    def record_conflicts(self) -> None:
        """Keep what was told differently under a known id, once each."""
        if not self.conflicts:
            return
        which = self._rows.take(pa.array(self.conflicts))
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


def _of_id(first: Rows, rows: Mask) -> Mask:
    """Return of each row whether any row of its id is among ``rows``."""
    ids = np.zeros(len(rows), dtype=np.bool_)
    ids[first[rows]] = True
    return ids[first]


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
