"""A venue that sends prepared frames: a process of its own, so that its work is not in the count.

``python sender.py FILE``, where FILE holds websocket frames as a server writes them. It says
``{"port": N}`` on its first line of output. Each connection is upgraded, may say one frame (its
subscription), gets FILE's bytes, and then silence until it leaves. With ``--rate`` frames go at
that pace, otherwise as fast as they are taken. It knows no library and no venue: the answer to
the subscription is the first frame of FILE.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import socket
import struct
import sys
import threading
import time
from pathlib import Path

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TICK_S = 0.001
_ANSWER_S = 0.1
_CHUNK = 1 << 18


def text_frame(payload: bytes) -> bytes:
    """One whole, unmasked text message (RFC 6455, section 5.2) of less than 64 KiB."""
    if len(payload) < 126:
        return bytes((0x81, len(payload))) + payload
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload


def ends_of(wire: bytes) -> list[int]:
    """Where each frame of ``wire`` ends."""
    ends, at = [], 0
    while at + 4 <= len(wire):
        size = wire[at + 1]
        at += 2 + size if size < 126 else 4 + struct.unpack_from("!H", wire, at + 2)[0]
        ends.append(at)
    return ends


def upgrade(connection: socket.socket) -> None:
    """Answer the HTTP upgrade, and read the one frame that the client says."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += connection.recv(1)
    lines = request.split(b"\r\n")
    key = next(line[18:].strip() for line in lines if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - RFC 6455
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    connection.recv(1 << 16)


def serve(connection: socket.socket, wire: bytes, ends: list[int], rate: float) -> None:
    """Send everything to one client, then wait for it to leave."""
    greeting = ends_of(wire[:_CHUNK])[0]
    view = memoryview(wire)
    with connection, contextlib.suppress(OSError):  # the client leaves when it has enough
        upgrade(connection)
        connection.sendall(view[:greeting])
        time.sleep(_ANSWER_S)  # noqa: TID251 - a venue answers, and then there are trades
        view, ends = view[greeting:], [end - greeting for end in ends[1:]]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if rate:
            _paced(connection, view, ends, rate)
        else:
            for at in range(0, len(view), _CHUNK):
                connection.sendall(view[at : at + _CHUNK])
        while connection.recv(4096):
            pass


def _paced(connection: socket.socket, view: memoryview, ends: list[int], rate: float) -> None:
    """Send whole frames when they are due, each millisecond what has become due since."""
    began, sent, at = time.monotonic(), 0, 0
    while sent < len(ends):
        due = min(len(ends), int((time.monotonic() - began) * rate) + 1)
        if due > sent:
            connection.sendall(view[at : ends[due - 1]])
            sent, at = due, ends[due - 1]
        time.sleep(_TICK_S)  # noqa: TID251 - this process is the pace


def main() -> None:
    """Serve until killed."""
    options = argparse.ArgumentParser()
    options.add_argument("file", type=Path)
    options.add_argument("--rate", type=float, default=0.0)
    chosen = options.parse_args()
    wire = chosen.file.read_bytes()
    ends = ends_of(wire) if chosen.rate else []
    server = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(json.dumps({"port": server.getsockname()[1]}) + "\n")
    sys.stdout.flush()
    while True:
        connection, _ = server.accept()
        arguments = (connection, wire, ends, chosen.rate)
        threading.Thread(target=serve, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main()
