"""What a writer finds when it opens a folder, and what it makes of it.

Only the end of the last segment can be torn. Let D be the highest sequence number below
which everything is *proved* to have been acknowledged: by a ``durable_seq`` in any sound
block of that segment, or by the watermark. A hole that begins below D is damage: it stays
where it is and readers declare it lost. A hole at D or above was never proved: the file is
cut there. If the end itself is missing below D, the segment is left as it is and a new one
begins at D, so that no sequence number is ever used twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from forebay.journal.disk import read_all, write_all
from forebay.journal.format import SEGMENT_HEADER_SIZE, SegmentHeader
from forebay.journal.scan import Damage, FileWindow, SoundBlock, walk
from forebay.journal.segments import (
    Segment,
    create_segment,
    list_segments,
    open_segment,
    remove_scratch,
)
from forebay.journal.watermark import read_watermark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from forebay.journal.disk import Disk
    from forebay.journal.watermark import Watermark

_NOTHING = memoryview(b"")
Tail = Literal["whole", "never acknowledged", "undecided"]


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What recovery found in the last segment and did."""

    truncated_bytes: int = 0
    tail: Tail = "whole"
    """What is known of the truncated bytes, or of bytes behind a loss at the very end.

    ``undecided``: nothing proves that they were acknowledged, and after a power cut an
    unfinished write looks like this; but a disk that damaged its last bytes does too.
    """
    losses: tuple[tuple[int, int], ...] = ()
    """Acknowledged sequence numbers that are unreadable: first and last, both included."""
    new_log: bool = False
    """Whether a consumer was ahead of the recovered end, so that a new log began."""


class TailVerdict(NamedTuple):
    """What to do with a segment."""

    end_seq: int
    end_offset: int
    """Bytes from here on are cut off, unless the segment is abandoned."""
    proved_offset: int
    """Bytes before here are proved to be on stable storage."""
    proved_seq: int
    losses: tuple[tuple[int, int], ...]
    abandoned: bool
    """Whether acknowledged frames are missing at the end: it is left as it is."""


class Recovered(NamedTuple):
    """A folder that a writer may go on with; ``segment`` is None if it must begin one."""

    log_id: bytes
    next_seq: int
    segment: Segment | None
    report: RecoveryReport


def without_bodies(items: Iterable[SoundBlock | Damage]) -> list[SoundBlock | Damage]:
    """Forget the bodies, which would keep the whole segment in memory."""
    return [
        SoundBlock(item.offset, item.header, _NOTHING) if isinstance(item, SoundBlock) else item
        for item in items
    ]


def decide(
    found: Sequence[SoundBlock | Damage], first_seq: int, start: int, proved: int
) -> TailVerdict:
    """Judge the last segment, whose blocks begin at byte ``start``.

    ``proved`` is what is known from elsewhere to be acknowledged.
    """
    proved = max(first_seq, proved, *(item.durable for item in found), 0)
    end_seq, end_offset, proved_offset = first_seq, start, start
    losses: list[tuple[int, int]] = []
    abandoned = False
    for item in found:
        if isinstance(item, Damage):
            if item.first >= proved:
                break
            if item.next is None:
                abandoned = True
                break
            if item.next > item.first:
                losses.append((item.first, item.next - 1))
            end_seq = item.next
            continue
        end_seq, end_offset = item.header.next_seq, item.end
        if item.header.frames and end_seq <= proved:  # a closing block proves nothing
            proved_offset = end_offset
    if end_seq < proved:
        losses.append((end_seq, proved - 1))
        end_seq, abandoned = proved, True
    return TailVerdict(end_seq, end_offset, proved_offset, proved, tuple(losses), abandoned)


def recover(disk: Disk, folder: Path, random_id: Callable[[], str]) -> Recovered:
    """Bring the folder into a state that may be read and appended to.

    The caller holds the writer's lock. Afterwards everything up to ``next_seq`` is on
    stable storage. Raises :class:`OSError`.
    """
    return _Recovery(disk, folder, random_id).run()


@dataclass(slots=True)
class _Recovery:
    _disk: Disk
    _folder: Path
    _random_id: Callable[[], str]
    _mark: Watermark | None = None

    def run(self) -> Recovered:
        remove_scratch(self._disk, self._folder)
        firsts = list_segments(self._disk, self._folder)
        self._mark = mark = read_watermark(self._disk, self._folder)
        if not firsts:
            if mark is None or mark.next_seq <= 1:
                return Recovered(self._fresh_id(), 1, None, RecoveryReport())
            losses = ((1, mark.next_seq - 1),)
            return Recovered(mark.log_id, mark.next_seq, None, RecoveryReport(losses=losses))
        segment = open_segment(self._disk, self._folder, firsts[-1], write=True)
        kept: Segment | None = None
        try:
            log_id = segment.log_id or self._older_log_id(firsts[:-1]) or self._fresh_id()
            recovered = self._last_segment(segment, log_id)
            kept = recovered.segment
            # The segment's name may be as new as the crash: serve nothing before it is durable.
            self._disk.fsync_dir(self._folder)
        except BaseException:
            if kept is not None and kept is not segment:
                self._disk.close(kept.fd)
            self._disk.close(segment.fd)
            raise
        if kept is not segment:
            self._disk.close(segment.fd)
        return recovered

    def _fresh_id(self) -> bytes:
        return bytes.fromhex(self._random_id())

    def _older_log_id(self, firsts: list[int]) -> bytes | None:
        for first_seq in reversed(firsts):
            segment = open_segment(self._disk, self._folder, first_seq)
            self._disk.close(segment.fd)
            if segment.log_id is not None:
                return segment.log_id
        return self._mark.log_id if self._mark else None

    def _last_segment(self, segment: Segment, log_id: bytes) -> Recovered:
        mark = self._mark if self._mark and self._mark.log_id == log_id else None
        window = FileWindow(self._disk, segment.fd, segment.size)
        found = without_bodies(walk(window, SEGMENT_HEADER_SIZE, segment.first_seq, log_id))
        proved = mark.next_seq if mark else 0
        verdict = decide(found, segment.first_seq, SEGMENT_HEADER_SIZE, proved)
        report = RecoveryReport(losses=verdict.losses)
        certain = mark is not None and mark.newest and mark.boot_id == self._disk.boot_id()
        tail: Tail = "never acknowledged" if certain else "undecided"
        if verdict.abandoned:
            # What the hole may hold beyond the proved end is not cut, but hidden by the next name.
            hidden = not certain and any(
                isinstance(item, Damage) and item.next is None for item in found
            )
            report = replace(report, tail="undecided" if hidden else "whole")
            return Recovered(log_id, verdict.end_seq, None, report)
        cut = max(0, segment.size - verdict.end_offset)
        if cut:
            report = replace(report, truncated_bytes=cut, tail=tail)
        kept = self._settle(segment, log_id, verdict)
        return Recovered(log_id, verdict.end_seq, kept, report)

    def _settle(self, segment: Segment, log_id: bytes, verdict: TailVerdict) -> Segment | None:
        """Cut the torn end off and make the rest durable; gives the segment to append to."""
        disk, start = self._disk, verdict.proved_offset
        unproved = read_all(disk, segment.fd, verdict.end_offset - start, start)
        try:
            if segment.size > verdict.end_offset:
                disk.truncate(segment.fd, verdict.end_offset)
            # Written again because a page whose sync has failed is clean in memory and absent
            # from the disk: a mere sync would call it durable.
            write_all(disk, segment.fd, [unproved], start)
            disk.fdatasync(segment.fd)
        except OSError:
            header = SegmentHeader(log_id, self._fresh_id(), verdict.proved_seq)
            return create_segment(disk, self._folder, header, unproved)
        segment.size = verdict.end_offset
        # Nothing is appended behind a damaged header.
        return segment if segment.segment_id is not None else None
