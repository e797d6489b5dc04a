"""The journal's side of an audit: its account exactly up to a cursor, and rows where wanted.

What the ledger accounts for is taken from there; the frames behind it are projected. Frames
of single hours are read again when the store differs in those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import HOUR_NS, hours_of
from forebay.domain.ledger import Record
from forebay.errors import CursorBeyondEnd
from forebay.journal import LOSS_KIND, OS_DISK, JournalReader, Position
from forebay.journal.segments import list_segments
from forebay.services.accounting import PIECE_FRAMES, Accountant
from forebay.services.audit.scratch import columns_of, first_row, prepare
from forebay.services.ledger import durable_end
from forebay.services.projection import Projection, batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Self

    from forebay.clock import Clock
    from forebay.domain.ledger import Entry, Part, StreamHour
    from forebay.journal import Block
    from forebay.ports import Parser
    from forebay.services.audit.scratch import Scratch

_FRAME_OVERHEAD = 12


class JournalStage:
    """Accounts for a journal piece by piece; wanted rows rest in the scratch database."""

    def __init__(
        self,
        folder: Path,
        parsers: Mapping[str, Parser],
        scratch: Scratch,
        clock: Clock,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        prepare(scratch)
        self._folder = folder
        self._parsers = parsers
        self._scratch = scratch
        self._reader: JournalReader | None = None
        self._left: list[Block] = []
        self._progress = progress or _silent
        self._done = 0
        self._total = sum(path.stat().st_size for path in folder.glob("*.fbj"))
        self._accountant = Accountant(parsers, Record())
        self._wanted: set[StreamHour] = set()
        self.record = Record()
        self.begun = 1
        """Where the ledger's word ends."""
        self.notes: list[str] = []
        self.by_ledger: set[StreamKey] = set()
        """Streams of which the ledger has events that were not projected again."""
        self.by_frames: set[StreamKey] = set()
        self.oldest = min(list_segments(OS_DISK, folder) if folder.is_dir() else [0], default=0)
        """The first sequence number that there may be a frame of; 0: no frame at all."""
        self.end = durable_end(folder, clock)
        """Where the journal ended when the audit began."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def use(self, ledger: Iterable[Entry], seq: int) -> bool:
        """Take the ledger's word for what lies before ``seq``; False if it is another journal's."""
        record = Record()
        used = [entry for entry in ledger if entry.end <= seq]
        for entry in used:
            record.add(entry)
        if not used:
            return True
        if self.oldest:
            try:
                self._reader = JournalReader(
                    self._folder, start=Position(record.log_id, record.end)
                )
            except CursorBeyondEnd:
                return False
        self.record, self.begun = record, record.end
        self._accountant = Accountant(self._parsers, record)
        self.by_ledger = {key for key, hours in record.hours.items() if hours}
        for entry in used:
            self._bury(entry)
        if record.end < self.oldest:
            self.notes.append(
                f"The ledger ends at {record.end} and the journal begins at {self.oldest}: "
                "what lies between is in neither."
            )
        return True

    @property
    def seq(self) -> int:
        """The sequence number up to which everything is accounted for."""
        return self.record.end

    def letters(self) -> int:
        """How many different dead letters there are."""
        found = self._scratch.query("SELECT count(DISTINCT letter_id) AS letters FROM letters")
        count = first_row(found)["letters"]
        return count if isinstance(count, int) else 0

    def advance(self, seq: int) -> bool:
        """Account for everything before ``seq``; False if the journal ends earlier."""
        while self.seq < seq:
            blocks = list(self._before(seq))
            if not blocks and self._left:
                break  # the cursor is where nothing was ever written
            if not blocks:
                return False
            self._account(blocks)
        self._progress(self._total, self._total)
        return True

    # ------------------------------------------------------------- reading

    def _before(self, seq: int) -> Iterator[Block]:
        """The next blocks, cut at ``seq``; what is beyond is kept for the next time."""
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
        entry = self._accountant.account(blocks, keep=self._keep)
        self.record.add(entry)
        self.by_frames.update(stream.key for stream in entry.streams if stream.hours)
        self._bury(entry)
        for block in blocks:
            self._done += len(block.payloads.data) + _FRAME_OVERHEAD * len(block.payloads)
        self._progress(min(self._done, self._total), self._total)

    def _bury(self, entry: Entry) -> None:
        if entry.letters:
            ids = pa.array([bytes.fromhex(letter) for letter in entry.letters], pa.binary(16))
            column = pa.ExtensionArray.from_storage(pa.uuid(), ids)
            self._scratch.insert("letters", pa.table({"letter_id": column}))

    # ------------------------------------------------- rows of single hours

    def lacks(self, hour: StreamHour) -> bool:
        """Whether frames with events of this hour are gone, though the ledger has the digest."""
        parts = self.record.parts.get(hour, [])
        return any(not self.oldest or part.first < self.oldest for part in parts)

    def want(self, hours: Iterable[StreamHour]) -> None:
        """Put the rows of ``hours``, all versions of them, into the scratch database.

        Rows of them that are accounted for later go there as well.
        """
        new = set(hours) - self._wanted
        parts = {part for hour in new for part in self.record.parts.get(hour, ())}
        for part in sorted(parts):
            self._read_again(part, new)
        self._wanted |= new

    def _read_again(self, part: Part, hours: set[StreamHour]) -> None:
        if not self.oldest or part.end <= self.oldest:
            return
        projection = Projection(self._parsers, {})
        with JournalReader(self._folder, start=Position(part.log_id, part.first)) as reader:
            while (seq := reader.position.seq) < part.end:
                blocks = reader.read(max_frames=min(PIECE_FRAMES, part.end - seq))
                if not blocks:
                    break
                rows = projection.project(batches_of(blocks)).trade_rows()
                if rows is not None:
                    self._insert(rows, hours)

    def _keep(self, rows: pa.Table) -> None:
        if self._wanted:
            self._insert(rows, self._wanted)

    def _insert(self, rows: pa.Table, hours: set[StreamHour]) -> None:
        found = [
            rows.filter(_of(rows, key, hour))
            for key, hour in hours.intersection(
                (StreamKey(venue, "trade", symbol), hour) for venue, symbol, hour in hours_of(rows)
            )
        ]
        if found:
            self._scratch.insert("trades", columns_of(pa.concat_tables(found)))


def _of(rows: pa.Table, key: StreamKey, hour: int) -> pa.Array:
    """Which of ``rows`` are of one stream and hour."""
    ns = rows.column("event_ts").cast(pa.int64())
    inside = pc.and_(pc.greater_equal(ns, hour * HOUR_NS), pc.less(ns, (hour + 1) * HOUR_NS))
    mine = pc.and_(
        pc.equal(rows.column("venue"), key.venue), pc.equal(rows.column("symbol"), key.symbol)
    )
    return pc.and_(inside, mine)


def _silent(done: int, total: int) -> None:
    del done, total
