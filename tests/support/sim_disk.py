"""A disk in memory that forgets what was not synced, fills up and fails on request.

Tests of the journal run on it, and so does the simulation.
"""

from __future__ import annotations

import errno
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Buffer = bytes | memoryview

PAGE = 512
"""A sector: the smallest unit that a power cut keeps or loses as a whole."""
_HALF = 0.5


class Killed(BaseException):
    """The process is gone; nothing tidies up behind it."""


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass
class Inode:
    """One file: what programs see, what the disk holds, and what differs."""

    data: bytearray = field(default_factory=bytearray)
    stable: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)
    locked_by: int | None = None
    reserved: int = 0

    def touch(self, start: int, end: int) -> None:
        self.dirty.update(range(start // PAGE, -(-end // PAGE)))

    def sync(self) -> None:
        self.put(self.dirty, len(self.data))
        self.dirty.clear()

    def lose_power(self, rng: random.Random) -> None:
        """Keep any subset of the unsynced pages and one of the two sizes."""
        kept = {page for page in sorted(self.dirty) if rng.random() < _HALF}
        size = rng.choice([len(self.stable), len(self.data)])
        self.put(kept, size)
        self.data = bytearray(self.stable)
        self.dirty.clear()

    def put(self, pages: set[int], size: int) -> None:
        """Bring some pages and a size to the disk."""
        self.stable = self.stable[:size].ljust(size, b"\0")
        for page in pages:
            start, end = page * PAGE, min((page + 1) * PAGE, size, len(self.data))
            if start < end:
                self.stable[start:end] = self.data[start:end]


class SimDisk:
    """A :class:`forebay.journal.Disk`; ``rng`` decides what a power cut keeps.

    ``fault(operation)`` is asked before every operation that changes something and may
    raise an :class:`OSError`. An error from ``fdatasync`` leaves the file as Linux does:
    pages clean in memory, some of them not on the disk.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        capacity: int = 1 << 40,
        fault: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.rng = rng
        self.capacity = capacity
        self.fault = fault
        self.boot = 1
        self.pid = 100
        self.short_writes = False
        self.names: dict[Path, Inode] = {}
        self.stable_names: dict[Path, Inode] = {}
        self.folders: dict[Path, Inode] = {}
        """Folders that were locked; they hold no bytes."""
        self.handles: dict[int, tuple[Inode, bool]] = {}
        self.log: list[str] = []
        self._next_handle = 3
        self._paths: dict[str, Path] = {}

    @classmethod
    def of(cls, folder: Path, files: Mapping[str, bytes], boot: int = 1) -> Self:
        """Return a disk with durable files in one folder; whoever reads it in circles fails."""
        disk = cls(random.Random(0), fault=Patience())
        disk.boot = boot
        for name, data in files.items():
            disk.names[disk._known(folder / name)] = Inode(bytearray(data), bytearray(data))
        disk.stable_names = dict(disk.names)
        return disk

    @property
    def files(self) -> dict[str, bytes]:
        """What programs see, by file name."""
        return {path.name: bytes(inode.data) for path, inode in self.names.items()}

    # ------------------------------------------------------------- disasters

    def kill(self) -> None:
        """``kill -9``: handles and locks are gone, every byte written is still there."""
        self.handles.clear()
        for inode in (*self.names.values(), *self.folders.values()):
            inode.locked_by = None
        self.pid += 1

    def lose_power(self) -> None:
        """A power cut and a new boot."""
        self.kill()
        self.boot += 1
        for name in sorted(set(self.names) | set(self.stable_names)):
            source = self.names if self.rng.random() < _HALF else self.stable_names
            if name in source:
                self.stable_names[name] = source[name]
            else:
                self.stable_names.pop(name, None)
        self.names = dict(self.stable_names)
        for inode in {id(inode): inode for inode in self.names.values()}.values():
            inode.lose_power(self.rng)

    def flip(self, path: Path, bit: int) -> None:
        """Rot one bit, in memory and on the disk."""
        inode = self.names[path]
        for data in (inode.data, inode.stable):
            if bit // 8 < len(data):
                data[bit // 8] ^= 1 << bit % 8

    # ------------------------------------------------------------- the port

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        path = self._known(path)
        if create:
            self._do("create")
            if path in self.names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            self.names[path] = Inode()
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._handle(self.names[path], write=write or create)

    def close(self, fd: int) -> None:
        inode, _ = self.handles.pop(fd)
        if inode.locked_by == fd:
            inode.locked_by = None

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._do("pread")
        inode, _ = self.handles[fd]
        return bytes(inode.data[offset : offset + size])

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self._do("pwritev")
        inode = self._writable(fd)
        data = b"".join(bytes(buffer) for buffer in buffers)
        if self.short_writes and len(data) > 1:
            data = data[: self.rng.randint(1, len(data))]
        if offset + len(data) > len(inode.data):
            room = max(0, self.free(None)) + max(len(inode.data), inode.reserved) - offset
            data = data[: max(0, room)]
            if not data:
                raise _error(errno.ENOSPC)
        end = offset + len(data)
        if len(inode.data) < offset:
            inode.data.extend(bytes(offset - len(inode.data)))
        inode.data[offset:end] = data
        inode.touch(offset, end)
        return len(data)

    def fdatasync(self, fd: int) -> None:
        inode = self._writable(fd)
        try:
            self._do("fdatasync")
        except OSError:
            lost = {page for page in sorted(inode.dirty) if self.rng.random() < _HALF}
            keep = inode.dirty - lost
            inode.put(keep, len(inode.data))
            inode.dirty.clear()
            raise
        inode.sync()

    def fsync_dir(self, folder: Path) -> None:
        self._do("fsync_dir")
        # A dict and not a set: the order of the names decides which page a power cut draws for.
        for name in self.stable_names | self.names:
            if name.parent == folder:
                if name in self.names:
                    self.stable_names[name] = self.names[name]
                else:
                    del self.stable_names[name]

    def truncate(self, fd: int, size: int) -> None:
        self._do("truncate")
        inode = self._writable(fd)
        del inode.data[size:]
        inode.data.extend(bytes(size - len(inode.data)))

    def allocate(self, fd: int, size: int) -> None:
        self._do("allocate")
        if size > self.free(None):
            raise _error(errno.ENOSPC)
        inode = self._writable(fd)
        inode.reserved = size
        inode.data.extend(bytes(size - len(inode.data)))

    def size(self, fd: int) -> int:
        return len(self.handles[fd][0].data)

    def rename(self, old: Path, new: Path) -> None:
        self._do("rename")
        old, new = self._known(old), self._known(new)
        self.names[new] = self.names.pop(old)

    def unlink(self, path: Path) -> None:
        self._do("unlink")
        path = self._known(path)
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        del self.names[path]

    def listdir(self, folder: Path) -> list[str]:
        return [name.name for name in self.names if name.parent == folder]

    def make_folder(self, folder: Path) -> None:
        """Folders are always there."""

    def free(self, folder: Path | None) -> int:
        del folder  # there is one file system
        return self.capacity - sum([len(inode.data) for inode in self.names.values()])

    def lock(self, path: Path, note: bytes) -> int:
        inode = self.names.setdefault(self._known(path), Inode())
        fd = self._lock(inode)
        inode.data[:] = note
        return fd

    def lock_folder(self, folder: Path) -> int:
        return self._lock(self.folders.setdefault(folder, Inode()))

    def boot_id(self) -> str:
        return f"boot-{self.boot}"

    def process_id(self) -> int:
        return self.pid

    # ------------------------------------------------------------- inside

    def _known(self, path: Path) -> Path:
        """One object a path: comparing those of pathlib costs more than all else here."""
        return self._paths.setdefault(str(path), path)

    def _do(self, operation: str) -> None:
        self.log.append(operation)
        self.fault(operation)

    def _lock(self, inode: Inode) -> int:
        if inode.locked_by is not None:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        fd = self._handle(inode, write=True)
        inode.locked_by = fd
        return fd

    def _handle(self, inode: Inode, *, write: bool) -> int:
        self._next_handle += 1
        self.handles[self._next_handle] = (inode, write)
        return self._next_handle

    def _writable(self, fd: int) -> Inode:
        inode, write = self.handles[fd]
        if not write:
            raise _error(errno.EBADF)
        return inode


@dataclass
class Patience:
    """A fault: after so many reads it is clear that somebody goes round in circles."""

    reads: int = 1000

    def __call__(self, operation: str) -> None:
        self.reads -= operation == "pread"
        assert self.reads >= 0, "somebody reads in circles"


@dataclass
class FailNext:
    """A fault: the next operations of one kind fail with one error number."""

    operation: str = ""
    number: int = errno.EIO
    times: int = 0
    skip: int = 0

    def __call__(self, operation: str) -> None:
        if operation != self.operation or self.times <= 0:
            return
        if self.skip > 0:
            self.skip -= 1
            return
        self.times -= 1
        raise _error(self.number)
