"""The store against the journal: by digests, and by rows only where those differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.intervals import IntervalSet
from forebay.errors import Transient
from forebay.services.audit import sql
from forebay.services.audit.accounts import (
    EVERY_ID,
    LOST,
    Claim,
    StreamAccount,
    minutes_from,
)
from forebay.services.audit.findings import clip, difference
from forebay.services.audit.scratch import dictionaries, first_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forebay.domain.coverage import StreamKey
    from forebay.services.audit.accounts import Accounts, Snapshot
    from forebay.services.audit.findings import Found
    from forebay.services.audit.journal_stage import JournalStage
    from forebay.services.audit.scratch import Query, Scratch
    from forebay.services.audit.sql import Piece, Span

_STORED = ("id", "native", "canonical", "received_ns")


class Rows:
    """Asks a store that may be moving, and takes the journal along to the same moment."""

    def __init__(self, query: Query, scratch: Scratch, journal: JournalStage) -> None:
        self._query = query
        self._scratch = scratch
        self._journal = journal

    def beside_journal(self, statement: str) -> pa.Table:
        """Rows of ``statement``; the scratch database then has the journal up to their cursor.

        Raises :class:`~forebay.errors.Transient` if the store went back meanwhile.
        """
        found = self._query(sql.with_cursor(statement))
        seq = first_row(found)["seq"]
        seq = seq if isinstance(seq, int) else 1  # nothing was ever delivered
        if seq < self._journal.seq:
            message = "The store's cursor went back while it was audited."
            raise Transient(message, hint="Audit again once the store has been rebuilt.")
        self._journal.advance(seq)
        return found

    def compare(
        self, key: StreamKey, piece: Piece, snapshot: Snapshot, found: dict[StreamKey, Found]
    ) -> None:
        """Compare the rows of ``piece`` one by one."""
        rows = self.beside_journal(sql.rows(piece.where()))
        stored = rows.select(list(_STORED)).filter(pc.is_valid(rows.column("id")))
        self._scratch.create("stored", stored)
        held = snapshot.accounts.get(key, StreamAccount()).ids
        for native in self._scratch.query(sql.lacking(piece)).column("native").to_pylist():
            if native in held:
                found[key].mutated.add(native)  # it lies at another time, and is seen there
            else:
                found[key].missing.add(native)
        for row in dictionaries(self._scratch.query(sql.DIFFERING)):
            self._judge(key, row, found)

    def differing_minutes(self, piece: Piece) -> Iterable[int]:
        """Minutes of ``piece`` in which store and journal do not agree."""
        row = first_row(self.beside_journal(sql.minutes(piece)))
        stored = minutes_from(row["minutes"])
        ours = minutes_from(first_row(self._scratch.query(sql.minutes(piece)))["minutes"])
        return sorted(m for m in stored.keys() | ours.keys() if stored.get(m) != ours.get(m))

    def _judge(self, key: StreamKey, row: dict[str, object], found: dict[StreamKey, Found]) -> None:
        native, received = row["native"], row["received_ns"]
        if not isinstance(native, int):
            return
        if row["known"]:
            right = str(row["journal"])
            venue, symbol = right.split("|")[1:3]  # where it belongs, if it lies elsewhere
            owner = key._replace(venue=venue, symbol=symbol)
            found[owner].mutate(native, difference(str(row["canonical"]), right))
        elif not isinstance(received, int) or self._journal.sees(received):
            found[key].spurious.add(native)
        else:
            found[key].unseen.add(native)


def compare(
    rows: Rows, span: Span, snapshot: Snapshot, journal: Accounts, found: dict[StreamKey, Found]
) -> None:
    """Find what the store has not as the journal has it."""
    for key in sorted(snapshot.accounts.keys() | journal.keys()):
        stored = snapshot.accounts.get(key, StreamAccount())
        found[key].doubled = stored.doubled
        found[key].twice = stored.twice
        ours = journal.get(key, StreamAccount())
        hours = sorted(
            hour
            for hour in stored.hours.keys() | ours.hours.keys()
            if stored.hours.get(hour) != ours.hours.get(hour)
        )
        for hour in hours:
            for piece in _pieces(rows, key, hour, span):
                rows.compare(key, piece, snapshot, found)


def _pieces(rows: Rows, key: StreamKey, hour: int, span: Span) -> Iterator[Piece]:
    whole = sql.Piece(key.venue, key.symbol, hour * sql.HOUR_NS, (hour + 1) * sql.HOUR_NS)
    whole = _within(whole, span)
    for minute in rows.differing_minutes(whole):
        start = minute * sql.MINUTE_NS
        piece = sql.Piece(key.venue, key.symbol, start, start + sql.MINUTE_NS)
        yield _within(piece, span)


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
