"""An order book as it was at a moment, or why it is not known.

It is known for as long as all that changes it was heard; see :mod:`~forebay.services.book_bases`
for what it is made of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.book import Book, levels_of
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import KINDS
from forebay.services.book_bases import (
    DELTAS,
    SECOND,
    SNAPSHOTS,
    base_at,
    behind_ns,
    book_of,
    by_connection,
    changes_behind,
    in_integers,
)
from forebay.text import literal
from forebay.times import in_sql

if TYPE_CHECKING:
    from forebay.services.book_bases import Base, Connection, Query, Stream

SPLICED_NS = 10 * SECOND
"""Recordings say nothing of what their connections carried. One that begins so shortly after the
end of another, and with changes, is taken for its continuation."""
LATE_NS = SECOND
"""A message may come so much later behind its time than the one before it."""
_KINDS = ("book_snapshot", "book_delta")
_CHANNELS = ", ".join(f"'{kind}'" for kind in _KINDS)
_NO_PARSERS: Mapping[str, object] = MappingProxyType({})


@runtime_checkable
class Guesses(Protocol):
    """A venue's parser that can tell by a part of a frame what it may have been."""

    def may_tell(self, payload: bytes, kinds: Collection[str], symbol: str) -> bool:
        """Return whether a frame that could not be read may have told such events of a symbol."""
        ...


Parsers = Mapping[str, object]
"""By venue. Of one that does not guess, all that could not be read may have been a change."""


@dataclass(frozen=True, slots=True)
class BookAt:
    """A book at one moment, or why it is not known; times are UTC nanoseconds."""

    book: Book
    """Empty and unknown where the moment's is not known."""
    at_ns: int | None
    """The moment; None if nothing is known at all and none was named."""
    as_of_ns: int | None
    """When the last message was told that the book, or the last one that is known, is made of."""
    reason: str
    """Why it is unknown; empty if it is known."""
    rows_read: int
    """Of snapshots, checkpoints and changes."""


def book_at(
    query: Query,
    stream: Stream,
    at_ns: int | None = None,
    parsers: Parsers = _NO_PARSERS,
    *,
    checkpoints: bool = True,
) -> BookAt:
    """Return the book as it was at a moment of the venue's time; None: the last one known."""
    base = base_at(query, stream, at_ns, checkpoints=checkpoints)
    if base is None:
        when = "" if at_ns is None else " by then"
        return BookAt(Book(), at_ns, None, f"No snapshot of the book was received{when}.", 0)
    changes = changes_behind(query, stream, base, at_ns)
    heard = _heard(query, stream, base, changes, parsers)
    trusted = changes.filter(pc.less_equal(changes["received_ts"], heard.until_ns))
    last = trusted["event_ts"].slice(max(len(trusted) - 1, 0)).to_pylist()
    as_of = last[0] if last else base.event_ns
    read = len(changes) + 1
    if at_ns is None:
        at_ns = as_of
    elif len(trusted) < len(changes) or not _all_heard(
        query, stream, base, trusted, (at_ns, heard.until_ns)
    ):
        return BookAt(Book(), at_ns, as_of, heard.why, read)
    book = book_of(query, stream, base)
    book.apply(levels_of(trusted, "bid"), levels_of(trusted, "ask"))
    return BookAt(book, at_ns, as_of, "", read)


def _all_heard(
    query: Query, stream: Stream, base: Base, changes: pa.Table, at_and_until: tuple[int, int]
) -> bool:
    """Return whether all that had happened by a moment was heard until another.

    It was if a connection went on for long enough, or told a later change of this very book: those
    come in their order. Other channels and products prove nothing: a trade may come before the
    changes that it made. A change that was under way when it ended, nobody knows of.
    """
    at_ns, until_ns = at_and_until
    if at_ns + behind_ns(changes, base) + LATE_NS <= until_ns:
        return True
    epochs = {base.epoch, *changes["epoch"].unique().to_pylist()}
    later = (
        f"{stream.where} AND event_ts > {in_sql(at_ns)} "
        f"AND exchange_ts IS NOT NULL AND received_ts >= {in_sql(base.received_ns)} "
        f"AND received_ts <= {in_sql(until_ns)} AND epoch IN ({', '.join(map(literal, epochs))})"
    )
    parts = (f"(SELECT 1 FROM {table} WHERE {later} LIMIT 1)" for table in (SNAPSHOTS, DELTAS))  # noqa: S608 - quoted
    return len(query(" UNION ALL ".join(parts))) > 0


class _Heard(NamedTuple):
    """Until when nothing of a book is missing, by the clock of the one that received it."""

    until_ns: int
    why: str
    """What ended it."""


def _heard(query: Query, stream: Stream, base: Base, changes: pa.Table, parsers: Parsers) -> _Heard:
    live = IntervalSet()
    for row in query(
        f'SELECT "first", "last" FROM coverage WHERE {stream.where} '  # noqa: S608 - quoted
        f"AND channel IN ({_CHANNELS}) AND origin IN ('live', 'time_live')"
    ).to_pylist():
        live.add(row["first"], row["last"])
    if base.received_ns in live:
        until = live.end_of(base.received_ns)
        heard = _Heard(until, "No connection that carries the book was heard until then.")
    else:
        until = _recorded_until(query, stream, base, changes)
        heard = _Heard(until, "The recorded connection was over by then.")
    unread = unreadable(query, stream, base, heard.until_ns, parsers)
    return heard if unread is None else _Heard(unread, "A message before it could not be read.")


def _recorded_until(query: Query, stream: Stream, base: Base, changes: pa.Table) -> int:
    """Return how long a recording goes on, and those that continue it."""
    until = max(base.received_ns, _last_received(query, stream, base.connection, base))
    others = sorted(
        (int(changes["received_ts"].take(pa.array(theirs[:1]))[0].as_py()), connection)
        for connection, theirs in by_connection(changes)
        if connection != base.connection
    )
    for begins, connection in others:
        if begins > until + SPLICED_NS:
            break
        until = max(until, _last_received(query, stream, connection, base))
    return until


def _last_received(query: Query, stream: Stream, connection: Connection, base: Base) -> int:
    """Return when a connection was last heard, whatever of the venue's it told then."""
    collector, epoch, log_id = map(literal, connection)
    parts = " UNION ALL ".join(
        f"SELECT max(received_ts) AS t FROM {kind.table} WHERE venue = {literal(stream.venue)} "  # noqa: S608
        f"AND received_ts >= {in_sql(base.received_ns)} AND collector = {collector} "
        f"AND epoch = {epoch} AND log_id = {log_id}"
        for kind in KINDS.values()
    )
    (found,) = in_integers(query(f"SELECT max(t) AS t FROM ({parts})")).to_pylist()  # noqa: S608
    return found["t"] or 0


def unreadable(
    query: Query, stream: Stream, base: Base, until_ns: int, parsers: Parsers
) -> int | None:
    """Return just before when something came over the connection that may have been a change.

    What is JSON and does not name the symbol was none. None if all could be read.
    """
    _, epoch, log_id = map(literal, base.connection)
    letters = query(
        "SELECT received_ts, payload FROM dead_letters "  # noqa: S608 - quoted
        f"WHERE venue = {literal(stream.venue)} AND epoch = {epoch} AND log_id = {log_id} "
        f"AND seq > {base.seq} AND received_ts <= {in_sql(until_ns)} ORDER BY seq"
    )
    for letter in in_integers(letters).to_pylist():
        payload, parser = letter["payload"], parsers.get(stream.venue)
        if isinstance(parser, Guesses) and not parser.may_tell(payload, _KINDS, stream.symbol):
            continue
        if stream.symbol.encode() in payload or not _is_json(payload):
            return int(letter["received_ts"]) - 1
    return None


def _is_json(payload: bytes) -> bool:
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
