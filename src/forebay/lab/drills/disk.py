"""A disk of the data folder's own, so small that it can be filled."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from forebay.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


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
