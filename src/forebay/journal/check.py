"""Looking at a journal folder from outside: is it sound, what is in it, give me all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.errors import ConfigError, Transient
from forebay.journal.disk import OS_DISK, translated
from forebay.journal.format import SEGMENT_HEADER_SIZE
from forebay.journal.model import Block, Position
from forebay.journal.reader import JournalReader
from forebay.journal.scan import Good, Hole, Window, walk
from forebay.journal.segments import Segment, list_segments, open_segment
from forebay.journal.watermark import Watermark, WatermarkReader
from forebay.journal.writer import JournalWriter, WriterBusy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal.disk import Disk


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a segment that is not as it was written."""

    segment: str
    """File name."""
    offset: int
    what: str
    first_seq: int | None
    """First sequence number that is lost; None if none is."""
    last_seq: int | None
    hint: str


@dataclass(frozen=True, slots=True)
class FsckReport:
    """What a check of all segments found."""

    findings: tuple[Finding, ...]
    segments: int
    blocks: int
    frames: int
    bytes: int

    @property
    def ok(self) -> bool:
        """Whether nothing that was acknowledged is damaged.

        An unfinished write at the very end is a finding but no damage.
        """
        return all(finding.what == UNFINISHED for finding in self.findings)


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """One segment file at a glance."""

    name: str
    log_id: str
    """Empty if neither the header nor any block is sound."""
    first_seq: int
    next_seq: int
    blocks: int
    frames: int
    bytes: int
    holes: int


UNFINISHED = "unfinished write at the end"


@dataclass(slots=True)
class _Survey:
    """One segment walked through; ``end`` is its next_seq by its name's successor."""

    segment: Segment
    blocks: int
    next_seq: int
    durable: int
    holes: list[Hole]


def fsck(folder: Path, *, disk: Disk = OS_DISK) -> FsckReport:
    """Read every byte of the journal and say what is damaged; changes nothing.

    May run beside a writer: what it has not yet published is left out. Raises
    :class:`~forebay.errors.ConfigError` if the folder holds no journal.
    """
    findings: list[Finding] = []
    blocks = frames = size = 0
    with translated(f"check the journal {folder}"):
        firsts = _segments_of(disk, folder)
        mark = _mark(disk, folder)
        for first_seq, following in zip(firsts, [*firsts[1:], None], strict=True):
            survey = _survey(disk, folder, first_seq, following, mark)
            findings += _judge(survey, following, mark)
            blocks += survey.blocks
            frames += survey.next_seq - first_seq - _missing(survey.holes)
            size += survey.segment.size
    return FsckReport(tuple(findings), len(firsts), blocks, frames, size)


def inspect(folder: Path, *, disk: Disk = OS_DISK) -> list[SegmentSummary]:
    """One line for each segment, oldest first; raises as :func:`fsck` does."""
    with translated(f"inspect the journal {folder}"):
        firsts = _segments_of(disk, folder)
        mark = _mark(disk, folder)
        pairs = zip(firsts, [*firsts[1:], None], strict=True)
        surveys = [_survey(disk, folder, first, following, mark) for first, following in pairs]
    return [
        SegmentSummary(
            name=survey.segment.path.name,
            log_id=survey.segment.log_id.hex() if survey.segment.log_id else "",
            first_seq=survey.segment.first_seq,
            next_seq=survey.next_seq,
            blocks=survey.blocks,
            frames=survey.next_seq - survey.segment.first_seq - _missing(survey.holes),
            bytes=survey.segment.size,
            holes=len(survey.holes),
        )
        for survey in surveys
    ]


def iter_blocks(
    folder: Path, start: Position | None = None, *, disk: Disk = OS_DISK
) -> Iterator[Block]:
    """All durable blocks from ``start`` to the end as it is when it is reached.

    Raises :class:`~forebay.errors.Transient` if no writer has opened the journal since the
    machine started, because then nobody knows what is durable; otherwise as
    :meth:`JournalReader.read`.
    """
    with translated(f"read the journal {folder}"):
        if _mark(disk, folder) is None:
            message = f"The journal {folder} was not recovered since this machine started."
            raise Transient(message, hint="Call ensure_durable first, or start its writer.")
    with JournalReader(folder, start=start, disk=disk) as reader:
        while blocks := reader.read():
            yield from blocks


def ensure_durable(
    folder: Path, clock: Clock, *, disk: Disk = OS_DISK, floor: Sequence[Position] = ()
) -> Position:
    """Make an existing journal readable: recover it, unless a live writer has it; gives its end.

    Raises :class:`~forebay.errors.ConfigError` if the folder holds no journal,
    :class:`~forebay.errors.Transient` if its writer is just starting, and otherwise as
    :meth:`JournalWriter.open`.
    """
    with translated(f"recover the journal {folder}"):
        _segments_of(disk, folder)
    try:
        with JournalWriter.open(
            folder, clock=clock, disk=disk, ballast_bytes=0, floor=floor
        ) as own:
            return own.position
    except WriterBusy as busy:
        with translated(f"read the journal {folder}"):
            mark = _mark(disk, folder)
        if mark is None:
            message = f"The writer of the journal {folder} is not ready yet."
            raise Transient(message, hint="Try again in a moment.") from busy
        return Position(mark.log_id.hex(), mark.next_seq)


def _segments_of(disk: Disk, folder: Path) -> list[int]:
    try:
        firsts = list_segments(disk, folder)
    except FileNotFoundError:
        firsts = []
    if not firsts:
        message = f"The folder {folder} holds no journal."
        raise ConfigError(message, hint="Give the folder that a capture writes to.")
    return firsts


def _mark(disk: Disk, folder: Path) -> Watermark | None:
    reader = WatermarkReader(disk, folder)
    try:
        return reader.read()
    finally:
        reader.close()


def _survey(
    disk: Disk, folder: Path, first_seq: int, following: int | None, mark: Watermark | None
) -> _Survey:
    segment = open_segment(disk, folder, first_seq)
    try:
        limit = segment.size
        if following is None and mark is not None and mark.segment_first_seq == first_seq:
            limit = min(limit, mark.offset)
        survey = _Survey(segment, 0, first_seq, first_seq, [])
        window = Window(disk, segment.fd, limit)
        for item in walk(window, SEGMENT_HEADER_SIZE, first_seq, segment.log_id):
            if following is not None and survey.next_seq >= following:
                break
            if isinstance(item, Good):
                survey.blocks += 1
                survey.next_seq = item.header.next_seq
                survey.durable = max(survey.durable, item.header.durable_seq)
            else:
                survey.holes.append(item)
                survey.durable = max(survey.durable, item.durable)
                survey.next_seq = item.next or survey.next_seq
    finally:
        disk.close(segment.fd)
    return survey


def _judge(survey: _Survey, following: int | None, mark: Watermark | None) -> list[Finding]:
    name = survey.segment.path.name
    findings = []
    if survey.segment.segment_id is None:
        hint = "Its blocks are read all the same."
        findings.append(Finding(name, 0, "damaged segment header", None, None, hint))
    proved = survey.durable
    if mark is not None and mark.log_id == survey.segment.log_id:
        proved = max(proved, mark.next_seq)
    end = proved if following is None else following
    findings += [
        _finding(name, hole, end if hole.next is None else hole.next, end) for hole in survey.holes
    ]
    reached = max((hole.first for hole in survey.holes if hole.next is None), default=None)
    if reached is None and survey.next_seq < end:
        absent = Hole(survey.segment.size, survey.segment.size, survey.next_seq, None)
        findings.append(_finding(name, absent, end, end))
    return findings


def _finding(name: str, hole: Hole, next_seq: int, end: int) -> Finding:
    if next_seq > hole.first:
        hint = "Readers declare the loss and go on; fill it from a sibling or the venue."
        what = f"{hole.end - hole.offset} unreadable bytes"
        return Finding(name, hole.offset, what, hole.first, next_seq - 1, hint)
    if hole.next is None and hole.first >= end:
        hint = "It was never acknowledged; the next start of the writer cuts it off."
        return Finding(name, hole.offset, UNFINISHED, None, None, hint)
    hint = "No frame is missing here."
    return Finding(name, hole.offset, "bytes that are no block", None, None, hint)


def _missing(holes: list[Hole]) -> int:
    return sum((hole.next or hole.first) - hole.first for hole in holes)
