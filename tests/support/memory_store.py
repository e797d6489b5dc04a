"""A store in memory: for tests, and as the plainest statement of what a store does."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.coverage import Gap, StreamKey
from forebay.domain.digest import HOUR_NS, MINUTE_NS, Digest, audited_rows, digests_by
from forebay.domain.kinds import KINDS, kind_of_table
from forebay.ports import (
    Audited,
    Commit,
    Committed,
    HourAccount,
    Minutes,
    Rows,
    Store,
    StoreAccount,
    StoreState,
)
from forebay.stores.cursors import has_happened
from forebay.stores.rows import AMBIGUOUS, coverage_rows, gap_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from forebay.domain.coverage import Coverage
    from forebay.domain.kinds import EventKind
    from forebay.journal import Position
    from forebay.ports import Span

Row = dict[str, object]


class MemoryStore(Store):
    """A :class:`~forebay.ports.Store` as dictionaries."""

    def __init__(self) -> None:
        """Start empty."""
        self._events: dict[str, dict[object, Row]] = defaultdict(dict)
        """By table and event id."""
        self._letters: dict[object, Row] = {}
        self._letter_states: dict[tuple[object, ...], Row] = {}
        self._conflicts: dict[tuple[object, str], Row] = {}
        self._positions: dict[str, Position] = {}
        self._coverage: dict[StreamKey, Coverage] = {}
        self._ordinals: dict[StreamKey, bytes] = {}

    def load(self) -> StoreState:
        """See :meth:`forebay.ports.Store.load`."""
        streams = {key: stream.copy() for key, stream in self._coverage.items()}
        return StoreState(dict(self._positions), streams, dict(self._ordinals))

    def commit(self, commit: Commit) -> Committed:
        """See :meth:`forebay.ports.Store.commit`."""
        first, conflicts = {}, 0
        happened = has_happened(commit, self._positions)
        for name, events in commit.events.items():
            first[name] = np.zeros(len(events.rows), dtype=np.bool_)
            told: set[object] = set()
            for index, row in enumerate(_plain(events.rows)):
                stored = self._events[name].setdefault(row["event_id"], row)
                stored["flags"] = merged_flags(str(stored["flags"]), str(row["flags"]))
                first[name][index] = row["event_id"] not in told and _same_frame(stored, row)
                told.add(row["event_id"])
                conflicts += self._compare(kind_of_table(name), stored, row)
        letters = self._bury(commit, happened=happened)
        if happened:
            return Committed(first, conflicts, letters)
        for row in _plain(commit.letter_states) if commit.letter_states is not None else ():
            key = tuple(row[name] for name in ("letter_id", "state", "run"))
            self._letter_states.setdefault(key, row)
        self._coverage |= {key: stream.copy() for key, stream in commit.coverage.items()}
        self._ordinals |= commit.ordinals
        self._positions |= commit.positions
        return Committed(first, conflicts, letters)

    def _bury(self, commit: Commit, *, happened: bool) -> dict[tuple[str, str], int]:
        """Keep dead letters that are not there yet; return those of these frames.

        By venue and reason.
        """
        found: dict[tuple[str, str], int] = {}
        seen: set[object] = set()
        for row in [] if commit.dead_letters is None else _plain(commit.dead_letters):
            letter, sort = row["letter_id"], (str(row["venue"]), str(row["reason"]))
            if not happened:
                self._letters.setdefault(letter, row)
            if letter not in seen and _same_frame(self._letters[letter], row):
                found[sort] = found.get(sort, 0) + 1
                seen.add(letter)
        return found

    def first_told(self, table: str, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """See :meth:`forebay.ports.Store.first_told`."""
        told: set[object] = set()
        first = np.zeros(len(rows), dtype=np.bool_)
        for index, row in enumerate(_plain(rows)):
            stored = self._events[table].get(row["event_id"])
            known = stored is not None and _same_frame(stored, row)
            first[index] = known and row["event_id"] not in told
            told.add(row["event_id"])
        return first

    def _compare(self, kind: EventKind, stored: Row, row: Row) -> int:
        """Keep what is told differently under a known id; return 1 if it is, else 0."""
        ours, theirs = ([str(each[name]) for name in kind.content] for each in (stored, row))
        if ours == theirs:
            return 0
        conflict: Row = {
            "event_id": row["event_id"],
            "table": kind.table,
            "received_ts": row["received_ts"],
            "stored": "|".join(ours),
            "incoming": "|".join(theirs),
        }
        self._conflicts.setdefault((row["event_id"], "|".join(theirs)), conflict)
        return 1

    def table(self, name: str) -> pa.Table:
        """Return all rows of a table."""
        if name == "coverage":
            return coverage_rows(self._coverage)
        if name == "gaps":
            return gap_rows(self._coverage)
        if name in {kind.table for kind in KINDS.values()}:
            return self.events(kind_of_table(name), lambda _row: True)
        if name == "dead_letters":
            rows = [_storable(row) for row in self._letters.values()]
            return pa.Table.from_pylist(rows, schema=schema.DEAD_LETTERS)
        if name == "letter_states":
            rows = [_storable(row) for row in self._letter_states.values()]
            return pa.Table.from_pylist(rows, schema=schema.LETTER_STATES)
        plain: dict[str, list[Row]] = {
            "conflicts": copy.deepcopy(list(self._conflicts.values())),
            "cursors": [
                {"consumer": consumer, "log_id": position.log_id, "seq": position.seq}
                for consumer, position in self._positions.items()
            ],
        }
        return pa.Table.from_pylist(plain[name])

    def events(self, kind: EventKind, wanted: Callable[[Row], bool]) -> pa.Table:
        """Return the events of a kind that are ``wanted``; its rows have times as integers."""
        rows = [_storable(row) for row in self._events[kind.table].values() if wanted(row)]
        return pa.Table.from_pylist(rows, schema=kind.schema)

    def close(self) -> None:
        """Nothing to release."""


class MemoryAudited(Audited):
    """The :class:`~forebay.ports.Audited` of a store in memory, for one consumer."""

    def __init__(self, store: MemoryStore, consumer: str = "store") -> None:
        self._store = store
        self._consumer = consumer

    def account(self, span: Span) -> StoreAccount:
        """See :meth:`forebay.ports.Audited.account`."""
        state = self._store.load()
        hours: dict[tuple[StreamKey, int], HourAccount] = {}
        ambiguous = 0
        for kind in KINDS.values():
            table = self._store.table(kind.table)
            ambiguous += sum(AMBIGUOUS in text.split(",") for text in table["flags"].to_pylist())
            rows = audited_rows(table, kind)
            names = "event_id", "canonical", "event_ns", "venue_seq", "venue", "market", "symbol"
            columns = (rows[name].to_pylist() for name in names)
            for event_id, text, ns, number, venue, market, symbol in zip(*columns, strict=True):
                key = StreamKey(venue, market, kind.channel, symbol), ns // HOUR_NS
                digest = Digest.of_event(event_id, text) if span.touches(key[1]) else None
                one = HourAccount(digest, 1, ns, ns, number, number)
                hours[key] = _both(hours[key], one) if key in hours else one
        letters = set(self._store.table("dead_letters")["letter_id"].to_pylist())
        replayed, discarded = self._settled()
        return StoreAccount(
            position=state.positions.get(self._consumer),
            hours=hours,
            coverage=state.coverage,
            gaps=stored_gaps(self._store),
            letters=len(letters),
            replayed=len(letters & replayed),
            discarded=len(letters & discarded - replayed),
            conflicts=len(self._store.table("conflicts")),
            ambiguous=ambiguous,
        )

    def _settled(self) -> tuple[set[object], set[object]]:
        """Return the letters that were replayed well, and those that somebody gave up."""
        told: dict[str, set[tuple[object, object]]] = {}
        for row in self._store.table("letter_states").to_pylist():
            told.setdefault(row["state"], set()).add((row["letter_id"], row["run"]))
        well = told.get("replayed", set()) - told.get("failed", set())
        return {letter for letter, _ in well}, {each for each, _ in told.get("discarded", set())}

    def minutes(self, stream: StreamKey, hour: int) -> Minutes:
        """See :meth:`forebay.ports.Audited.minutes`."""
        rows = self.rows(stream, hour * HOUR_NS, (hour + 1) * HOUR_NS).rows
        return Minutes(self._position(), digests_by(rows, MINUTE_NS))

    def rows(self, stream: StreamKey, begin_ns: int, end_ns: int) -> Rows:
        """See :meth:`forebay.ports.Audited.rows`."""

        def wanted(row: Row) -> bool:
            theirs = row["venue"], row["market"], stream.channel, row["symbol"]
            return theirs == stream and begin_ns <= int(str(row["event_ts"])) < end_ns

        kind = KINDS[stream.channel]
        return Rows(self._position(), audited_rows(self._store.events(kind, wanted), kind))

    def find(self, channel: str, ids: Sequence[str]) -> Rows:
        """See :meth:`forebay.ports.Audited.find`."""
        kind, asked = KINDS[channel], set(ids)
        found = self._store.events(kind, lambda row: str(row["event_id"]) in asked)
        return Rows(self._position(), audited_rows(found, kind))

    def _position(self) -> Position | None:
        return self._store.load().positions.get(self._consumer)


class Tabled(Protocol):
    """A store that shows its tables."""

    def table(self, name: str) -> pa.Table: ...


def stored_gaps(store: Tabled) -> list[Gap]:
    """All gaps as of the last commit."""
    return sorted(Gap(**row) for row in store.table("gaps").to_pylist())


def _both(one: HourAccount, other: HourAccount) -> HourAccount:
    ends = one.first_number, one.last_number, other.first_number
    numbers = [end for end in ends if end is not None]
    return HourAccount(
        one.digest + other.digest if one.digest and other.digest else None,
        one.events + other.events,
        min(one.first_ns, other.first_ns),
        max(one.last_ns, other.last_ns),
        min(numbers, default=None),
        max(numbers, default=None),
    )


def merged_flags(stored: str, told: str) -> str:
    """Return the flags of a stored row of which the same event is received again.

    They stay, but it is ``ambiguous`` if any telling is; that flag is the last by name.
    """
    ambiguous = AMBIGUOUS in told.split(",") and AMBIGUOUS not in stored.split(",")
    return ",".join(filter(None, (stored, AMBIGUOUS))) if ambiguous else stored


def _same_frame(stored: Row, row: Row) -> bool:
    return (stored["log_id"], stored["seq"]) == (row["log_id"], row["seq"])


def _plain(rows: pa.Table) -> list[Row]:
    """Return rows as dictionaries; times as integers, since Python's own have no nanoseconds."""
    plain: list[Row] = rows.cast(pa.schema(map(_plainly, rows.schema))).to_pylist()
    return plain


def _plainly(field: pa.Field) -> pa.Field:
    if field.type == schema.TIME:
        return field.with_type(pa.int64())
    return field.with_type(pa.string()) if field.type == schema.LABEL else field


def _storable(row: Row) -> Row:
    """Return a row as Arrow takes it: it reads UUIDs back as objects but takes them as bytes."""
    return {name: getattr(value, "bytes", value) for name, value in row.items()}
