"""The audit's statements; the same text counts the store and the journal's projection.

Statements are SQL of DuckDB. Sums travel as texts because no transport agrees on 128-bit
integers, and times as integer nanoseconds because few agree on those.
"""

# ruff: noqa: S608 - a condition cannot be a parameter of a text; its values are quoted here

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.digest import HOUR_NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MINUTE_NS = 60_000_000_000
CHUNK = 50_000
"""Ids per piece in which a store is compared with its coverage, and with a truth."""

_LOW = "18446744073709551615::UHUGEINT"
_NATIVE = "4611686018427387903::UHUGEINT"

_CANONICAL = """concat_ws('|', event_id::VARCHAR, venue, symbol, epoch_ns(event_ts), trade_id,
    price::VARCHAR, size::VARCHAR, side)"""
"""The canonical row of a trade, see :mod:`forebay.domain.digest`."""

_NO_BOUNDS = "true"


def _keyed(hashed: str = _NO_BOUNDS) -> str:
    """Ids, times and hashed canonical rows; rows that are not ``hashed`` have no hash.

    ``native`` is read back from the event id, so an altered ``trade_id`` is a mutation.
    """
    number = f"md5_number({_CANONICAL})::UHUGEINT"
    return f"""SELECT venue, symbol, epoch_ns(event_ts) AS ns, event_id::UHUGEINT AS id,
        (event_id::UHUGEINT & {_NATIVE})::BIGINT AS native,
        {number if hashed == _NO_BOUNDS else f"CASE WHEN {hashed} THEN {number} END"} AS hash
        FROM trades"""


_SUMS = f"""count(*) AS events,
    sum((id >> 64)::HUGEINT)::VARCHAR AS ids_high, sum((id & {_LOW})::HUGEINT)::VARCHAR AS ids_low,
    sum((hash >> 64)::HUGEINT)::VARCHAR AS rows_high,
    sum((hash & {_LOW})::HUGEINT)::VARCHAR AS rows_low"""

_OFFSET = f"(native % {CHUNK})::HUGEINT"
_BUCKET = f"""venue, symbol, ns // {HOUR_NS} AS hour, native // {CHUNK} AS chunk, {_SUMS},
    sum({_OFFSET})::VARCHAR AS offsets, sum({_OFFSET} * {_OFFSET})::VARCHAR AS squares"""

_COVERAGE = "(SELECT list(c) FROM coverage c) AS coverage"

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

    def touched(self) -> str:
        """Condition of what lies in the hours of which any part is audited."""
        since, until = self._hours()
        bounds = [] if since is None else [f"ns >= {since * HOUR_NS}"]
        bounds += [] if until is None else [f"ns < {until * HOUR_NS}"]
        return " AND ".join(bounds) or _NO_BOUNDS

    def touches(self, hour: int) -> bool:
        """Whether any part of an hour is audited."""
        since, until = self._hours()
        return (since is None or hour >= since) and (until is None or hour < until)

    def _hours(self) -> tuple[int | None, int | None]:
        return (
            None if self.since is None else self.since // HOUR_NS,
            None if self.until is None else -(-self.until // HOUR_NS),
        )


def quoted(text: str) -> str:
    """Answer ``text`` as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _of(venue: str, symbol: str) -> str:
    return f"venue = {quoted(venue)} AND symbol = {quoted(symbol)}"


def _extent(span: Span) -> str:
    inside = span.inside()
    return f"""count(*) FILTER ({inside}) AS inside,
        min(native) FILTER ({inside}) AS inside_first, max(native) FILTER ({inside}) AS inside_last,
        min(ns) FILTER ({inside}) AS first_ns, max(ns) FILTER ({inside}) AS last_ns"""


def snapshot(span: Span) -> str:
    """One row that says all of a store: one statement sees one moment of it.

    Rows are added up as they come, by stream, hour and chunk of ids; nothing is sorted or
    kept by event. Rows of hours that are not audited are counted and not hashed.
    """
    return f"""WITH keyed AS ({_keyed(span.touched())}),
    buckets AS (SELECT {_BUCKET}, {_extent(span)},
        max(native) FILTER ({span.before()}) AS before,
        min(native) FILTER ({span.after()}) AS after
        FROM keyed GROUP BY ALL)
    SELECT {CURSOR} AS cursor, (SELECT list(b) FROM buckets b) AS buckets,
        (SELECT list(g) FROM gaps g) AS gaps, {_COVERAGE},
        (SELECT count(DISTINCT letter_id) FROM dead_letters) AS letters,
        (SELECT count(*) FROM conflicts) AS conflicts,
        (SELECT count(*) FROM trades
            WHERE flags LIKE '%ambiguous%' AND list_contains(string_split(flags, ','), 'ambiguous'))
            AS ambiguous"""


def look(venue: str, symbol: str, chunks: Sequence[int], span: Span) -> str:
    """One row with the ids and the distinct rows of some chunks of a stream.

    Rows are put in the order of their ids: a row whose event id is that of the row before is a
    double, and where an id does not follow on the one before there is a hole.
    """
    inside = span.inside()
    numbers = ", ".join(map(str, chunks))
    of_chunks = f"(event_id::UHUGEINT & {_NATIVE})::BIGINT // {CHUNK} IN ({numbers})"
    keyed = f"{_keyed(span.touched())} WHERE {_of(venue, symbol)} AND {of_chunks}"
    return f"""WITH keyed AS ({keyed}),
    ordered AS MATERIALIZED (
        SELECT *, lag(native) OVER w AS preceding, coalesce(lag(id) OVER w = id, false) AS again
        FROM keyed WINDOW w AS (ORDER BY native, id, hash))
    SELECT {CURSOR} AS cursor, {_COVERAGE},
        (SELECT list(b) FROM (SELECT {_BUCKET}, {_extent(span)}
            FROM ordered WHERE NOT again GROUP BY ALL) b) AS buckets,
        (SELECT min(native) FROM ordered) AS first, (SELECT max(native) FROM ordered) AS last,
        (SELECT list({{'first': preceding + 1, 'last': native - 1}})
            FROM ordered WHERE native > preceding + 1) AS holes,
        (SELECT count(*) FROM ordered WHERE again AND {inside}) AS doubled,
        (SELECT min(native, 20) FROM ordered WHERE again AND {inside}) AS twice"""


class Piece(NamedTuple):
    """Rows of one stream between two times, UTC nanoseconds, ``end`` not included."""

    venue: str
    symbol: str
    start: int
    end: int

    def where(self) -> str:
        """Condition on a table of trades."""
        return (
            f"{_of(self.venue, self.symbol)} "
            f"AND event_ts >= make_timestamp_ns({self.start}) "
            f"AND event_ts < make_timestamp_ns({self.end})"
        )


def minutes(piece: Piece) -> str:
    """Digests by minute of all rows, doubled ones included."""
    return f"""SELECT list(m) AS minutes FROM (
        SELECT ns // {MINUTE_NS} AS minute, {_SUMS} FROM (
            SELECT DISTINCT * FROM ({_keyed()} WHERE {piece.where()})) GROUP BY ALL) m"""


def with_cursor(statement: str) -> str:
    """Rows of ``statement`` beside the cursor of the same moment; one row at least."""
    return f"""SELECT c.seq, r.* FROM (SELECT max(seq) AS seq FROM cursors) c
        LEFT JOIN ({statement}) r ON true"""


def rows(where: str) -> str:
    """Canonical rows."""
    return f"""SELECT event_id::VARCHAR AS id, (event_id::UHUGEINT & {_NATIVE})::BIGINT AS native,
        {_CANONICAL} AS canonical, epoch_ns(received_ts) AS received_ns,
        epoch_ns(event_ts) AS ns FROM trades WHERE {where}"""


def chunk_where(venue: str, symbol: str, first: int, last: int) -> str:
    """Condition on a table of trades: native ids ``first`` to ``last``, both included."""
    return f"{_of(venue, symbol)} AND (event_id::UHUGEINT & {_NATIVE}) BETWEEN {first} AND {last}"


def lacking(piece: Piece) -> str:
    """Ids that the journal has in ``piece`` and the rows of the table ``stored`` have not."""
    return f"""SELECT DISTINCT native FROM ({rows(piece.where())}) j
        WHERE j.id NOT IN (SELECT id FROM stored) ORDER BY native"""


def natives_where(venue: str, symbol: str, natives: Iterable[int]) -> str:
    """Condition on a table of trades: some native ids of a stream."""
    numbers = ", ".join(map(str, natives))
    return f"{_of(venue, symbol)} AND (event_id::UHUGEINT & {_NATIVE})::BIGINT IN ({numbers})"


_VERSIONS = f"""SELECT s.id, s.native, s.canonical, s.received_ns, count(j.id) AS known,
        coalesce(bool_or(j.canonical = s.canonical), false) AS same, min(j.canonical) AS journal
    FROM (SELECT row_number() OVER () AS n, * FROM stored) s
    LEFT JOIN ({rows("event_id IN (SELECT id::UUID FROM stored)")}) j ON j.id = s.id
    GROUP BY s.n, s.id, s.native, s.canonical, s.received_ns"""

DIFFERING = f"SELECT * FROM ({_VERSIONS}) WHERE NOT same ORDER BY native"
"""Rows of ``stored`` that equal no version of the event that the journal has."""
