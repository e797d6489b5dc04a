"""What people reach of a running system: the token, the address, the socket."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from forebay.app.processes import http_endpoint
from forebay.app.processes.http_endpoint import HttpEndpoint
from forebay.app.processes.system import RunningSystem
from forebay.app.wiring.config import Config, HttpConfig, token_of
from forebay.app.wiring.data_folder import DataFolder
from forebay.cli import status as status_client
from forebay.cli.status import lines
from forebay.clock import SystemClock
from forebay.errors import ConfigError, Unreachable
from forebay.lab.commands import until
from forebay.telemetry import HttpServing, HttpUnavailable, TelemetryEvent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def test_the_token_is_in_the_configuration_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  a long random word\n")
    assert token_of(HttpConfig()) == ""
    assert token_of(HttpConfig(token="x", token_file=str(file))) == "x"
    assert token_of(HttpConfig(token_file=str(file))) == "a long random word"


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "cannot be read"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "no text")],
)
def test_a_file_without_a_token_is_a_mistake(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=why) as raised:
        token_of(HttpConfig(token_file=str(file)))
    assert raised.value.hint


def system(folder: DataFolder, told: list[TelemetryEvent], **http: object) -> RunningSystem:
    config = msgspec.convert({"http": http}, Config)
    return RunningSystem(
        config,
        {"capture": folder.capture_socket},
        load=lambda: config,
        clock=SystemClock(),
        observer=told.append,
    )


async def told_of(told: list[TelemetryEvent], kind: type[TelemetryEvent]) -> None:
    async def looked() -> bool | None:
        return any(isinstance(each, kind) for each in told) or None

    await until(SystemClock(), looked, kind.__name__, 30.0)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data").create()


async def test_the_routes_are_served_and_the_socket_says_where(folder: DataFolder) -> None:
    told: list[TelemetryEvent] = []
    made = HttpEndpoint(system(folder, told, port=0), folder, "forebay", SystemClock(), told.append)
    async with made.open():
        await told_of(told, HttpServing)
        answer = await asyncio.to_thread(status_client.from_socket, folder)
        assert answer.http == made.url == next(e.url for e in told if isinstance(e, HttpServing))
        async with httpx.AsyncClient(base_url=made.url) as client:
            assert (await client.get("/health/live")).json()["status"] == "alive"
            assert (await client.get("/metrics")).status_code == 200
            assert (await client.get("/health/ready")).status_code == 503, "capture is away"
        far = await asyncio.to_thread(status_client.from_url, made.url)
        assert far.report.health == answer.report.health
    assert made.url == ""
    with pytest.raises(Unreachable):
        status_client.from_socket(folder)
    with pytest.raises(Unreachable, match=f"answers at {answer.http}: Connection refused"):
        status_client.from_url(answer.http)


async def test_a_taken_port_is_told_and_tried_again(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_endpoint, "AGAIN_S", 0.05)
    told: list[TelemetryEvent] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        made = HttpEndpoint(
            system(folder, told, port=port), folder, "f", SystemClock(), told.append
        )
        async with made.open():
            await told_of(told, HttpUnavailable)
            assert made.url == ""
            answer = await asyncio.to_thread(status_client.from_socket, folder)
            assert answer.http == ""
            said = f"Nothing can be served at 127.0.0.1:{port}: Address already in use."
            assert answer.no_http.startswith(said)
            text = [line for line in lines(answer, None, "") if line.startswith("http")]
            assert text[0].startswith(f"http          not served: {said}"[:70])
            taken.close()
            await told_of(told, HttpServing)
            assert made.url.endswith(f":{port}")
            assert (await asyncio.to_thread(status_client.from_socket, folder)).no_http == ""


async def test_what_cannot_be_served_is_said_once_however_often_it_is_tried(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    async def serve(*_: object, **__: object) -> None:
        tries.append(1)
        raise Unreachable("the port is taken" if len(tries) < 5 else "the host is gone")

    async def tried() -> bool | None:
        return len(tries) > 8 or None

    monkeypatch.setattr(http_endpoint, "AGAIN_S", 0.001)
    monkeypatch.setattr(http_endpoint, "_routes", lambda: (lambda *_, **__: None, serve, None))
    told: list[TelemetryEvent] = []
    made = HttpEndpoint(system(folder, told, port=0), folder, "f", SystemClock(), told.append)
    async with made.open():
        await until(SystemClock(), tried, "tries", 30.0)
    reasons = [each.reason for each in told if isinstance(each, HttpUnavailable)]
    assert reasons == ["the port is taken", "the host is gone"]


async def test_switched_off_only_the_socket_answers(folder: DataFolder) -> None:
    told: list[TelemetryEvent] = []
    made = HttpEndpoint(
        system(folder, told, enabled=False), folder, "f", SystemClock(), told.append
    )
    async with made.open():
        answer = await asyncio.to_thread(status_client.from_socket, folder)
        assert (answer.http, answer.no_http) == ("", "")
    assert told == []


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({}, Unreachable),
        ({"/api/v1/status": b"{}"}, Unreachable),
        ({"/api/v1/status": b'{"report": {"at_ns": 1}}'}, Unreachable),
        ({"/api/v1/status": b"<html>"}, Unreachable),
    ],
)
async def test_something_else_at_that_address_is_not_taken_for_ours(
    answers: dict[str, bytes], error: type[Exception]
) -> None:
    server = await asyncio.start_server(_answering(answers), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(error, match="No running Forebay answers"):
            await asyncio.to_thread(status_client.from_url, f"http://127.0.0.1:{port}")
    with pytest.raises(ConfigError):
        status_client.from_url("file:///etc/passwd")


def _answering(
    answers: dict[str, bytes],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1].decode()
        while (await reader.readline()).strip():
            pass
        body = answers.get(path)
        status = b"404 Not Found" if body is None else b"200 OK"
        head = b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: "
        writer.write(head + str(len(body or b"")).encode() + b"\r\n\r\n" + (body or b""))
        await writer.drain()
        writer.close()

    return answer
