"""The one writer of a journal folder."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from forebay.errors import ConfigError, Permanent
from forebay.journal.ballast import Ballast
from forebay.journal.disk import OS_DISK, Disk, is_full, translate, translated, write_all
from forebay.journal.format import SegmentHeader, encode_block
from forebay.journal.model import LOSS_KIND, PendingBlock, Position, encode_loss, new_id
from forebay.journal.recovery import Recovered, RecoveryReport, recover
from forebay.journal.segments import Segment, create_segment, scratch_path
from forebay.journal.watermark import Watermark, WatermarkWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from forebay.clock import Clock

LOCK_NAME = "writer.lock"
_BALLAST_NAME = "ballast"
_TRIES = 3
"""As it is, in a new segment or without the ballast, and once more if both had to be."""


class WriterBusy(ConfigError):
    """Another writer has the folder."""


class WriterLock:
    """A folder held for one writer, until :meth:`release` or the end of the process.

    Two locks, because each has a hole that the other one closes: a lock on the file alone is
    had twice once somebody removed the file, and not every file system locks folders.
    """

    def __init__(self, disk: Disk, folder: Path) -> None:
        """Raise :class:`WriterBusy`, naming the process, if another writer has the folder."""
        self._disk = disk
        self._handles: list[int] = []
        note = f"{disk.process_id()}\n".encode("ascii")
        try:
            self._handles.append(disk.lock_folder(folder))
            self._handles.append(disk.lock(folder / LOCK_NAME, note))
        except BaseException as error:
            self.release()
            if not isinstance(error, BlockingIOError):
                raise
            message = f"The journal {folder} has a writer already: process {_holder(disk, folder)}."
            hint = "Stop that process, or give this one another folder."
            raise WriterBusy(message, hint=hint) from error

    def release(self) -> None:
        """Leave the folder to others."""
        while self._handles:
            self._disk.close(self._handles.pop())


def _holder(disk: Disk, folder: Path) -> str:
    """Return what the lock file says about who holds it."""
    try:
        fd = disk.open(folder / LOCK_NAME)
    except OSError:
        return "unknown"
    try:
        return disk.pread(fd, 64, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        disk.close(fd)


class JournalWriter:
    """Appends to the journal in one folder; blocking, for one thread at a time."""

    def __init__(
        self,
        folder: Path,
        recovered: Recovered,
        *,
        clock: Clock,
        disk: Disk,
        lock: WriterLock,
        boot_id: str,
        random_id: Callable[[], str],
        segment_bytes: int,
    ) -> None:
        """Internal: use :meth:`open`."""
        self._folder = folder
        self._clock = clock
        self._disk = disk
        self._lock: WriterLock | None = lock
        self._random_id = random_id
        self._segment_bytes = segment_bytes
        self._log_id = recovered.log_id
        self._next_seq = recovered.next_seq
        self._segment = recovered.segment
        self._boot_id = boot_id
        self._ballast = Ballast(disk, folder / _BALLAST_NAME, 0)
        self._watermark = WatermarkWriter(disk, folder, scratch_path(folder, random_id()))
        self._has_committed = False
        self.report: RecoveryReport = recovered.report
        """What opening found."""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        clock: Clock,
        random_id: Callable[[], str] = new_id,
        disk: Disk = OS_DISK,
        segment_bytes: int = 64 << 20,
        ballast_bytes: int = 4 << 20,
        floor: Sequence[Position] = (),
        new_log: bool = False,
    ) -> JournalWriter:
        """Create the journal or recover it, and publish how far it is durable.

        ``random_id`` gives 32 hexadecimal digits, different at every call. ``floor`` holds
        the cursors of known consumers. If one is beyond the recovered end, the log lost
        what that consumer has: a new log begins above it, with a loss record for the range
        between, so that no sequence number means two things. ``new_log`` begins one in any
        case, for a caller who knows of a consumer and not how far it is; a journal that never
        held a frame stays as it is.

        Raises :class:`~forebay.journal.WriterBusy` if another writer has the folder,
        :class:`~forebay.errors.ConfigError` if it may not be written,
        :class:`~forebay.errors.JournalFull` if there is no space for a first segment, and
        :class:`~forebay.errors.Transient` if the disk fails.
        """
        with translated(f"open the journal {folder}"):
            boot_id = disk.boot_id()
            disk.make_folder(folder)
            lock = WriterLock(disk, folder)
            try:
                writer = cls(
                    folder,
                    recover(disk, folder, random_id),
                    clock=clock,
                    disk=disk,
                    lock=lock,
                    boot_id=boot_id,
                    random_id=random_id,
                    segment_bytes=segment_bytes,
                )
            except BaseException:
                lock.release()
                raise
            try:
                writer._start(floor, ballast_bytes, new_log=new_log)
            except BaseException:
                writer._release()
                raise
        return writer

    @property
    def position(self) -> Position:
        """The end: where the next frame goes. Everything before it is durable."""
        return Position(self._log_id.hex(), self._next_seq)

    def commit(self, drafts: Sequence[PendingBlock]) -> int:
        """Put all drafts on stable storage, in order; gives the next sequence number.

        Raises :class:`~forebay.errors.JournalFull` or :class:`~forebay.errors.Transient` if
        that failed: then none of them is in the log and the same call may succeed later.
        Raises :class:`~forebay.errors.Permanent` if a draft cannot be written at all.
        """
        if self._lock is None:
            raise Permanent("The journal is closed.", hint="Open it again to write.")
        buffers, next_seq = self._encode(drafts)
        if buffers:
            self._append_surely(buffers, next_seq)
            self._has_committed = True
            self._ballast.restore()
        elif self._watermark.pending:
            self._publish()
        return self._next_seq

    def close(self) -> None:
        """Prove the last commit with a block of its own and leave the folder to others.

        Without that block, damage to the very last bytes could not be told from an
        unfinished write. A disk that refuses it is no error: it only sharpens reports.
        """
        if self._lock is None:
            return
        if self._has_committed and self._segment is not None:
            proof = self._blocks(PendingBlock(0, b"", [], []), self._next_seq, (0, 0))
            with contextlib.suppress(OSError):
                self._append(self._segment, proof, self._next_seq)
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ opening

    def _start(self, floor: Sequence[Position], ballast_bytes: int, *, new_log: bool) -> None:
        known = [cursor.seq for cursor in floor if cursor.log_id == self._log_id.hex()]
        ahead = max(known, default=0)
        self._ballast = Ballast(self._disk, self._folder / _BALLAST_NAME, ballast_bytes)
        self._ballast.restore()
        if ahead > self._next_seq or (new_log and self._next_seq > 1):
            self._begin_new_log(max(ahead, self._next_seq))
        elif self._segment is None:
            self._segment = self._create_segment()
        self._publish()

    def _begin_new_log(self, first_seq: int) -> None:
        """Start over above what a consumer has; the loss record comes with the segment."""
        vanished = (self._next_seq, first_seq - 1)
        self._finish()
        self._log_id = bytes.fromhex(self._random_id())
        self._next_seq = first_seq
        self.report = replace(self.report, new_log=True)
        if vanished[0] == first_seq:
            self._segment = self._create_segment()
            return
        now = (self._clock.wall_ns(), self._clock.monotonic_ns())
        loss = PendingBlock(LOSS_KIND, b"", [encode_loss(*vanished)], [now[1]])
        self._segment = self._create_segment(b"".join(self._blocks(loss, first_seq, now)))
        self._next_seq += 1
        losses = (*self.report.losses, vanished)
        self.report = replace(self.report, losses=losses)

    # ---------------------------------------------------------- committing

    def _encode(self, drafts: Sequence[PendingBlock]) -> tuple[list[bytes], int]:
        now = (self._clock.wall_ns(), self._clock.monotonic_ns())
        buffers: list[bytes] = []
        seq = self._next_seq
        for draft in drafts:
            if not 0 < draft.kind < LOSS_KIND or len(draft.payloads) != len(draft.mono_ns):
                message = f"A draft of kind {draft.kind} has {len(draft.payloads)} payloads and "
                message += f"{len(draft.mono_ns)} receipt times."
                raise Permanent(message, hint="Kinds are 1 to 254; each payload has one time.")
            if draft.payloads:
                buffers += self._blocks(draft, seq, draft.anchor or now)
                seq += len(draft.payloads)
        return buffers, seq

    def _blocks(
        self, draft: PendingBlock, first_seq: int, anchor: tuple[int, int]
    ) -> tuple[bytes, bytes]:
        try:
            return encode_block(
                draft,
                log_id=self._log_id,
                first_seq=first_seq,
                durable_seq=self._next_seq,
                anchor=anchor,
            )
        except (OverflowError, struct.error) as error:
            message = f"A draft does not fit the journal's format: {error}."
            hint = "Payloads are below 4 GiB and times are 64-bit nanoseconds."
            raise Permanent(message, hint=hint) from error

    def _append_surely(self, buffers: list[bytes], next_seq: int) -> None:
        for attempt in range(_TRIES):
            try:
                self._append(self._segment_for(sum(map(len, buffers))), buffers, next_seq)
            except OSError as error:
                released = is_full(error) and self._ballast.release()
                if attempt == _TRIES - 1 or (is_full(error) and not released):
                    raise translate(error, f"write to the journal {self._folder}") from error
            else:
                return

    def _append(self, segment: Segment, buffers: Sequence[bytes], next_seq: int) -> None:
        """Write and sync once. After an OSError none of it is in the log."""
        try:
            end = write_all(self._disk, segment.fd, buffers, segment.size)
        except OSError as error:
            self._take_back(segment, error)
            raise
        try:
            self._disk.fdatasync(segment.fd)
        except OSError:
            self._give_up(segment)
            raise
        segment.size = end
        self._next_seq = next_seq
        self._publish()

    def _segment_for(self, size: int) -> Segment:
        segment = self._segment
        if segment is not None:
            fits = segment.size + size <= self._segment_bytes
            if fits or self._next_seq == segment.first_seq:
                return segment
            self._finish()
        self._segment = self._create_segment()
        return self._segment

    def _create_segment(self, blocks: bytes = b"") -> Segment:
        header = SegmentHeader(self._log_id, bytes.fromhex(self._random_id()), self._next_seq)
        try:
            return create_segment(self._disk, self._folder, header, blocks)
        except OSError as error:
            if not (is_full(error) and self._ballast.release()):
                raise
        return create_segment(self._disk, self._folder, header, blocks)

    def _take_back(self, segment: Segment, error: OSError) -> None:
        """Remove a partial write; a segment from which it cannot be removed is given up."""
        if not is_full(error):
            self._give_up(segment)
            return
        try:
            self._disk.truncate(segment.fd, segment.size)
        except OSError:
            self._give_up(segment)

    def _give_up(self, segment: Segment) -> None:
        """Never again trust this descriptor: after a failed sync it proves nothing.

        What was written after the last commit is hidden by the next segment's name.
        """
        with contextlib.suppress(OSError):
            self._disk.truncate(segment.fd, segment.size)
        self._finish()

    def _finish(self) -> None:
        if self._segment is not None:
            self._disk.close(self._segment.fd)
            self._segment = None

    def _publish(self) -> None:
        segment = self._segment
        if segment is None or segment.segment_id is None:
            return
        self._watermark.publish(
            Watermark(
                self._log_id,
                self._boot_id,
                self._next_seq,
                segment.first_seq,
                segment.segment_id,
                segment.size,
            )
        )

    def _release(self) -> None:
        self._finish()
        self._watermark.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
