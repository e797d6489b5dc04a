"""What Linux can take away from a process: room on a disk, packets, memory, time on a core."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forebay.errors import Unreachable
from forebay.lab.servers import find

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

CGROUPS: Final = Path("/sys/fs/cgroup")
"""Where the groups of version 1 are, a folder for each controller."""
_BLOCK = bytes(1 << 16)


# --------------------------------------------------------------------------- a disk


@contextlib.asynccontextmanager
async def small_disk(folder: Path, megabytes: int) -> AsyncIterator[None]:
    """Mount a file system in memory at ``folder`` while the context is open.

    Raises :class:`~forebay.errors.Unreachable` if this user may not mount.
    """
    await asyncio.to_thread(folder.mkdir)
    options = f"size={megabytes}m,mode=0755"
    code, said = await _command("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    if code:
        message = f"A small disk cannot be mounted: {said}."
        raise Unreachable(message, hint="Run this drill as root, on Linux.")
    try:
        yield
    finally:
        await _command("umount", "--lazy", str(folder))


def fill(file: Path) -> None:
    """Write until there is no space."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as taken:
        while True:
            taken.write(_BLOCK)


async def _command(*arguments: str) -> tuple[int, str]:
    return await asyncio.to_thread(_run, *arguments)


def _run(*arguments: str) -> tuple[int, str]:
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    except OSError as error:
        return 1, error.strerror or str(error)
    return done.returncode, f"{done.stdout}{done.stderr}".strip()


# ------------------------------------------------------------------------- packets


@dataclass(frozen=True, slots=True)
class Firewall:
    """Drops every packet from and to one port of the loopback device, and of nobody else."""

    program: str
    port: int

    @property
    def rules(self) -> list[list[str]]:
        """Return one rule for either direction."""
        sides = ("--dport", "--sport")
        return [
            ["INPUT", "-i", "lo", "-p", "tcp", side, str(self.port), "-j", "DROP"] for side in sides
        ]

    def raise_(self) -> None:
        """Put the rules before all others. Raises :class:`~forebay.errors.Unreachable`."""
        for rule in self.rules:
            self._iptables("-I", *rule)

    def lower(self) -> None:
        """Take the rules away; whatever cannot be taken is not there."""
        for rule in self.rules:
            with contextlib.suppress(Unreachable):
                self._iptables("-D", *rule)

    def dropped(self) -> int:
        """Return how many packets were dropped."""
        lines = self._iptables("-L", "INPUT", "-n", "-v", "-x").splitlines()
        sides = {f"dpt:{self.port}", f"spt:{self.port}"}
        return sum(int(line.split()[0]) for line in lines if sides & {*line.split()})

    def _iptables(self, *arguments: str) -> str:
        code, said = _run(self.program, "-w", "5", *arguments)
        if code:
            hint = "Run this drill as root, on Linux."
            raise Unreachable(f"No packets can be dropped: {said}.", hint=hint)
        return said


def needs_firewall() -> None:
    """Raise :class:`~forebay.errors.Unreachable` if this user may drop no packets."""
    Firewall(str(find("iptables")), 0).dropped()


@contextlib.contextmanager
def cut_off(port: int) -> Iterator[Firewall]:
    """Let no packet through to a loopback port while the context is open.

    Raises :class:`~forebay.errors.Unreachable` if this user may not.
    """
    wall = Firewall(str(find("iptables")), port)
    try:
        wall.raise_()
        yield wall
    finally:
        wall.lower()


# ------------------------------------------------------------- memory, time on a core


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """Processes that share a limit."""

    folder: Path

    def add(self, pids: Iterable[int]) -> None:
        """Have the limits hold for these, too; one that is gone needs none."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self.write("cgroup.procs", str(pid))

    def write(self, name: str, text: str) -> None:
        """Set a limit."""
        (self.folder / name).write_text(text, encoding="ascii")

    def count(self, name: str, key: str) -> int:
        """Return a number of what the group tells of itself, 0 if it is not told."""
        lines = (self.folder / name).read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[0] == key), 0)


@contextlib.contextmanager
def control_group(controller: str, name: str) -> Iterator[ControlGroup]:
    """Give a group without processes; at the end they are in the one above it again.

    Raises :class:`~forebay.errors.Unreachable` where there are none of version 1, or this user
    may make none.
    """
    above = CGROUPS / controller
    group = ControlGroup(above / name)
    try:
        if not (above / "cgroup.procs").exists():
            raise FileNotFoundError(above)
        group.folder.mkdir()
    except OSError as error:
        message = f"There is no control group to be had: {error}."
        raise Unreachable(message, hint="Run this drill as root, with cgroup v1.") from error
    try:
        yield group
    finally:
        ControlGroup(above).add(_members(group))
        with contextlib.suppress(OSError):
            group.folder.rmdir()


def needs_groups(controller: str) -> None:
    """Raise :class:`~forebay.errors.Unreachable` if this user may limit no processes."""
    with control_group(controller, f"forebay-{os.getpid()}"):
        pass


def _members(group: ControlGroup) -> list[int]:
    return [int(pid) for pid in (group.folder / "cgroup.procs").read_text().split()]
