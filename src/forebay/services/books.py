"""An order book as it was at a moment, or why it is not known.

It is known for as long as all that changes it was heard; see :mod:`~forebay.services.book_bases`
for what it is made of.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from forebay.domain.book import Book, levels_of
from forebay.services.book_bases import (
    DELTAS,
    SECOND,
    SNAPSHOTS,
    base_at,
    behind_ns,
    changes_behind,
    levels_at,
)
from forebay.services.book_hearing import Heard, heard
from forebay.services.book_telling import NO_PARSERS, BookTelling
from forebay.text import literal
from forebay.times import in_sql

if TYPE_CHECKING:
    import pyarrow as pa

    from forebay.services.book_bases import Base, Connection, Query, Stream
    from forebay.services.book_telling import Parsers

LATE_NS = SECOND
"""A message may come so much later behind its time than the one before it."""
_BROKEN = "A change before it took more from a level than it had."


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
    parsers: Parsers = NO_PARSERS,
    *,
    checkpoints: bool = True,
) -> BookAt:
    """Return the book as it was at a moment of the venue's time; None: the last one known."""
    telling = BookTelling.of(parsers, stream.venue)
    base = base_at(query, stream, at_ns, telling, checkpoints=checkpoints)
    if base is None:
        when = "" if at_ns is None else " by then"
        return BookAt(Book(), at_ns, None, f"No snapshot of the book was received{when}.", 0)
    found, beside = _behind(query, stream, base, at_ns, telling)
    for each in beside if found.reason or at_ns is None else ():
        base = base_at(query, stream, at_ns, telling, each, checkpoints=checkpoints)
        if base is not None:
            other, _ = _behind(query, stream, base, at_ns, telling)
            found = max(found, other, key=lambda book: (not book.reason, book.as_of_ns))
    return found


def _behind(
    query: Query, stream: Stream, base: Base, at_ns: int | None, telling: BookTelling
) -> tuple[BookAt, tuple[Connection, ...]]:
    """Return the book that a base and the changes behind it say, and who told it besides."""
    changes = changes_behind(query, stream, base, at_ns, telling)
    hearing = heard(query, stream, base, changes, telling)
    trusted = changes.filter(pc.less_equal(changes["received_ts"], hearing.until_ns))
    read = len(changes) + 1
    book, whole = _folded(query, stream, base, trusted, telling)
    if whole < len(trusted):
        until_ns = trusted["received_ts"][whole].as_py() - 1
        trusted, hearing = trusted.slice(0, whole), Heard(until_ns, _BROKEN, hearing.beside)
    last = trusted["event_ts"].slice(max(len(trusted) - 1, 0)).to_pylist()
    as_of = last[0] if last else base.event_ns
    if at_ns is not None and (
        len(trusted) < len(changes)
        or not _all_heard(query, stream, base, trusted, (at_ns, hearing.until_ns))
    ):
        return BookAt(Book(), at_ns, as_of, hearing.why, read), hearing.beside
    return BookAt(book, as_of if at_ns is None else at_ns, as_of, "", read), hearing.beside


def _folded(
    query: Query, stream: Stream, base: Base, changes: pa.Table, telling: BookTelling
) -> tuple[Book, int]:
    """Return the book after as many of some changes as there can be, and how many those are."""
    snapshot = levels_at(query, stream, base)

    def after(count: int) -> Book:
        book, told = Book(relative=telling.relative), changes.slice(0, count)
        book.replace(*snapshot)
        book.apply(levels_of(told, "bid"), levels_of(told, "ask"))
        return book

    book, whole = after(len(changes)), len(changes)
    if book.state == "unknown":
        breaks = range(1, len(changes) + 1)
        whole = bisect_left(breaks, True, key=lambda count: after(count).state == "unknown")
        book = after(whole)
    return book, whole


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
