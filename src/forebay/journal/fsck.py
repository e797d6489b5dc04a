"""Looking at a journal folder from outside: is it sound, what is in it, give me all of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from forebay.errors import ConfigError, Transient
from forebay.journal.cursor import decode_cursor
from forebay.journal.disk import OS_DISK, read_file, translated
from forebay.journal.findings import (
    Finding,
    judge_cursor,
    judge_ends,
    judge_segment,
    judge_slots,
)
from forebay.journal.lock import WriterBusy
from forebay.journal.model import Block, Position
from forebay.journal.reader import JournalReader
from forebay.journal.segments import list_segments
from forebay.journal.survey import Survey, surveys
from forebay.journal.two_slot_file import check_slots, parse_slots
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
