"""The journal's side of an audit: its account exactly up to a position, and rows where wanted.

What the ledger accounts for is taken from there; the frames behind it are projected. Frames
of single hours are read again when the store differs in those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.digest import HOUR_NS, Digest, StreamHour, audited_rows, hours_of
from forebay.domain.kinds import kind_of_table
from forebay.domain.ledger import JournalRange, LedgerState, SegmentEntry, record_of
from forebay.errors import CursorBeyondEnd, Transient
from forebay.journal import LOSS_KIND, OS_DISK, Block, JournalReader, Position
from forebay.journal.segments import list_segments
from forebay.ports import AUDIT_COLUMNS, AUDIT_TEXTS, Parser
from forebay.services.ledger import durable_end
from forebay.services.ledger_builder import PIECE_FRAMES, LedgerBuilder, Remembered
from forebay.services.projection import Projected, Projection, batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.domain.coverage import StreamKey

_FRAME_OVERHEAD = 12
_NO_ROWS = pa.schema(
    [(name, pa.string() if name in AUDIT_TEXTS else pa.int64()) for name in AUDIT_COLUMNS]
).empty_table()


class JournalStage:
    """Accounts for a journal piece by piece, and keeps the rows of the hours that are wanted."""

    def __init__(
        self,
        folder: Path,
        parsers: Mapping[str, Parser],
        clock: Clock,
        progress: Callable[[int, int], object],
    ) -> None:
        self._folder = folder
        self._parsers = parsers
        self._reader: JournalReader | None = None
        self._left: list[Block] = []
        self._progress = progress
        self._done = 0
        self._total = sum(path.stat().st_size for path in folder.glob("*.fbj"))
        self._accountant = LedgerBuilder(parsers, LedgerState(), Remembered(parsers))
        self._kept: dict[StreamHour, list[pa.Table]] = {}
        self.record = LedgerState()
        self.begun = 1
        """Where the ledger's word ends."""
        self.recorded: dict[StreamKey, dict[int, Digest]] = {}
        """Digests that are the ledger's word."""
        self.notes: list[str] = []
        self.letters: set[str] = set()
        """Ids of dead letters."""
        self.by_frames: set[StreamKey] = set()
        """Streams of which frames were projected."""
        self.oldest = self._oldest()
        """The first sequence number that there may be a frame of; 0: no frame at all."""
        self.end = durable_end(folder, clock)
        """Where the journal ended when the audit began."""

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _oldest(self) -> int:
        return min(list_segments(OS_DISK, self._folder), default=0) if self._folder.is_dir() else 0

    def use(self, ledger: Iterable[SegmentEntry], seq: int) -> bool:
        """Take the ledger's word for what lies before ``seq``; False if it is another journal's."""
        used = [entry for entry in ledger if entry.end <= seq]
        record = record_of(used)
        if not used:
            return True
        if self.oldest:
            start = Position(record.log_id, record.end)
            try:
                self._reader = JournalReader(self._folder, start=start)
            except CursorBeyondEnd:
                return False
        self.record, self.begun = record, record.end
        self.recorded = {key: dict(hours) for key, hours in record.hours.items() if hours}
        self._accountant = LedgerBuilder(self._parsers, record, Remembered(self._parsers))
        self.letters.update(letter for entry in used for letter in entry.letters)
        if record.end < self.oldest:
            self.notes.append(
                f"The ledger ends at {record.end} and the journal begins at {self.oldest}: "
                "what lies between is in neither."
            )
        return True

    def advance(self, seq: int) -> bool:
        """Account for everything before ``seq``; return False if the journal ends earlier."""
        while self.record.end < seq:
            blocks = list(self._before(seq))
            if not blocks and self._left:
                break  # the position is where nothing was ever written
            if not blocks:
                return False
            self._account(blocks)
        self._progress(self._total, self._total)
        return True

    def _before(self, seq: int) -> Iterator[Block]:
        """Return the next blocks, cut at ``seq``; what is beyond is kept for the next time."""
        blocks = self._left or self._read()
        self._left = []
        for block in blocks:
            if block.next_seq <= seq or (block.kind == LOSS_KIND and block.first_seq < seq):
                yield block
            elif block.first_seq >= seq:
                self._left.append(block)
            else:
                middle = seq - block.first_seq
                yield block.part(0, middle)
                self._left.append(block.part(middle, len(block.payloads)))

    def _read(self) -> list[Block]:
        if not self.oldest:
            return []
        if self._reader is None:
            self._reader = JournalReader(self._folder)
        return self._reader.read()

    def _account(self, blocks: list[Block]) -> None:
        wanted = self._kept.keys()
        entry = self._accountant.account(blocks, keep=lambda made: self._keep(made, wanted))
        self.record.add(entry)
        self.by_frames.update(stream.key for stream in entry.streams if stream.hours)
        self.letters.update(entry.letters)
        for block in blocks:
            self._done += len(block.payloads.data) + _FRAME_OVERHEAD * len(block.payloads)
        self._progress(min(self._done, self._total), self._total)

    def lacks(self, hour: StreamHour) -> bool:
        """Return whether frames with events of an hour are gone that the ledger speaks of."""
        parts = self.record.parts.get(hour, [])
        return any(not self.oldest or part.first < self.oldest for part in parts)

    def partly_recorded(self, hour: StreamHour) -> bool:
        """Return whether the ledger has one part of an hour, and frames behind it another."""
        parts = self.record.parts.get(hour, [])
        return len({part.first < self.begun for part in parts}) > 1

    def want(self, hours: Iterable[StreamHour], *, since: int = 0) -> None:
        """Keep all versions of the rows of ``hours``, also to come, of parts from ``since`` on."""
        new = set(hours) - self._kept.keys()
        self._kept.update((hour, []) for hour in new)
        found = {part for hour in new for part in self.record.parts.get(hour, ())}
        parts = sorted(part for part in found if part.first >= max(since, self.oldest))
        for part in parts:
            self._read_again(part, new)
        if parts and self._oldest() > parts[0].first:
            message = "Frames were retired while they were read again."
            raise Transient(message, hint="Audit once more: the ledger has them now.")

    def rows(self, hour: StreamHour) -> pa.Table:
        """Return the rows of a wanted hour in journal order, with :data:`AUDIT_COLUMNS`."""
        return pa.concat_tables([_NO_ROWS, *self._kept.get(hour, ())])

    @property
    def wanted(self) -> list[StreamHour]:
        return list(self._kept)

    def forget(self) -> None:
        self._kept.clear()

    def _read_again(self, part: JournalRange, hours: set[StreamHour]) -> None:
        ordinals = self.record.ordinals_before.get(part, {})
        projection = Projection(self._parsers, {}, ordinals)
        with JournalReader(self._folder, start=Position(part.log_id, part.first)) as reader:
            while (seq := reader.position.seq) < part.end:
                blocks = reader.read(max_frames=min(PIECE_FRAMES, part.end - seq))
                if not blocks:
                    break
                projected = projection.project(batches_of(blocks))
                projection.adopt(projected)
                self._keep(projected, hours)

    def _keep(self, projected: Projected, wanted: Iterable[StreamHour]) -> None:
        if not wanted:
            return
        for table, events in projected.events.items():
            kind = kind_of_table(table)
            for hour in set(hours_of(events.rows, kind)).intersection(wanted):
                rows = events.rows.filter(_of(events.rows, *hour))
                self._kept[hour].append(audited_rows(rows, kind))


def _of(rows: pa.Table, key: StreamKey, hour: int) -> pa.Array:
    ns = rows["event_ts"].cast(pa.int64())
    mask = pc.and_(pc.greater_equal(ns, hour * HOUR_NS), pc.less(ns, (hour + 1) * HOUR_NS))
    for name in ("venue", "market", "symbol"):
        mask = pc.and_(mask, pc.equal(rows[name], getattr(key, name)))
    return mask
