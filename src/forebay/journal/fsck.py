"""Looking at a journal folder from outside: is it sound, what is in it, give me all of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from forebay.errors import ConfigError, Transient
from forebay.journal.cursor import decode_cursor
from forebay.journal.disk import OS_DISK, read_file, translated
from forebay.journal.model import Block, Position
from forebay.journal.reader import JournalReader
from forebay.journal.segments import list_segments, segment_name
from forebay.journal.survey import Survey, surveys
from forebay.journal.two_slot_file import SlotCheck, check_slots, parse_slots
from forebay.journal.watermark import FILE_NAME, Watermark, WatermarkReader, read_watermark
from forebay.journal.writer import JournalWriter, WriterBusy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal.disk import Disk
    from forebay.journal.scan import Damage


UNFINISHED = "unfinished write at the end"
_DECLARED = "Readers declare the loss and go on; fill it from a sibling or the venue."


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a file of the journal that is not as it was written."""

    segment: str
    """File name."""
    offset: int
    what: str
    first_seq: int | None
    """First sequence number that is lost; None if none is."""
    last_seq: int | None
    hint: str
    harmless: bool = False
    """Whether nothing that was acknowledged is damaged, so that it is no reason to worry."""

    @property
    def sentence(self) -> str:
        """All of it for a person: where, what, which frames, and what to do."""
        lost = "" if self.first_seq is None else f"; {frames(self.first_seq, self.last_seq)} lost"
        return f"{self.segment} at byte {self.offset}: {self.what}{lost}. {self.hint}"


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
    with translated(f"check the journal {folder}"):
        # In this order: no cursor is ahead of a watermark that is read after it.
        found = [_cursor(disk, path, required=True) for path in cursors]
        found += [_cursor(disk, path, required=False) for path in best_effort]
        findings = [finding for cursor in found for finding in cursor.findings]
        findings += _check_slots(disk, folder / FILE_NAME, cursor=False)[0]
        proof, mark = read_watermark(disk, folder), _mark(disk, folder)
        firsts = list_segments(disk, folder) if proof else _segments_of(disk, folder)
        segments = surveys(disk, folder, firsts, mark)
    for segment, following in zip(segments, [*firsts[1:], None], strict=False):
        end = following or _proved(segment, proof)
        findings += judge_segment(segment, end, last=following is None)
    findings += judge_ends(firsts, proof)
    logs = _logs(segments, proof)
    findings += [finding for cursor in found if segments for finding in cursor.judged(logs)]
    end_seq = max((end for _, end in logs.values()), default=1)
    return FsckReport(
        tuple(findings),
        len(segments),
        sum(segment.blocks for segment in segments),
        sum(segment.frames for segment in segments),
        sum(segment.bytes for segment in segments),
        tuple(cursor.summary(end_seq) for cursor in found),
    )


def inspect(folder: Path, *, disk: Disk = OS_DISK) -> list[Survey]:
    """Walk through every segment, oldest first; raises as :func:`fsck` does."""
    with translated(f"inspect the journal {folder}"):
        try:
            return surveys(disk, folder, _segments_of(disk, folder), _mark(disk, folder))
        except FileNotFoundError:  # the oldest segment was removed just now: look again
            return surveys(disk, folder, _segments_of(disk, folder), _mark(disk, folder))


def iter_blocks(
    folder: Path, start: Position | None = None, *, disk: Disk = OS_DISK
) -> Iterator[Block]:
    """Give all durable blocks from ``start`` to the end as it is when it is reached.

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
    with contextlib.closing(WatermarkReader(disk, folder)) as reader:
        return reader.read()


def _proved(last: Survey, proof: Watermark | None) -> int:
    """Return the number that the last segment is proved to have reached."""
    if proof is not None and last.log_id in {"", proof.log_id.hex()}:
        return max(last.durable, proof.next_seq)
    return last.durable


def _logs(segments: Sequence[Survey], proof: Watermark | None) -> dict[str, tuple[int, int]]:
    """Return each log's first number and its end, an end that only the watermark knows included."""
    found: dict[str, tuple[int, int]] = {}
    for segment, following in zip(segments, [*segments[1:], None], strict=False):
        if segment.log_id:
            end = following.first_seq if following else segment.next_seq
            found[segment.log_id] = (found.get(segment.log_id, (segment.first_seq, 0))[0], end)
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
        """Return what is wrong with where it points."""
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
    raw, before = read_file(disk, path), None
    while raw is not None and check_slots(raw).damaged and raw != before:
        # Perhaps it is being written at this moment: damage looks the same twice.
        raw, before = read_file(disk, path), raw
    if raw is None:
        return [], b""
    slot = parse_slots(raw)
    found = judge_slots(path.name, check_slots(raw), cursor=cursor)
    return found, slot.payload if slot else b""


# ---------------------------------------------- what facts mean, in words; nothing here reads


def frames(first: int, last: int | None) -> str:
    """Return ``frame 5 is`` or ``frames 5 to 7 are``."""
    return f"frame {first} is" if last == first else f"frames {first} to {last} are"


def judge_segment(survey: Survey, end: int, *, last: bool) -> list[Finding]:
    """Return what is wrong with one segment.

    It must reach ``end``: the next segment's first number, or what is proved of the last one.
    """
    found = []
    if not survey.header_sound:
        hint = "No frame is lost by it: its blocks are found and read all the same."
        found.append(Finding(survey.name, 0, "damaged segment header", None, None, hint))
    found += [_of_hole(survey.name, hole, end, last=last) for hole in survey.holes]
    open_end = any(hole.next is None for hole in survey.holes)
    if survey.next_seq < end and not open_end:
        what = "the file ends before all of its frames"
        if not last:
            what += ", or a segment between it and the next one is missing"
        lost = survey.next_seq, end - 1
        found.append(Finding(survey.name, survey.bytes, what, *lost, _DECLARED))
    return found


def _of_hole(name: str, hole: Damage, end: int, *, last: bool) -> Finding:
    following = end if hole.next is None else hole.next
    if following > hole.first:
        what = f"{hole.end - hole.offset} unreadable bytes"
        return Finding(name, hole.offset, what, hole.first, following - 1, _DECLARED)
    if hole.next is None and last:
        hint = "It was never acknowledged; the next start of the writer cuts it off."
        return Finding(name, hole.offset, UNFINISHED, None, None, hint, harmless=True)
    what, hint = "bytes that are no block", "No frame is missing here."
    return Finding(name, hole.offset, what, None, None, hint)


def judge_ends(firsts: Sequence[int], mark: Watermark | None) -> list[Finding]:
    """Return what first numbers and the watermark say of segments that are gone."""
    if not firsts:
        if mark is None or mark.next_seq <= 1:
            return []
        hint = "Restore the segments from a copy, or fill the loss from a sibling or the venue."
        return [Finding("watermark", 0, "every segment is missing", 1, mark.next_seq - 1, hint)]
    if firsts[0] <= 1:
        return []
    what = f"the journal begins with frame {firsts[0]}; {frames(1, firsts[0] - 1)} not in it"
    hint = "Retention removes the oldest segments; if it is not that, restore what is missing."
    return [Finding(segment_name(firsts[0]), 0, what, None, None, hint, harmless=True)]


_WATERMARK_HINT = "No frame is lost by it: the next start of the writer mends it."
_CURSOR_HINT = "The cursor may be one store old: frames given twice are recognised by their ids."


def judge_slots(name: str, check: SlotCheck, *, cursor: bool) -> list[Finding]:
    """Return what is wrong with a two-slot file as such."""
    kind = "cursor" if cursor else "watermark"
    if not check.valid:
        what = f"neither slot of the {kind} is sound"
        hint = _WATERMARK_HINT
        if cursor:
            hint = "Move the file away: its consumer reads again from the oldest frame."
        return [Finding(name, 0, what, None, None, hint)]
    found = []
    for side in check.damaged:
        what = f"one of the two slots of the {kind} is damaged or was torn by a crash"
        hint = _CURSOR_HINT if cursor else _WATERMARK_HINT
        found.append(Finding(name, check.offset_of(side), what, None, None, hint))
    if check.stray is not None:
        what, hint = f"bytes of the {kind} that must be zero are not", "Nothing depends on them."
        found.append(Finding(name, check.stray, what, None, None, hint, harmless=True))
    return found


def judge_cursor(name: str, position: Position, logs: dict[str, tuple[int, int]]) -> list[Finding]:
    """Return what is wrong with where a cursor points.

    ``logs`` holds, by log id, the first sequence number that is there and the end.
    """
    if position.log_id not in logs:
        what = f"the cursor is of the log {position.log_id}, which is not in this journal"
        hint = "Its consumer reads again from the oldest frame. Was the journal replaced?"
        return [Finding(name, 0, what, None, None, hint)]
    first, end = logs[position.log_id]
    if position.seq > end:
        what = f"the cursor is beyond the end of the journal, which is {end}"
        hint = (
            "The journal is an older copy, or its disk lied; the writer's start begins a new log."
        )
        return [Finding(name, 0, what, end, position.seq - 1, hint)]
    if position.seq < first:
        what = f"the cursor is before the oldest frame of the journal, {first}"
        hint = f"A segment is missing, or retention was shorter than the backlog. {_DECLARED}"
        return [Finding(name, 0, what, position.seq, first - 1, hint)]
    return []
