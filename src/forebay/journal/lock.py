"""Who may write: one process a folder, whatever somebody removes from it by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk

LOCK_NAME = "writer.lock"


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
        except BlockingIOError as error:
            self.release()
            message = f"The journal {folder} has a writer already: process {_holder(disk, folder)}."
            hint = "Stop that process, or give this one another folder."
            raise WriterBusy(message, hint=hint) from error
        except BaseException:
            self.release()
            raise

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
