"""How long all was heard that changed a book: behind that, it is not known.

Mostly all that was told is one stream, whoever told it: what one connection missed, another may
have heard. A change that is its connection's own belongs to that one's snapshots alone. Then the
book is known as long as its own connection went on and lost nothing; or, if it was over, while
others were heard that lost nothing and told nothing, since nothing had changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pyarrow as pa

from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import KINDS
from forebay.services.book_bases import DELTAS, SECOND, SNAPSHOTS, by_connection, in_integers
from forebay.services.book_telling import KINDS_OF_BOOKS, Guesses
from forebay.text import literal
from forebay.times import in_sql

if TYPE_CHECKING:
    from forebay.services.book_bases import Base, Connection, Query, Stream
    from forebay.services.book_telling import BookTelling

SPLICED_NS = 10 * SECOND
"""Recordings say nothing of what their connections carried. One that begins so shortly after the
end of another, and with changes, is taken for its continuation."""
_CHANNELS = ", ".join(f"'{kind}'" for kind in KINDS_OF_BOOKS)
_OVER = "No connection that carries the book was heard until then."
_RECORDED = "The recorded connection was over by then."
_UNREAD = "A message before it could not be read."
_LOST = "A message of its connection was lost before it."


class Heard(NamedTuple):
    """Until when nothing of a book is missing, by the clock of the one that received it."""

    until_ns: int
    why: str
    """What ended it."""
    beside: tuple[Connection, ...] = ()
    """Other connections that told of the book meanwhile, where each has a book of its own."""


class _Hole(NamedTuple):
    """When something of a connection was lost: between two receipts."""

    epoch: str
    since_ns: int
    until_ns: int

    def spoils(self, received_ns: int) -> bool:
        """Return whether what was received then may have come before something that was lost."""
        at_once = self.since_ns == self.until_ns
        return received_ns < self.until_ns + at_once

    @property
    def before_until_ns(self) -> int:
        """The last moment of it, at which nothing behind it has come yet."""
        return max(self.since_ns, self.until_ns - 1)

    @property
    def before_ns(self) -> int:
        """The last moment at which nothing of what was lost was due."""
        return self.since_ns - (self.since_ns == self.until_ns)


def heard(
    query: Query, stream: Stream, base: Base, changes: pa.Table, telling: BookTelling
) -> Heard:
    """Return until when all that changed a book was heard, since its base."""
    live, holes = _covered(query, stream, base.received_ns)
    if not telling.alone:
        live -= IntervalSet([(hole.since_ns, hole.before_until_ns) for hole in holes])
    if base.received_ns in live:
        found = Heard(live.end_of(base.received_ns), _OVER)
        if telling.alone:
            found = _alone(query, stream, base, found, holes)
    elif telling.alone:
        found = Heard(_last_received(query, stream, base.connection, base), _RECORDED)
    else:
        found = Heard(_recorded_until(query, stream, base, changes), _RECORDED)
    unread = unreadable(query, stream, base, found.until_ns, telling)
    return found if unread is None else Heard(unread, _UNREAD, found.beside)


def lost_ns(query: Query, stream: Stream, base: Base) -> int | None:
    """Return the last moment before something of a base's own connection was lost behind it.

    None if nothing was.
    """
    return _lost(base.epoch, base.received_ns, _covered(query, stream, base.received_ns)[1])


def _beside(query: Query, stream: Stream, base: Base, until_ns: int) -> dict[Connection, int]:
    """Return when other connections told of a book last, between a base and a moment."""
    parts = " UNION ALL ".join(
        f"SELECT collector, epoch, log_id, received_ts FROM {table} WHERE {stream.where} "  # noqa: S608 - quoted
        f"AND received_ts > {in_sql(base.received_ns)} AND received_ts <= {in_sql(until_ns)}"
        for table in (SNAPSHOTS, DELTAS)
    )
    rows = query(
        f"SELECT collector, epoch, log_id, max(received_ts) AS last FROM ({parts}) "  # noqa: S608
        "GROUP BY collector, epoch, log_id ORDER BY last"
    )
    told = (tuple(row.values()) for row in in_integers(rows).to_pylist())
    return {(who, epoch, log): last for who, epoch, log, last in told
            if (who, epoch, log) != base.connection}  # fmt: skip


def _covered(query: Query, stream: Stream, since_ns: int) -> tuple[IntervalSet, list[_Hole]]:
    """Return when a book was heard by any connection, and what each of them lost."""
    live, holes = IntervalSet(), []
    for row in query(
        'SELECT origin, epoch, "first", "last" FROM coverage '  # noqa: S608 - quoted
        f"WHERE {stream.where} AND channel IN ({_CHANNELS}) "
        "AND origin IN ('live', 'time_live', 'missed', 'time_missed')"
    ).to_pylist():
        if row["origin"].endswith("live"):
            live.add(row["first"], row["last"])
        elif row["last"] >= since_ns:
            holes.append(_Hole(row["epoch"].partition("/")[0], row["first"], row["last"]))
    return live, sorted(holes, key=lambda hole: hole.since_ns)


def _lost(epoch: str, since_ns: int, holes: list[_Hole]) -> int | None:
    found = (hole.before_ns for hole in holes if hole.epoch == epoch and hole.spoils(since_ns))
    return min(found, default=None)


def _alone(query: Query, stream: Stream, base: Base, any_of: Heard, holes: list[_Hole]) -> Heard:
    """Return until when a book is known whose changes are its connection's own."""
    beside = _beside(query, stream, base, any_of.until_ns)
    lost = _lost(base.epoch, base.received_ns, holes)
    if lost is not None and lost <= any_of.until_ns:
        return Heard(lost, _LOST, (*beside,))
    elsewhere = {hole.epoch for hole in holes} - {base.epoch}
    if not (beside or elsewhere):
        return any_of
    last = _last_received(query, stream, base.connection, base)
    if any(later > last for later in beside.values()):
        return Heard(min(last, any_of.until_ns), _OVER, (*beside,))
    behind = (_lost(epoch, last, holes) for epoch in elsewhere)
    lost = min((ns for ns in behind if ns is not None), default=any_of.until_ns)
    return Heard(min(max(lost, last), any_of.until_ns), _OVER, (*beside,))


def _recorded_until(query: Query, stream: Stream, base: Base, changes: pa.Table) -> int:
    """Return how long a recording goes on, and those that continue it."""
    until = max(base.received_ns, _last_received(query, stream, base.connection, base))
    following = sorted(
        (int(changes["received_ts"].take(pa.array(theirs[:1]))[0].as_py()), connection)
        for connection, theirs in by_connection(changes)
        if connection != base.connection
    )
    for begins, connection in following:
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
    query: Query, stream: Stream, base: Base, until_ns: int, telling: BookTelling
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
        payload, parser = letter["payload"], telling.parser
        if isinstance(parser, Guesses) and not parser.may_tell(
            payload, KINDS_OF_BOOKS, stream.symbol
        ):
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
