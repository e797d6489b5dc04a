"""The store against the journal: by digests, and by rows only where those differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.digest import HOUR_NS, Digest
from forebay.domain.intervals import IntervalSet
from forebay.errors import Transient
from forebay.services.audit import sql
from forebay.services.audit.accounts import (
    EVERY_ID,
    LOST,
    Claim,
    StreamAccount,
    looked,
    minutes_from,
)
from forebay.services.audit.findings import Unlike, clip, difference
from forebay.services.audit.scratch import dictionaries, first_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from forebay.domain.coverage import StreamKey
    from forebay.domain.ledger import StreamHour
    from forebay.services.audit.accounts import Snapshot
    from forebay.services.audit.findings import Found
    from forebay.services.audit.journal_stage import JournalStage
    from forebay.services.audit.scratch import Query, Scratch
    from forebay.services.audit.sql import Piece, Span

    Hours = dict[StreamKey, dict[int, Digest]]

_STORED = ("id", "native", "canonical", "received_ns")
_CHUNKS_AT_ONCE = 8
"""At most so many times 50 000 ids are put into order by one statement."""
_IDS_AT_ONCE = 1000
ROWS_AT_ONCE = 20_000
"""Rows that are compared by one statement, unless a single minute has more."""


class Minute(NamedTuple):
    """One minute of a stream."""

    minute: int
    """Since the Unix epoch."""
    rows: int
    agrees: bool


class Rows:
    """Asks a store that may be moving, and takes the journal along to the same moment."""

    def __init__(
        self, query: Query, scratch: Scratch, journal: JournalStage, snapshot: Snapshot, span: Span
    ) -> None:
        self._query = query
        self._scratch = scratch
        self.journal = journal
        self.snapshot = snapshot
        self.span = span

    def beside_journal(self, statement: str) -> pa.Table:
        """Rows of ``statement``; the scratch database then has the journal up to their cursor.

        Raises :class:`~forebay.errors.Transient` if the store went back meanwhile.
        """
        found = self._query(sql.with_cursor(statement))
        seq = first_row(found)["seq"]
        seq = seq if isinstance(seq, int) else 1  # nothing was ever delivered
        self._expect(seq)
        self.journal.advance(seq)
        return found

    def _expect(self, seq: int) -> None:
        cursor = self.snapshot.cursor
        if seq < max(self.journal.begun, cursor.seq if cursor else 1):
            message = "The store's cursor went back while it was audited."
            raise Transient(message, hint="Audit again once the store has been rebuilt.")

    def look(self, key: StreamKey, chunks: Collection[int]) -> None:
        """Put the ids and distinct rows of ``chunks`` into the snapshot."""
        account, ordered = self.snapshot.accounts[key], sorted(chunks)
        for at in range(0, len(ordered), _CHUNKS_AT_ONCE):
            some = ordered[at : at + _CHUNKS_AT_ONCE]
            found = self._query(sql.look(key.venue, key.symbol, some, self.span))
            self._expect(looked(found, key, self.snapshot, some))
        account.unsure.difference_update(ordered)

    def compare(
        self,
        key: StreamKey,
        piece: Piece,
        wrong: Collection[StreamHour],
        found: Mapping[StreamKey, Found],
    ) -> None:
        """Compare the rows of ``piece`` one by one; ``wrong`` are all hours that differ."""
        self._keep(self.beside_journal(sql.rows(piece.where())))
        held = self.snapshot.accounts.get(key, StreamAccount()).ids
        lacking = self._scratch.query(sql.lacking(piece)).column("native").to_pylist()
        self._differing(key, found)
        found[key].missing |= IntervalSet((each, each) for each in lacking if each not in held)
        elsewhere = [native for native in lacking if native in held]
        for at in range(0, len(elsewhere), _IDS_AT_ONCE):
            self._elsewhere(key, elsewhere[at : at + _IDS_AT_ONCE], wrong, found)

    def _elsewhere(
        self,
        key: StreamKey,
        natives: list[int],
        wrong: Collection[StreamHour],
        found: Mapping[StreamKey, Found],
    ) -> None:
        """Judge events that lie at another time than the journal has a version of them.

        Where the digests of their hour agree they are as first received, and right.
        """
        rows = self.beside_journal(sql.rows(sql.natives_where(key.venue, key.symbol, natives)))
        rows = rows.filter(pc.is_valid(rows.column("id")))
        hours = [ns // HOUR_NS for ns in rows.column("ns").to_pylist()]
        unknown = [(key, hour) in wrong or not self.span.touches(hour) for hour in hours]
        self.journal.want({(key, hour) for hour in hours if not self.span.touches(hour)})
        self._keep(rows.filter(pa.array(unknown, pa.bool_())))
        self._differing(key, found)
        there = set(rows.column("native").to_pylist())
        found[key].missing |= IntervalSet((each, each) for each in natives if each not in there)

    def _keep(self, rows: pa.Table) -> None:
        stored = rows.select(list(_STORED)).filter(pc.is_valid(rows.column("id")))
        self._scratch.create("stored", stored)

    def _differing(self, key: StreamKey, found: Mapping[StreamKey, Found]) -> None:
        for row in dictionaries(self._scratch.query(sql.DIFFERING)):
            self._judge(key, row, found)

    def minutes(self, piece: Piece) -> list[Minute]:
        """Minutes of ``piece``, in order: how many rows, and whether store and journal agree."""
        row = first_row(self.beside_journal(sql.minutes(piece)))
        stored = minutes_from(row["minutes"])
        ours = minutes_from(first_row(self._scratch.query(sql.minutes(piece)))["minutes"])
        none = Digest()
        pairs = {m: (stored.get(m, none), ours.get(m, none)) for m in stored.keys() | ours.keys()}
        return [
            Minute(minute, max(one.count, other.count), one == other)
            for minute, (one, other) in sorted(pairs.items())
        ]

    def _judge(
        self, key: StreamKey, row: dict[str, object], found: Mapping[StreamKey, Found]
    ) -> None:
        native, received = row["native"], row["received_ns"]
        if not isinstance(native, int):
            return
        if row["known"]:
            right = str(row["journal"])
            venue, symbol = right.split("|")[1:3]  # where it belongs, if it lies elsewhere
            owner = key._replace(venue=venue, symbol=symbol)
            found[owner].mutate(native, difference(str(row["canonical"]), right))
        elif isinstance(received, int) and not self.journal.record.sees(received):
            found[key].unseen.add(native)
        elif self._received(key, native):
            found[key].mutate(native, "it was received with another time")
        else:
            found[key].spurious.add(native)

    def _received(self, key: StreamKey, native: int) -> bool:
        coverage = self.journal.record.coverage.get(key)
        return coverage is not None and (native in coverage.live or native in coverage.fill)


def compare(rows: Rows, ours: Hours, found: Mapping[StreamKey, Found]) -> None:
    """Find what the store has not as the journal has it; ``ours`` is as of the snapshot."""
    accounts = rows.snapshot.accounts
    wrong: set[StreamHour] = set()
    for key in sorted(accounts.keys() | ours.keys()):
        account = accounts.get(key, StreamAccount())
        mine = {hour: made for hour, made in ours.get(key, {}).items() if rows.span.touches(hour)}
        if chunks := account.unsure | account.chunks_of(_differing(account.hours(), mine)):
            rows.look(key, chunks)
        found[key].doubled, found[key].twice = account.doubled, account.twice
        for hour in _differing(account.hours(), mine):
            if not rows.journal.record.log_id:
                found[key].unproved += account.hours()[hour].count  # there is nothing at all
            elif rows.journal.lacks((key, hour)):
                stored, ledger = (each.get(hour, Digest()) for each in (account.hours(), mine))
                if stored.count > ledger.count and not rows.journal.record.complete:
                    found[key].unproved += stored.count  # the others may have been lost here
                else:
                    found[key].unlike.append(Unlike(hour, stored, ledger))
            else:
                wrong.add((key, hour))
    rows.journal.want(wrong)
    for key, hour in sorted(wrong):
        for piece in _pieces(rows, key, hour):
            rows.compare(key, piece, wrong, found)


def _differing(stored: Mapping[int, Digest], ours: Mapping[int, Digest]) -> list[int]:
    hours = stored.keys() | ours.keys()
    return sorted(hour for hour in hours if stored.get(hour) != ours.get(hour))


def _pieces(rows: Rows, key: StreamKey, hour: int) -> Iterator[Piece]:
    whole = sql.Piece(key.venue, key.symbol, hour * HOUR_NS, (hour + 1) * HOUR_NS)
    for first, last in stretches(rows.minutes(_within(whole, rows.span))):
        start, end = first * sql.MINUTE_NS, (last + 1) * sql.MINUTE_NS
        yield _within(whole._replace(start=start, end=end), rows.span)


def stretches(minutes: Iterable[Minute]) -> list[tuple[int, int]]:
    """Answer from which to which minute rows are to be compared: all that do not agree.

    What lies between two of them is taken along if it is little: a statement has its price.
    """
    found: list[tuple[int, int]] = []
    weight = 0
    for minute in minutes:
        weight += minute.rows
        if minute.agrees:
            continue
        if found and weight <= ROWS_AT_ONCE:
            found[-1] = (found[-1][0], minute.minute)
        else:
            found.append((minute.minute, minute.minute))
            weight = minute.rows
    return found


def _within(piece: Piece, span: Span) -> Piece:
    start = piece.start if span.since is None else max(piece.start, span.since)
    end = piece.end if span.until is None else min(piece.end, span.until)
    return piece._replace(start=start, end=end)


def window_of(key: StreamKey, snapshot: Snapshot, span: Span) -> tuple[int, int]:
    """Ids of a stream that the audited times can contain."""
    account = snapshot.accounts.get(key)
    return EVERY_ID if span.whole or account is None else account.window


def believe_nothing(
    key: StreamKey, snapshot: Snapshot, window: tuple[int, int], found: Found
) -> None:
    """Hold the store's own coverage and gaps against the ids that it has."""
    claim = snapshot.claims.get(key, Claim())
    stored = snapshot.accounts.get(key, StreamAccount()).ids
    owed = claim.covered
    if claim.hull is not None:
        owed |= IntervalSet([claim.hull]) - snapshot.declared(key, LOST)
    found.missing |= clip(owed - stored, window)
    found.uncovered |= clip(stored - claim.covered, window)
