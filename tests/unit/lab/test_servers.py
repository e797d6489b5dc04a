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
from forebay.lab import servers
from tests.support import servers as support

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from forebay.lab.servers import Server

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


def environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Have these variables, and none else of those that say where servers are."""
    for name in ("LAB_SERVERS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


# ------------------------------------------------------------------------- finding


@pytest.mark.parametrize("place", [".", "bin", "usr/bin"])
def test_a_program_is_found_in_the_folder_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    wanted = program(tmp_path / place, "prometheus-alertmanager")
    environment(monkeypatch, PATH="/nowhere", LAB_SERVERS=str(tmp_path))
    found = servers.find("alertmanager", "prometheus-alertmanager")
    assert found.resolve() == wanted.resolve()


def test_path_comes_first_and_the_first_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "servers", "alertmanager")
    mine = program(tmp_path / "path", "alertmanager")
    program(tmp_path / "path", "prometheus-alertmanager")
    environment(monkeypatch, PATH=str(mine.parent), LAB_SERVERS=str(tmp_path / "servers"))
    assert servers.find("alertmanager", "prometheus-alertmanager") == mine


def test_without_the_program_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, PATH="/nowhere", LAB_SERVERS=str(tmp_path))
    with pytest.raises(Unreachable, match="no prometheus on PATH") as caught:
        servers.find("prometheus")
    assert ".ci/install-servers" in caught.value.hint
    assert caught.value.exit_code == 3


def test_the_folder_is_in_the_cache_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)
    assert servers.servers_folder().parts[-3:] == (".cache", "forebay", "servers")
    environment(monkeypatch, XDG_CACHE_HOME="/c")
    assert str(servers.servers_folder()) == "/c/forebay/servers"
    environment(monkeypatch, LAB_SERVERS="/s", XDG_CACHE_HOME="/c")
    assert str(servers.servers_folder()) == "/s"


def test_a_test_without_its_server_is_skipped_but_not_where_servers_are_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, PATH="/nowhere", XDG_CACHE_HOME=str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="no prometheus"):
        support.needed("prometheus")
    monkeypatch.setenv(servers.FOLDER, str(tmp_path))
    with pytest.raises(Unreachable):
        support.needed("prometheus")


# ------------------------------------------------------------- starting and stopping


def serving(
    folder: Path, code: str = SERVER, tried: list[str] | None = None
) -> AbstractAsyncContextManager[Server]:
    def argv(address: str) -> Sequence[str]:
        if tried is not None:
            tried.append(address)
        return [sys.executable, "-c", code, address]

    return servers.serving(
        "thing", folder, argv, "/status", lambda told: str(told["version"]), clock=CLOCK
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_server_is_ready_when_it_is_given_and_gone_afterwards(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert await server.ask("/any", q="1") == {"version": "1.2", "path": "/any?q=1"}
        assert (server.name, server.version) == ("thing", "1.2")
        assert alive(server.pid)
    assert not alive(server.pid)
    with pytest.raises(Unreachable, match="was not answered"):
        await server.ask("/any")


async def test_a_server_is_stopped_when_its_user_fails(tmp_path: Path) -> None:
    pids: list[int] = []

    async def use() -> None:
        async with serving(tmp_path) as server:
            pids.append(server.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert not alive(pids[0])


async def test_a_server_that_will_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "STOP_S", 0.2)
    async with serving(tmp_path, STUBBORN) as server:
        assert alive(server.pid)
    assert not alive(server.pid)


async def test_a_server_that_ends_at_once_is_tried_again_and_then_told(tmp_path: Path) -> None:
    tried: list[str] = []
    code = "print('the port is taken'); raise SystemExit(1)"
    with pytest.raises(Unreachable, match=r"thing ended at its start: the port is taken"):
        async with serving(tmp_path, code, tried):
            pytest.fail("it started")
    assert len(set(tried)) == servers.TRIES


async def test_a_server_that_is_never_ready_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "READY_S", 0.3)
    file = tmp_path / "pid"
    code = f"import os, signal; open({str(file)!r}, 'w').write(str(os.getpid())); signal.pause()"
    with pytest.raises(Transient, match="thing to be ready"):
        async with serving(tmp_path, code):
            pytest.fail("it was ready")
    if file.exists():
        assert not alive(int(file.read_text()))


# ------------------------------------------------------------------ configurations


def test_prometheus_is_told_whom_to_ask_and_whom_to_tell() -> None:
    config = servers._prometheus_config(["h:1", "h:2"], "500ms", "h:3", has_rules=True)
    assert config["global"]["scrape_interval"] == "500ms"
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["h:1", "h:2"]}]
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["h:3"]}]}]
    assert config["rule_files"] == ["rules.yml"]
    bare = servers._prometheus_config([], "1000ms", "", has_rules=False)
    assert not {"alerting", "rule_files"} & set(bare)


def test_the_alertmanager_tells_of_the_end_as_well(tmp_path: Path) -> None:
    config = servers._alertmanager_config("http://h:1/")
    file = servers._configured(tmp_path / "deep" / "folder", "alertmanager.yml", config)
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
    async with servers.webhook() as hook, aiohttp.ClientSession() as session:
        waiting = asyncio.create_task(
            support.delivered(hook, "B", "resolved", seconds=10, clock=CLOCK)
        )
        for body in (call(("A", "firing"), ("B", "firing")), call(("B", "resolved"))):
            async with session.post(hook.url, json=body) as response:
                assert response.status == 200
        delivery = await waiting
        assert (delivery.alert, delivery.status, delivery.severity) == ("B", "resolved", "info")
        assert hook.seen("firing") == {"A", "B"}
        assert hook.seen("resolved") == {"B"}
        with pytest.raises(Transient, match="A to be delivered as resolved"):
            await support.delivered(hook, "A", "resolved", seconds=0.1, clock=CLOCK)
