"""A TCP proxy before a server: a line that is cut, held or loses answers, without privileges."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Way = Literal["open", "cut", "held", "deaf"]
"""What becomes of bytes: carried; connections are closed and refused; nothing is carried and
nothing closed; requests are carried and answers are lost."""
_CHUNK = 1 << 16
_LOOPBACK = "127.0.0.1"


class TcpProxy:
    """Carries connections to ``upstream``, a loopback port, as long as the context is open.

    It has a thread of its own and two for each connection, so it works whoever waits.
    """

    def __init__(self, upstream: int = 0) -> None:
        self.upstream = upstream
        """May be set later: a server may have to be told the proxy's port first."""
        self._way: Way = "open"
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server((_LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0
        """Bytes of answers that were lost."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._turn("cut")
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def open(self) -> None:
        """Carry everything; a connection that lost something is closed first."""
        self._turn("open", close=self._way == "deaf")

    def cut(self) -> None:
        """Close every connection, and each new one at once."""
        self._turn("cut", close=True)

    def hold(self) -> None:
        """Carry nothing and close nothing, as a network does that is gone."""
        self._turn("held")

    def deafen(self) -> None:
        """Carry requests, and lose their answers."""
        self._turn("deaf")

    def _turn(self, way: Way, *, close: bool = False) -> None:
        with self._changed:
            self._way = way
            closing = [*self._connections] if close or way == "cut" else []
            self._changed.notify_all()
        for each in closing:
            _end(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it was closed
                return
            if self._way == "cut":
                client.close()
                continue
            try:
                server = socket.create_connection((_LOOPBACK, self.upstream))
            except OSError:
                client.close()
                continue
            with self._changed:
                self._connections |= {client, server}
            for ends in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                with self._changed:
                    self._changed.wait_for(lambda: self._way != "held")
                    lost = answers and self._way == "deaf"
                    self.lost += len(chunk) * lost
                if not lost:
                    target.sendall(chunk)
        for each in (source, target):
            _end(each)
        with self._changed:
            self._connections -= {source, target}


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
