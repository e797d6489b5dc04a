"""A broker in memory that other processes reach over a Unix socket.

A request is a call: ``length (4) | JSON | number of messages (4) | length (4) and bytes of each``,
big endian; so is its answer. A connection carries one call after another.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from forebay import errors
from forebay.errors import ForebayError, Unreachable
from tests.support.memory_transport import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedIOBase
    from pathlib import Path

    from tests.support.memory_transport import Broker

_COUNT = struct.Struct(">I")
_CALLS = frozenset(
    {
        *("ping", "lanes", "identity", "append", "join", "place", "fetch", "edges", "commit"),
        *("enrol", "claimed", "hold", "expel"),
    }
)


def _write(stream: BufferedIOBase, head: object, messages: Sequence[bytes]) -> None:
    encoded = msgspec.json.encode(head)
    parts = [_COUNT.pack(len(encoded)), encoded, _COUNT.pack(len(messages))]
    for message in messages:
        parts += [_COUNT.pack(len(message)), message]
    stream.write(b"".join(parts))
    stream.flush()


def _read(stream: BufferedIOBase) -> tuple[Any, list[bytes]]:
    head = msgspec.json.decode(_sized(stream))
    return head, [_sized(stream) for _ in range(_number(stream))]


def _number(stream: BufferedIOBase) -> int:
    number: int = _COUNT.unpack(_exactly(stream, _COUNT.size))[0]
    return number


def _sized(stream: BufferedIOBase) -> bytes:
    return _exactly(stream, _number(stream))


def _exactly(stream: BufferedIOBase, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        message = "the other side went away"
        raise EOFError(message)
    return data


class _Handler(socketserver.StreamRequestHandler):
    wbufsize = -1  # an answer leaves at once, when it is whole
    server: _Server

    def handle(self) -> None:
        self.server.connections.add(self.connection)
        enrolled: list[tuple[str, str]] = []
        with contextlib.suppress(EOFError, OSError):
            while True:
                (call, *arguments), messages = _read(self.rfile)
                try:
                    answer, told = self._answer(call, arguments, messages)
                except ForebayError as error:
                    answer, told = {"error": type(error).__name__, "text": error.message}, []
                if call == "enrol":
                    enrolled.append((arguments[1], answer))
                _write(self.wfile, answer, told)
        for member in enrolled:  # its process is gone
            self.server.broker.expel(*member)

    def _answer(self, call: str, arguments: list[Any], messages: list[bytes]) -> Any:  # noqa: ANN401
        broker = self.server.broker
        if call == "append":
            broker.append(arguments[0], messages)
            return None, []
        if call == "fetch":
            return broker.fetch(*arguments)
        return getattr(broker, call if call in _CALLS else "")(*arguments), []


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    broker: Broker

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self.connections: set[socket.socket] = set()

    def hang_up(self) -> None:
        """End every connection, as the end of a process does."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(broker: Broker, path: Path) -> Iterator[None]:
    """Serve ``broker`` at ``path`` while the context is open."""
    path.unlink(missing_ok=True)
    with _Server(str(path)) as server:
        server.broker = broker
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.hang_up()
            path.unlink(missing_ok=True)


class RemoteBroker:
    """The broker that another process serves at ``path``; see :class:`~.memory_transport.Brokered`.

    It connects when it is asked, and again after the other side has gone away. Every call raises
    :class:`~forebay.errors.Unreachable` if nobody answers, and what the broker raised.
    """

    def __init__(self, path: Path, *, timeout_s: float = 2 * WAIT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._stream: BufferedIOBase | None = None

    def ping(self) -> None:
        """Return if somebody answers."""
        self._call("ping")

    def lanes(self, topic: str) -> list[str]:
        """See :class:`~.memory_transport.Brokered`."""
        return [*self._call("lanes", topic)[0]]

    def identity(self, lane: str) -> str:
        """See :class:`~.memory_transport.Brokered`."""
        return str(self._call("identity", lane)[0])

    def append(self, lane: str, messages: Sequence[bytes]) -> None:
        """See :class:`~.memory_transport.Brokered`."""
        self._call("append", lane, messages=messages)

    def join(self, lane: str, group: str) -> tuple[str, int]:
        """See :class:`~.memory_transport.Brokered`."""
        (identity, offset), _ = self._call("join", lane, group)
        return identity, offset

    def place(self, lane: str, identity: str, offset: int) -> int:
        """See :class:`~.memory_transport.Brokered`."""
        return int(self._call("place", lane, identity, offset)[0])

    def fetch(
        self, lane: str, identity: str, offset: int, max_messages: int, max_bytes: int
    ) -> tuple[int, list[bytes]]:
        """See :class:`~.memory_transport.Brokered`."""
        return self._call("fetch", lane, identity, offset, max_messages, max_bytes)

    def edges(self, lane: str) -> tuple[int, int]:
        """See :class:`~.memory_transport.Brokered`."""
        (first, end), _ = self._call("edges", lane)
        return first, end

    def commit(self, lane: str, identity: str, group: str, offset: int, claim: int = 0) -> None:
        """See :class:`~.memory_transport.Brokered`."""
        self._call("commit", lane, identity, group, offset, claim)

    def enrol(self, topics: Sequence[str], group: str) -> str:
        """See :class:`~.memory_transport.Brokered`."""
        return str(self._call("enrol", [*topics], group)[0])

    def claimed(self, group: str, member: str) -> dict[str, int]:
        """See :class:`~.memory_transport.Brokered`."""
        return {**self._call("claimed", group, member)[0]}

    def hold(self, lane: str, group: str, claim: int) -> None:
        """See :class:`~.memory_transport.Brokered`."""
        self._call("hold", lane, group, claim)

    def expel(self, group: str, member: str) -> None:
        """See :class:`~.memory_transport.Brokered`."""
        self._call("expel", group, member)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._leave()

    def _leave(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _connected(self) -> BufferedIOBase:
        if self._stream is None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._timeout_s)
                connection.connect(str(self._path))
                self._stream = connection.makefile("rwb")
        return self._stream

    def _call(
        self, call: str, *arguments: str | int | list[str], messages: Sequence[bytes] = ()
    ) -> tuple[Any, list[bytes]]:
        with self._lock:
            try:
                stream = self._connected()
                _write(stream, [call, *arguments], messages)
                answer, told = _read(stream)
            except (OSError, EOFError) as error:
                with contextlib.suppress(OSError):
                    self._leave()
                message = f"The broker at {self._path} does not answer: {error}."
                raise Unreachable(message, hint="Is its process running?") from error
        if isinstance(answer, dict) and "error" in answer:
            raise getattr(errors, answer["error"], ForebayError)(answer["text"])
        return answer, told
