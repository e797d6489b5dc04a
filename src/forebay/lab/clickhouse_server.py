"""ClickHouse for drills and tests: its engine in a process that is killed and started again.

No package brings a server of today. The engine is the real one, of the package ``chdb``, which also
keeps its tables as a server does; the HTTP server around it is ours, see
:mod:`forebay.lab.clickhouse_front`, which says what it lacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import importlib.util
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from forebay.errors import Unreachable
from forebay.lab.commands import until
from forebay.lab.server_process import ServerProcess, started
from forebay.lab.servers import READY_S, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.lab.clickhouse_front import Tampering

SUBSTITUTE: Final = "engine real, server ours"
"""What a report of a drill says beside the version."""
_NEEDED = {"chdb": "chdb", "clickhouse_connect": "clickhouse-connect"}
_ASK_S = 5.0


def needs_engine() -> None:
    """Raise :class:`~forebay.errors.Unreachable` if the engine or the client is not installed."""
    for module, package in _NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise Unreachable(f"There is no {package}.", hint=f"Run: pip install {package}")


@dataclass(slots=True, kw_only=True)
class ClickHouseServer(ServerProcess):
    """One engine and its folder; it keeps its port while it is down."""

    clock: Clock
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the profile that everybody has; whoever asks may set others."""
    login: str = ""
    """Name and password, by a colon, of the one who may ask; empty: everybody may."""
    port: int = field(default_factory=free_port)
    version: str = ""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What clients are configured with."""
        return f"http://{self.address}"

    @property
    def data(self) -> Path:
        """Where its tables are."""
        return self.folder / "data"

    async def start(self) -> None:
        """Start it and return once it answers; raises :class:`~forebay.errors.Unreachable`."""
        self.launch()

        async def look() -> str | None:
            self.require_running("ClickHouse")
            with contextlib.suppress(OSError, http.client.HTTPException):
                return await asyncio.to_thread(self.ask, "SELECT version()")
            return None

        self.version = await until(self.clock, look, "ClickHouse to answer", READY_S)

    def launch(self) -> None:
        """Start its process and do not wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = [f"--set={name}={value}" for name, value in self.settings.items()]
        place = str(self.port), str(self.data.resolve())
        program = sys.executable, "-m", "forebay.lab.clickhouse_front"
        self.launch_program([*program, *place, *options, f"--login={self.login}"])

    def ask(self, sql: str) -> str:
        """Return the answer to a statement, as text without its last line's end.

        Raises OSError or :class:`http.client.HTTPException` if it does not answer, and
        :class:`~forebay.errors.Unreachable` for what it does not answer well.
        """
        status, body = self._post("/", sql.encode())
        if status != http.client.OK:
            raise Unreachable(f"ClickHouse refuses {sql}: {body}")
        return body.rstrip("\n")

    def tamper(self, tampering: Tampering) -> None:
        """Have something become of requests to come."""
        self._post("/lab", json.dumps(dataclasses.asdict(tampering)).encode())

    def release(self) -> None:
        """Let go on what is held."""
        self._post("/lab", b"release")

    def forget(self) -> None:
        """Let go on what is held, and let be what was to come."""
        self._post("/lab", b"forget")

    @property
    def held(self) -> int:
        """How many requests are held just now."""
        told: dict[str, Any] = json.loads(self._post("/lab", b"")[1])
        return int(told["held"])

    def _post(self, path: str, body: bytes) -> tuple[int, str]:
        name, _, word = self.login.partition(":")
        headers = {"X-ClickHouse-User": name, "X-ClickHouse-Key": word} if self.login else {}
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ASK_S)
        ) as connection:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")


@contextlib.asynccontextmanager
async def clickhouse(
    folder: Path, *, clock: Clock, settings: Mapping[str, str] | None = None, login: str = ""
) -> AsyncIterator[ClickHouseServer]:
    """Run ClickHouse in ``folder`` until the context is left; it answers when it is given.

    For ``settings`` and ``login`` see :class:`ClickHouseServer`. Raises
    :class:`~forebay.errors.Unreachable` if the engine is not installed or does not start.
    """
    needs_engine()

    def server() -> ClickHouseServer:
        return ClickHouseServer(folder=folder, clock=clock, settings=settings or {}, login=login)

    running = await started(server, ClickHouseServer.start)
    try:
        yield running
    finally:
        running.kill()
