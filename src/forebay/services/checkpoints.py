"""Checkpoints of order books: whole books, folded from events now and then.

Without them, reading a book hours after its last snapshot would fold all changes of these hours.
They are made of the changes of one connection alone, in the order of the journal. Where another
one told changes of the book meanwhile that belong to it, or a message could not be read or was
lost, none is made before the next snapshot: reading begins there, and says what is not known. A
checkpoint is worth at least as many changes as it has levels, so together they take no more room
than the changes do.
"""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema
from forebay.domain.book import Book, levels_of, text_of
from forebay.services.book_bases import (
    AROUND_NS,
    CHECKPOINTS,
    DELTAS,
    LEVELS,
    PLACE,
    SNAPSHOTS,
    Base,
    Stream,
    bases,
    in_integers,
    levels_at,
    told_by,
    without_late,
)
from forebay.services.book_hearing import lost_ns, unreadable
from forebay.services.book_telling import BookTelling
from forebay.text import literal
from forebay.times import in_sql

if TYPE_CHECKING:
    from forebay.ports import Reader
    from forebay.services.book_bases import Connection
    from forebay.services.book_telling import Parsers

FEWEST = 10_000
"""Changes of levels between two checkpoints, or as many as the book has levels if it has more."""
QUERY_S = 600.0
_LAST = 1 << 62
_STREAM = "venue, market, symbol"
_CONNECTION = "collector, epoch, log_id"
_CHANGES = "len(bid_prices) + len(ask_prices)"


@runtime_checkable
class Derives(Protocol):
    """A readable store that also keeps what was made of its events, and can be made again."""

    def reader(self) -> Reader: ...

    def derive(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table without events. Raises as :meth:`~forebay.ports.Store.commit`."""
        ...


class _Line(NamedTuple):
    """A book as one connection told it."""

    stream: Stream
    connection: Connection

    @property
    def where(self) -> str:
        return f"{self.stream.where} AND {told_by(self.connection)}"


class BookCheckpoints:
    """Makes checkpoints of what is stored, one a step; blocking."""

    name = "checkpoints of order books"

    def __init__(self, store: Derives, parsers: Parsers, fewest: int = FEWEST) -> None:
        self._store = store
        self._parsers = parsers
        self._fewest = fewest
        self._seen: dict[str, int] = {}
        """By log, up to which sequence number changes were counted."""
        self._gathered: dict[_Line, int] = {}
        """Changes since the last checkpoint that was made or tried, by who told them."""
        self._begun: dict[_Line, Base] = {}

    def step(self) -> Stream | None:
        """Make the next checkpoint that is due, and return of which book; None: there is none."""
        self._count()
        for line, gathered in self._gathered.items():
            if gathered >= self._fewest:
                made = self._make(line)
                if made is None:  # not before as much again was told
                    self._gathered[line] = 0
                    continue
                self._gathered[line] = max(gathered - made, 0)
                return line.stream
        return None

    def all(self) -> int:
        """Make all that are due, and return how many."""
        made = 0
        while self.step() is not None:
            made += 1
        return made

    def close(self) -> None:
        """Nothing is held between two steps."""

    def query(self, statement: str) -> pa.Table:
        with closing(self._store.reader()) as reader:
            return reader.query(statement, timeout_s=QUERY_S)

    def _count(self) -> None:
        known = [f"(log_id = {literal(log)} AND seq > {seq})" for log, seq in self._seen.items()]
        logs = ", ".join(map(literal, self._seen)) or "''"
        fresh = " OR ".join([f"log_id NOT IN ({logs})", *known])
        told = self.query(
            f"SELECT {_STREAM}, {_CONNECTION}, max(seq) AS seq, sum({_CHANGES})::BIGINT AS changes "  # noqa: S608 - our own names, and quoted
            f"FROM {DELTAS} WHERE {fresh} GROUP BY {_STREAM}, {_CONNECTION}"
        )
        for row in told.to_pylist():
            *names, seq, changes = row.values()
            line = _Line(Stream(*names[:3]), (names[3], names[4], names[5]))
            self._gathered[line] = self._gathered.get(line, 0) + changes
            self._seen[names[5]] = max(self._seen.get(names[5], 0), seq)

    def _make(self, line: _Line) -> int | None:
        """Make a checkpoint behind the last one; return how many changes it spares its reader.

        None if there is nothing to begin at, or not enough behind it yet.
        """
        base = self._begun.get(line) or self._begin(line)
        telling = BookTelling.of(self._parsers, line.stream.venue)
        while base is not None:
            self._begun[line] = base
            after = self._next_snapshot(line, base.seq)
            book = Book(relative=telling.relative)
            book.replace(*levels_at(self.query, line.stream, base))
            wanted = max(self._fewest, len(book.bids) + len(book.asks))
            rows = self._changes(line, base.seq, after.seq if after else _LAST, wanted)
            if rows is not None:
                place = _place(base, rows)
                if telling.alone:
                    rows = without_late(self.query, line.stream, base, rows)
                book.apply(levels_of(rows, "bid"), levels_of(rows, "ask"))
                if book.state == "known" and self._all_told(line, base, place, telling):
                    self._store.derive(CHECKPOINTS, _row(line.stream, place, book))
                    self._begun[line] = place
                    return wanted
            base = after
        return None

    def _begin(self, line: _Line) -> Base | None:
        where = f"{line.where} ORDER BY seq DESC LIMIT 1"
        return next(iter(bases(self.query, CHECKPOINTS, where)), self._next_snapshot(line, 0))

    def _next_snapshot(self, line: _Line, seq: int) -> Base | None:
        where = f"{line.where} AND seq > {seq} ORDER BY seq LIMIT 1"
        return next(iter(bases(self.query, SNAPSHOTS, where)), None)

    def _changes(self, line: _Line, after: int, before: int, wanted: int) -> pa.Table | None:
        """Return messages with so many changes of levels in all; None if there are not so many."""
        rows = self.query(
            f"SELECT {PLACE}, event_id, {LEVELS} FROM {DELTAS} WHERE {line.where} "  # noqa: S608 - quoted
            f"AND seq > {after} AND seq < {before} ORDER BY seq LIMIT {wanted}"
        )
        told = sum(
            pc.list_value_length(rows[f"{side}_prices"]).to_numpy() for side in ("bid", "ask")
        )
        enough = np.flatnonzero(np.cumsum(told) >= wanted)
        return in_integers(rows.slice(0, int(enough[0]) + 1)) if len(enough) else None

    def _all_told(self, line: _Line, base: Base, place: Base, telling: BookTelling) -> bool:
        """Return whether all that changed the book meanwhile was read, of this connection alone."""
        of = self.query, line.stream, base
        if unreadable(*of, place.received_ns, telling) is not None:
            return False
        if telling.alone:
            lost = lost_ns(*of)
            return lost is None or lost >= place.received_ns
        others = self.query(
            f"SELECT 1 FROM {DELTAS} WHERE {line.stream.where} "  # noqa: S608 - quoted
            f"AND NOT ({told_by(line.connection)}) "
            f"AND received_ts > {in_sql(base.began_ns - AROUND_NS)} "
            f"AND received_ts <= {in_sql(place.received_ns)} LIMIT 1"
        )
        return not len(others)


def _place(base: Base, rows: pa.Table) -> Base:
    """Return where a book is after some changes."""
    last = rows.slice(len(rows) - 1).to_pylist()[0]
    exchange = [base.exchange_ns, pc.max(rows["exchange_ts"]).as_py()]
    before = [base.event_ns] if base.table == CHECKPOINTS or base.exchange_ns is not None else []
    return Base(
        CHECKPOINTS,
        *base.connection,
        last["seq"],
        max([*before, pc.max(rows["event_ts"]).as_py()]),
        max((ns for ns in exchange if ns is not None), default=None),
        max(base.received_ns, pc.max(rows["received_ts"]).as_py()),
        base.began_ns,
    )


def _row(stream: Stream, place: Base, book: Book) -> pa.Table:
    levels = [
        [Decimal(text_of(level[at])) for level in side.best()]
        for side in (book.bids, book.asks)
        for at in (0, 1)
    ]
    names, values = schema.BOOK_CHECKPOINTS.names, (*stream, *place[1:], *levels)
    row = dict(zip(names, values, strict=True))
    return pa.Table.from_pylist([row], schema=schema.BOOK_CHECKPOINTS)
