"""A disk of the data folder's own, so small that it can be filled."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from forebay.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from forebay.lab.drills.stage import Stage

_BLOCK = bytes(1 << 16)


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


async def full(stage: Stage) -> None:
    """Somebody else fills the disk: capture waits, what it misses is declared, and filled."""
    stranger = stage.data.root / "stranger"
    stage.say("the disk is full")
    try:
        await asyncio.to_thread(_fill, stranger)
        await stage.comes(
            lambda seen: bool(seen.capture and seen.capture["full"]), "the journal takes no frames"
        )
        await stage.comes(lambda seen: seen.state == "critical", "the system is critical")
        await stage.last(stage.timing.fault_s)
    finally:
        stranger.unlink(missing_ok=True)
        stage.fault_over(len(stage.happened("journal_full_began")))


def _fill(file: Path) -> None:
    """Write until there is no space."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as taken:
        while True:
            taken.write(_BLOCK)


async def _command(*arguments: str) -> tuple[int, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return 1, error.strerror or str(error)
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode(errors="replace").strip()
