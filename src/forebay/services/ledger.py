"""The ledger: a permanent account of every segment, kept when its frames are gone.

It is a small journal of its own: each frame is one :class:`~forebay.domain.ledger.SegmentEntry` as
JSON, so it is durable, checked and recovered as any journal is, and ``forebay journal fsck``
reads it. Entries are made of what delivery projected for the store, before the store had it; what
a process that ended took with it is projected once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import msgspec

from forebay.domain.ledger import VERSION, LedgerState, SegmentEntry, decode_entry, record_of
from forebay.errors import ConfigError, Corrupt, Transient
from forebay.journal import (
    LOSS_KIND,
    OS_DISK,
    JournalReader,
    JournalWriter,
    PendingBlock,
    Position,
    ensure_durable,
    new_id,
)
from forebay.journal.watermark import WatermarkReader
from forebay.services.ledger_builder import FirstTold, LedgerBuilder, LiveSums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal import Block, Disk
    from forebay.ports import Parser

SEGMENT_BYTES = 4 << 20
"""An entry is some kilobytes, and a crash should not have much to recover."""
_CONTEXT = b'{"ledger":1}'
_ENTRY_KIND = 1


@dataclass(slots=True)
class Ledger:
    """A ledger that :func:`open_ledger` opened for writing; for one thread at a time."""

    _writer: JournalWriter
    _parsers: Mapping[str, Parser]
    _clock: Clock
    _record: LedgerState
    _first_told: FirstTold
    _live: LiveSums | None

    def reached(self) -> Position | None:
        """Return where the next entry begins: everything before is durable. None: no entry."""
        record = self._record
        return Position(record.log_id, record.end) if record.log_id else None

    def record(self, blocks: Iterable[Block], end: Position) -> None:
        """Account for everything before ``end``, durably; perhaps for more.

        ``blocks`` are those of one segment, in order; they are read only as far as the live sums
        do not have them. Nothing if that was done already. Raises
        :class:`~forebay.errors.Transient` if the disk has no space or fails; nothing has changed
        then.
        """
        start = self._end()
        if end.seq <= start:
            return
        begins = self._live.begins if self._live else None
        if begins is None or begins < start:
            begins = end.seq  # the frames must tell
        if begins > max(start, 1):
            stop = Position(end.log_id, min(end.seq, begins))
            accountant = LedgerBuilder(self._parsers, self._record, self._first_told)
            self._write(accountant.account(_between(blocks, start, stop.seq), stop))
        while self._live is not None and self._end() < end.seq:
            entry = self._live.cut()
            if entry is None or entry.first != max(self._end(), 1):
                break
            self._write(entry)
            self._live.written()

    def _end(self) -> int:
        reached = self.reached()
        return reached.seq if reached else 0

    def _write(self, entry: SegmentEntry) -> None:
        now = self._clock.monotonic_ns()
        self._writer.commit([PendingBlock(_ENTRY_KIND, _CONTEXT, [entry.encode()], [now])])
        self._record.add(entry)

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _between(blocks: Iterable[Block], start: int, end: int) -> Iterator[Block]:
    for block in blocks:
        if block.next_seq <= start or block.first_seq >= end:
            continue
        if block.kind == LOSS_KIND or (block.first_seq >= start and block.next_seq <= end):
            yield block
        else:
            low = max(0, start - block.first_seq)
            yield block.part(low, min(len(block.payloads), end - block.first_seq))


def open_ledger(
    folder: Path,
    parsers: Mapping[str, Parser],
    clock: Clock,
    *,
    first_told: FirstTold,
    live: LiveSums | None = None,
    disk: Disk = OS_DISK,
    random_id: Callable[[], str] = new_id,
) -> Ledger:
    """Open or create the ledger in ``folder`` for writing.

    Entries are cut off ``live`` as far as that reaches back; before, frames are projected, and
    ``first_told`` is asked what coverage does not know. Raises
    :class:`~forebay.journal.WriterBusy` if another process has it,
    :class:`~forebay.errors.Transient` if the disk fails, and as :func:`read_ledger`.
    """
    writer = JournalWriter.open(
        folder,
        clock=clock,
        disk=disk,
        random_id=random_id,
        segment_bytes=SEGMENT_BYTES,
        ballast_bytes=0,
    )
    try:
        record = record_of(_entries(folder, disk, writer.position.seq))
        return Ledger(writer, parsers, clock, record, first_told, live)
    except BaseException:
        writer.close()
        raise


def read_ledger(folder: Path, clock: Clock, *, disk: Disk = OS_DISK) -> list[SegmentEntry]:
    """Return the entries in the order of the journal; none if there is no ledger.

    An entry that is damaged is left out: the next one does not begin where the last one ends.
    Raises :class:`~forebay.errors.ConfigError` if a newer Forebay wrote it,
    :class:`~forebay.errors.Corrupt` if an entry is no account, and
    :class:`~forebay.errors.Transient` if the disk fails.
    """
    end = durable_end(folder, clock, disk=disk)
    return list(_entries(folder, disk, end)) if end else []


def durable_end(folder: Path, clock: Clock, *, disk: Disk = OS_DISK) -> int:
    """Return where the journal in ``folder`` ends; 0 if there is none.

    One that nobody has written since the machine started is recovered first.
    """
    watermark = WatermarkReader(disk, folder)
    try:
        mark = watermark.read()
    finally:
        watermark.close()
    try:
        return mark.next_seq if mark else ensure_durable(folder, clock=clock, disk=disk).seq
    except ConfigError:
        return 0


def _entries(folder: Path, disk: Disk, end: int) -> Iterator[SegmentEntry]:
    with JournalReader(folder, disk=disk) as reader:
        while blocks := reader.read():
            for block in blocks:
                if block.kind != LOSS_KIND:
                    yield from (_decoded(folder, payload) for payload in block.payloads)
        if reader.position.seq < end:  # no watermark tells what is durable
            message = f"The ledger {folder} cannot be read up to its end {end} now."
            raise Transient(message, hint="Check the disk; it is tried again.")


def _decoded(folder: Path, payload: bytes) -> SegmentEntry:
    hint = "Audit with `--from frames` meanwhile."
    try:
        version = msgspec.json.decode(payload, type=_Version).version
        if version > VERSION:
            message = f"The ledger {folder} has entries of version {version}, newer than these."
            raise ConfigError(message, hint="Upgrade Forebay.")
        return decode_entry(payload)
    except msgspec.DecodeError as error:
        raise Corrupt(
            f"The ledger {folder} has an entry that is none: {error}.", hint=hint
        ) from error


class _Version(msgspec.Struct):
    version: int = 0
