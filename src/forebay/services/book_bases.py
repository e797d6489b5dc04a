"""Where an order book begins, and what changed it behind that.

A book begins with a *base*, a snapshot or a checkpoint, and is what the changes behind it made of
it, in the order in which the venue told them. A change that two connections told is one row, of
the one that told it first; so the changes behind a base are not only those of its own connection:

* of its own connection, those behind it in the journal;
* of others, those that happened since the base was told, if the connection was heard then too. One
  that was over by then says nothing of the new book.

Within a connection the order is the journal's. Between connections it is the venue's time, which
does not go back within one.

Where a change is its connection's own, as one is that says a difference, only those of the base's
connection are behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.book import levels_of
from forebay.domain.identity import NATIVE_ID_LIMIT, base_id
from forebay.text import literal
from forebay.times import in_sql

if TYPE_CHECKING:
    import numpy.typing as npt

    from forebay.domain.book import Levels
    from forebay.services.book_telling import BookTelling

    Integers = npt.NDArray[np.int64]

Query = Callable[[str], pa.Table]
"""Answers one reading statement of SQL."""
Connection = tuple[str, str, str]
"""Collector, epoch and log."""
SECOND = 1_000_000_000
AROUND_NS = 2 * SECOND
"""What other connections told so shortly before a base may not be in it yet: the venue made the
base before it was received. What already is in it, it may be received again."""
_BEFORE = 256
"""So many changes before a snapshot are looked at: what comes late does so by less."""
_CHANGES = "book_delta"
SNAPSHOTS, DELTAS, CHECKPOINTS = "book_snapshots", "book_deltas", "book_checkpoints"
PLACE = "collector, epoch, log_id, seq, event_ts, exchange_ts, received_ts"
LEVELS = "bid_prices, bid_sizes, ask_prices, ask_sizes"


class Stream(NamedTuple):
    """A book of one market."""

    venue: str
    market: str
    symbol: str

    @property
    def where(self) -> str:
        """What its rows fulfil, as SQL has it."""
        return self.named("")

    def named(self, table: str) -> str:
        """Return the same of a table's rows, which has a name that ends in a point."""
        named = zip(self._fields, self, strict=True)
        return " AND ".join(f"{table}{name} = {literal(text)}" for name, text in named)


class Base(NamedTuple):
    """Where to begin: a row of a snapshot or a checkpoint, its levels not yet read."""

    table: str
    collector: str
    epoch: str
    log_id: str
    seq: int
    event_ns: int
    exchange_ns: int | None
    received_ns: int
    began_ns: int
    """When the snapshot was received that it goes back to."""

    @property
    def connection(self) -> Connection:
        """Who told it, and into which log."""
        return self.collector, self.epoch, self.log_id


def base_at(
    query: Query,
    stream: Stream,
    at_ns: int | None,
    telling: BookTelling,
    connection: Connection | None = None,
    *,
    checkpoints: bool = True,
) -> Base | None:
    """Return the last snapshot at or before a moment, or a later checkpoint; None: there is none.

    It is that of a ``connection``, or of any. Not every store has ``checkpoints``.

    A snapshot mostly has no time but that of receipt, which is behind the venue's: it also counts
    if its connection told a change behind it that had happened by then.
    """
    of = stream.where if connection is None else f"{stream.where} AND {told_by(connection)}"
    until = "" if at_ns is None else f" AND event_ts <= {in_sql(at_ns)}"
    found = [
        base
        for table in (SNAPSHOTS, *([CHECKPOINTS] if checkpoints else []))
        for base in _bases(query, table, f"{of}{until}")
    ]
    if at_ns is not None:
        same = " AND ".join(f"d.{name} = b.{name}" for name in (*stream._fields, "epoch", "log_id"))
        soon = (
            f"{of} AND event_ts > {in_sql(at_ns)} AND exchange_ts IS NULL "  # noqa: S608
            f"AND (epoch, log_id, seq) IN (SELECT b.epoch, b.log_id, b.seq FROM {SNAPSHOTS} b "
            f"JOIN {DELTAS} d ON {same} WHERE {stream.named('b.')} AND {stream.named('d.')} "
            f"AND b.event_ts > {in_sql(at_ns)} AND b.exchange_ts IS NULL AND d.seq > b.seq "
            "AND d.received_ts >= b.received_ts AND d.exchange_ts IS NOT NULL "
            f"AND d.received_ts > {in_sql(at_ns)} AND d.event_ts <= {in_sql(at_ns)})"
        )
        found += _bases(query, SNAPSHOTS, soon)
    found.sort(key=lambda base: (base.received_ns, base.seq))
    while found and found[-1].table == CHECKPOINTS and is_stale(query, stream, found[-1], telling):
        found.pop()
    return found[-1] if found else None


def told_by(connection: Connection) -> str:
    """Return what the rows of a connection fulfil, as SQL has it."""
    named = zip(("collector", "epoch", "log_id"), connection, strict=True)
    return " AND ".join(f"{name} = {literal(text)}" for name, text in named)


def _bases(query: Query, table: str, where: str) -> list[Base]:
    return bases(query, table, f"{where} ORDER BY received_ts DESC, seq DESC LIMIT 1")


def bases(query: Query, table: str, where: str) -> list[Base]:
    """Return snapshots or checkpoints that fulfil a condition."""
    began = "began_ts" if table == CHECKPOINTS else "received_ts AS began_ts"
    rows = query(f"SELECT {PLACE}, {began} FROM {table} s WHERE {where}")  # noqa: S608 - quoted
    return [Base(table, *row.values()) for row in in_integers(rows).to_pylist()]


def is_stale(query: Query, stream: Stream, base: Base, telling: BookTelling) -> bool:
    """Return whether changes that belong before a checkpoint came after it was made."""
    meanwhile = (
        f"{stream.where} AND received_ts > {in_sql(base.began_ns)} "
        f"AND received_ts < {in_sql(base.received_ns)}"
    )
    log = literal(base.log_id)
    later = [f"log_id = {log} AND seq > {base.seq}", f"log_id <> {log}"]
    if telling.alone:
        later = [f"{told_by(base.connection)} AND seq > {base.seq}"]
    return any(
        len(query(f"SELECT 1 FROM {DELTAS} WHERE {meanwhile} AND {each} LIMIT 1"))  # noqa: S608 - quoted
        for each in later
    )


def _of(alias: str, stream: Stream, base: Base) -> str:
    """Return what the row of a base fulfils, in a table with an alias."""
    named = zip((*stream._fields, *base._fields[1:4]), (*stream, *base[1:4]), strict=True)
    texts = (f"{alias}.{name} = {literal(text)}" for name, text in named)
    received = f"{alias}.received_ts = {in_sql(base.received_ns)}"
    return " AND ".join((*texts, f"{alias}.seq = {base.seq}", received))


def in_integers(rows: pa.Table) -> pa.Table:
    """Return rows with times as integers of nanoseconds, which Python's own times have not."""
    for at, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            cells = rows.column(at).cast(pa.timestamp("ns")).cast(pa.int64())
            rows = rows.set_column(at, field.name, cells)
    return rows


def changes_behind(
    query: Query, stream: Stream, base: Base, at_ns: int | None, telling: BookTelling
) -> pa.Table:
    """Return the changes behind a base that had happened by a moment, in the venue's order."""
    until = "" if at_ns is None else f"AND event_ts <= {in_sql(at_ns)} "
    behind = f"seq > {base.seq}"
    own = told_by(base.connection)
    behind = f"{own} AND {behind}" if telling.alone else f"({behind} OR NOT ({own}))"
    rows = query(
        f"SELECT {PLACE}, event_id, {LEVELS} FROM {DELTAS} WHERE {stream.where} {until}"  # noqa: S608
        f"AND received_ts > {in_sql(base.received_ns - AROUND_NS)} AND {behind}"
    )
    if telling.alone:
        rows = without_late(query, stream, base, rows)
    return _in_order(in_integers(rows), base)


def without_late(query: Query, stream: Stream, base: Base, rows: pa.Table) -> pa.Table:
    """Return the changes of a base's own connection without those that came late.

    One whose number is below another's that came before the snapshot is in the snapshot already.
    """
    own, begun = told_by(base.connection), base.seq
    if base.table == CHECKPOINTS:
        of = f"{stream.where} AND {own} AND received_ts = {in_sql(base.began_ns)}"
        begun = max((each.seq for each in bases(query, SNAPSHOTS, of)), default=0)
    before = query(
        f"SELECT symbol, event_id FROM {DELTAS} WHERE venue = {literal(stream.venue)} "  # noqa: S608
        f"AND market = {literal(stream.market)} AND {own} AND seq < {begun} "
        f"AND received_ts > {in_sql(base.began_ns - AROUND_NS)} ORDER BY seq DESC LIMIT {_BEFORE}"
    )
    last = max(_numbers(stream, base, before, before["symbol"].to_pylist()), default=-1)
    return rows.filter(pa.array(_numbers(stream, base, rows, [stream.symbol]) > last))


def _numbers(stream: Stream, base: Base, rows: pa.Table, symbols: list[str]) -> Integers:
    """Return the venue's numbers of changes, which their ids are made of.

    ``symbols`` has that of each row, or of all of them.
    """
    digits = pc.replace_substring(rows["event_id"].cast(pa.string()), "-", "").to_pylist()
    low = np.frombuffer(bytes.fromhex("".join(digits)), ">u8").reshape(-1, 2)[:, 1]
    of = stream.venue, stream.market, _CHANGES
    ids = [base_id("session", *of, symbol, *base.connection[:2]).int for symbol in symbols]
    begins = np.array([number % NATIVE_ID_LIMIT for number in ids], dtype=np.uint64)
    found: Integers = ((low - begins) % np.uint64(NATIVE_ID_LIMIT)).astype(np.int64)
    return found


def _in_order(rows: pa.Table, base: Base) -> pa.Table:
    """Return the changes that are behind the base; see the module."""
    seq, received, event = (rows[name].to_numpy() for name in ("seq", "received_ts", "event_ts"))
    told = rows["exchange_ts"].is_valid().to_numpy()
    received, keys, kept = received.copy(), np.zeros_like(seq), np.zeros(len(rows), dtype=np.bool_)
    for connection, theirs in by_connection(rows):
        mine = theirs[np.argsort(seq[theirs], kind="stable")]
        if connection == base.connection:
            kept[mine] = True
        elif (received[mine] > base.received_ns).any():
            kept[mine] = event[mine] > _made_ns(base, rows)
        # What has no time of the venue's happened after what was told before it.
        keys[mine] = np.maximum.accumulate(np.where(told[mine], event[mine], 0))
        received[mine] = np.maximum.accumulate(received[mine])
    chosen = np.flatnonzero(kept)
    chosen = chosen[np.lexsort((seq[chosen], received[chosen], keys[chosen]))]
    in_place = len(chosen) == len(rows) and bool((np.diff(chosen) > 0).all())
    return rows if in_place else rows.take(pa.array(chosen))


def by_connection(rows: pa.Table) -> Iterator[tuple[Connection, Integers]]:
    """Return who told some of the rows, and the indices of those."""
    names = ("collector", "epoch", "log_id")
    places = rows.select(names).append_column("row", pa.array(np.arange(len(rows))))
    groups = places.group_by(names, use_threads=False).aggregate([("row", "list")])
    for group in range(len(groups)):
        collector, epoch, log_id = (groups[name][group].as_py() for name in names)
        yield (collector, epoch, log_id), groups["row_list"][group].values.to_numpy()


def _made_ns(base: Base, rows: pa.Table) -> int:
    """Return a moment of the venue's before which nothing can be missing from a base."""
    if base.exchange_ns is not None:
        return base.exchange_ns
    return base.received_ns - behind_ns(rows) - AROUND_NS


def behind_ns(rows: pa.Table, base: Base | None = None) -> int:
    """Return how far receipt was behind the venue's time in the last change that has both."""
    told = rows.filter(rows["exchange_ts"].is_valid())
    if len(told):
        last = told[len(told) - 1 :]
        return int(last["received_ts"][0].as_py()) - int(last["event_ts"][0].as_py())
    if base is not None and base.exchange_ns is not None:
        return base.received_ns - base.exchange_ns
    return 0


def levels_at(query: Query, stream: Stream, base: Base) -> tuple[Levels, Levels]:
    """Return bids and asks of the book that a base says."""
    rows = query(f"SELECT {LEVELS} FROM {base.table} b WHERE {_of('b', stream, base)} LIMIT 1")  # noqa: S608 - quoted
    return levels_of(rows, "bid"), levels_of(rows, "ask")
