"""The store against the journal: digests of hours, then of minutes, and rows where those differ.

What rows of one hour do not explain is asked of the whole store by id, so an event that lies in
another hour or stream than it should is found there.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import (
    HOUR_NS,
    MINUTE_NS,
    MINUTES,
    Digest,
    StreamHour,
    difference,
    digests_by,
)
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import KINDS
from forebay.errors import Transient
from forebay.ports import Audited, Span
from forebay.services.audit.case import Case, Ids, Unlike, arrived, ids_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from forebay.journal import Position

ROWS_AT_ONCE = 20_000
"""Rows of a store that are compared at once, unless a single minute has more."""
ROWS_IN_MEMORY = 500_000
"""Rows of the journal that are kept at once, unless a single hour has more."""
IDS_AT_ONCE = 5_000


class AuditedRow(NamedTuple):
    """One row of a store, or one telling of an event in the journal."""

    place: StreamHour
    canonical: str
    number: int | None
    received_ns: int
    seq: int


Rows = dict[str, list[AuditedRow]]
"""By event id, in the order in which they were read."""


def by_id(rows: pa.Table, channel: str) -> Rows:
    """Return audited rows of one kind of event by their ids."""
    found: Rows = {}
    names = ("event_id", "venue", "market", "symbol", "event_ns")
    others = ("canonical", "venue_seq", "received_ns", "seq")
    columns = (rows[name].to_pylist() for name in (*names, *others))
    for event_id, venue, market, symbol, event_ns, canonical, *rest in zip(*columns, strict=True):
        place = StreamKey(venue, market, channel, symbol), event_ns // HOUR_NS
        found.setdefault(event_id, []).append(AuditedRow(place, canonical, *rest))
    return found


def stretches(
    stored: Mapping[int, Digest], right: Mapping[int, Digest], *, every: bool = False
) -> list[tuple[int, int]]:
    """Return from which to which minute rows are to be compared: all that do not agree.

    What lies between two of them is taken along if it is little: to ask has its price. With
    ``every``, no minute counts as agreeing.
    """
    found: list[tuple[int, int]] = []
    weight, none = 0, Digest()
    for minute in sorted(stored.keys() | right.keys()):
        one, other = stored.get(minute, none), right.get(minute, none)
        weight += (rows := max(one.count, other.count))
        if one == other and not every:
            continue
        if found and weight <= ROWS_AT_ONCE:
            found[-1] = (found[-1][0], minute)
        else:
            found.append((minute, minute))
            weight = rows
    return found


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for at in range(0, len(ordered), IDS_AT_ONCE):
        yield ordered[at : at + IDS_AT_ONCE]


class Comparison:
    """Asks a store that may be moving, and takes the journal along to the same moment."""

    def __init__(self, store: Audited, case: Case) -> None:
        self._store = store
        self._case = case
        self._journal = case.journal
        self._seq = max(case.seq, case.journal.begun)
        self._differing: set[StreamHour] = set()
        self._strangers: dict[str, Rows] = defaultdict(dict)
        """By channel, stored rows whose event the journal has nowhere near."""

    def _advance(self, position: Position | None) -> None:
        """Bring the journal to where an answer was given.

        Raises :class:`~forebay.errors.Transient` if the store went back meanwhile.
        """
        seq = position.seq if position else 1
        if seq < self._seq:
            message = "The store's cursor went back while it was audited."
            raise Transient(message, hint="Audit again once the store has been rebuilt.")
        self._seq = seq
        self._journal.advance(seq)

    def minutes(self, key: StreamKey, hour: int) -> Mapping[int, Digest]:
        answer = self._store.minutes(key, hour)
        self._advance(answer.position)
        return answer.digests

    def rows(self, key: StreamKey, minutes: tuple[int, int]) -> pa.Table:
        """Return stored rows from the first to the last of ``minutes``, both included."""
        first, last = minutes
        answer = self._store.rows(key, first * MINUTE_NS, (last + 1) * MINUTE_NS)
        self._advance(answer.position)
        return answer.rows

    def _find(self, channel: str, ids: Sequence[str]) -> Rows:
        answer = self._store.find(channel, ids)
        self._advance(answer.position)
        return by_id(answer.rows, channel)

    def run(self) -> None:
        """Find what the store has not as the journal has it."""
        tails = [place for place in self._case.differing() if self._journal.partly_recorded(place)]
        for places in self._batches(tails):
            self._count_once(places)
        wrong = [place for place in self._case.differing() if self._frames_decide(place)]
        self._differing = set(self._case.differing())
        for places in self._batches(wrong):
            self._journal.want(places)
            suspects: dict[str, set[str]] = defaultdict(set)
            for place in places:
                suspects[place[0].channel] |= self._suspects(place)
            for channel, ids in suspects.items():
                for some in _chunks(ids):
                    self._resolve(channel, some)
            self._journal.forget()
        for channel, strangers in self._strangers.items():
            self._judge_strangers(channel, strangers)

    def _frames_decide(self, place: StreamHour) -> bool:
        """Return whether frames can tell what is wrong with an hour; say so if they cannot."""
        key, hour = place
        found, record = self._case.found[key], self._journal.record
        stored, ours = self._case.digests(place)
        if not record.log_id:
            found.unproved += stored.count  # there is nothing at all
            return False
        if not self._journal.lacks(place):
            return True
        if stored.count > ours.count and not record.complete:
            found.unproved += stored.count  # the others may have been lost here
        else:
            found.unlike.append(Unlike(hour, stored, ours, self._lacking(place)))
        return False

    def _lacking(self, place: StreamHour) -> Ids:
        """Return the events of an hour without frames that coverage owes and nobody has."""
        key, hour = place
        if self._case.unit(key) != "id":
            return {}
        minutes = hour * MINUTES, (hour + 1) * MINUTES - 1
        numbers = self.rows(key, minutes)["venue_seq"].drop_null().to_pylist()
        there = IntervalSet((number, number) for number in sorted(numbers))
        owed = arrived(self._case.coverage.get(key))
        owed = owed.within(*self._case.window(key, Span(hour, hour + 1))) - there
        ids = ids_of(key, (n for first, last in owed for n in range(first, last + 1)))
        for some in _chunks(ids):
            for event_id in self._find(key.channel, some):
                del ids[event_id]  # a neighbouring hour has it
        return ids

    def _count_once(self, places: Sequence[StreamHour]) -> None:
        """Count hours without what frames behind the ledger only repeat.

        Which events the ledger has is not known any more, but a store says which frame told
        each first. If that is not so, the digests differ all the more.
        """
        begun = self._journal.begun
        self._journal.want(places, since=begun)
        for key, hour in places:
            tellings = by_id(self._up_to_account((key, hour)), key.channel)
            total = self._journal.recorded.get(key, {}).get(hour, Digest())
            for some in _chunks(tellings):
                stored = self._find(key.channel, some)
                for event_id in some:
                    if all(row.seq >= begun for row in stored.get(event_id, ())):
                        total += Digest.of_event(event_id, tellings[event_id][0].canonical)
            self._case.hours[key][hour] = total
        self._journal.forget()

    def _up_to_account(self, place: StreamHour) -> pa.Table:
        rows = self._journal.rows(place)
        return rows.filter(pc.less(rows["seq"], self._case.seq))

    def _batches(self, places: Sequence[StreamHour]) -> Iterator[list[StreamHour]]:
        batch: list[StreamHour] = []
        weight = 0
        for place in sorted(places, key=lambda place: place[1]):
            count = max(digest.count for digest in self._case.digests(place))
            if batch and weight + count > ROWS_IN_MEMORY:
                yield batch
                batch, weight = [], 0
            batch.append(place)
            weight += count
        if batch:
            yield batch

    def _suspects(self, place: StreamHour) -> set[str]:
        """Return the ids of the events that either side has in the minutes that differ."""
        key, hour = place
        stored = self.minutes(key, hour)
        right = digests_by(self._journal.rows(place), MINUTE_NS)
        # Another hour may have the first version of some: they are here, there or in both.
        firsts = digests_by(self._up_to_account(place), HOUR_NS).get(hour, Digest())
        every = firsts != self._case.digests(place)[1]
        found: set[str] = set()
        for first, last in stretches(stored, right, every=every):
            found.update(self.rows(key, (first, last))["event_id"].to_pylist())
            ours = self._journal.rows(place)
            minute = pc.divide(ours["event_ns"], MINUTE_NS)
            inside = pc.and_(pc.greater_equal(minute, first), pc.less_equal(minute, last))
            found.update(ours["event_id"].filter(inside).to_pylist())
        return found

    def _resolve(self, channel: str, ids: Sequence[str]) -> None:
        """Judge events by all rows that the store has of each, wherever they are."""
        stored = self._find(channel, ids)
        told = self._told(channel, ids)
        elsewhere = {
            row.place
            for event_id in told
            for row in stored.get(event_id, ())
            if not _is_told(row, told[event_id]) and not self._proved(row.place)
        }
        if elsewhere:
            self._journal.want(elsewhere)
            told = self._told(channel, ids)
        for event_id in ids:
            rows = stored.get(event_id, [])
            if event_id in told:
                self._judge(event_id, rows, told[event_id])
            elif rows:
                self._strangers[channel][event_id] = rows

    def _told(self, channel: str, ids: Sequence[str]) -> Rows:
        wanted = pa.array(ids, pa.string())
        tables = [self._journal.rows(p) for p in self._journal.wanted if p[0].channel == channel]
        some = [table.filter(pc.is_in(table["event_id"], wanted)) for table in tables]
        return by_id(pa.concat_tables(some), channel)

    def _proved(self, place: StreamHour) -> bool:
        """Return whether all rows of an hour are as they should be."""
        return self._case.span.touches(place[1]) and place not in self._differing

    def _judge(self, event_id: str, rows: list[AuditedRow], told: list[AuditedRow]) -> None:
        first = told[0]
        found = self._case.found[first.place[0]]
        if not rows:
            found.missing[event_id] = first.number
            return
        right = [row for row in rows if _is_told(row, told) or self._proved(row.place)]
        self._count_rows(event_id, rows, right, first)
        for row in rows:
            if row not in right and not self._journal.lacks(row.place):
                self._mutate(event_id, row, first)

    def _count_rows(
        self, event_id: str, rows: list[AuditedRow], right: list[AuditedRow], first: AuditedRow
    ) -> None:
        """Note an event that is stored more than once; digests are of different events."""
        found = self._case.found[first.place[0]]
        if len(rows) > 1 and event_id not in found.doubled:
            found.double(event_id, first.number, len(rows) - 1)
            extra = [*rows]
            extra.remove((right or rows)[0])
            for key, hour, canonical in ((*row.place, row.canonical) for row in extra):
                hours = self._case.stored.get(key, {})
                if hour in hours:
                    hours[hour] -= Digest.of_event(event_id, canonical)

    def _mutate(self, event_id: str, row: AuditedRow, right: AuditedRow) -> None:
        key = right.place[0]
        how = difference(KINDS[key.channel], row.canonical, right.canonical)
        self._case.found[key].mutate(event_id, right.number, how)

    def _judge_strangers(self, channel: str, strangers: Rows) -> None:
        """Judge rows whose event the journal has in no hour that differs."""
        mutated = {
            event_id
            for key, found in self._case.found.items()
            if key.channel == channel
            for event_id in found.mutated
        }
        for event_id, rows in strangers.items():
            if event_id in mutated:
                continue
            right = [row for row in rows if self._proved(row.place)]
            self._count_rows(event_id, rows, right, (right or rows)[0])
            for row in rows:
                found = self._case.found[row.place[0]]
                if right and row not in right:
                    self._mutate(event_id, row, right[0])
                elif right:
                    continue
                elif not self._sees(row):
                    found.unseen[event_id] = row.number
                elif self._covered(event_id, row):
                    how = "it was received with another time"
                    found.mutate(event_id, row.number, how)
                else:
                    found.spurious[event_id] = row.number

    def _sees(self, row: AuditedRow) -> bool:
        """Return whether the journal would have a row if it ever was received."""
        channel, record = self._case.channel(row.place[0]), self._journal.record
        if channel is not None and channel.identity == "content" and not record.complete:
            return False  # of equal events, which one it is depends on the frames that are lost
        return record.sees(row.received_ns)

    def _covered(self, event_id: str, row: AuditedRow) -> bool:
        """Return whether the journal had an event of this id, in an hour that is not at hand."""
        key = row.place[0]
        if self._case.unit(key) != "id" or row.number is None:
            return False
        number = row.number if event_id in ids_of(key, [row.number]) else -1
        return number in arrived(self._journal.record.coverage.get(key))


def _is_told(row: AuditedRow, told: list[AuditedRow]) -> bool:
    return any(row.canonical == version.canonical for version in told)
