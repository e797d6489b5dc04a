"""The journal as a publisher tells it, stretch by stretch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.intervals import IntervalSet
from forebay.domain.ledger import record_of
from forebay.errors import CursorBeyondEnd
from forebay.journal import LOSS_KIND, OS_DISK, Block, JournalReader, Position
from forebay.journal.segments import list_segments
from forebay.services.batches import batches_of
from forebay.services.lanes import parts_of
from forebay.services.ledger import read_ledger
from forebay.services.normalise import OrdinalAssigner
from forebay.services.projection import declared
from forebay.services.publisher import BITE
from forebay.services.readback.tellings import STRETCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.domain.coverage import StreamKey
    from forebay.ports import Parser
    from forebay.services.lanes import Part
    from forebay.services.publisher import LaneTold


class JournalPart(NamedTuple):
    """Frames of one stretch, or some of them, as they are to be told."""

    begin: int
    end: int
    parts: list[Part]

    @property
    def stretch(self) -> int:
        return self.begin // STRETCH


class _Start(NamedTuple):
    position: Position | None
    ordinals: Mapping[StreamKey, bytes]


class JournalTellings:
    """Reads a journal, as often as it is asked."""

    def __init__(
        self,
        folder: Path,
        parsers: Mapping[str, Parser],
        log_id: str,
        lanes: Mapping[str, LaneTold],
        *,
        ledger: Path | None,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._parsers = parsers
        self._channels = declared(parsers)
        self._log_id = log_id
        self._lanes: dict[str, list[str]] = {}
        for lane, told in lanes.items():
            self._lanes.setdefault(told.topic, []).append(lane)
        self._ledger = ledger
        self._clock = clock
        self.read = IntervalSet()
        """Frames that it has."""
        segments = list_segments(OS_DISK, folder) if folder.is_dir() else ()
        self.oldest = min(segments, default=0)
        """The first frame that there may be; 0: there is none."""

    def parts(self, begin: int, end: int) -> Iterator[JournalPart]:
        """Return what frames from ``begin`` up to ``end`` amount to; perhaps some before, too.

        Nothing if the journal is another one than was published.
        """
        start = self._start(begin)
        assigner = OrdinalAssigner(start.ordinals)
        try:
            reader = JournalReader(self._folder, start=start.position)
        except CursorBeyondEnd:
            return
        try:
            while reader.position.seq < end and (blocks := reader.read(max_bytes=BITE)):
                if blocks[0].log_id != self._log_id:
                    return
                for piece in _stretches(blocks, end):
                    self._note(piece)
                    changed = assigner.changed()
                    items = [*assigner.normalised(batches_of(piece), self._parsers, changed)]
                    assigner.adopt(changed)
                    told = (parts_of(item, self._channels, self._lanes_of) for item in items)
                    parts = [part for of_item in told for part in of_item]
                    yield JournalPart(piece[0].first_seq, piece[-1].next_seq, parts)
        finally:
            reader.close()

    def _note(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if block.kind != LOSS_KIND and block.first_seq < block.next_seq:
                self.read.add(block.first_seq, block.next_seq - 1)

    def _lanes_of(self, topic: str) -> Sequence[str]:
        return self._lanes.get(topic) or [f"{topic} that was told nothing"]

    def _start(self, begin: int) -> _Start:
        """Return where to begin: ids depend on what was told before, which the ledger knows."""
        entries = read_ledger(self._ledger, self._clock) if self._ledger else []
        before = [entry for entry in entries if entry.end <= max(begin, self.oldest)]
        record = record_of(before)
        if record.log_id != self._log_id or record.end < self.oldest:
            return _Start(Position(self._log_id, max(self.oldest, 1)), {})
        return _Start(Position(record.log_id, record.end), record.ordinals)


def _stretches(blocks: Sequence[Block], end: int) -> Iterator[list[Block]]:
    """Return blocks cut where stretches end, and at ``end``."""
    piece: list[Block] = []
    for block in blocks:
        for part in _cut(block, end):
            if piece and piece[0].first_seq // STRETCH != part.first_seq // STRETCH:
                yield piece
                piece = []
            piece.append(part)
    if piece:
        yield piece


def _cut(block: Block, end: int) -> Iterator[Block]:
    if block.kind == LOSS_KIND:
        if block.first_seq < end:
            yield block
        return
    first, last = block.first_seq, min(block.next_seq, end)
    while first < last:
        upto = min(last, (first // STRETCH + 1) * STRETCH)
        whole = (first, upto) == (block.first_seq, block.next_seq)
        yield block if whole else block.part(first - block.first_seq, upto - block.first_seq)
        first = upto
