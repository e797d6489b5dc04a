"""Proxies by environment: which one, for what, and what is said when one refuses."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from forebay.clock import SystemClock
from forebay.errors import ConfigError, Unreachable
from forebay.resilience import RetryConfig
from forebay.sources.proxies import proxy_for
from forebay.sources.rest import RestClient, RestPolicy
from forebay.telemetry import ConnectionFailed
from tests.support.feed_rig import Rig
from tests.support.http_server import serving
from tests.support.ws_server import WsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.ws_server import Peer

SECURE, PLAIN = "wss://ws.venue.example/feed", "http://api.venue.example"
PROXY = {"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://q:2"}


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        (SECURE, {}, "None"),
        (SECURE, PROXY, "http://p:1"),
        ("https://venue.example", PROXY, "http://p:1"),
        (PLAIN, PROXY, "http://q:2"),
        ("ws://venue.example", PROXY, "http://q:2"),
        (SECURE, {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://small:3"}, "http://small:3"),
        (SECURE, {"ALL_PROXY": "all:4"}, "http://all:4"),
        (SECURE, {"all_proxy": "all:4", "HTTPS_PROXY": ""}, "http://all:4"),
        (SECURE, {"HTTPS_PROXY": "http://[::5]:6"}, "http://[::5]:6"),
        (SECURE, {"HTTPS_PROXY": "p"}, "http://p:3128"),
        ("wss://127.0.0.1:1", PROXY, "None"),
        ("wss://127.8.8.8", PROXY, "None"),
        ("http://[::1]:8080", PROXY, "None"),
        ("http://LOCALHOST.:8080", PROXY, "None"),
        ("http://a.localhost", PROXY, "None"),
        ("http://localhost.example", PROXY, "http://q:2"),
    ],
)
def test_the_environment_says_which(url: str, environ: dict[str, str], expected: str) -> None:
    assert str(proxy_for(url, environ)) == expected


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("*", True),
        ("venue.example", True),
        (".venue.example", True),
        ("*.venue.example", True),
        ("EXAMPLE", True),
        ("other.org, WS.venue.example", True),
        ("other.org ws.venue.example", True),
        ("ws.venue.example:443", True),
        ("ws.venue.example:444", False),
        ("enue.example", False),
        ("ws.venue.example.org", False),
        ("10.0.0.0/8", False),
        (",, ,", False),
        (".", False),
    ],
)
def test_no_proxy_lists_hosts_with_all_below_them(no_proxy: str, direct: bool) -> None:
    assert (proxy_for(SECURE, PROXY | {"NO_PROXY": no_proxy}) is None) is direct
    assert (proxy_for(SECURE, PROXY | {"no_proxy": no_proxy}) is None) is direct


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [("10.0.0.0/8", True), ("10.1.2.3", True), ("10.1.2.3:443", True), ("10.1.2.4", False),
     ("2001:db8::/32", False), ("0.2.3", False)],
)  # fmt: skip
def test_no_proxy_lists_addresses_and_networks(no_proxy: str, direct: bool) -> None:
    assert (proxy_for("wss://10.1.2.3", PROXY | {"NO_PROXY": no_proxy}) is None) is direct


@pytest.mark.parametrize("url", ["wss://[::ffff:127.0.0.1]", "wss://[::ffff:10.1.2.3]"])
def test_an_ipv4_address_written_as_ipv6_is_the_same(url: str) -> None:
    assert proxy_for(url, PROXY | {"NO_PROXY": "10.0.0.0/8"}) is None


def test_a_password_is_not_shown() -> None:
    proxy = proxy_for(SECURE, {"HTTPS_PROXY": "http://me:s%40cret@p:1"})
    assert proxy is not None
    assert proxy.headers == {"Proxy-Authorization": "Basic bWU6c0BjcmV0"}
    assert "cret" not in f"{proxy} {proxy!r} {proxy.hint(407)}"


@pytest.mark.parametrize(
    "text", ["socks5://me:secret@p:1", "https://me:secret@p", "http://", "p:x"]
)
def test_what_is_no_http_proxy_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY does not name an HTTP proxy") as caught:
        proxy_for(SECURE, {"HTTPS_PROXY": text})
    assert "secret" not in str(caught.value)


# ------------------------------------------------------------------- through one


class Tunnel:
    """An HTTP proxy that leads every CONNECT to one port of this machine, or refuses."""

    def __init__(self, port: int, status: int = 200) -> None:
        self.port, self.status = port, status
        self.heads: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {self.status} So\r\ncontent-length: 0\r\n\r\n".encode())
        if self.status == 200:
            there, onward = await asyncio.open_connection("127.0.0.1", self.port)
            await asyncio.gather(_pipe(reader, onward), _pipe(there, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
    writer.close()


@contextlib.asynccontextmanager
async def proxied(
    monkeypatch: pytest.MonkeyPatch, tunnel: Tunnel, variable: str
) -> AsyncIterator[str]:
    for name in ("HTTP", "HTTPS", "ALL", "NO"):
        monkeypatch.delenv(f"{name}_PROXY", raising=False)
        monkeypatch.delenv(f"{name}_PROXY".lower(), raising=False)
    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv(variable, f"http://me:secret@127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"


def rest(url: str) -> RestClient:
    policy = RestPolicy(RetryConfig(attempts=1))
    return RestClient(url, clock=SystemClock(), rng=random.Random(1), policy=policy)


async def fed(url: str, until: asyncio.Event) -> Rig:
    rig = Rig(url)
    feeding = asyncio.create_task(rig.feed.run(rig.sink))
    async with asyncio.timeout(20):
        while not until.is_set() and not rig.heard(ConnectionFailed):  # noqa: ASYNC110
            await asyncio.sleep(0)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    return rig


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
async def test_a_feed_goes_through_the_proxy_that_alone_knows_the_name(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    came = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.receive()
        came.set()
        await peer.gone()

    async with WsServer(script) as venue:
        tunnel = Tunnel(int(venue.url.split(":")[2].partition("/")[0]))
        async with proxied(monkeypatch, tunnel, variable):
            rig = await fed("ws://no.such.venue.invalid/feed", came)
    assert not rig.heard(ConnectionFailed)
    first, *headers = tunnel.heads[0].split("\r\n")
    assert first == "CONNECT no.such.venue.invalid:80 HTTP/1.1"
    assert "Proxy-Authorization: Basic bWU6c2VjcmV0" in headers
    assert b"Host: no.such.venue.invalid" in venue.upgrades[0]


@pytest.mark.parametrize(
    ("status", "hint"),
    [(407, "Put name and password into HTTPS_PROXY"), (403, "NO_PROXY"), (502, "NO_PROXY")],
)
async def test_a_refusal_names_the_proxy_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, status: int, hint: str
) -> None:
    async with proxied(monkeypatch, Tunnel(0, status), "HTTPS_PROXY") as proxy:
        rig = await fed("wss://venue.invalid/feed", asyncio.Event())
        async with rest("https://venue.invalid") as client:
            with pytest.raises(Unreachable) as caught:
                await client.get("/time")
    failed = rig.heard(ConnectionFailed)[0]
    for said in (str(failed), str(caught.value)):
        assert f"HTTP {status}" in said
        assert proxy in said
        assert hint in said
        assert "secret" not in said


async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    rig = await fed("wss://venue.invalid/feed", asyncio.Event())
    async with rest("https://venue.invalid") as client:
        with pytest.raises(Unreachable, match=re.escape("the proxy http://127.0.0.1:9")) as caught:
            await client.get("/time")
    assert "through the proxy http://127.0.0.1:9" in str(rig.heard(ConnectionFailed)[0])
    assert "secret" not in f"{rig.heard(ConnectionFailed)} {caught.value}"


async def test_rest_goes_through_the_proxy_and_what_is_on_this_machine_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, str | None]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.raw_path, request.headers.get("Proxy-Authorization")))
        return web.Response(status=407 if "asks" in request.raw_path else 200)

    async with serving(handler) as url:
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, url.replace("http://", "http://me:secret@"))
        async with rest("http://venue.invalid") as client:
            assert (await client.get("/time?a=1")).status == 200
            with pytest.raises(Unreachable, match="Put name and password into http_proxy"):
                await client.get("/asks")
        async with rest(url) as client:
            assert (await client.get("/direct")).status == 200
    through = [("http://venue.invalid/time?a=1", "Basic bWU6c2VjcmV0")]
    assert seen[:1] == through
    assert seen[-1] == ("/direct", None)
