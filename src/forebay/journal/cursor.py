"""What a consumer keeps in files: how far it has durably got, and its state beside that."""

from __future__ import annotations

import contextlib
import zlib
from struct import Struct
from typing import TYPE_CHECKING

from forebay.errors import Corrupt
from forebay.journal.disk import OS_DISK, create_file, read_file, translated
from forebay.journal.model import Position
from forebay.journal.two_slot_file import SlotFile, parse_slots

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk

_FIELDS = Struct("<8s16sQ")
_MAGIC = b"\x89FBJC\r\n\x1a"
_STATE = Struct("<8sI")
_STATE_MAGIC = b"\x89FBST\r\n\x1a"
_HINT = "Move it away: its consumer reads again from the oldest frame."


def decode_cursor(payload: bytes) -> Position | None:
    """Return the position of a slot's payload; None if it is something else."""
    if len(payload) != _FIELDS.size or not payload.startswith(_MAGIC):
        return None
    _, log_id, seq = _FIELDS.unpack(payload)
    return Position(log_id.hex(), seq)


class CursorFile:
    """One consumer's cursor: two slots, each with its CRC, synced at every store.

    The record is ``magic 89 46 42 4a 43 0d 0a 1a | 16 log id | u64 seq`` in a two-slot file
    (see :mod:`forebay.journal.two_slot_file`).
    """

    def __init__(self, path: Path, disk: Disk = OS_DISK) -> None:
        self._path = path
        self._disk = disk
        self._file = SlotFile(disk, path, path.with_name(f".{path.name}.making"), sync=True)

    def load(self) -> Position | None:
        """Return the cursor stored last, or the one before if that store was torn; None if never.

        Raises :class:`~forebay.errors.Corrupt` if the file is there but neither slot is
        sound, and :class:`~forebay.errors.Transient` if it cannot be read now.
        """
        with translated(f"read the cursor {self._path}"):
            raw = read_file(self._disk, self._path)
        if raw is None:
            return None
        slot = parse_slots(raw)
        position = decode_cursor(slot.payload if slot else b"")
        if position is None:
            raise Corrupt(f"Both slots of the cursor {self._path} are damaged.", hint=_HINT)
        return position

    def store(self, position: Position) -> None:
        """Put ``position`` on stable storage before returning.

        Raises :class:`~forebay.errors.Transient` if that failed; :meth:`load` then gives
        this position or the one before.
        """
        payload = _FIELDS.pack(_MAGIC, bytes.fromhex(position.log_id), position.seq)
        with translated(f"store the cursor {self._path}"):
            try:
                self._file.put(payload)
            except OSError:
                # After a failed sync the descriptor proves nothing any more.
                self.close()
                raise

    def close(self) -> None:
        """Close the file; what was stored stays."""
        self._file.close()


class StateFile:
    """Opaque bytes that survive a kill and a power cut, replaced whole or not at all.

    For one writer. The file is ``magic 89 46 42 53 54 0d 0a 1a | CRC-32 of the rest, u32 little
    endian | payload``.
    """

    def __init__(self, path: Path, disk: Disk = OS_DISK) -> None:
        self._path = path
        self._disk = disk

    def load(self) -> bytes | None:
        """Return what was stored last; None if nothing ever was.

        Raises :class:`~forebay.errors.Corrupt` if the file is damaged, and
        :class:`~forebay.errors.Transient` if it cannot be read now.
        """
        with translated(f"read {self._path}"):
            raw = read_file(self._disk, self._path)
        if raw is None:
            return None
        payload = raw[_STATE.size :]
        if raw[: _STATE.size] != _STATE.pack(_STATE_MAGIC, zlib.crc32(payload)):
            raise Corrupt(f"The state {self._path} is damaged.", hint=_HINT)
        return payload

    def store(self, payload: bytes) -> None:
        """Put ``payload`` on stable storage before returning.

        Raises :class:`~forebay.errors.Transient` if that failed; :meth:`load` then gives this
        or what was there before.
        """
        making = self._path.with_name(f".{self._path.name}.making")
        with translated(f"store {self._path}"):
            self._disk.make_folder(self._path.parent)
            with contextlib.suppress(FileNotFoundError):  # of a writer that was killed
                self._disk.unlink(making)
            raw = [_STATE.pack(_STATE_MAGIC, zlib.crc32(payload)), payload]
            self._disk.close(create_file(self._disk, self._path, making, raw))
