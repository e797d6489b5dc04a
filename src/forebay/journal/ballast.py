"""Space held back, so that the last records fit on a disk that others have filled."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk

_PLENTY = 4
"""The ballast is taken back only when this many times its size is free."""


class Ballast:
    """A file of ``size`` bytes that is given up when the disk is full."""

    def __init__(self, disk: Disk, path: Path, size: int) -> None:
        self._disk = disk
        self._path = path
        self._size = size
        self.held = False
        """Whether the space is held back now."""

    def restore(self) -> None:
        """Hold the space back if there is plenty; a disk that refuses is no error."""
        if self.held or self._size <= 0:
            return
        with contextlib.suppress(OSError):
            self.held = self._exists() or self._create()

    def release(self) -> bool:
        """Give the space up; False if there was none to give."""
        if not self.held:
            return False
        self.held = False
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(self._path)
        return True

    def _exists(self) -> bool:
        try:
            fd = self._disk.open(self._path)
        except FileNotFoundError:
            return False
        try:
            whole = self._disk.size(fd) >= self._size
        finally:
            self._disk.close(fd)
        if not whole:
            self._disk.unlink(self._path)
        return whole

    def _create(self) -> bool:
        if self._disk.free(self._path.parent) < _PLENTY * self._size:
            return False
        fd = self._disk.open(self._path, create=True)
        try:
            self._disk.allocate(fd, self._size)
        except OSError:
            self._disk.unlink(self._path)
            raise
        finally:
            self._disk.close(fd)
        return True
