"""The audit's statements; the same text counts the store and the journal's projection.

Statements are SQL of DuckDB. Sums travel as texts because no transport agrees on 128-bit
integers, and times as integer nanoseconds because few agree on those.
"""

# ruff: noqa: S608 - a condition cannot be a parameter of a text; its values are quoted here

from __future__ import annotations

from typing import NamedTuple

HOUR_NS = 3_600_000_000_000
MINUTE_NS = 60_000_000_000
CHUNK = 50_000
"""Ids per piece in which a store is compared with a truth."""

_LOW = "18446744073709551615::UHUGEINT"
_NATIVE = "4611686018427387903::UHUGEINT"

_CANONICAL = """concat_ws('|', event_id::VARCHAR, venue, symbol, epoch_ns(event_ts), trade_id,
    price::VARCHAR, size::VARCHAR, side)"""
"""The canonical row of a trade, see :mod:`forebay.domain.digest`."""

_KEYED = f"""SELECT venue, symbol, epoch_ns(event_ts) AS ns, event_id::UHUGEINT AS id,
    (event_id::UHUGEINT & {_NATIVE})::BIGINT AS native, md5_number({_CANONICAL})::UHUGEINT AS hash
    FROM trades"""
"""``native`` is read back from the event id, so an altered ``trade_id`` is a mutation."""

_SUMS = f"""count(*) AS events,
    sum((id >> 64)::HUGEINT)::VARCHAR AS ids_high, sum((id & {_LOW})::HUGEINT)::VARCHAR AS ids_low,
    sum((hash >> 64)::HUGEINT)::VARCHAR AS rows_high,
    sum((hash & {_LOW})::HUGEINT)::VARCHAR AS rows_low"""

CURSOR = """(SELECT {'log_id': arg_max(log_id, seq), 'seq': max(seq)} FROM cursors)"""
"""How far the furthest consumer that writes this store has got."""


class Span(NamedTuple):
    """Event times that are audited, UTC nanoseconds, ``until`` not included; None: no bound."""

    since: int | None = None
    until: int | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self.since is None and self.until is None

    def before(self) -> str:
        """Condition of what is too old."""
        return "false" if self.since is None else f"ns < {self.since}"

    def after(self) -> str:
        """Condition of what is too young."""
        return "false" if self.until is None else f"ns >= {self.until}"

    def inside(self) -> str:
        """Condition of what is audited."""
        return f"NOT ({self.before()}) AND NOT ({self.after()})"


def quoted(text: str) -> str:
    """Answer ``text`` as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _accounts(span: Span) -> str:
    """Common tables ``buckets`` and ``streams``.

    Rows are put in the order of their ids once: a row whose event id is that of the row
    before is a double, and where an id does not follow on the one before there is a hole.
    """
    inside = span.inside()
    return f"""WITH keyed AS ({_KEYED}),
    ordered AS MATERIALIZED (
        SELECT *, lag(native) OVER w AS preceding, coalesce(lag(id) OVER w = id, false) AS again
        FROM keyed WINDOW w AS (PARTITION BY venue, symbol ORDER BY native, id, hash)),
    buckets AS (
        SELECT venue, symbol, ns // {HOUR_NS} AS hour, native // {CHUNK} AS chunk, {_SUMS}
        FROM ordered WHERE NOT again AND {inside} GROUP BY ALL),
    streams AS (
        SELECT venue, symbol, min(native) AS first, max(native) AS last,
            list({{'first': preceding + 1, 'last': native - 1}})
                FILTER (native > preceding + 1) AS holes,
            count(*) FILTER (again AND {inside}) AS doubled,
            min(native, 20) FILTER (again AND {inside}) AS twice,
            min(ns) FILTER ({inside}) AS first_ns, max(ns) FILTER ({inside}) AS last_ns,
            min(native) FILTER ({inside}) AS inside_first,
            max(native) FILTER ({inside}) AS inside_last,
            max(native) FILTER ({span.before()}) AS before,
            min(native) FILTER ({span.after()}) AS after
        FROM ordered GROUP BY ALL)"""


_ACCOUNTS = """(SELECT list(b) FROM buckets b) AS buckets,
    (SELECT list(s) FROM streams s) AS streams"""


def snapshot(span: Span) -> str:
    """One row that says all of a store: one statement sees one moment of it."""
    return f"""{_accounts(span)}
    SELECT {CURSOR} AS cursor, {_ACCOUNTS},
        (SELECT list(g) FROM gaps g) AS gaps,
        (SELECT list(c) FROM coverage c) AS coverage,
        (SELECT count(DISTINCT letter_id) FROM dead_letters) AS letters,
        (SELECT count(*) FROM conflicts) AS conflicts,
        (SELECT count(*) FROM trades
            WHERE list_contains(string_split(flags, ','), 'ambiguous')) AS ambiguous"""


def accounts(span: Span) -> str:
    """One row with the accounts of the journal's projection."""
    return f"{_accounts(span)} SELECT {_ACCOUNTS}"


class Piece(NamedTuple):
    """Rows of one stream between two times, UTC nanoseconds, ``end`` not included."""

    venue: str
    symbol: str
    start: int
    end: int

    def where(self) -> str:
        """Condition on a table of trades."""
        return (
            f"venue = {quoted(self.venue)} AND symbol = {quoted(self.symbol)} "
            f"AND event_ts >= make_timestamp_ns({self.start}) "
            f"AND event_ts < make_timestamp_ns({self.end})"
        )


def minutes(piece: Piece) -> str:
    """Digests by minute of all rows, doubled ones included."""
    return f"""SELECT list(m) AS minutes FROM (
        SELECT ns // {MINUTE_NS} AS minute, {_SUMS} FROM (
            SELECT DISTINCT * FROM ({_KEYED} WHERE {piece.where()})) GROUP BY ALL) m"""


def with_cursor(statement: str) -> str:
    """Rows of ``statement`` beside the cursor of the same moment; one row at least."""
    return f"""SELECT c.seq, r.* FROM (SELECT max(seq) AS seq FROM cursors) c
        LEFT JOIN ({statement}) r ON true"""


def rows(where: str) -> str:
    """Canonical rows."""
    return f"""SELECT event_id::VARCHAR AS id, (event_id::UHUGEINT & {_NATIVE})::BIGINT AS native,
        {_CANONICAL} AS canonical, epoch_ns(received_ts) AS received_ns
        FROM trades WHERE {where}"""


def chunk_where(venue: str, symbol: str, first: int, last: int) -> str:
    """Condition on a table of trades: native ids ``first`` to ``last``, both included."""
    return (
        f"venue = {quoted(venue)} AND symbol = {quoted(symbol)} "
        f"AND (event_id::UHUGEINT & {_NATIVE}) BETWEEN {first} AND {last}"
    )


def lacking(piece: Piece) -> str:
    """Ids that the journal has in ``piece`` and the rows of the table ``stored`` have not."""
    return f"""SELECT DISTINCT native FROM ({rows(piece.where())}) j
        WHERE j.id NOT IN (SELECT id FROM stored) ORDER BY native"""


_VERSIONS = f"""SELECT s.id, s.native, s.canonical, s.received_ns, count(j.id) AS known,
        coalesce(bool_or(j.canonical = s.canonical), false) AS same, min(j.canonical) AS journal
    FROM (SELECT row_number() OVER () AS n, * FROM stored) s
    LEFT JOIN ({rows("event_id IN (SELECT id::UUID FROM stored)")}) j ON j.id = s.id
    GROUP BY s.n, s.id, s.native, s.canonical, s.received_ns"""

DIFFERING = f"SELECT * FROM ({_VERSIONS}) WHERE NOT same ORDER BY native"
"""Rows of ``stored`` that equal no version of the event that the journal has."""
