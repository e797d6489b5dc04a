"""How far a log is durable, said by its writer to readers in other processes.

The file ``watermark`` is a two-slot record (see :mod:`forebay.journal.two_slot_file`) with this
payload, little endian::

    16 log id | 36 boot id, ASCII, zero padded | u64 next_seq
    | u64 first_seq of the last segment | 16 segment id | u64 offset in that segment

It is written after ``fdatasync`` and never synced itself. So it never says too much. After
a power cut it may say too little: that is why readers trust it only during the boot in
which it was written, while recovery takes it as a lower bound in any case.
"""

from __future__ import annotations

import contextlib
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from forebay.journal.disk import read_all, read_file
from forebay.journal.two_slot_file import FILE_SIZE, SlotFile, parse_slots

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk

_FIELDS = Struct("<16s36sQQ16sQ")
FILE_NAME = "watermark"


class Watermark(NamedTuple):
    """Everything before it is on stable storage."""

    log_id: bytes
    boot_id: str
    next_seq: int
    segment_first_seq: int
    segment_id: bytes
    offset: int
    newest: bool = True
    """False if a newer one may have been in a slot that is damaged now."""


def encode_watermark(mark: Watermark) -> bytes:
    """Return the record's payload."""
    return _FIELDS.pack(
        mark.log_id,
        mark.boot_id.encode("ascii"),
        mark.next_seq,
        mark.segment_first_seq,
        mark.segment_id,
        mark.offset,
    )


def decode_watermark(payload: bytes) -> Watermark | None:
    """Read what :func:`encode_watermark` wrote; None if it is something else."""
    if len(payload) != _FIELDS.size:
        return None
    log_id, boot_id, *rest = _FIELDS.unpack(payload)
    if not boot_id.isascii():
        return None
    return Watermark(log_id, boot_id.rstrip(b"\0").decode("ascii"), *rest)


def read_watermark(disk: Disk, folder: Path) -> Watermark | None:
    """Return the folder's watermark, of whatever boot; None if there is none."""
    slot = parse_slots(read_file(disk, folder / FILE_NAME) or b"")
    mark = decode_watermark(slot.payload) if slot else None
    return mark._replace(newest=slot.newest) if mark and slot else None


class WatermarkReader:
    """Watches a folder's watermark; keeps the file open because it is asked often."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._path = folder / FILE_NAME
        self._boot_id = disk.boot_id()
        self._fd: int | None = None

    def read(self) -> Watermark | None:
        """Return the watermark, if it was written during this boot."""
        if self._fd is None:
            try:
                self._fd = self._disk.open(self._path)
            except FileNotFoundError:
                return None
        slot = parse_slots(read_all(self._disk, self._fd, FILE_SIZE, 0))
        mark = decode_watermark(slot.payload) if slot else None
        if mark is None or mark.boot_id != self._boot_id:
            # A writer that found both slots damaged has put a new file here.
            self.close()
            return None
        return mark

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None


class WatermarkWriter:
    """Publishes the watermark of one folder."""

    def __init__(self, disk: Disk, folder: Path, scratch: Path) -> None:
        self._file = SlotFile(disk, folder / FILE_NAME, scratch, sync=False)
        self.pending = False
        """Whether the newest watermark is still to be published."""

    def publish(self, mark: Watermark) -> None:
        """Tell readers; if the disk refuses, they lag until the next one is published."""
        self.pending = True
        with contextlib.suppress(OSError):
            self._file.put(encode_watermark(mark))
            self.pending = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()
