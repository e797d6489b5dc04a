"""Dead letters as they are asked for: those of the store, and those that wait for their topic."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from forebay.app.offline.letters import Letter
from forebay.app.querying import instant
from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.services.letters import GivenUp, LetterSpool
from forebay.text import literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.app.reader import Data
    from forebay.app.wiring.data_folder import DataFolder

_SETTLED = """
WITH failed AS (SELECT letter_id, run FROM letter_states WHERE state = 'failed'),
again AS (SELECT letter_id, count(*) AS failures FROM failed GROUP BY letter_id),
latest AS (
    SELECT letter_id, argMax(state, (state = 'replayed', told_ts)) AS became,
        argMax(told_ts, (state = 'replayed', told_ts)) AS became_ts,
        argMax("by", (state = 'replayed', told_ts)) AS became_by,
        argMax(reason, (state = 'replayed', told_ts)) AS became_reason
    FROM letter_states
    WHERE state <> 'failed' AND (letter_id, run) NOT IN (SELECT letter_id, run FROM failed)
    GROUP BY letter_id),
letters AS (
    SELECT l.letter_id AS letter_id, l.venue AS venue, l.source AS source, l.epoch AS epoch,
        l.log_id AS log_id, l.seq AS seq, l.item AS item, l.received_ts AS received_ts,
        l.reason AS reason, l.error AS error, l.parser AS parser,
        (l.attempts + coalesce(a.failures, 0))::INTEGER AS attempts, l.payload AS payload,
        CASE WHEN coalesce(s.became, '') = '' THEN 'open' ELSE s.became END AS state,
        CASE WHEN coalesce(s.became, '') = '' THEN NULL ELSE s.became_ts END AS settled_ts,
        nullif(s.became_by, '') AS settled_by, nullif(s.became_reason, '') AS settled_reason
    FROM dead_letters l LEFT JOIN again a ON l.letter_id = a.letter_id
        LEFT JOIN latest s ON l.letter_id = s.letter_id)
"""
"""SQL that every store understands: without a row beside it, some say empty and others null."""
_LISTED = """letter_id::VARCHAR AS letter, received_ts, venue, source, reason, error,
    octet_length(payload)::BIGINT AS bytes, seq, item, attempts,
    state, settled_ts, settled_by, settled_reason"""
_TIME = pa.timestamp("ns")
_COLUMNS = pa.schema(
    [
        ("letter", pa.string()),
        ("received_ts", _TIME),
        *((name, pa.string()) for name in ("venue", "source", "reason", "error")),
        *((name, pa.int64()) for name in ("bytes", "seq")),
        *((name, pa.int32()) for name in ("item", "attempts")),
        ("state", pa.string()),
        ("settled_ts", _TIME),
        *((name, pa.string()) for name in ("settled_by", "settled_reason")),
    ]
)
"""What a list says of each."""


class LettersWanted(NamedTuple):
    """Which letters are asked for; None: any."""

    reason: str | None
    error: str | None
    """A part of it, in whatever case."""
    venue: str | None
    since_ns: int | None
    until_ns: int | None
    """Not included."""
    states: Sequence[str]

    def where(self) -> str:
        """Return it in SQL."""
        clauses = [f"state IN ({', '.join(map(literal, self.states))})"]
        if self.reason is not None:
            clauses.append(f"reason = {literal(self.reason)}")
        if self.venue is not None:
            clauses.append(f"venue = {literal(self.venue)}")
        if self.error is not None:
            without = f"replace(lower(error), {literal(self.error.lower())}, '')"
            clauses.append(f"{without} <> lower(error)")
        if self.since_ns is not None:
            clauses.append(f"received_ts >= {instant(self.since_ns)}")
        if self.until_ns is not None:
            clauses.append(f"received_ts < {instant(self.until_ns)}")
        return " AND ".join(clauses)

    def takes(self, row: dict[str, Any], received_ns: int) -> bool:
        """Return whether a letter that is not in the store is one of them."""
        return (
            row["state"] in self.states
            and self.reason in (None, row["reason"])
            and self.venue in (None, row["venue"])
            and (self.error or "").lower() in (row["error"] or "").lower()
            and (self.since_ns is None or received_ns >= self.since_ns)
            and (self.until_ns is None or received_ns < self.until_ns)
        )


def listed(data: Data, wanted: LettersWanted, limit: int | None) -> pa.Table:
    """Return a row for each letter: first those that wait for their topic, then latest first."""
    kept = [row for row, received_ns in _kept_rows(data.folder) if wanted.takes(row, received_ns)][
        :limit
    ]
    query = f"{_SETTLED} SELECT {_LISTED} FROM letters WHERE {wanted.where()} "  # noqa: S608 - quoted
    try:
        stored = data.sql(f"{query} ORDER BY received_ts DESC, letter", limit=limit)
    except Unreachable:  # a bridge has no database of its own
        if not kept and not data.folder.letters.is_dir():
            raise
        stored = _COLUMNS.empty_table()
    if not kept:
        return stored
    rows = pa.Table.from_pylist(kept, schema=_COLUMNS)
    both = pa.concat_tables([rows, stored.cast(_COLUMNS)])
    return both.replace_schema_metadata(stored.schema.metadata)


def beginning(data: Data, prefix: str) -> pa.Table:
    """Return the letters, whole, whose id begins so: at most two."""
    where = f"letter_id::VARCHAR LIKE '{prefix}%' LIMIT 2"
    found = [rows for name, rows in _kept_tables(data.folder) if name.startswith(prefix)]
    try:
        stored = data.sql(f"{_SETTLED} SELECT * FROM letters WHERE {where}")  # noqa: S608 - hexadecimal
    except Unreachable:
        if not found:
            raise
        return pa.concat_tables(found).slice(0, 2)
    if stored.num_rows or not found:  # one that is there waits here at most for its topic
        return stored
    return pa.concat_tables(found).slice(0, 2)


def whole(data: Data, ids: Iterable[str]) -> list[Letter]:
    """Return letters of the store with their bytes; others have none that could be read anew."""
    named = ", ".join(f"{literal(each)}::UUID" for each in ids)
    table = data.sql(
        "SELECT letter_id::VARCHAR AS letter, venue, source, epoch, log_id, seq, "  # noqa: S608
        "received_ts AS received_ns, reason, payload FROM dead_letters "
        f"WHERE letter_id IN ({named}) ORDER BY received_ts, item"
    )
    place = table.column_names.index("received_ns")
    times = table["received_ns"].cast(_TIME).cast(pa.int64())
    return [Letter(**row) for row in table.set_column(place, "received_ns", times).to_pylist()]


def failed_in(data: Data, run: str) -> dict[str, str]:
    """Return which letters came again in a replay, with what was said of them."""
    table = data.sql(
        "SELECT letter_id::VARCHAR AS letter, reason FROM letter_states "  # noqa: S608 - quoted
        f"WHERE state = 'failed' AND run = {literal(run)}"
    )
    return dict(zip(table["letter"].to_pylist(), table["reason"].to_pylist(), strict=True))


def venues_of(data: Data, ids: Sequence[str]) -> dict[str, str]:
    """Return the venue of each of some letters that the store has."""
    if not ids:
        return {}
    named = ", ".join(f"{literal(each)}::UUID" for each in ids)
    with contextlib.suppress(Unreachable):
        table = data.sql(
            "SELECT letter_id::VARCHAR AS letter, any_value(venue) AS venue FROM dead_letters "  # noqa: S608
            f"WHERE letter_id IN ({named}) GROUP BY letter_id"
        )
        return dict(zip(table["letter"].to_pylist(), table["venue"].to_pylist(), strict=True))
    return {}


def give_up_kept(folder: DataFolder, ids: Iterable[str], who: tuple[str, str]) -> None:
    """Have letters that wait for their topic told no more."""
    spool = LetterSpool(folder.letters)
    kept = {name for name, _ in spool.letters()}
    for letter in kept.intersection(ids):
        spool.give_up(letter, GivenUp(*who, SystemClock().wall_ns()))


def _kept_rows(folder: DataFolder) -> Iterator[tuple[dict[str, Any], int]]:
    """Return what a list says of letters that wait here, and when they were received."""
    for name, kept in LetterSpool(folder.letters).letters():
        rows = kept.rows
        (row,) = rows.drop_columns(["letter_id", "payload", "received_ts"]).to_pylist()
        received_ns = rows["received_ts"].cast(pa.int64())[0].as_py()
        settled = kept.given_up
        about = {
            "letter": name,
            "received_ts": received_ns,
            "bytes": len(rows["payload"][0].as_py()),
            "error": f"{row['error']} (not told to its topic: {kept.why})",
            "state": "discarded" if settled else "kept",
            "settled_ts": settled and settled.when_ns,
            "settled_by": settled and settled.by,
            "settled_reason": settled and settled.reason,
        }
        row |= about
        yield {column: row[column] for column in _COLUMNS.names}, received_ns


def _kept_tables(folder: DataFolder) -> Iterator[tuple[str, pa.Table]]:
    """Return letters that wait here as the store would have them."""
    for name, kept in LetterSpool(folder.letters).letters():
        settled = kept.given_up
        about = {
            "state": ("discarded" if settled else "kept", pa.string()),
            "settled_ts": (settled and settled.when_ns, _TIME),
            "settled_by": (settled and settled.by, pa.string()),
            "settled_reason": (settled and settled.reason, pa.string()),
        }
        rows = kept.rows
        for column, (value, kind) in about.items():
            rows = rows.append_column(column, pa.array([value], kind))
        yield name, rows
