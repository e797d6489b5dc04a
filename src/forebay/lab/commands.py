"""Running our own commands as processes, as a user would, and waiting for what they do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import IO, TYPE_CHECKING, TypeVar

from forebay.errors import Transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from forebay.clock import Clock

FOREBAY = (sys.executable, "-m", "forebay.cli.main")
STOP_S = 60.0
POLL_S = 0.05

T = TypeVar("T")


async def start(
    *arguments: str, log: IO[bytes] | int = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """Start one of our commands; its stderr goes to ``log``, its stdout can be read."""
    return await asyncio.create_subprocess_exec(
        *FOREBAY,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env={"FOREBAY_CONFIG": os.devnull, **os.environ},  # none of where a person happens to be
    )


async def stop(process: asyncio.subprocess.Process, patience_s: float = STOP_S) -> int:
    """Ask a process to end, kill it after ``patience_s``, and return its exit code."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        return await asyncio.wait_for(process.wait(), patience_s)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()


@contextlib.asynccontextmanager
async def running(
    *arguments: str, log: IO[bytes] | int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one of our commands while the context is open."""
    process = await start(*arguments, log=log)
    try:
        yield process
    finally:
        await stop(process)


async def until(
    clock: Clock, look: Callable[[], Awaitable[T | None]], what: str, seconds: float
) -> T:
    """Look again and again until there is something; return it.

    Raises :class:`~forebay.errors.Transient` that names ``what`` after ``seconds``.
    """
    deadline = clock.monotonic_ns() + round(seconds * 1e9)
    while clock.monotonic_ns() < deadline:
        if (found := await look()) is not None:
            return found
        await clock.sleep(POLL_S)
    raise Transient(f"Waited {seconds:g} s in vain for {what}.")
