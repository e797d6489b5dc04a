"""Finding, starting and stopping servers, and the webhook that takes alerts."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from forebay.clock import SystemClock
from forebay.errors import Transient, Unreachable
from forebay.lab.servers import alertmanager, binaries, process, prometheus, webhook
from forebay.lab.servers.process import Launch, serving
from tests.support import servers as support

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CLOCK = SystemClock()
SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"version": "1.2", "path": self.path}).encode())
    def log_message(self, *args):
        pass
host, port = sys.argv[1].split(":")
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER


def program(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("#!/bin/sh\n", encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


# ------------------------------------------------------------------------- finding


@pytest.mark.parametrize("place", [".", "bin", "usr/bin"])
def test_a_program_is_found_in_the_folder_that_is_named(tmp_path: Path, place: str) -> None:
    wanted = program(tmp_path / place, "prometheus-alertmanager")
    env = {"PATH": "/nowhere", binaries.FOLDER: str(tmp_path)}
    found = binaries.find("alertmanager", "prometheus-alertmanager", environment=env)
    assert found.resolve() == wanted.resolve()


def test_path_comes_first_and_the_first_name_too(tmp_path: Path) -> None:
    program(tmp_path / "servers", "alertmanager")
    mine = program(tmp_path / "path", "alertmanager")
    program(tmp_path / "path", "prometheus-alertmanager")
    env = {"PATH": str(mine.parent), binaries.FOLDER: str(tmp_path / "servers")}
    assert binaries.find("alertmanager", "prometheus-alertmanager", environment=env) == mine


def test_without_the_program_it_is_said_what_to_do(tmp_path: Path) -> None:
    env = {"PATH": "/nowhere", binaries.FOLDER: str(tmp_path)}
    with pytest.raises(Unreachable, match="no prometheus on PATH") as caught:
        binaries.find("prometheus", environment=env)
    assert ".ci/install-servers" in caught.value.hint
    assert caught.value.exit_code == 3


def test_the_folder_is_in_the_cache_unless_it_is_named() -> None:
    assert str(binaries.folder({"XDG_CACHE_HOME": "/c"})) == "/c/forebay/servers"
    assert binaries.folder({}).parts[-3:] == (".cache", "forebay", "servers")
    assert str(binaries.folder({binaries.FOLDER: "/s", "XDG_CACHE_HOME": "/c"})) == "/s"


def test_a_test_without_its_server_is_skipped_but_not_where_servers_are_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(binaries.FOLDER, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no prometheus"):
        support.needed("prometheus")
    monkeypatch.setenv(binaries.FOLDER, str(tmp_path))
    with pytest.raises(Unreachable):
        support.needed("prometheus")


# ------------------------------------------------------------- starting and stopping


def launch(folder: Path, code: str = SERVER, *, name: str = "thing") -> Launch:
    def argv(address: str) -> Sequence[str]:
        return [sys.executable, "-c", code, address]

    return Launch(name, folder, folder, argv, "/status", lambda told: str(told["version"]))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_server_is_ready_when_it_is_given_and_gone_afterwards(tmp_path: Path) -> None:
    async with serving(launch(tmp_path), CLOCK) as server:
        assert await server.ask("/any", q="1") == {"version": "1.2", "path": "/any?q=1"}
        assert (server.name, server.version) == ("thing", "1.2")
        assert server.url == f"http://{server.address}"
        assert alive(server.pid)
    assert not alive(server.pid)
    with pytest.raises(Unreachable, match="was not answered"):
        await server.ask("/any")


async def test_a_server_is_stopped_when_its_user_fails(tmp_path: Path) -> None:
    pids: list[int] = []

    async def use() -> None:
        async with serving(launch(tmp_path), CLOCK) as server:
            pids.append(server.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert not alive(pids[0])


async def test_a_server_that_will_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.2)
    async with serving(launch(tmp_path, STUBBORN), CLOCK) as server:
        assert alive(server.pid)
    assert not alive(server.pid)


async def test_a_server_that_ends_at_once_is_tried_again_and_then_told(tmp_path: Path) -> None:
    tried: list[str] = []
    code = "print('the port is taken'); raise SystemExit(1)"
    broken = launch(tmp_path, code)

    def argv(address: str) -> Sequence[str]:
        tried.append(address)
        return broken.argv(address)

    counted = Launch("thing", tmp_path, tmp_path, argv, "/status", str)
    with pytest.raises(Unreachable, match=r"thing ended at its start: the port is taken"):
        async with serving(counted, CLOCK):
            pytest.fail("it started")
    assert len(set(tried)) == process.TRIES


async def test_a_server_that_is_never_ready_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "READY_S", 0.3)
    file = tmp_path / "pid"
    code = f"import os, signal; open({str(file)!r}, 'w').write(str(os.getpid())); signal.pause()"
    with pytest.raises(Transient, match="thing to be ready"):
        async with serving(launch(tmp_path, code), CLOCK):
            pytest.fail("it was ready")
    if file.exists():
        assert not alive(int(file.read_text()))


# ------------------------------------------------------------------ configurations


def test_prometheus_is_told_whom_to_ask_and_whom_to_tell() -> None:
    config = prometheus._config(["h:1", "h:2"], has_rules=True, alertmanager="h:3", interval_s=0.5)
    assert config["global"]["scrape_interval"] == "500ms"
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["h:1", "h:2"]}]
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["h:3"]}]}]
    assert config["rule_files"] == ["rules.yml"]
    bare = prometheus._config([], has_rules=False, alertmanager="", interval_s=1)
    assert not {"alerting", "rule_files"} & set(bare)


def test_the_alertmanager_tells_of_the_end_as_well(tmp_path: Path) -> None:
    file = alertmanager._configure(tmp_path / "deep" / "folder", "http://h:1/")
    config = json.loads(file.read_text())
    (hook,) = config["receivers"][0]["webhook_configs"]
    assert hook == {"url": "http://h:1/", "send_resolved": True}
    assert config["route"]["receiver"] == config["receivers"][0]["name"]


# ------------------------------------------------------------------------- webhook


def call(*told: tuple[str, str]) -> dict[str, Any]:
    return {
        "version": "4",
        "alerts": [
            {
                "status": status,
                "labels": {"alertname": name, "severity": "info", "instance": "i"},
                "annotations": {"summary": name},
            }
            for name, status in told
        ],
    }


async def test_the_webhook_remembers_what_it_is_told() -> None:
    async with webhook.receiving(CLOCK) as hook, aiohttp.ClientSession() as session:
        waiting = asyncio.create_task(hook.wait("B", "resolved", seconds=10))
        for body in (call(("A", "firing"), ("B", "firing")), call(("B", "resolved"))):
            async with session.post(hook.url, json=body) as response:
                assert response.status == 200
        delivery = await waiting
        assert (delivery.alert, delivery.status, delivery.severity) == ("B", "resolved", "info")
        assert hook.seen("firing") == {"A", "B"}
        assert hook.seen("resolved") == {"B"}
        with pytest.raises(Transient, match="A to be delivered as resolved"):
            await hook.wait("A", "resolved", seconds=0.1)
