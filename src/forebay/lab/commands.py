"""Our own commands as processes, as a user runs them; waiting, and asking over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp

from forebay.errors import Transient, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from forebay.clock import Clock

FOREBAY = (sys.executable, "-m", "forebay.cli.main")
STOP_S = 60.0
POLL_S = 0.05
ASK_S = 5.0

T = TypeVar("T")


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
async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one of our commands while the context is open; its stdout can be read."""
    process = await asyncio.create_subprocess_exec(
        *FOREBAY,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"FOREBAY_CONFIG": os.devnull, **os.environ},  # none of where a person happens to be
    )
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


async def ask(
    url: str,
    method: str = "GET",
    document: object = None,
    query: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Return status and body: JSON as what it is, anything else as text.

    Raises :class:`~forebay.errors.Unreachable`.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ASK_S)) as session,
            session.request(method, url, json=document, params=query) as response,
        ):
            is_json = response.content_type.endswith("json")
            return response.status, await (response.json() if is_json else response.text())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        message = f"{method} {url} was not answered: {error or type(error).__name__}."
        raise Unreachable(message, hint="Is it running?") from error
