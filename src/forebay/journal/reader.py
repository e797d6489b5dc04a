"""Reading a journal from a cursor, while it is written or after."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Self

from forebay.errors import CursorBeyondEnd, ForebayError
from forebay.journal.disk import OS_DISK, translated
from forebay.journal.format import SEGMENT_HEADER_SIZE, decode_block
from forebay.journal.model import LOSS_KIND, NO_LOG, Block, Position, loss_block
from forebay.journal.scan import Damage, FileWindow, SoundBlock, step
from forebay.journal.segments import Segment, list_segments, open_segment
from forebay.journal.watermark import Watermark, WatermarkReader

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk


class _Bound(NamedTuple):
    """Where a segment ends for a reader now, and which one follows."""

    offset: int
    seq: int
    following: int | None


class _Place:
    """An open segment and how far the reader is in it."""

    def __init__(self, disk: Disk, segment: Segment) -> None:
        self.segment = segment
        self.window = FileWindow(disk, segment.fd, 0)
        self.offset = SEGMENT_HEADER_SIZE
        self.expected = segment.first_seq
        self.following: int | None = None
        self.certain = False
        """Whether no other file can get this segment's name any more."""
        self._inner: deque[SoundBlock] = deque()

    def next(self, bound: _Bound, log_id: bytes | None) -> SoundBlock | Damage:
        """Step over the next block or hole before ``bound``; a pack gives its blocks."""
        if self._inner:
            block = self._inner.popleft()
            self.expected = block.header.next_seq
            return block
        self.window.limit = bound.offset
        item = step(self.window, self.offset, self.expected, log_id)
        if item is None:
            item = Damage(self.offset, self.offset, self.expected, None)
        elif isinstance(item, SoundBlock) and item.header.next_seq > bound.seq:
            item = Damage(self.offset, bound.offset, self.expected, None)
        if isinstance(item, Damage) and (item.next is None or item.next > bound.seq):
            item = item._replace(end=bound.offset, next=bound.seq)
        self.offset = item.end
        if isinstance(item, Damage):
            self.expected = item.next or bound.seq
            return item
        if item.inner:
            self._inner.extend(item.inner)
            return self.next(bound, log_id)
        self.expected = item.header.next_seq
        return item


class JournalReader:
    """Reads blocks from a position up to the durable watermark; never blocks, never loops.

    Damage is answered with a block of kind :data:`LOSS_KIND` for the sequence numbers that
    are unreadable, and reading goes on behind it.
    """

    def __init__(
        self, folder: Path, *, start: Position | None = None, disk: Disk = OS_DISK
    ) -> None:
        """Begin at ``start``; None means at the oldest frame there is.

        Raises :class:`~forebay.errors.CursorBeyondEnd` if ``start`` is of an unknown log or
        beyond the end of its log. That needs a watermark of this boot: without one, the
        first :meth:`read` that finds one raises it.
        """
        self._folder = folder
        self._disk = disk
        self._log_id = start.log_id if start else NO_LOG
        self._want = start.seq if start else 1
        self._place: _Place | None = None
        self._block: Block | None = None
        self._taken = 0
        self._declared: bytes | None = None
        with translated(f"read the journal {folder}"):
            self._watermark = WatermarkReader(disk, folder)
            mark = self._watermark.read()
            if mark is not None:
                self._find_start(mark)

    @property
    def position(self) -> Position:
        """Where the next :meth:`read` goes on: what a consumer stores with its results.

        Its log id is all zeros until something was found to read.
        """
        return Position(self._log_id, self._want)

    def read(self, *, max_bytes: int = 8 << 20, max_frames: int = 65536) -> list[Block]:
        """Return whole or sliced blocks, oldest first; empty if nothing new is durable.

        At least one frame is given if there is one, even if it is larger than ``max_bytes``
        (which counts payloads). Raises :class:`~forebay.errors.CursorBeyondEnd` as
        :meth:`__init__` does, :class:`~forebay.errors.Transient` if the disk fails, and
        :class:`~forebay.errors.Permanent` for a newer format.
        """
        blocks: list[Block] = []
        with translated(f"read the journal {self._folder}"):
            mark = self._watermark.read()
            if mark is None or not self._find_start(mark):
                return blocks
            while max_frames > 0 and (max_bytes > 0 or not blocks):
                if self._block is None:
                    self._taken = 0
                    try:
                        self._block = self._next_block(mark)
                    except (OSError, ForebayError):
                        if not blocks:
                            raise
                        break  # what was taken is given; the next call meets the error itself
                if self._block is None:
                    break
                part = self._take(self._block, max_frames, max_bytes, forced=not blocks)
                if part is None:
                    break
                blocks.append(part)
                max_frames -= len(part.payloads)
                max_bytes -= len(part.payloads.data)
        return blocks

    def close(self) -> None:
        """Close the files; the reader may still be asked for its position."""
        self._leave()
        self._watermark.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------- slicing

    def _take(self, block: Block, max_frames: int, max_bytes: int, *, forced: bool) -> Block | None:
        """Return the next part of ``block`` within the limits; one frame at least if ``forced``."""
        stop = min(block.payloads.within(self._taken, max_bytes), self._taken + max_frames)
        if stop == self._taken:
            if not forced:
                return None
            stop += 1
        part = block.part(self._taken, stop)
        self._taken = stop
        if stop >= len(block.payloads):
            self._block = None
        self._log_id, self._want = part.log_id, part.next_seq
        return part

    # ------------------------------------------------------------- walking

    def _next_block(self, mark: Watermark) -> Block | None:
        """Return the next block that holds something wanted; None at the watermark."""
        while (place := self._current(mark)) is not None:
            bound = self._bound(place, mark)
            if place.expected >= bound.seq:
                if bound.following is None:
                    return None
                self._enter(bound.following)
                continue
            log_id = place.segment.log_id or mark.log_id
            block = self._block_of(place.next(bound, log_id), log_id)
            if block is not None:
                return block
        return None

    def _current(self, mark: Watermark) -> _Place | None:
        """Return the open segment; None if nothing can be said about it yet.

        The writer begins a segment anew if it could not sync anything into it; then the file
        that is open here is not the one that ``mark`` speaks of. Neither a damaged header nor a
        ``mark`` in a later segment tells, so one from which nothing was taken is opened again
        by its name.
        """
        for fresh in (False, True):
            place = self._place
            if place is None or place.segment.first_seq > mark.segment_first_seq:
                return None
            known = fresh or place.expected > place.segment.first_seq
            if place.segment.first_seq < mark.segment_first_seq:
                place.certain = place.certain or known
                right = place.certain
            elif place.segment.segment_id is None:
                right = known
            else:
                right = place.segment.segment_id == mark.segment_id
            if right:
                return place
            self._enter(place.segment.first_seq)
        return None

    def _block_of(self, item: SoundBlock | Damage, log_id: bytes) -> Block | None:
        if isinstance(item, Damage):
            first = max(item.first, self._want)
            if item.next is None or item.next <= first:
                return None
            block = loss_block(log_id.hex(), first, item.next)
            self._declared = block.payloads[0]
            return block
        head = item.header
        if head.next_seq <= self._want:
            return None
        block = decode_block(head, item.body)
        if head.kind == LOSS_KIND and block.payloads[0] == self._declared:
            # The writer's record of what was declared a moment ago, when it was found.
            self._log_id, self._want = block.log_id, block.next_seq
            return None
        return block.part(max(0, self._want - head.first_seq), head.frames)

    def _bound(self, place: _Place, mark: Watermark) -> _Bound:
        """Return where ``place`` ends now."""
        segment = place.segment
        if segment.first_seq == mark.segment_first_seq:
            return _Bound(mark.offset, mark.next_seq, None)
        if place.following is None:
            firsts = list_segments(self._disk, self._folder)
            later = firsts[bisect_right(firsts, segment.first_seq) :]
            place.following = later[0] if later else None
        size = self._disk.size(segment.fd)
        if place.following is None:
            return _Bound(size, mark.next_seq, None)
        return _Bound(size, place.following, place.following)

    def _enter(self, first_seq: int) -> _Place | None:
        """Go to the beginning of a segment; None if it is not there any more."""
        try:
            segment = open_segment(self._disk, self._folder, first_seq)
        except FileNotFoundError:
            if self._place is not None:
                self._place.following = None
            return None
        self._leave()
        self._place = _Place(self._disk, segment)
        return self._place

    def _leave(self) -> None:
        if self._place is not None:
            self._disk.close(self._place.segment.fd)
            self._place = None

    # ------------------------------------------------------------ starting

    def _find_start(self, mark: Watermark) -> bool:
        """Open the segment that holds what is wanted; False if there is none yet."""
        if self._place is not None:
            return True
        firsts = list_segments(self._disk, self._folder)
        if not firsts:
            return False
        if self._log_id == NO_LOG:
            if (place := self._enter(firsts[0])) is None:
                return False
            log_id = place.segment.log_id or mark.log_id
            self._log_id, self._want = log_id.hex(), firsts[0]
            return True
        index = bisect_right(firsts, self._want) - 1
        if (place := self._enter(firsts[max(index, 0)])) is None:
            return False
        self._check_start(firsts, index, place.segment, mark)
        if index < 0:
            self._block, self._taken = loss_block(self._log_id, self._want, firsts[0]), 0
        return True

    def _check_start(
        self, firsts: list[int], index: int, segment: Segment, mark: Watermark
    ) -> None:
        known = segment.log_id is None or segment.log_id.hex() == self._log_id
        if not known and index > 0 and self._want == firsts[index]:
            # The end of a log that a newer one continues.
            before = open_segment(self._disk, self._folder, firsts[index - 1])
            self._disk.close(before.fd)
            known = before.log_id is not None and before.log_id.hex() == self._log_id
        beyond = mark.log_id.hex() == self._log_id and self._want > mark.next_seq
        if known and not beyond:
            return
        self._leave()
        what = "beyond the end" if known else "of an unknown log"
        message = f"The cursor {self._log_id}:{self._want} is {what} of the journal {self._folder}."
        hint = "Open the writer with this cursor in its floor, or read from the oldest frame."
        raise CursorBeyondEnd(message, hint=hint)
