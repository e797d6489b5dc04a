"""A small record that is overwritten again and again and is never torn.

Two slots, a page apart, are written in turn; the valid one with the highest counter
counts, so a write that a crash tears leaves the record before it. Slot, little endian::

    u64 counter | u16 length | payload | CRC-32 of all before
"""

from __future__ import annotations

import contextlib
import zlib
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from forebay.journal.disk import create_file, read_file, write_all

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk

_HEAD = Struct("<QH")
_CRC = Struct("<I")
_SPACING = 4096
_SLOT_SIZE = 256
FILE_SIZE = _SPACING + _SLOT_SIZE
MAX_PAYLOAD = _SLOT_SIZE - _HEAD.size - _CRC.size


class Slot(NamedTuple):
    """One valid slot."""

    counter: int
    side: int
    payload: bytes
    newest: bool = True
    """False if the other slot is damaged: it may have held what was written later."""


def encode_slot(counter: int, payload: bytes) -> bytes:
    """Return a slot's bytes, ``_SLOT_SIZE`` of them."""
    content = _HEAD.pack(counter, len(payload)) + payload
    return (content + _CRC.pack(zlib.crc32(content))).ljust(_SLOT_SIZE, b"\0")


def parse_slots(raw: bytes) -> Slot | None:
    """Return the newest valid slot of a file's bytes; None if none is valid."""
    sides = [raw[side * _SPACING :][:_SLOT_SIZE] for side in range(2)]
    sound = [slot for side in range(2) if (slot := _parse_slot(sides[side], side))]
    if not sound:
        return None
    found = max(sound, key=lambda slot: slot.counter)
    return found._replace(newest=len(sound) > 1 or not any(sides[1 - found.side]))


def _parse_slot(raw: bytes, side: int) -> Slot | None:
    if len(raw) < _HEAD.size + _CRC.size:
        return None
    counter, length = _HEAD.unpack_from(raw)
    end = _HEAD.size + length
    # Counters begin at 1, so that a slot of zeros is never taken for a record.
    if not counter or end + _CRC.size > len(raw):
        return None
    if _CRC.unpack_from(raw, end)[0] != zlib.crc32(raw[:end]):
        return None
    return Slot(counter, side, raw[_HEAD.size : end])


class SlotCheck(NamedTuple):
    """What is wrong with the bytes of a two-slot file."""

    valid: int
    """Sound slots."""
    damaged: tuple[int, ...]
    """Sides whose slot is neither sound nor empty."""
    stray: int | None
    """Offset of the first byte that must be zero and is not; None if there is none."""

    @staticmethod
    def offset_of(side: int) -> int:
        """Return where the slot of a side begins."""
        return side * _SPACING


def check_slots(raw: bytes) -> SlotCheck:
    """Look at every byte of a two-slot file."""
    expected = bytearray(max(len(raw), FILE_SIZE))
    valid, damaged = 0, []
    for side in range(2):
        here = slice(side * _SPACING, side * _SPACING + _SLOT_SIZE)
        slot = _parse_slot(raw[here], side)
        if slot is not None:
            valid += 1
            expected[here] = encode_slot(slot.counter, slot.payload)
        elif any(raw[here]):
            damaged.append(side)
            expected[here] = raw[here].ljust(_SLOT_SIZE, b"\0")
    return SlotCheck(valid, tuple(damaged), _first_difference(raw, bytes(expected[: len(raw)])))


def _first_difference(raw: bytes, expected: bytes) -> int | None:
    differing = int.from_bytes(raw, "little") ^ int.from_bytes(expected, "little")
    return ((differing & -differing).bit_length() - 1) // 8 if differing else None


class SlotFile:
    """A two-slot file and its one writer, opened by the first :meth:`put`.

    That makes it anew if it holds no sound record, so that it never exists without one. With
    ``sync`` a record is on stable storage when it is written.
    """

    def __init__(self, disk: Disk, path: Path, scratch: Path, *, sync: bool) -> None:
        """``scratch`` is what the file is called while it is made."""
        self._disk = disk
        self._path = path
        self._scratch = scratch
        self._sync = sync
        self._fd: int | None = None
        self._counter = 0
        self._side = 1

    def put(self, payload: bytes) -> None:
        """Write the record.

        Raises :class:`OSError`; the record before is then still there, and the next call
        writes the same slot again.
        """
        if self._fd is None:
            newest = parse_slots(read_file(self._disk, self._path) or b"")
            if newest is None:
                self._make(payload)
                return
            self._fd = self._disk.open(self._path, write=True)
            self._counter, self._side = newest.counter, newest.side
        side = 1 - self._side
        self._counter += 1
        slot = encode_slot(self._counter, payload)
        write_all(self._disk, self._fd, [slot], side * _SPACING)
        if self._sync:
            self._disk.fdatasync(self._fd)
        self._side = side

    def close(self) -> None:
        """Close the file; a later :meth:`put` opens it again."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None

    def _make(self, payload: bytes) -> None:
        self._disk.make_folder(self._path.parent)
        with contextlib.suppress(FileNotFoundError):  # of a writer that was killed
            self._disk.unlink(self._scratch)
        raw = encode_slot(1, payload).ljust(FILE_SIZE, b"\0")
        self._fd = create_file(self._disk, self._path, self._scratch, [raw], sync=self._sync)
        self._counter, self._side = 1, 0
