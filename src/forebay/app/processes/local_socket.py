"""How processes on one machine talk: a Unix socket in the data folder, one request a connection.

Both ways a message is a 4-byte length, that many bytes of JSON, an 8-byte length and that many
bytes of body, big endian. The body is an Arrow stream or empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from forebay import errors
from forebay.app.wiring.data_folder import socket_address
from forebay.errors import ForebayError, Permanent, Unreachable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from pathlib import Path

Request = dict[str, Any]
Reply = tuple[dict[str, Any], bytes]
Handler = Callable[[Request], Awaitable[Reply | dict[str, Any]]]
"""Answers a request; most replies have no body."""

_HEAD = struct.Struct(">I")
_BODY = struct.Struct(">Q")
_MAX_HEAD = 16 << 20
REQUEST_TIMEOUT_S = 10.0
"""A client that does not finish its request in this time is left."""


class LocalServer(NamedTuple):
    """Answers requests on a Unix socket that only this user can open."""

    path: Path
    handlers: Mapping[str, Handler]

    @contextlib.asynccontextmanager
    async def serving(self) -> Any:  # noqa: ANN401 - an async iterator of nothing
        """Serve while the context is open; a stale socket of a killed process is replaced."""
        self.path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, sock=self._bound())
        try:
            yield
        finally:
            server.close()
            with contextlib.suppress(OSError):  # a read-only folder; a stale one is replaced
                self.path.unlink(missing_ok=True)

    def _bound(self) -> socket.socket:
        """Return a socket that does not listen yet, so nobody was there before its mode was.

        A umask would be in force for what other threads make meanwhile, folders included.
        """
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with socket_address(self.path) as address:
                bound.bind(address)
                os.chmod(address, 0o600)  # noqa: PTH101 - an address, which may lead over /proc
        except BaseException:
            bound.close()
            raise
        return bound

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                size = _HEAD.unpack(await reader.readexactly(_HEAD.size))[0]
                request = msgspec.json.decode(await reader.readexactly(min(size, _MAX_HEAD)))
            answer = await _unless_gone(reader, self._handled(request))
            if answer is not None:
                head, body = msgspec.json.encode(answer[0]), answer[1]
                writer.write(_HEAD.pack(len(head)) + head + _BODY.pack(len(body)) + body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, msgspec.DecodeError):
            pass  # the client went away or does not speak our language: nobody to tell
        finally:
            writer.close()

    async def _handled(self, request: Request) -> Reply:
        try:
            handler = self.handlers.get(request.get("op", ""))
            if handler is None:
                message = f"There is no request {request.get('op')!r}."
                return _told(Permanent.__name__, message, "")
            reply = await handler(request)
            return (reply, b"") if isinstance(reply, dict) else reply
        except ForebayError as error:
            return _told(type(error).__name__, error.message, error.hint)
        except Exception as error:  # noqa: BLE001 - whoever asked must hear of it, whatever it is
            said: object = request
            asked = said.get("op") if isinstance(said, dict) else said
            message = f"The request {asked!r} failed: {type(error).__name__}: {error}."
            return _told(Permanent.__name__, message, "Is the request complete? If so, report it.")


def _told(kind: str, message: str, hint: str) -> Reply:
    return {"error": {"kind": kind, "message": message, "hint": hint}}, b""


async def _unless_gone(
    reader: asyncio.StreamReader, handling: Coroutine[Any, Any, Reply]
) -> Reply | None:
    """Await a reply; when the client hangs up meanwhile, cancel it and return None."""
    working = asyncio.create_task(handling)
    gone = asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


class NobodyServes(Unreachable):
    """There is no process behind the socket, or it went away."""


def ask(path: Path, request: Request, *, timeout_s: float = 10.0) -> Reply:
    """Send one request and wait for the answer; blocking.

    Raises :class:`NobodyServes` when nobody serves ``path``, and whatever the
    other side raised.
    """
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.settimeout(timeout_s)
            connection.connect(stack.enter_context(socket_address(path)))
            encoded = msgspec.json.encode(request)
            connection.sendall(_HEAD.pack(len(encoded)) + encoded)
            stream = stack.enter_context(connection.makefile("rb"))
            head = msgspec.json.decode(_part(stream, _HEAD))
            body = _part(stream, _BODY)
        except (OSError, EOFError) as error:
            message = f"Nothing answers on {path}: {error}."
            raise NobodyServes(message, hint="Is the capture running?") from error
    return _unless_error(head), body


async def asked(path: Path, request: Request, *, timeout_s: float) -> Reply:
    """Do as :func:`ask`, for answers that may take long: to cancel it is to hang up."""
    try:
        async with asyncio.timeout(timeout_s):
            with socket_address(path) as address:
                reader, writer = await asyncio.open_unix_connection(address)
            try:
                encoded = msgspec.json.encode(request)
                writer.write(_HEAD.pack(len(encoded)) + encoded)
                parts = []
                for length in (_HEAD, _BODY):
                    (size,) = length.unpack(await reader.readexactly(length.size))
                    parts.append(await reader.readexactly(size))
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        why = str(error) or type(error).__name__
        message = f"Nothing answers on {path}: {why}."
        raise NobodyServes(message, hint="Is the capture running?") from error
    return _unless_error(msgspec.json.decode(parts[0])), parts[1]


def _unless_error(head: dict[str, Any]) -> dict[str, Any]:
    if (told := head.get("error")) is not None:
        kind = getattr(errors, told["kind"], ForebayError)
        raise kind(told["message"], hint=told["hint"])
    return head


def _part(stream: Any, length: struct.Struct) -> bytes:  # noqa: ANN401 - any binary stream
    size = length.size
    data: bytes = stream.read(size)
    if len(data) == size:
        (size,) = length.unpack(data)
        data = stream.read(size)
    if len(data) != size:
        message = "the answer ended early"
        raise EOFError(message)
    return data
