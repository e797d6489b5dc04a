"""A consumer's state beside its cursor: replaced whole, or not at all.

The file is ``magic 89 46 42 53 54 0d 0a 1a | CRC-32 of the rest, u32 little endian | payload``.
"""

from __future__ import annotations

import contextlib
import zlib
from struct import Struct
from typing import TYPE_CHECKING

from forebay.errors import Corrupt
from forebay.journal.disk import OS_DISK, create_file, read_file, translated

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk

_MAGIC = b"\x89FBST\r\n\x1a"
_HEAD = Struct("<8sI")


class StateFile:
    """Opaque bytes that survive a kill and a power cut; for one writer."""

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
        payload = raw[_HEAD.size :]
        if raw[: _HEAD.size] != _HEAD.pack(_MAGIC, zlib.crc32(payload)):
            hint = "Move it away: its consumer reads again from the oldest frame."
            raise Corrupt(f"The state {self._path} is damaged.", hint=hint)
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
            raw = [_HEAD.pack(_MAGIC, zlib.crc32(payload)), payload]
            self._disk.close(create_file(self._disk, self._path, making, raw))
