"""How large a journal is, how fast it grows, and how long its disk will hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from forebay.journal.disk import OS_DISK, translated
from forebay.journal.format import BLOCK_HEADER_SIZE, PACK, SEGMENT_HEADER_SIZE, receipts
from forebay.journal.retention import SegmentFacts
from forebay.journal.scan import Good, Window, header_at, walk
from forebay.journal.segments import list_segments, open_segment
from forebay.journal.watermark import Watermark, read_watermark

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk

TELLING_NS = 600 * 10**9
"""Time that frames must span until the day that the disk is full is told by their growth."""
RECENT = 4
"""Segments from the end whose growth is taken for that of the whole."""
_DAY_NS = 86_400 * 10**9


class Span(NamedTuple):
    """What the sound blocks of one segment hold."""

    raw_bytes: int
    """Bytes of the blocks before they were packed."""
    first_ns: int | None
    """Receipt of the earliest frame, UTC ns; None without frames."""
    last_ns: int | None


@dataclass(frozen=True, slots=True)
class Overview:
    """A journal at a glance; rates are those of its last :data:`RECENT` segments."""

    bytes: int
    segments: int
    sealed: int
    oldest_ns: int | None
    """Receipt of the oldest frame, UTC ns; None if there is none."""
    raw_per_day: int | None
    """Bytes a day as they are written; None if no time has passed between two frames."""
    disk_per_day: int | None
    """Bytes a day that stay when segments are sealed, as well as the recent ones were."""
    free_bytes: int
    measured_ns: int = TELLING_NS
    """Time that the rates are of."""

    @property
    def days_left(self) -> float | None:
        """Days until the disk is full if nothing is removed; None if nobody can tell yet."""
        if not self.disk_per_day or self.measured_ns < TELLING_NS:
            return None
        return self.free_bytes / self.disk_per_day


def facts(disk: Disk, folder: Path, first_seq: int) -> SegmentFacts:
    """What a look at the beginning of a segment tells. Raises :class:`OSError`."""
    segment = open_segment(disk, folder, first_seq)
    try:
        window = Window(disk, segment.fd, segment.size, BLOCK_HEADER_SIZE)
        head = header_at(window, SEGMENT_HEADER_SIZE)
    finally:
        disk.close(segment.fd)
    log_id = segment.log_id.hex() if segment.log_id else ""
    sealed = head is not None and head.codec == PACK
    return SegmentFacts(first_seq, log_id, segment.size, sealed)


def span(disk: Disk, folder: Path, first_seq: int, limit: int | None = None) -> Span:
    """Walk through one segment, up to byte ``limit``. Raises :class:`OSError`."""
    segment = open_segment(disk, folder, first_seq)
    raw_bytes = 0
    times: list[int] = []
    try:
        window = Window(disk, segment.fd, segment.size if limit is None else limit)
        for item in walk(window, SEGMENT_HEADER_SIZE, first_seq, segment.log_id):
            if isinstance(item, Good):
                raw_bytes += item.raw_size
                times += _ends(item)
    finally:
        disk.close(segment.fd)
    return Span(raw_bytes, min(times, default=None), max(times, default=None))


def _ends(good: Good) -> list[int]:
    """Receipt of the earliest and the latest frame, if there are any."""
    head = good.header
    if not head.frames:
        return []
    if head.codec == PACK:
        return [head.anchor_mono, head.anchor_wall]
    received = receipts(head, good.body)
    return [int(received.min()), int(received.max())]


def overview(folder: Path, *, disk: Disk = OS_DISK) -> Overview:
    """Look at the whole journal, and into its first and last segments.

    May run beside a writer and a housekeeper. Raises :class:`~forebay.errors.Transient` if the
    disk fails.
    """
    with translated(f"look at the journal {folder}"):
        try:
            return _overview(disk, folder)
        except FileNotFoundError:  # the oldest segment was removed just now: look again
            return _overview(disk, folder)


def _overview(disk: Disk, folder: Path) -> Overview:
    firsts = list_segments(disk, folder)
    mark = read_watermark(disk, folder)
    found = [facts(disk, folder, first_seq) for first_seq in firsts]
    recent = found[-RECENT:]
    spans = [_span(disk, folder, each, mark) for each in recent]
    oldest = spans[:1] if recent == found else [span(disk, folder, firsts[0])]
    measured_ns = _measured(spans)
    raw_per_day = (
        sum(each.raw_bytes for each in spans) * _DAY_NS // measured_ns if measured_ns else None
    )
    return Overview(
        bytes=sum(each.bytes for each in found),
        segments=len(found),
        sealed=sum(each.sealed for each in found),
        oldest_ns=oldest[0].first_ns if oldest else None,
        raw_per_day=raw_per_day,
        disk_per_day=None if raw_per_day is None else round(raw_per_day * _kept(recent, spans)),
        free_bytes=disk.free(folder),
        measured_ns=measured_ns,
    )


def _span(disk: Disk, folder: Path, each: SegmentFacts, mark: Watermark | None) -> Span:
    """What is durable of a segment; the last one may end in a commit that is not."""
    is_last = mark is not None and mark.segment_first_seq == each.first_seq
    return span(disk, folder, each.first_seq, mark.offset if mark and is_last else None)


def _measured(spans: list[Span]) -> int:
    firsts = [each.first_ns for each in spans if each.first_ns is not None]
    lasts = [each.last_ns for each in spans if each.last_ns is not None]
    return max(0, max(lasts, default=0) - min(firsts, default=0))


def _kept(recent: list[SegmentFacts], spans: list[Span]) -> float:
    """The part of the bytes that stays after sealing; 1 if none of ``recent`` is sealed."""
    pairs = [
        (each.bytes, size.raw_bytes)
        for each, size in zip(recent, spans, strict=True)
        if each.sealed and size.raw_bytes
    ]
    return sum(kept for kept, _ in pairs) / sum(raw for _, raw in pairs) if pairs else 1.0
