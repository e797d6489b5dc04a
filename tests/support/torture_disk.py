"""A disk in memory that is quick to copy, counts its reads and keeps whatever is written."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass
class MemDisk:
    """A :class:`forebay.journal.Disk` of one folder; ``files`` are contents by name."""

    files: dict[str, bytearray] = field(default_factory=dict)
    boot: int = 1
    patience: int = 1000
    """Reads until it is clear that somebody goes round in circles."""
    reads: int = 0

    def __post_init__(self) -> None:
        self._handles: dict[int, bytearray] = {}
        self._locked: dict[str, int] = {}
        self._next = 3

    @classmethod
    def of(cls, files: Mapping[str, bytes], boot: int = 1) -> MemDisk:
        return cls({name: bytearray(data) for name, data in files.items()}, boot)

    def flip(self, name: str, bit: int) -> None:
        self.files[name][bit // 8] ^= 1 << bit % 8

    def kill(self) -> None:
        """``kill -9`` of whoever has files open."""
        self._handles.clear()
        self._locked.clear()

    # ------------------------------------------------------------- the port

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        name = path.name
        if create:
            if name in self.files:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self.files[name] = bytearray()
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self._handle(self.files[name])

    def close(self, fd: int) -> None:
        del self._handles[fd]
        self._locked = {name: holder for name, holder in self._locked.items() if holder != fd}

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self.reads += 1
        assert self.reads <= self.patience, "somebody reads in circles"
        return bytes(self._handles[fd][offset : offset + size])

    def pwritev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        data, inode = b"".join(buffers), self._handles[fd]
        inode.extend(bytes(max(0, offset - len(inode))))
        inode[offset : offset + len(data)] = data
        return len(data)

    def fdatasync(self, fd: int) -> None:
        assert fd in self._handles

    def fsync_dir(self, folder: Path) -> None:
        """Every name is durable at once."""

    def truncate(self, fd: int, size: int) -> None:
        inode = self._handles[fd]
        del inode[size:]
        inode.extend(bytes(size - len(inode)))

    def allocate(self, fd: int, size: int) -> None:
        self.truncate(fd, size)

    def size(self, fd: int) -> int:
        return len(self._handles[fd])

    def rename(self, old: Path, new: Path) -> None:
        self.files[new.name] = self.files.pop(old.name)

    def unlink(self, path: Path) -> None:
        if path.name not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path.name)
        del self.files[path.name]

    def listdir(self, folder: Path) -> list[str]:
        return list(self.files)

    def make_folder(self, folder: Path) -> None:
        """Folders are always there."""

    def free(self, folder: Path) -> int:
        return 1 << 40

    def lock(self, path: Path, note: bytes) -> int:
        self.files[path.name] = bytearray(note)
        return self._lock(path.name)

    def lock_folder(self, folder: Path) -> int:
        return self._lock("/")

    def boot_id(self) -> str:
        return f"boot-{self.boot}"

    def process_id(self) -> int:
        return 1

    def _handle(self, data: bytearray) -> int:
        self._next += 1
        self._handles[self._next] = data
        return self._next

    def _lock(self, name: str) -> int:
        if name in self._locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        fd = self._handle(bytearray())
        self._locked[name] = fd
        return fd
