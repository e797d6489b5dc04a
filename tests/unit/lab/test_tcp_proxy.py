"""The proxy before a server, and what it does to a line."""

from __future__ import annotations

import socket
import socketserver
import threading
from typing import TYPE_CHECKING

import pytest

from forebay.lab.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo(socketserver.BaseRequestHandler):
    """Answers what it hears, and remembers it."""

    heard: list[bytes]

    def handle(self) -> None:
        while data := self.request.recv(100):
            self.heard.append(data)
            self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    Echo.heard = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with TcpProxy(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()


def connected(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def asked(line: socket.socket, what: bytes) -> bytes:
    line.sendall(what)
    return line.recv(100)


def test_it_carries_both_ways(proxy: TcpProxy) -> None:
    with connected(proxy) as line:
        assert asked(line, b"a") == b"a"


def test_what_is_cut_is_closed_and_comes_back(proxy: TcpProxy) -> None:
    with connected(proxy) as line:
        assert asked(line, b"a") == b"a"
        proxy.cut()
        assert line.recv(1) == b""
    with connected(proxy) as line:
        assert line.recv(1) == b"", "and refused"
    proxy.open()
    with connected(proxy) as line:
        assert asked(line, b"b") == b"b"


def test_what_is_held_comes_later(proxy: TcpProxy) -> None:
    with connected(proxy) as line:
        assert asked(line, b"a") == b"a"
        proxy.hold()
        line.sendall(b"b")
        line.settimeout(0.1)
        with pytest.raises(TimeoutError):
            line.recv(1)
        proxy.open()
        line.settimeout(5)
        assert line.recv(1) == b"b"
    assert Echo.heard == [b"a", b"b"]


def test_an_answer_that_is_lost_was_given(proxy: TcpProxy) -> None:
    with connected(proxy) as line:
        assert asked(line, b"a") == b"a"
        proxy.deafen()
        line.sendall(b"b")
        line.settimeout(0.2)
        with pytest.raises(TimeoutError):
            line.recv(1)
        assert Echo.heard == [b"a", b"b"]
        assert proxy.lost == 1
        proxy.open()
        line.settimeout(5)
        assert line.recv(1) == b"", "it would answer the wrong question"
