"""The page on private venues, done as it says: its files captured, filled and audited."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import signal
import threading
from typing import TYPE_CHECKING

import pytest
import typer
from aiohttp import web

from forebay.cli.main import app as commands
from tests.support.commands import environment, forebay, process, wait_for
from tests.support.pages import blocks, page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = page("how-to/private-venue")
KEY = "of a test"
SYMBOLS = ["A-B", "C-D"]
COUNT, LOST = 40, 7
"""Trades of each symbol, and which of them the feed leaves out: history has it."""


def trade(symbol: str, number: int) -> dict[str, object]:
    at = 1_767_225_600_000_000 + number
    sides = {"id": number, "symbol": symbol, "price": f"{number}.50", "size": "1", "side": "buy"}
    return sides | {"time_us": at}


async def feed(request: web.Request) -> web.StreamResponse:
    if request.headers.get("X-Key") != KEY:
        return web.Response(status=401)
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    asked = json.loads((await socket.receive()).data)["subscribe"]
    for symbol in asked:
        known = symbol in SYMBOLS
        await socket.send_json({"ok": symbol} if known else {"no": symbol, "why": "it is gone"})
    for number in range(1, COUNT + 1):
        told = [trade(symbol, number) for symbol in asked if number != LOST]
        await socket.send_json(told)
    await socket.receive()
    return socket


async def trades(request: web.Request) -> web.Response:
    if request.headers.get("X-Key") != KEY:
        return web.Response(status=401)
    before, rows = int(request.query["before"]), int(request.query["rows"])
    numbers = range(min(before - 1, COUNT), max(0, before - 1 - rows), -1)
    return web.json_response([trade(request.query["symbol"], number) for number in numbers])


async def symbols(_: web.Request) -> web.Response:
    return web.json_response(SYMBOLS)


@contextlib.contextmanager
def acme() -> Iterator[str]:
    """Serve the venue in a thread; gives its host with port."""
    app, loop = web.Application(), asyncio.new_event_loop()
    app.add_routes([web.get("/", feed), web.get("/trades", trades), web.get("/symbols", symbols)])
    runner = web.AppRunner(app, shutdown_timeout=1.0)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"127.0.0.1:{runner.addresses[0][1]}"

    host = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, name="acme")
    thread.start()
    try:
        yield host
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def written(folder: Path, host: str) -> dict[str, str]:
    """Write the page's files; return the environment in which they are found."""
    for name, text in re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (folder / "acme.toml").write_text(f'key = "{KEY}"\n')
    with (folder / "forebay.toml").open("a") as file:
        file.write(f'ws_url = "ws://{host}/"\nrest_url = "http://{host}"\n[http]\nport = 0\n')
    inherited = environment().get("PYTHONPATH", "")
    return {"PYTHONPATH": f"{folder}:{inherited}"}


@pytest.mark.drill
def test_the_venue_of_the_page_is_captured_filled_and_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    query = ("sql", "SELECT count(*) AS n FROM trades", "--data", "data", "--format", "json")
    with acme() as host:
        env = written(tmp_path, host)
        path = tmp_path / "forebay.toml"
        told = path.read_text()
        path.write_text(told.replace('"C-D"]', '"C-D", "N-O"]'))
        refused = forebay("check", "-c", "forebay.toml", "--json", env=env)
        assert refused.code == 2
        assert "refuses trade of N-O: it is gone" in refused.stdout
        path.write_text(told)
        checked = forebay("check", "-c", "forebay.toml", "--json", env=env)
        assert checked.code == 0, checked
        listed = forebay("symbols", "--venue", "acme", "-c", "forebay.toml", "--json", env=env)
        assert [each["symbol"] for each in listed.json] == ["A-B", "C-D"]

        def stored() -> bool | None:
            answer = forebay(*query, env=env)
            return (answer.code == 0 and answer.json[0]["n"] == 2 * COUNT) or None

        with process("run", "-c", "forebay.toml", env=env) as running:
            wait_for(stored, "all trades, with those that the feed left out")
            running.send_signal(signal.SIGTERM)
            running.wait(60)
    audited = forebay("audit", "--data", "data", "--json", env=env)
    assert audited.code == 0, audited
    assert {stream["events"] for stream in audited.json["streams"]} == {COUNT}
    assert {gap["state"] for gap in audited.json["gaps"]} <= {"filled"}
    assert KEY not in (tmp_path / "data" / "plugins.json").read_text()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"acme:VENUE": "acme:VENEU"}, "package.module:VENUE"),
        ({"acme:VENUE": "acmee:VENUE"}, "PYTHONPATH"),
        ({'"acme.toml"': '"nowhere.toml"'}, "readable by this user alone"),
        ({"symbols = [": 'channels = ["trads"]\nsymbols = ['}, "Did you mean 'trade'?"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    env = written(tmp_path, "127.0.0.1:9")
    path = tmp_path / "forebay.toml"
    for old, new in changed.items():
        path.write_text(path.read_text().replace(old, new))
    answer = forebay("run", "-c", "forebay.toml", env=env)
    assert answer.code == 2, answer
    assert said in answer.sentence


def test_every_command_of_the_page_is_understood() -> None:
    typed = [line for block in blocks(PAGE, "console") for line in block.splitlines()]
    ours = [shlex.split(line)[2:] for line in typed if line.startswith("$ forebay ")]
    assert len(ours) >= 5
    group = typer.main.get_command(commands)
    for name, *words in ours:
        command = group.commands[name]  # type: ignore[attr-defined]
        assert command.make_context(name, list(words), resilient_parsing=True)
