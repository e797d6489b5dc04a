"""A websocket server that can be as wrong as a test wants: it writes raw bytes.

Each connection is upgraded and then given to the test's script, which decides every frame.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def encode(
    opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, masked: bool = False
) -> bytes:
    """One frame as a server writes it; ``rsv`` is three bits, RSV1 the highest."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, mask | len(payload))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", first, mask | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, mask | 127, len(payload))
    return head + (b"\0\0\0\0" if masked else b"") + payload


@dataclass
class Peer:
    """One connection, from the server's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Write raw bytes; blocks while the client does not read."""
        self.writer.write(data)
        await self.writer.drain()

    async def text(self, payload: bytes) -> None:
        """Send one whole text message."""
        await self.send(encode(TEXT, payload))

    async def close(self, code: int = 1000, reason: bytes = b"") -> None:
        """Send a close frame; the client ends the connection."""
        await self.send(encode(CLOSE, struct.pack("!H", code) + reason))

    def abort(self) -> None:
        """Break the connection without a word."""
        self.writer.transport.abort()

    async def receive(self) -> tuple[int, bytes]:
        """One frame of the client; raises ``asyncio.IncompleteReadError`` at its end."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        mask = await self.reader.readexactly(4)
        body = await self.reader.readexactly(size)
        return first & 0xF, bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))

    async def gone(self) -> list[tuple[int, bytes]]:
        """Wait until the client is gone; return what it said until then."""
        said = []
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                said.append(await self.receive())
        return said


Script = "Callable[[Peer], Awaitable[None]]"


@dataclass
class WsServer:
    """``script`` runs once for each connection; the socket is closed when it returns."""

    script: Callable[[Peer], Awaitable[None]]
    refusal: Callable[[int], bytes | None] = lambda _: None
    """Given the number of the request (from 1): raw bytes to answer instead of an upgrade.

    Empty bytes: no answer at all, the connection stays open."""
    requests: int = 0
    alive: int = 0
    most_alive: int = 0
    upgrades: list[bytes] = field(default_factory=list)
    """The requests themselves."""
    errors: list[BaseException] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/feed"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if kind is None and self.errors:
            raise self.errors[0]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.requests += 1
        self.alive += 1
        self.most_alive = max(self.alive, self.most_alive)
        try:
            await self._serve(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        except BaseException as error:  # noqa: BLE001 - raised when the server is left
            self.errors.append(error)
        finally:
            self.alive -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, peer: Peer) -> None:
        request = await peer.reader.readuntil(b"\r\n\r\n")
        self.upgrades.append(request)
        refused = self.refusal(self.requests)
        if refused is not None:
            await peer.send(refused)
            if not refused:
                await peer.reader.read()
            peer.writer.write_eof()
            return
        lines = request.split(b"\r\n")
        key = next(
            line[18:].strip() for line in lines if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - RFC 6455
        await peer.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await self.script(peer)


def http(status: str, *headers: str, body: bytes = b"") -> bytes:
    """A raw HTTP answer for ``refusal``."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
