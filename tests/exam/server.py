"""The exam's venue as a server: it insists on all that its connector must do, and notes it.

A connection must be signed, ask for one symbol at a time and ping before it is told any line. Calls
are signed too, and one of them is answered with a ban, during which nobody may call. An edition
that has a history is told one line by history alone; those with a history by time see their first
connection closed in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web

from tests.exam.made import connector
from tests.exam.made.protocol import BANNED, EDITIONS, POLLED
from tests.exam.wire import START_US, SYMBOLS, line, lines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.exam.made.protocol import Edition

SECRET = {"secret": "of the exam"}
REFUSED = "NIL-USD"
"""Is listed and cannot be subscribed to."""
WITHHELD = ("ping", "BBB-USD", 9)
"""Told by history alone, where there is one."""
POLLS = 3
"""Events of each symbol that every poll is told."""
BAN_S, UNDER_WAY_S = 2.0, 1.2
"""How long a ban is, and how much of it calls that were under way may take."""
_EDITIONS = {edition.venue: edition for edition in EDITIONS}


def polled(symbol: str) -> list[bytes]:
    """Return what every poll of a symbol is told."""
    return [
        f"{POLLED} {symbol} {number} {START_US + number} 10.5 0.{number} buy".encode()
        for number in range(1, POLLS + 1)
    ]


class MadeServer:
    """Serves all editions; ``seen`` counts what was done, ``wrong`` what should not have been."""

    def __init__(self, count: int) -> None:
        self._lines = lines(count)
        self._halved: set[str] = set()
        self._banned_until = 0.0
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/ws/{venue}", self._talk)
        app.router.add_get("/rest/{venue}/symbols", self._signed(self._symbols))
        app.router.add_get(f"/rest/{{venue}}/{POLLED}", self._signed(self._poll))
        app.router.add_get("/rest/{venue}/history/{by}", self._signed(self._history))
        return app

    # ------------------------------------------------------------------ connections

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        if not _is_signed(request, "/"):
            self.wrong.append("an upgrade was not signed")
            return web.Response(status=401)
        self.seen["signed upgrade"] += 1
        edition = _EDITIONS[request.match_info["venue"]]
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        asked: list[str] = []
        telling: asyncio.Task[bool] | None = None
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            word, _, what = str(message.data).partition(" ")
            self.seen[word] += 1
            if word == "subscribe":
                symbol, depth = what.split(" ")
                if depth != str(connector.DEPTH):
                    self.wrong.append(f"a depth of {depth}")
                asked.append(symbol)
                self.seen["whole list"] += len(asked) > len(SYMBOLS)
                known = symbol != REFUSED
                await socket.send_str(f"ok {symbol}" if known else f"no {symbol} it is unknown")
            elif word == "ping" and telling is None and len(asked) > len(SYMBOLS):
                telling = asyncio.create_task(self._tell(edition, socket))
            elif telling is not None and telling.done() and telling.result():
                await socket.close()  # by who reads, so that what the client says is read
            elif word == "ping":
                await socket.send_str("pong")
        if telling is not None:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        return socket

    async def _tell(self, edition: Edition, socket: web.WebSocketResponse) -> bool:
        """Tell an edition its lines; return whether it is the first half, and more follow."""
        told = list(self._lines)
        if edition.history:
            told.remove(line(*WITHHELD))
        middle = len(told) // 2
        halved = edition.history in ("time", "token") and edition.venue not in self._halved
        if halved:
            self._halved.add(edition.venue)
            told = told[:middle]
        elif edition.venue in self._halved:
            told = told[middle:]
        for at, payload in enumerate(told):
            if at == 10:
                await socket.send_str("complain it is too loud")
            await socket.send_str(payload.decode())
        return halved

    # ------------------------------------------------------------------------- REST

    def _signed(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            if not _is_signed(request, request.raw_path):
                self.wrong.append(f"not signed: {request.raw_path}")
                return web.Response(status=401)
            now = time.time()
            if not self._banned_until:
                self._banned_until = now + BAN_S
                return web.Response(
                    status=418, text=json.dumps({BANNED: int(self._banned_until * 1000)})
                )
            made = int(request.headers["X-Made-Time"]) / 1e9
            if self._banned_until - BAN_S + UNDER_WAY_S < made < self._banned_until - 0.01:
                self.wrong.append("a call during the ban")
            return await handler(request)

        return guarded

    async def _symbols(self, _: web.Request) -> web.Response:
        return web.Response(text="\n".join((*SYMBOLS, REFUSED)))

    async def _poll(self, request: web.Request) -> web.Response:
        self.seen["poll"] += 1
        symbol = request.query["symbol"]
        if symbol == REFUSED:
            return web.Response(status=404, text="it is unknown")
        return web.Response(body=b"\n".join(polled(symbol)))

    async def _history(self, request: web.Request) -> web.Response:
        by = request.match_info["by"]
        self.seen[f"history by {by}"] += 1
        kind, symbol, number = WITHHELD
        found: list[bytes] = []
        if by == "id":
            before, rows = int(request.query["before"]), int(request.query["rows"])
            numbers = range(before - 1, max(0, before - 1 - rows), -1)
            found = [line(kind, request.query["symbol"], each) for each in numbers]
        elif request.query["symbol"] == symbol and request.query.get("token", "2") == "2":
            found = [line(kind, symbol, number)]
        if by == "token":
            following = {"": "1", "1": "2", "2": ""}[request.query["token"]]
            found.append(f"next {following}".encode())
        return web.Response(body=b"".join(each + b"\n" for each in found))


def _is_signed(request: web.Request, target: str) -> bool:
    moment = request.headers.get("X-Made-Time", "0")
    signed = connector.sign(SECRET, "GET", target, b"", int(moment))
    return request.headers.get("X-Made-Signature") == signed["X-Made-Signature"]


@contextlib.contextmanager
def serving(count: int) -> Iterator[tuple[MadeServer, str]]:
    """Serve ``count`` lines to each edition; gives the server and its host with port."""
    server, loop = MadeServer(count), asyncio.new_event_loop()
    runner = web.AppRunner(server.app(), shutdown_timeout=1.0)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: int = runner.addresses[0][1]
        return port

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, name="made-server")
    thread.start()
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def write_credentials(path: Path) -> str:
    """Write the secret that the server wants to see used."""
    path.write_text("".join(f'{name} = "{secret}"\n' for name, secret in SECRET.items()))
    return str(path)
