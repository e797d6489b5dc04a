"""Serves the routes on a socket, in the loop that runs; uvicorn has its home here.

One request a connection, and each connection has :data:`REQUEST_S` for all of it, so that
clients who send or read slowly, or not at all, can only use up :data:`CONNECTIONS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from forebay.errors import Unreachable

CONNECTIONS = 64
"""From so many on a request is answered with 503; twice as many are not accepted."""
REQUEST_S = 15.0
"""From connecting to the end of the answer; longer than any command may take."""
STOP_S = 2
"""What requests under way have, once it is to stop."""


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    started: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serve until ``stop`` is set; ``started`` is told the URL, with the port that was taken.

    Raises :class:`~forebay.errors.Unreachable` if the address cannot be had.
    """
    listening = await _listen(host, port)
    url = _url(*listening.getsockname()[:2])
    config = uvicorn.Config(
        app,
        http=_Bounded,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # happenings are the log; what is left is errors of ours
        access_log=False,
        proxy_headers=False,  # the audit log names who connected, not who is said to have
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=STOP_S,
    )
    server = _Server(config, lambda: started(url))
    stopping = asyncio.create_task(server.exit_when(stop))
    try:
        await server.serve(sockets=[listening])
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await server.cut()
        listening.close()


async def _listen(host: str, port: int) -> socket.socket:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, address = found[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise Unreachable(
            f"Nothing can be served at {host}:{port}: {reason}.",
            hint="Is another Forebay or program there? Set http.port (or http.host).",
        ) from error


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Leaves the process's signals alone, and leaves nothing behind."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    async def exit_when(self, stop: asyncio.Event) -> None:
        """Begin to stop when told."""
        await stop.wait()
        self.should_exit = True

    async def cut(self) -> None:
        """End what the time for stopping was too short for, or what a cancellation left."""
        for server in getattr(self, "servers", ()):
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted connections hear of it in the next round


class _Bounded(H11Protocol):
    """A connection that ends after :data:`REQUEST_S`, whatever it is doing."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(REQUEST_S, transport.abort)
        if len(self.connections) > 2 * CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)
