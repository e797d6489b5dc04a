"""From what is projected to the ledger's entries: counted and digested, never parsed again."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from forebay.domain.digest import (
    HOUR_NS,
    Digest,
    StreamHour,
    digests_by_hour,
    first_of_each_id,
    hours_of,
    id_bytes,
)
from forebay.domain.frames import Loss, decode_control
from forebay.domain.kinds import EventKind, kind_of_table
from forebay.domain.ledger import Covered, Hour, LedgerState, LostRange, SegmentEntry, StreamEntry
from forebay.domain.roll import Roll
from forebay.journal import LOSS_KIND, NO_LOG, Block, Position
from forebay.services.projection import Projected, Projection, batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy.typing as npt

    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.ports import Events, Parser

    Mask = npt.NDArray[np.bool_]

FirstTold: TypeAlias = "Callable[[str, pa.Table], Mask]"
"""Which rows of a table are the first of their event; asked where coverage cannot tell."""
PIECE_FRAMES = 65536
"""Frames projected at once, which bounds the memory that an entry takes to make."""
OUTCOMES = ("yielding", "control", "dead")
"""How a frame ends; see :class:`~forebay.services.projection.Projected`."""


@dataclass(slots=True)
class Sums:
    """What becomes an entry."""

    log_id: str = NO_LOG
    first: int = 0
    end: int = 0
    received: tuple[int, int, int] | None = None
    frames: Counter[str] = field(default_factory=Counter)
    letters: set[str] = field(default_factory=set)
    lost: list[LostRange] = field(default_factory=list)
    hours: dict[StreamKey, dict[int, Digest]] = field(default_factory=dict)
    coverage: dict[StreamKey, Coverage] = field(default_factory=dict)
    ordinals: dict[StreamKey, bytes] = field(default_factory=dict)
    roll: Roll = field(default_factory=Roll)

    def add(
        self, blocks: Iterable[Block], projected: Projected, firsts: Mapping[str, Mask]
    ) -> None:
        """Add consecutive frames and what was made of them; ``firsts`` tells what is new."""
        for block in blocks:
            self._see(block)
        for table, events in projected.events.items():
            self._digest(kind_of_table(table), events.rows, firsts[table])
        if (letters := projected.letters) is not None:
            self.letters.update(letter.hex for letter in letters.column("letter_id").to_pylist())
        self.frames.update(projected.frames)
        self.coverage |= projected.coverage
        self.roll.add(projected.roll.asked.values(), projected.roll.written())
        self.ordinals |= {key: each.encode() for key, each in projected.ordinals.items()}

    def lose(self, first: int, last: int) -> None:
        """Note that ``first`` to ``last`` cannot be read; nothing if that is no range."""
        if first <= last:
            self.lost.append(LostRange(first, last, self.received[1] if self.received else None))

    def entry(self) -> SegmentEntry:
        keys = self.hours.keys() | self.coverage.keys() | self.ordinals.keys()
        streams = [
            StreamEntry(
                *key,
                [Hour.of(*each) for each in sorted(self.hours.get(key, {}).items())],
                Covered.of(self.coverage[key]) if key in self.coverage else None,
                self.ordinals[key].hex() if key in self.ordinals else None,
            )
            for key in sorted(keys)
        ]
        return SegmentEntry(
            log_id=self.log_id,
            first=self.first,
            end=self.end,
            received=self.received,
            frames={kind: self.frames[kind] for kind in OUTCOMES},
            letters=sorted(self.letters),
            lost=self.lost,
            streams=streams,
            asked=list(self.roll.asked.values()),
            answered=self.roll.written(),
        )

    def _see(self, block: Block) -> None:
        """Note where a block is, when it was received, and whether it says that frames are lost."""
        if not self.first:
            self.first = self.end = block.first_seq
        if block.kind == LOSS_KIND:
            self.lose(*_loss(block))
        else:
            self.lose(self.end, block.first_seq - 1)
            self._receive(block.received_ns)
        self.log_id, self.end = block.log_id, block.next_seq

    def _receive(self, times: npt.NDArray[np.int64]) -> None:
        if not len(times):
            return
        first, last, earliest = int(times[0]), int(times[-1]), int(times.min())
        self.lost = [
            msgspec.structs.replace(lost, before_ns=first) if lost.before_ns is None else lost
            for lost in self.lost
        ]
        begun, _, least = self.received or (first, last, earliest)
        self.received = (begun, last, min(least, earliest))

    def _digest(self, kind: EventKind, rows: pa.Table, first: Mask) -> None:
        """Add digests of new events, and empty ones of hours that have repeated ones."""
        new = rows if first.all() else rows.filter(pa.array(first))
        self._sum(digests_by_hour(new, kind))
        if len(new) < len(rows):
            repeated = rows.filter(pa.array(~first))
            self._sum(dict.fromkeys(hours_of(repeated, kind), Digest()))

    def _sum(self, hours: Mapping[StreamHour, Digest]) -> None:
        for (key, hour), digest in hours.items():
            sums = self.hours.setdefault(key, {})
            sums[hour] = sums.get(hour, Digest()) + digest


class LiveSums:
    """The sums of what is being delivered, until the ledger takes them.

    Delivery adds to them in its thread, housekeeping cuts entries off them in another. What was
    added and not cut is lost with the process: the ledger makes it up from the frames.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = Sums()
        self._cut: SegmentEntry | None = None
        self._counts = True

    def begin(self, position: Position | None) -> None:
        """Delivery begins at ``position``; None: at the first frame that there is."""
        with self._lock:
            if position is not None and self._counts:
                self._sums = Sums(position.log_id, position.seq, position.seq)

    def stop(self) -> None:
        """Delivery does not go on where it was: from here on the frames must tell."""
        with self._lock:
            self._sums, self._cut, self._counts = Sums(), None, False

    def add(
        self,
        blocks: Iterable[Block],
        projected: Projected,
        firsts: Mapping[str, Mask],
    ) -> None:
        """Add what was stored; see :meth:`Sums.add`."""
        with self._lock:
            if self._counts:
                self._sums.add(blocks, projected, firsts)

    @property
    def begins(self) -> int | None:
        """From which sequence number on everything is in the sums; None: nothing is."""
        with self._lock:
            return (self._cut.first if self._cut else self._sums.first) or None

    def cut(self) -> SegmentEntry | None:
        """Return the entry of what was added, if anything was; the same until :meth:`written`."""
        with self._lock:
            if self._cut is None and self._sums.end > self._sums.first:
                self._cut = self._sums.entry()
                self._sums = Sums(self._cut.log_id, self._cut.end, self._cut.end)
            return self._cut

    def written(self) -> None:
        """The entry that was cut is in the ledger."""
        with self._lock:
            self._cut = None


class _Ids:
    """A set of event ids in sorted parts, each at least twice the next: 16 bytes an id."""

    def __init__(self) -> None:
        self._parts: list[npt.NDArray[np.bytes_]] = []

    def add(self, ids: npt.NDArray[np.bytes_]) -> Mask:
        """Add ``ids``, at least one, and return which of them were members; shape (n,)."""
        known = np.zeros(len(ids), dtype=np.bool_)
        for part in self._parts:
            known |= part[np.minimum(np.searchsorted(part, ids), len(part) - 1)] == ids
        if not known.all():
            self._parts.append(np.unique(ids[~known]))
        while len(self._parts) > 1 and len(self._parts[-2]) < 2 * len(self._parts[-1]):
            self._parts[-2:] = [np.sort(np.concatenate(self._parts[-2:]))]
        return known


class Remembered:
    """Remembers the ids that were told.

    Those of content and of observations hold their time, so that an hour can be looked at alone. A
    venue's own id may be received again at any time.
    """

    def __init__(self, parsers: Mapping[str, Parser]) -> None:
        self._own = {
            (venue, kind)
            for venue, parser in parsers.items()
            for kind, channel in parser.channels.items()
            if channel.identity in ("native", "session")
        }
        self._told: dict[tuple[str, int | None], _Ids] = {}

    def __call__(self, table: str, rows: pa.Table) -> Mask:
        """Return which rows are the first that told their event; shape (n,)."""
        kind = kind_of_table(table).channel
        ids = np.frombuffer(id_bytes(rows), "S16")
        hours = rows["event_ts"].cast(pa.int64()).to_numpy() // HOUR_NS
        own = np.array([(venue, kind) in self._own for venue in rows["venue"].to_pylist()])
        first: Mask = first_of_each_id(rows) == np.arange(len(rows))
        for hour in [*np.unique(hours[~own]).tolist(), *([None] if own.any() else [])]:
            where = np.flatnonzero(own if hour is None else ~own & (hours == hour))
            first[where] &= ~self._told.setdefault((table, hour), _Ids()).add(ids[where])
        return first


class LedgerBuilder:
    """Makes entries from frames, each on top of the coverage after the one before."""

    def __init__(
        self, parsers: Mapping[str, Parser], record: LedgerState, first_told: FirstTold
    ) -> None:
        """Go on after ``record``, which stays as it is."""
        self._projection = Projection(parsers, record.coverage, record.ordinals)
        self._first_told = first_told

    def account(
        self,
        blocks: Iterable[Block],
        end: Position | None = None,
        keep: Callable[[Projected], None] | None = None,
    ) -> SegmentEntry:
        """Return the entry of consecutive frames; there must be some, or an ``end``.

        What is lacking up to ``end`` is lost. ``keep`` is given what is projected piece by piece.
        """
        sums = Sums()
        for piece in _pieces(blocks):
            projected = self._projection.project(batches_of(piece))
            tables = projected.events
            firsts = {
                table: first_rows(table, events, self._first_told)
                for table, events in tables.items()
            }
            sums.add(piece, projected, firsts)
            self._projection.adopt(projected)
            if keep is not None:
                keep(projected)
        if end is not None:
            sums.first = sums.first or end.seq
            sums.lose(sums.end or end.seq, end.seq - 1)
            sums.log_id, sums.end = end.log_id, end.seq
        return sums.entry()


def first_rows(table: str, events: Events, first_told: FirstTold) -> Mask:
    """Return which rows are the first of their event: coverage's word, else who remembers.

    Of two connections that told a new event, coverage may have met the later one first.
    """
    new = events.vouched_new
    asked = ~new & ~events.seen_before
    if asked.any():
        new = new.copy()
        rows = events.rows.filter(pa.array(asked))
        new[asked] = first_told(table, rows)
    first: Mask = np.zeros(len(new), dtype=np.bool_)
    first[first_of_each_id(events.rows)[new]] = True
    return first


def _loss(block: Block) -> tuple[int, int]:
    try:
        control = decode_control(block.payloads[0])
    except msgspec.DecodeError:
        control = None
    if isinstance(control, Loss):
        return control.first, control.last
    return block.first_seq, block.next_seq - 1


def _pieces(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Return blocks in groups of at most :data:`PIECE_FRAMES`, unless one alone has more."""
    piece: list[Block] = []
    frames = 0
    for block in blocks:
        if piece and frames + len(block.payloads) > PIECE_FRAMES:
            yield piece
            piece, frames = [], 0
        piece.append(block)
        frames += len(block.payloads)
    if piece:
        yield piece
