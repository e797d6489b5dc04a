"""Serves the routes on a socket, in the loop that runs; aiohttp's server has its home here.

One request a connection, and each connection has :data:`REQUEST_S` for all of it, so that
clients who send or read slowly, or not at all, can only use up :data:`CONNECTIONS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from forebay.errors import Unreachable
from forebay.ops.calls import Call, Gone, Response, address, in_origin_form
from forebay.ops.guard import HEADERS

CONNECTIONS = 64
"""From so many on a request is answered with 503; twice as many are not accepted."""
REQUEST_S = 15.0
"""From connecting to the end of the answer; longer than any command may take."""
STOP_S = 2
"""What requests under way have, once it is to stop."""
FORGET_BYTES = 1 << 20
FORGET_S = 1.0
"""So much of a body that nobody wants is still read, and thrown away."""
Routes = Callable[[Call], Awaitable[Response]]


async def serve(
    routes: Routes,
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
    url = f"http://{address(*listening.getsockname()[:2])}"

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await _handle(routes, request, crowded=len(manager.connections) >= CONNECTIONS)

    manager = web.Server(handle)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(manager), sock=listening)
    try:
        started(url)
        await stop.wait()
        server.close()
        if busy := [each.task for each in _connections(manager) if each.asked and each.task]:
            await asyncio.wait(busy, timeout=STOP_S)
    finally:
        server.close()
        await _cut(_connections(manager))


def _connections(manager: web.Server) -> list[_Connection]:
    """Return those that are open, and those that are gone while their request is served."""
    return [each for each in manager.connections if isinstance(each, _Connection)]


async def _cut(connections: list[_Connection]) -> None:
    """End what the time for stopping was too short for, or what a cancellation left."""
    tasks = [each.task for each in connections if each.task]
    for connection in connections:
        if connection.transport is not None:
            connection.transport.abort()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # aborted connections hear of it in the next round


async def _listen(host: str, port: int) -> socket.socket:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, place = found[0]
        return socket.create_server(place, family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise Unreachable(
            f"Nothing can be served at {host}:{port}: {reason}.",
            hint="Is another Forebay or program there? Set http.port (or http.host).",
        ) from error


class _Connection(web.RequestHandler):
    """A connection that ends after :data:`REQUEST_S`, whatever it is doing."""

    def __init__(self, manager: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # which is how to have none
            lingering_time=0,
            auto_decompress=False,  # a body that is packed could be larger than it may be
        )
        self.task: asyncio.Task[None] | None = None
        self.asked = False
        """Whether a request has come."""
        self._all = manager
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        abort = cast("asyncio.Transport", transport).abort
        self._late = asyncio.get_running_loop().call_later(REQUEST_S, abort)
        if len(self._all.connections) > 2 * CONNECTIONS:
            abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    async def start(self) -> None:
        self.task = asyncio.current_task()
        await super().start()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Return a bare answer, to what is no HTTP above all; the log is not everybody's."""
        if status == 500:  # noqa: PLR2004
            self.log_exception("The server raised.", exc_info=exc)
        return _Response(status=status, headers=HEADERS)


class _Response(web.Response):
    """Ends its connection, and does not say which server it comes from."""

    async def _prepare_headers(self) -> None:
        self.force_close()
        await super()._prepare_headers()
        self.headers.popall("server", None)


async def _handle(routes: Routes, request: web.BaseRequest, *, crowded: bool) -> web.StreamResponse:
    assert isinstance(request.protocol, _Connection)  # noqa: S101
    request.protocol.asked = True
    if crowded:
        return _Response(status=503, headers=HEADERS)
    body = _Body(request)
    named = [(name.lower(), value) for name, value in request.raw_headers]
    path, headers = in_origin_form(request.raw_path, named)
    peer, own = request.get_extra_info("peername"), request.get_extra_info("sockname")
    client, at = (peer[0], peer[1]) if peer else None, own[0] if own else None
    try:
        answer = await routes(Call(request.method, path, headers, client, at, body.part))
    except Gone:
        return _Response()  # which reaches nobody
    response = _Response(body=answer.body, status=answer.status, headers=answer.headers)
    await response.prepare(request)
    await response.write_eof()
    await body.forget()
    return response


class _Body:
    """A request's body while it comes in."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._awaited = request.headers.get("expect", "").lower() == "100-continue"

    async def part(self) -> bytes:
        """Return the next part, nothing at the end. Raises :class:`~forebay.ops.calls.Gone`."""
        if self._awaited and self._request.transport is not None:
            self._awaited = False
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            return await self._request.content.readany()
        except (OSError, web.RequestPayloadError) as error:
            raise Gone("The client hung up.") from error

    async def forget(self) -> None:
        """Read on for a while and keep nothing, after the answer.

        To close with unread bytes resets the connection, and a client that is still sending may
        then never see what it was answered.
        """
        read = 0
        self._awaited = False
        with contextlib.suppress(Gone, TimeoutError):
            async with asyncio.timeout(FORGET_S):
                while read < FORGET_BYTES and (part := await self.part()):
                    read += len(part)
