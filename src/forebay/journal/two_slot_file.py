"""A small record that is overwritten again and again and is never torn.

Two slots, a page apart, are written in turn; the valid one with the highest counter
counts, so a write that a crash tears leaves the record before it. Slot, little endian::

    u64 counter | u16 length | payload | CRC-32 of all before
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from forebay.journal.disk import create_file, read_all, write_all

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


def read_slots(disk: Disk, fd: int) -> Slot | None:
    """Return the newest valid slot of an open file."""
    return parse_slots(read_all(disk, fd, FILE_SIZE, 0))


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
    """An open two-slot file; its one writer."""

    def __init__(self, disk: Disk, fd: int) -> None:
        """Take over an open file, which is closed if it cannot be read."""
        self._disk = disk
        self._fd = fd
        try:
            newest = read_slots(disk, fd)
        except BaseException:
            disk.close(fd)
            raise
        self._counter = newest.counter if newest else 0
        self._side = newest.side if newest else 1

    def put(self, payload: bytes, *, sync: bool) -> None:
        """Write the record; with ``sync`` it is on stable storage when this returns.

        Raises :class:`OSError`; the record before is then still there, and the next call
        writes the same slot again.
        """
        side = 1 - self._side
        self._counter += 1
        slot = encode_slot(self._counter, payload)
        write_all(self._disk, self._fd, [slot], side * _SPACING)
        if sync:
            self._disk.fdatasync(self._fd)
        self._side = side

    def close(self) -> None:
        """Close the file."""
        self._disk.close(self._fd)


def create_slot_file(
    disk: Disk, path: Path, payload: bytes, scratch: Path, *, sync: bool
) -> SlotFile:
    """Make the file with its first record, so that it never exists without one."""
    raw = encode_slot(1, payload).ljust(FILE_SIZE, b"\0")
    return SlotFile(disk, create_file(disk, path, scratch, [raw], sync=sync))
