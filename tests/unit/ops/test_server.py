"""The server, on real sockets of this host."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import signal
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from forebay.errors import Unreachable
from forebay.ops import server
from forebay.ops.calls import Call, Response
from forebay.telemetry import AdminCalled
from tests.support.fake_system import BEARER, TOKEN, Site, hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RELOAD = "/admin/config/reload"
CALL = (f"POST {RELOAD} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n").encode()


@contextlib.asynccontextmanager
async def serving(routes: server.Routes, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve on a free port while the block runs; answer the URL."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    started: asyncio.Future[str] = loop.create_future()
    task = asyncio.create_task(server.serve(routes, host, 0, started=started.set_result, stop=stop))
    try:
        yield await asyncio.wait_for(started, 10)
    finally:
        stop.set()
        await task


@contextlib.asynccontextmanager
async def raw(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect without speaking HTTP for the test."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=30)


async def until(reader: asyncio.StreamReader) -> bytes:
    """Response all that comes until the server ends the connection, however it does."""
    got = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65536):
            got += part
    return bytes(got)


async def test_it_serves_at_the_port_it_was_given_and_tells_it() -> None:
    site = Site()
    async with serving(site.routes) as url, client() as asking:
        assert url.startswith("http://127.0.0.1:")
        assert not url.endswith(":0")
        live = await asking.get(f"{url}/health/live")
        assert live.json()["status"] == "alive"
        assert live.headers["connection"] == "close"
        assert "server" not in live.headers
        done = await asking.post(f"{url}{RELOAD}", headers=BEARER)
        assert done.status_code == 200
    (told,) = site.audit()
    assert told.client.startswith("127.0.0.1:")
    with pytest.raises(httpx.ConnectError):
        async with client() as asking:
            await asking.get(url)


async def test_it_serves_ip_6() -> None:
    if not socket.has_ipv6:
        pytest.skip("This host has no IPv6.")
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("This host has no ::1.")
    async with serving(Site().routes, "::1") as url, client() as asking:
        assert url.startswith("http://[::1]:")
        assert (await asking.get(f"{url}/health/live")).status_code == 200


async def test_a_name_is_refused_over_loopback_whoever_it_is_bound_to() -> None:
    async with serving(Site().routes) as url, client() as asking:
        answer = await asking.get(f"{url}/health", headers={"host": "rebound.example"})
    assert answer.status_code == 421


async def test_nobody_is_believed_to_ask_for_another() -> None:
    site = Site()
    headers = {**BEARER, "x-forwarded-for": "10.9.9.9", "forwarded": "for=10.9.9.9"}
    async with serving(site.routes) as url, client() as asking:
        await asking.post(f"{url}{RELOAD}", headers=headers)
    assert "10.9.9.9" not in site.audit()[0].client


async def test_a_port_that_is_taken_is_said_with_the_key_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unreachable, match=rf":{port}: Address already in use\.") as error:
            await server.serve(
                Site().routes, "127.0.0.1", port, started=print, stop=asyncio.Event()
            )
    assert "http.port" in error.value.hint


async def test_signals_are_left_to_the_process() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serving(Site().routes):
        during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert during == before


async def test_nothing_is_logged_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(Site().routes) as url, client() as asking:
        await asking.get(f"{url}/health")
        async with raw(url) as (reader, writer):
            writer.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
            assert b"400" in await until(reader)
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


# ------------------------------------------------------------------------ stopping


async def test_a_request_under_way_is_answered_before_it_stops() -> None:
    site, begun, go_on = Site(), asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await go_on.wait()

    site.system.before_report = wait
    async with contextlib.AsyncExitStack() as stack:
        asking = await stack.enter_async_context(client())
        async with serving(site.routes) as url:
            answer = asyncio.create_task(asking.get(f"{url}/health"))
            await begun.wait()
            asyncio.get_running_loop().call_later(0.2, go_on.set)
        assert (await answer).status_code == 200


async def test_a_request_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STOP_S", 0.05)
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def stubborn(_: Call) -> Response:
        begun.set()
        try:
            await hang()
        finally:
            cancelled.set()
        return Response(b"")

    async with serving(stubborn) as url, raw(url) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await begun.wait()
        reading = asyncio.create_task(until(reader))
    assert cancelled.is_set()
    assert b"200 OK" not in await reading


async def test_connections_that_say_nothing_do_not_delay_a_stop() -> None:
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        async with serving(Site().routes) as url:
            silent = [await stack.enter_async_context(raw(url)) for _ in range(5)]
            silent[0][1].write(b"GET / HTTP/1.1\r\nHos")
            began = loop.time()
        assert loop.time() - began < server.STOP_S
        for reader, _ in silent:
            assert b"200" not in await until(reader)


async def test_a_cancelled_server_leaves_nothing_behind() -> None:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    before = asyncio.all_tasks()
    serve = server.serve(
        Site().routes, "127.0.0.1", 0, started=started.set_result, stop=asyncio.Event()
    )
    task = asyncio.create_task(serve)
    url = await started
    async with raw(url) as (reader, _):
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await until(reader) == b""
    assert asyncio.all_tasks() == before
    async with client() as asking:
        with pytest.raises(httpx.ConnectError):
            await asking.get(url)


# -------------------------------------------------------------------- slow and many


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        CALL + b"Content-Length: 100\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_client_that_does_not_finish_is_left(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.1)
    site = Site()
    async with serving(site.routes) as url, raw(url) as (reader, writer):
        writer.write(sent)
        assert await until(reader) == b""
        assert (await one(site)) == ([0] if b"{" in sent else [])
    assert site.system.commands == []


async def one(site: Site) -> list[int]:
    """Response the statuses in the audit log, once what was cut off has been told."""
    await asyncio.sleep(0)
    return [told.status for told in site.told if isinstance(told, AdminCalled)]


async def test_a_client_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.2)

    handling: asyncio.Future[asyncio.Task[None] | None] = asyncio.get_running_loop().create_future()

    async def much(_: Call) -> Response:
        handling.set_result(asyncio.current_task())
        return Response(b"x" * 100_000_000)

    async with serving(much) as url, raw(url) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        task = await handling
        assert task is not None
        await asyncio.wait({task})  # it would wait for ever for a client that takes nothing


async def test_too_many_are_refused_and_later_ones_are_served_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 4)
    async with serving(Site().routes) as url, client() as asking:
        async with contextlib.AsyncExitStack() as stack:
            held = [await stack.enter_async_context(raw(url)) for _ in range(4)]
            assert (await asking.get(f"{url}/health/live")).status_code == 503
            held += [await stack.enter_async_context(raw(url)) for _ in range(5)]
            assert await until(held[-1][0]) == b""  # the ninth is not accepted
        answer = await asking.get(f"{url}/health/live")
        for _ in range(100):  # until the server has heard that they are gone
            if answer.status_code == 200:
                break
            answer = await asking.get(f"{url}/health/live")
        assert answer.status_code == 200


@pytest.mark.parametrize(("headers", "code"), [(BEARER, 413), ({}, 401)])
async def test_who_sends_too_much_still_hears_why_it_is_refused(
    headers: dict[str, str], code: int
) -> None:
    site = Site()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(60):
            yield b" " * 8192

    async with serving(site.routes) as url, client() as asking:
        for content in (parts(), b" " * (60 * 8192)):
            answer = await asking.post(f"{url}{RELOAD}", headers=headers, content=content)
            assert answer.status_code == code
            assert answer.json().keys() == {"error", "message", "hint"}
    assert [told.status for told in site.audit()] == [code, code]
    assert site.system.commands == []


async def test_a_body_without_end_is_answered_and_then_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "FORGET_S", 60.0)  # the bytes alone must be enough
    site, sent = Site(), 0
    async with serving(site.routes) as url, raw(url) as (reader, writer):
        answer = asyncio.create_task(until(reader))
        writer.write(CALL + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not answer.done():
                writer.write(b"2000\r\n" + b" " * 8192 + b"\r\n")
                await writer.drain()
                sent += 8192
        assert (await answer).startswith(b"HTTP/1.1 413 ")
    assert sent < 64 << 20  # what was read, and what was on its way
    assert [told.status for told in site.audit()] == [413]


async def test_a_body_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FORGET_S", 0.05)
    async with serving(Site().routes) as url, raw(url) as (reader, writer):
        writer.write(CALL + b"Content-Length: 99999\r\n\r\n")
        async with asyncio.timeout(server.REQUEST_S / 2):  # sooner than any connection ends
            assert (await until(reader)).startswith(b"HTTP/1.1 413 ")


async def test_who_asks_before_sending_a_body_is_told_to_go_on_with_the_token_alone() -> None:
    site = Site()
    expecting = b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with serving(site.routes) as url:
        async with raw(url) as (reader, writer):
            writer.write(CALL + expecting)
            assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
            writer.write(b"{}")
            assert b"422" in await until(reader), "there is no Content-Type"
        async with raw(url) as (reader, writer):
            writer.write(CALL.replace(b"Authorization", b"X") + expecting)
            assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"


async def test_a_body_is_not_unpacked() -> None:
    site = Site()
    packed = gzip.compress(b" " * 1_000_000 + b"{}")
    headers = {**BEARER, "content-encoding": "gzip", "content-type": "application/json"}
    async with serving(site.routes) as url, client() as asking:
        answer = await asking.post(f"{url}{RELOAD}", headers=headers, content=packed)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid-body")
    assert site.system.commands == []


async def test_a_second_request_on_a_connection_is_not_served() -> None:
    site = Site()
    async with serving(site.routes) as url, raw(url) as (reader, writer):
        writer.write((CALL + b"Content-Length: 0\r\n\r\n") * 3)
        answer = await until(reader)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(site.system.commands) == len(site.audit()) == 1


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://127.0.0.1:8080/health/live", "rebound.example", 200),
        ("HTTP://localhost/health/live?a=b", "localhost", 200),
        ("http://[::1]:8080/health/live", "localhost", 200),
        ("http://localhost", "localhost", 200),
        ("http://localhost/nowhere", "localhost", 404),
        ("http://rebound.example/health/live", "localhost", 421),
        ("http://rebound.example/admin/config/reload", "localhost", 421),
        ("ftp://localhost/health/live", "localhost", 404),
    ],
)
async def test_a_whole_address_as_the_target_is_the_path_in_it(
    target: str, host: str, status: int
) -> None:
    site = Site()
    async with serving(site.routes) as url, raw(url) as (reader, writer):
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await until(reader)).split()[1] == b"%d" % status


async def test_a_command_with_a_whole_address_needs_the_token_too() -> None:
    site = Site()
    async with serving(site.routes) as url, raw(url) as (reader, writer):
        writer.write(f"POST http://localhost{RELOAD} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await until(reader)).split()[1] == b"401"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("OPTIONS", "/health/live", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("DELETE", "/api/v1/circuit-breakers/store", "GET, HEAD"),
        ("GET", RELOAD, "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allow: str) -> None:
    site = Site()
    async with serving(site.routes) as url, client() as asking:
        answer = await asking.request(method, url + path, headers=BEARER)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
