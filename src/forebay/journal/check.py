"""Looking at a journal folder from outside: is it sound, what is in it, give me all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from forebay.errors import ConfigError, Transient
from forebay.journal.cursor import decode_cursor
from forebay.journal.disk import OS_DISK, read_all, translated
from forebay.journal.findings import (
    Finding,
    SegmentFacts,
    judge_cursor,
    judge_ends,
    judge_segment,
    judge_slots,
)
from forebay.journal.format import PACK, SEGMENT_HEADER_SIZE
from forebay.journal.lock import WriterBusy
from forebay.journal.model import Block, Position
from forebay.journal.reader import JournalReader
from forebay.journal.scan import Good, Hole, Window, walk
from forebay.journal.segments import Segment, list_segments, open_segment
from forebay.journal.slots import check_slots, parse_slots
from forebay.journal.watermark import FILE_NAME, Watermark, WatermarkReader, read_watermark
from forebay.journal.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal.disk import Disk


@dataclass(frozen=True, slots=True)
class CursorSummary:
    """Where a consumer is."""

    name: str
    required: bool
    log_id: str
    """Empty if it has no cursor, or none that can be read."""
    seq: int
    behind: int
    """How many numbers lie between it and the journal's end."""


@dataclass(frozen=True, slots=True)
class FsckReport:
    """What a check of all files found."""

    findings: tuple[Finding, ...]
    segments: int
    blocks: int
    frames: int
    bytes: int
    cursors: tuple[CursorSummary, ...] = ()
    """Of all consumers that were asked about."""

    @property
    def ok(self) -> bool:
        """Whether all findings are harmless.

        An unfinished write at the very end, for instance, is a finding but no damage.
        """
        return all(finding.harmless for finding in self.findings)


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
    sealed: bool
    raw_bytes: int
    """Size before it was sealed; that of the file if it is not."""


@dataclass(slots=True)
class _Survey:
    """One segment walked through."""

    segment: Segment
    blocks: int
    next_seq: int
    durable: int
    holes: list[Hole]
    packed: int = 0
    """Bytes that packs save."""
    sealed: bool = False

    @property
    def frames(self) -> int:
        """Frames that can be read."""
        missing = sum((hole.next or hole.first) - hole.first for hole in self.holes)
        return self.next_seq - self.segment.first_seq - missing


def fsck(
    folder: Path,
    *,
    disk: Disk = OS_DISK,
    cursors: Sequence[Path] = (),
    best_effort: Sequence[Path] = (),
) -> FsckReport:
    """Read every byte of the journal and say what is damaged; changes nothing.

    ``cursors`` are files of required consumers, checked as well, and so are those of
    ``best_effort`` consumers, of which nothing does harm. May run beside a writer and its
    consumers: what is not yet published is left out. Raises
    :class:`~forebay.errors.ConfigError` if the folder holds no journal.
    """
    surveys: list[_Survey] = []
    with translated(f"check the journal {folder}"):
        # In this order: no cursor is ahead of a watermark that is read after it.
        found = [_cursor(disk, path, required=True) for path in cursors]
        found += [_cursor(disk, path, required=False) for path in best_effort]
        findings = [finding for cursor in found for finding in cursor.findings]
        findings += _check_slots(disk, folder / FILE_NAME, cursor=False)[0]
        proof, mark = read_watermark(disk, folder), _mark(disk, folder)
        firsts = list_segments(disk, folder) if proof else _segments_of(disk, folder)
        for first_seq, following in zip(firsts, [*firsts[1:], None], strict=False):
            survey = _survey(disk, folder, first_seq, following, mark)
            surveys.append(survey)
            findings += judge_segment(_facts(survey, following, proof))
    findings += judge_ends([survey.segment.first_seq for survey in surveys], proof)
    logs = _logs(surveys, proof)
    findings += [finding for cursor in found if surveys for finding in cursor.judged(logs)]
    end = max((end for _, end in logs.values()), default=1)
    return FsckReport(
        tuple(findings),
        len(surveys),
        sum(survey.blocks for survey in surveys),
        sum(survey.frames for survey in surveys),
        sum(survey.segment.size for survey in surveys),
        tuple(cursor.summary(end) for cursor in found),
    )


def inspect(folder: Path, *, disk: Disk = OS_DISK) -> list[SegmentSummary]:
    """One line for each segment, oldest first; raises as :func:`fsck` does."""
    with translated(f"inspect the journal {folder}"):
        try:
            surveys = _surveys(disk, folder)
        except FileNotFoundError:  # the oldest segment was removed just now: look again
            surveys = _surveys(disk, folder)
    return [
        SegmentSummary(
            name=survey.segment.path.name,
            log_id=survey.segment.log_id.hex() if survey.segment.log_id else "",
            first_seq=survey.segment.first_seq,
            next_seq=survey.next_seq,
            blocks=survey.blocks,
            frames=survey.frames,
            bytes=survey.segment.size,
            holes=len(survey.holes),
            sealed=survey.sealed,
            raw_bytes=survey.segment.size + survey.packed,
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


def _surveys(disk: Disk, folder: Path) -> list[_Survey]:
    firsts = _segments_of(disk, folder)
    mark = _mark(disk, folder)
    pairs = zip(firsts, [*firsts[1:], None], strict=True)
    return [_survey(disk, folder, first, following, mark) for first, following in pairs]


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
                survey.blocks += len(item.blocks)
                survey.packed += item.raw_size - item.header.size
                survey.sealed |= item.header.codec == PACK
                survey.next_seq = item.header.next_seq
                survey.durable = max(survey.durable, item.header.durable_seq)
            else:
                survey.holes.append(item)
                survey.durable = max(survey.durable, item.durable)
                survey.next_seq = item.next or survey.next_seq
    finally:
        disk.close(segment.fd)
    return survey


def _facts(survey: _Survey, following: int | None, proof: Watermark | None) -> SegmentFacts:
    segment = survey.segment
    end = following
    if end is None:
        ours = proof is not None and segment.log_id in {None, proof.log_id}
        end = max(survey.durable, proof.next_seq if proof and ours else 0)
    return SegmentFacts(
        name=segment.path.name,
        size=segment.size,
        header_sound=segment.segment_id is not None,
        next_seq=survey.next_seq,
        end=end,
        last=following is None,
        holes=survey.holes,
    )


def _logs(surveys: Sequence[_Survey], proof: Watermark | None) -> dict[str, tuple[int, int]]:
    """First sequence number and end of each log; ends that only the watermark knows included."""
    found: dict[str, tuple[int, int]] = {}
    for survey, following in zip(surveys, [*surveys[1:], None], strict=False):
        if survey.segment.log_id is not None:
            log_id, end = survey.segment.log_id.hex(), survey.next_seq
            if following is not None:
                end = following.segment.first_seq
            found[log_id] = (found.get(log_id, (survey.segment.first_seq, 0))[0], end)
    if proof is not None:
        log_id = proof.log_id.hex()
        first, end = found.get(log_id, (proof.next_seq, 0))
        found[log_id] = (first, max(end, proof.next_seq))
    return found


class _Cursor(NamedTuple):
    """A consumer's file."""

    path: Path
    required: bool
    position: Position | None
    findings: list[Finding]
    """Of the file as such."""

    def judged(self, logs: dict[str, tuple[int, int]]) -> list[Finding]:
        """Whether it points into the journal."""
        if self.position is None:
            return []
        return _weighed(judge_cursor(self.path.name, self.position, logs), required=self.required)

    def summary(self, end: int) -> CursorSummary:
        """It at a glance, in a journal that ends before ``end``."""
        log_id, seq = (self.position.log_id, self.position.seq) if self.position else ("", 1)
        return CursorSummary(self.path.stem, self.required, log_id, seq, max(0, end - seq))


def _cursor(disk: Disk, path: Path, *, required: bool) -> _Cursor:
    findings, payload = _check_slots(disk, path, cursor=True)
    return _Cursor(path, required, decode_cursor(payload), _weighed(findings, required=required))


def _weighed(findings: list[Finding], *, required: bool) -> list[Finding]:
    """Of a consumer that is not required nothing does harm."""
    hint = "It is a best-effort consumer: no frame is kept for it."
    return findings if required else [replace(each, hint=hint, harmless=True) for each in findings]


def _check_slots(disk: Disk, path: Path, *, cursor: bool) -> tuple[list[Finding], bytes]:
    """Look at a two-slot file; gives its newest payload too, empty if it has none."""
    try:
        fd = disk.open(path)
    except FileNotFoundError:
        return [], b""
    try:
        raw, before = read_all(disk, fd, disk.size(fd), 0), b""
        while check_slots(raw).damaged and raw != before:
            # Perhaps it is being written at this moment: damage looks the same twice.
            raw, before = read_all(disk, fd, disk.size(fd), 0), raw
    finally:
        disk.close(fd)
    slot = parse_slots(raw)
    found = judge_slots(path.name, check_slots(raw), cursor=cursor)
    return found, slot.payload if slot else b""
