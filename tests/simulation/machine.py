"""A machine: one disk, two processes on it, and how they die."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.sim_disk import Killed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.sim_disk import Buffer, SimDisk


class Life:
    """One process from its start to its end.

    A killed one does nothing any more to the world: its disk, its store and its network raise
    :class:`Killed` or swallow what they are given, while its tasks are being cancelled.
    """

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name
        self.alive = True
        self.task: asyncio.Task[None] | None = None
        self.disk = LifeDisk(machine.disk, self)
        self.fuse: int | None = None
        """Disk operations until it dies."""
        self.fuse_cuts_power = False
        self.recovering = False
        self.on_death: list[Callable[[], None]] = []

    def check(self) -> None:
        """Raise :class:`Killed` if it is dead."""
        if not self.alive:
            raise Killed

    def operate(self, operation: str) -> None:
        """Count a disk operation; it may be the last."""
        self.check()
        if self.fuse is None:
            return
        self.fuse -= 1
        if self.fuse < 0:
            self.fuse = None
            self.machine.died_in(self, operation)
            if self.fuse_cuts_power:
                self.machine.cut_power()
            else:
                self.kill()
            raise Killed

    def kill(self) -> None:
        """``kill -9``."""
        if not self.alive:
            return
        self.alive = False
        self.disk.abandon()
        for callback in self.on_death:
            callback()
        if self.task is not None:
            self.task.cancel()


class Machine:
    """Processes that share a disk and a power supply."""

    def __init__(
        self,
        disk: SimDisk,
        told: Callable[[str], None],
    ) -> None:
        self.disk = disk
        self.lives: dict[str, Life] = {}
        self._told = told

    def start(self, name: str) -> Life:
        """Begin a process; the one before of this name is over."""
        self.disk.pid += 1
        life = self.lives[name] = Life(self, name)
        return life

    def kill(self, name: str) -> bool:
        """``kill -9`` a process; False if it was not running."""
        life = self.lives.get(name)
        if life is None or not life.alive:
            return False
        life.kill()
        return True

    def cut_power(self) -> None:
        """Everything dies at once and the disk keeps what it must."""
        for life in self.lives.values():
            life.kill()
        self.disk.lose_power()

    def died_in(self, life: Life, operation: str) -> None:
        """A fuse has burnt down."""
        where = "recovery" if life.recovering else operation
        self._told(f"fuse_{life.name}_{where}")


class LifeDisk:
    """The machine's disk as one process sees it: a :class:`forebay.journal.disk.Disk`."""

    def __init__(self, disk: SimDisk, life: Life) -> None:
        self._disk = disk
        self._life = life
        self._open: set[int] = set()

    def abandon(self) -> None:
        """The process is dead: its handles and locks are gone."""
        for fd in sorted(self._open):
            if fd in self._disk.handles:
                self._disk.close(fd)
        self._open.clear()

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        self._life.operate("create" if create else "open")
        return self._opened(self._disk.open(path, write=write, create=create))

    def close(self, fd: int) -> None:
        self._life.check()
        self._open.discard(fd)
        self._disk.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._life.operate("pread")
        return self._disk.pread(fd, size, offset)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self._life.operate("pwritev")
        return self._disk.pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        self._life.operate("fdatasync")
        self._disk.fdatasync(fd)

    def fsync_dir(self, folder: Path) -> None:
        self._life.operate("fsync_dir")
        self._disk.fsync_dir(folder)

    def truncate(self, fd: int, size: int) -> None:
        self._life.operate("truncate")
        self._disk.truncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:
        self._life.operate("allocate")
        self._disk.allocate(fd, size)

    def size(self, fd: int) -> int:
        self._life.check()
        return self._disk.size(fd)

    def rename(self, old: Path, new: Path) -> None:
        self._life.operate("rename")
        self._disk.rename(old, new)

    def unlink(self, path: Path) -> None:
        self._life.operate("unlink")
        self._disk.unlink(path)

    def listdir(self, folder: Path) -> list[str]:
        self._life.check()
        return self._disk.listdir(folder)

    def make_folder(self, folder: Path) -> None:
        self._life.check()
        self._disk.make_folder(folder)

    def free(self, folder: Path) -> int:
        self._life.check()
        return self._disk.free(folder)

    def lock(self, path: Path, note: bytes) -> int:
        self._life.check()
        return self._opened(self._disk.lock(path, note))

    def lock_folder(self, folder: Path) -> int:
        self._life.check()
        return self._opened(self._disk.lock_folder(folder))

    def boot_id(self) -> str:
        return self._disk.boot_id()

    def process_id(self) -> int:
        return self._disk.process_id()

    def _opened(self, fd: int) -> int:
        self._open.add(fd)
        return fd
