"""One server as a process: a free port, ready by its HTTP API, stopped by its process id."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from forebay.errors import ForebayError, Unreachable
from forebay.lab import web
from forebay.lab.commands import stop, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from forebay.clock import Clock

READY_S = 30.0
STOP_S = 5.0
TRIES = 3
"""Starts on another port each, should somebody take the free one before the server does."""
_LOG_TAIL = 2000


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers; ``pid`` is its process."""

    name: str
    address: str
    """Host and port."""
    pid: int
    version: str
    clock: Clock

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        return f"http://{self.address}"

    async def ask(self, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON at ``path``. Raises :class:`~forebay.errors.Unreachable`."""
        url = f"{self.url}{path}"
        status, found = await web.ask(url, query=query)
        if status >= HTTPStatus.BAD_REQUEST:
            raise Unreachable(f"{url} answered {status}.", hint=f"Is {self.name} well?")
        return found


def free_port() -> int:
    """Return a loopback port that nobody has just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started."""

    name: str
    folder: Path
    """For ``server.log``, which its output goes to."""
    cwd: Path
    argv: Callable[[str], Sequence[str]]
    """The command, by the address to listen on."""
    status: str
    """A path that answers JSON once the server is ready."""
    version: Callable[[Any], str]
    """Reads the server's version from that JSON."""


@contextlib.asynccontextmanager
async def serving(launch: Launch, clock: Clock) -> AsyncIterator[Server]:
    """Run a server until the context is left.

    Raises :class:`~forebay.errors.Unreachable` if it ends at its start, and
    :class:`~forebay.errors.Transient` if it is not ready in :data:`READY_S`.
    """
    process, server = await _started(launch, clock)
    try:
        yield server
    finally:
        await stop(process, STOP_S)


async def _started(launch: Launch, clock: Clock) -> tuple[asyncio.subprocess.Process, Server]:
    log = launch.folder / "server.log"
    for _ in range(TRIES):
        address = f"127.0.0.1:{free_port()}"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *launch.argv(address),
                cwd=launch.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            answer = await _ready(process, launch, address, clock)
        except BaseException:
            await stop(process, STOP_S)
            raise
        if answer is not None:
            version = launch.version(answer)
            return process, Server(launch.name, address, process.pid, version, clock)
    said = await asyncio.to_thread(log.read_text, errors="replace")
    message = f"{launch.name} ended at its start: {said[-_LOG_TAIL:].strip()}"
    raise Unreachable(message, hint=f"See {log}.")


async def _ready(
    process: asyncio.subprocess.Process, launch: Launch, address: str, clock: Clock
) -> Any | None:  # noqa: ANN401 - JSON
    """Return what it says of itself once it is ready, None if it ended instead."""

    async def look() -> tuple[Any] | None:
        if process.returncode is not None:
            return (None,)
        try:
            status, found = await web.ask(f"http://{address}{launch.status}")
        except ForebayError:
            return None
        return (found,) if status < HTTPStatus.BAD_REQUEST else None

    return (await until(clock, look, f"{launch.name} to be ready", READY_S))[0]
