"""The only door from the journal to the operating system."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from forebay.errors import ConfigError, ForebayError, JournalFull, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    Buffer = bytes | memoryview

_IOV_MAX = 1024
_PAGE = 4096
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP})
_NO_FOLDER_LOCKS = frozenset({errno.EBADF, errno.EISDIR, errno.EINVAL, errno.EOPNOTSUPP})
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Disk(Protocol):
    """Files as the journal uses them; a simulated disk has the same face.

    Handles are integers. Every call may raise :class:`OSError`.
    """

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        """Open a file, to read only unless ``write``; ``create`` makes a new one, exclusively."""
        ...

    def close(self, fd: int) -> None: ...

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """At most ``size`` bytes; fewer are no error."""
        ...

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write some of the bytes and say how many."""
        ...

    def fdatasync(self, fd: int) -> None:
        """Return once the file's bytes and size are on stable storage."""
        ...

    def fsync_dir(self, folder: Path) -> None:
        """Return once the folder's names are on stable storage."""
        ...

    def truncate(self, fd: int, size: int) -> None: ...

    def allocate(self, fd: int, size: int) -> None:
        """Reserve ``size`` bytes of space for the file."""
        ...

    def size(self, fd: int) -> int: ...

    def rename(self, old: Path, new: Path) -> None:
        """Give ``old`` the name ``new``, atomically instead of what had it."""
        ...

    def unlink(self, path: Path) -> None: ...

    def listdir(self, folder: Path) -> list[str]: ...

    def make_folder(self, folder: Path) -> None:
        """Make the folder and its parents, durably, unless they exist."""
        ...

    def free(self, folder: Path) -> int:
        """Return how many bytes may still be written."""
        ...

    def lock(self, path: Path, note: bytes) -> int:
        """Lock a file until it is closed and leave ``note`` in it.

        Raises :class:`BlockingIOError` if somebody else has it.
        """
        ...

    def lock_folder(self, folder: Path) -> int:
        """Lock the folder itself until the handle is closed, whatever files come and go in it.

        Raises :class:`BlockingIOError` if somebody else has it. A file system that locks no
        folders gives a handle that holds nothing.
        """
        ...

    def boot_id(self) -> str:
        """Return a text that changes when the machine starts anew, at most 36 ASCII characters."""
        ...

    def process_id(self) -> int: ...


class OsDisk:
    """The machine's own files."""

    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwritev = staticmethod(os.pwritev)
    fdatasync = staticmethod(os.fdatasync)
    truncate = staticmethod(os.ftruncate)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    process_id = staticmethod(os.getpid)

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        flags = os.O_RDWR if write or create else os.O_RDONLY
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def fsync_dir(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def allocate(self, fd: int, size: int) -> None:
        os.posix_fallocate(fd, 0, size)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def listdir(self, folder: Path) -> list[str]:
        return os.listdir(folder)

    def make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder.parent != folder:
            self.make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        self.fsync_dir(folder.parent)

    def free(self, folder: Path) -> int:
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize

    def lock(self, path: Path, note: bytes) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Only a hint for people: a full disk must not keep the journal from opening.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
                os.pwrite(fd, note, 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def lock_folder(self, folder: Path) -> int:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems lock only what is open for writing: a folder never is.
            if error.errno not in _NO_FOLDER_LOCKS:
                os.close(fd)
                raise
        return fd

    def boot_id(self) -> str:
        try:
            fd = os.open(_BOOT_ID, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            message = f"This machine does not say when it was started: {error}."
            hint = "The journal needs Linux with /proc mounted."
            raise ConfigError(message, hint=hint) from error
        try:
            return os.read(fd, 36).decode("ascii")
        finally:
            os.close(fd)


OS_DISK = OsDisk()
"""The disk that is meant unless another one is given."""


def is_full(error: OSError) -> bool:
    """Return whether the error says that there is no space."""
    return error.errno in _FULL


def translate(error: OSError, what: str) -> ForebayError:
    """Return the Forebay error that says the same as ``error``, met while doing ``what``."""
    message = f"Cannot {what}: {error}."
    if is_full(error):
        return JournalFull(message, hint="Free space on the journal's disk; capture then goes on.")
    if error.errno in _REFUSED:
        return ConfigError(message, hint="Check the folder's owner, mode and mount.")
    return Transient(message, hint="Check the disk's health; the call may be repeated.")


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise a Forebay error for every :class:`OSError` of the block within."""
    try:
        yield
    except OSError as error:
        raise translate(error, what) from error


def write_all(disk: Disk, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
    """Write every byte, however short the disk's writes are; gives the offset after them."""
    todo: list[Buffer] = [buffer for buffer in buffers if len(buffer)]
    while todo:
        written = disk.pwritev(fd, todo[:_IOV_MAX], offset)
        if written <= 0:
            raise OSError(errno.EIO, "the disk took no byte and gave no reason")
        offset += written
        if written == sum(map(len, todo)):  # as nearly always; len counts bytes: buffers are bytes
            break
        done = 0
        while done < len(todo) and written >= len(todo[done]):
            written -= len(todo[done])
            done += 1
        todo = todo[done:]
        if written:
            todo[0] = memoryview(todo[0])[written:]
    return offset


def create_file(
    disk: Disk, path: Path, scratch: Path, buffers: Sequence[Buffer], *, sync: bool = True
) -> int:
    """Make a file that has its name only once it is whole; gives its handle, to write.

    With ``sync`` it is on stable storage when this returns, and so is its name.
    """
    fd = disk.open(scratch, create=True)
    try:
        write_all(disk, fd, buffers, 0)
        if sync:
            disk.fdatasync(fd)
        disk.rename(scratch, path)
        if sync:
            disk.fsync_dir(path.parent)
    except BaseException:
        disk.close(fd)
        # What is left would take space away from the next try on a full disk.
        with contextlib.suppress(OSError):
            disk.unlink(scratch)
        raise
    return fd


def read_all(disk: Disk, fd: int, size: int, offset: int) -> bytes:
    """Read ``size`` bytes, or fewer at the end of the file.

    Pages that cannot be read (``EIO``) come back as zeros: damage like any other, found by
    its CRC and declared as a loss, instead of a reader that never gets past a bad sector.
    """
    parts: list[bytes] = []
    end = offset + size
    while offset < end:
        try:
            part = disk.pread(fd, end - offset, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            part = _read_page(disk, fd, min(end - offset, _PAGE - offset % _PAGE), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_file(disk: Disk, path: Path) -> bytes | None:
    """Return all bytes of a file, read as :func:`read_all` does; None if it is not there."""
    try:
        fd = disk.open(path)
    except FileNotFoundError:
        return None
    try:
        return read_all(disk, fd, disk.size(fd), 0)
    finally:
        disk.close(fd)


def _read_page(disk: Disk, fd: int, size: int, offset: int) -> bytes:
    try:
        return disk.pread(fd, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return bytes(max(0, min(size, disk.size(fd) - offset)))
