"""A relay that a client is pointed at instead of a server, and that keeps what the client says."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART = 1 << 16
_PROOF = re.compile(
    rb"(?im)^(?:authorization: *(?:bearer|basic)|[\w-]*(?:key|signature|token)[\w-]*:) *(\S+)"
)
_NO_PROOF = re.compile(rb"(?im)^sec-websocket-key: *\S+")


class Relay:
    """One address, and everything that was said to it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = parts.hostname or "", parts.port or 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{port}"))
        self.said: list[bytearray] = []
        """By connection."""
        threading.Thread(target=self._accept, daemon=True).start()

    def proofs(self) -> set[bytes]:
        """Return the values of the headers by which the client proved who it is."""
        heads = [_NO_PROOF.sub(b"", bytes(said)) for said in list(self.said)]
        return {found for head in heads for found in _PROOF.findall(head)}

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(self._server)
                except OSError:
                    client.close()
                    continue
                heard = bytearray()
                self.said.append(heard)
                carrying = (client, server, heard)
                threading.Thread(target=_carry, args=carrying, daemon=True).start()


def _carry(client: socket.socket, server: socket.socket, heard: bytearray) -> None:
    """Carry both ways until one end is gone."""
    with client, server:
        back = threading.Thread(target=_pass, args=(server, client, bytearray()), daemon=True)
        back.start()
        _pass(client, server, heard)
        back.join()


def _pass(one: socket.socket, other: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while part := one.recv(_PART):
            kept += part
            other.sendall(part)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relaying(url: str) -> Iterator[Relay]:
    """Relay to the server of ``url`` while the block runs."""
    relay = Relay(url)
    try:
        yield relay
    finally:
        relay.close()
