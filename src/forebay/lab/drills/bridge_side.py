"""The far side of a drill: ClickHouse, and bridges to it that are killed and frozen one by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.app.wiring.data_folder import DataFolder
from forebay.errors import Unreachable
from forebay.lab.clickhouse_server import SUBSTITUTE, clickhouse
from forebay.lab.commands import stop, until
from forebay.lab.drills.limits import small_disk
from forebay.lab.drills.plan import ServerUsed
from forebay.lab.drills.stage import environment, toml
from forebay.lab.drills.watch import Watch
from forebay.lab.servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from forebay.lab.clickhouse_server import ClickHouseServer
    from forebay.lab.drills.plan import Bridging, Value
    from forebay.lab.drills.stage import Stage

STORE = "clickhouse"
DATABASE = "forebay"
ROWS = f"{DATABASE}.trades_rows"
"""Where the events of the simulated market lie."""
UNMERGED = ", ".join(
    [
        *("max_bytes_to_merge_at_max_space_in_pool = 1", "parts_to_delay_insert = 100000"),
        *("max_bytes_to_merge_at_min_space_in_pool = 1", "parts_to_throw_insert = 100000"),
    ]
)
"""Settings with which every row lies as it was written: a merge would hide one that is doubled."""
GROUP = "bridge"
STEADY_S = 10.0
"""After so long processes have the memory that they need when all is well."""
BACKLOG = 60_000
"""Events, with which a bridge begins then: more than it takes at once of all lanes."""
VAIN_S = 15.0
BEGIN_S = 120.0
"""How long a bridge may take to begin, on a machine that is busy besides."""
UNAVAILABLE = "store_unavailable"
"""What a bridge tells when it meets the fault of its store."""
_SOON_S = 0.25
_QUICK = {"failure_threshold": 3, "recovery_timeout_s": 1.0, "success_threshold": 1}


@dataclass(slots=True)
class BridgeProcess:
    """One bridge, as its own machine would run it."""

    name: str
    folder: Path
    argv: Sequence[str]
    watch: Watch
    healthy_mb: float = 0.0
    _process: asyncio.subprocess.Process | None = None
    _watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it; it goes on where the store and its group are."""
        with (self.folder / "run.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                env=environment(),
            )
        self.watch.supervisor = self._process.pid
        self._watching = self._watching or asyncio.create_task(self._look(), name=self.name)

    async def _look(self) -> None:
        """Watch it until cancelled, and measure all of its processes."""
        while True:
            self.watch.last = await self.watch.look()
            self.watch.measure(self.pids)
            await self.watch.clock.sleep(_SOON_S)

    @property
    def pids(self) -> list[int]:
        """Its processes; none while it is down."""
        if self._process is None or self._process.returncode is not None:
            return []
        return [self._process.pid, *children(self._process.pid)]

    async def kill(self) -> None:
        """End all of its processes at once."""
        for pid in self.pids:
            _signal(pid, signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    def freeze(self) -> int:
        """Stop all of its processes with SIGSTOP; return how many."""
        pids = self.pids
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        return len(pids)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in self.pids:
            _signal(pid, signal.SIGCONT)

    async def end(self) -> int:
        """Ask it to end; return its exit code."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self.thaw()
        return 0 if self._process is None else await stop(self._process)

    def happened(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of its log that tell of one kind of telemetry event."""
        with (self.folder / "run.log").open(errors="replace") as log:
            lines = [json.loads(line) for line in log if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    @property
    def status(self) -> dict[str, Any] | None:
        """What its bridge says of itself; None if it does not answer."""
        last = self.watch.last
        return None if last is None else last.publishers.get(STORE)


@dataclass(slots=True)
class BridgeSide:
    """Those of one drill."""

    wanted: Bridging
    servers: Mapping[str, ClickHouseServer]
    """By name; of several each has everything."""
    bridges: list[BridgeProcess] = field(default_factory=list)
    drained_per_s: float = 0.0
    """Rows, of a backlog that was measured."""
    poison: int = 0
    """Records that nobody can read, put among the events by the drill."""
    republished: bool = False
    """Whether the drill had events published again: they come behind later ones."""

    @property
    def server(self) -> ClickHouseServer:
        """The first."""
        return next(iter(self.servers.values()))

    async def answer(self, sql: str, server: ClickHouseServer | None = None) -> str:
        """Return what ClickHouse answers as text, nothing if it does not."""
        with contextlib.suppress(OSError, HTTPException, Unreachable):
            return await asyncio.to_thread((server or self.server).ask, sql)
        return ""

    async def rows(self) -> int | None:
        """Return how many rows of trades lie there, None if that cannot be known.

        Of several servers it is the one that has fewest.
        """
        found = [await self.rows_of(server) for server in self.servers.values()]
        return None if None in found else min(each for each in found if each is not None)

    async def rows_of(self, server: ClickHouseServer) -> int | None:
        """Return how many rows of trades lie on one server, None if that cannot be known."""
        found = await self.answer(f"SELECT count() FROM {ROWS}", server)  # noqa: S608
        return int(found) if found else None

    def met(self) -> int:
        """Return how often bridges were told that the store is away."""
        return sum(len(each.happened(UNAVAILABLE)) for each in self.bridges)

    def breakers(self, name: str) -> set[str]:
        """Return the states in which a breaker is now in bridges that are up."""
        looks = (each.watch.last for each in self.bridges if each.pids)
        return {seen.breakers.get(name, "") for seen in looks if seen is not None}

    def transitions(self) -> dict[str, list[str]]:
        """Return of each breaker the states that it went to, in the bridge that had most."""
        found: dict[str, list[str]] = {}
        for bridge in self.bridges:
            for name, went in bridge.watch.transitions().items():
                found[name] = max(found.get(name, []), went, key=len)
        return found

    async def begin(self, stage: Stage) -> None:
        """Start the bridges when something waits for them, and wait until they are through."""
        await stage.clock.sleep(stage.timing.healthy_s)
        if stage.timing.healthy_s >= STEADY_S:  # memory is held against that of a backlog
            await stage.until(lambda seen: (seen.stored or 0) >= BACKLOG, "a backlog", BEGIN_S)
        for bridge in self.bridges:
            await bridge.start()

        async def look() -> bool | None:
            return await self.rows() is not None or None

        await until(stage.clock, look, "a table in ClickHouse", BEGIN_S)
        for server in self.servers.values():
            await self.answer(f"ALTER TABLE {ROWS} MODIFY SETTING {UNMERGED}", server)
        await self.caught_up(stage, BEGIN_S)

    def well(self) -> None:
        """Take what memory bridges have now for what they need when all is well."""
        for bridge in self.bridges:
            bridge.healthy_mb = bridge.watch.peak_rss_mb()

    async def caught_up(self, stage: Stage, more_s: float = 0.0) -> float:
        """Wait until ClickHouse has nearly what the capture has stored, ``more_s`` if need be.

        Return how many rows a second came meanwhile.
        """
        began_ns, first = stage.clock.monotonic_ns(), await self.rows() or 0
        last = first

        async def look() -> bool | None:
            nonlocal began_ns, last
            rows, seen = await self.rows(), stage.watch.last
            if not rows or seen is None or seen.stored is None:
                return None
            if last == first:  # until then nothing came
                began_ns = stage.clock.monotonic_ns()
            last = rows
            return rows >= seen.stored - stage.drill.rate or None

        patience_s = self._patience_s(stage) + more_s
        await until(stage.clock, look, "bridges to catch up", patience_s)
        took_s = (stage.clock.monotonic_ns() - began_ns) / 1e9
        return round((last - first) / took_s, 1) if took_s else 0.0

    async def has_all(self, stage: Stage, events: int) -> None:
        """Wait until as many events are there, and nothing more comes."""
        before: list[str] = []

        async def look() -> bool | None:
            nonlocal before
            sql = f"SELECT uniqExact(event_id) FROM {ROWS}"  # noqa: S608
            found = [await self.answer(sql, server) for server in self.servers.values()]
            same, before = found == before, found
            await stage.clock.sleep(_SOON_S)
            return (same and all(each and int(each) >= events for each in found)) or None

        patience_s = self._patience_s(stage)
        await until(stage.clock, look, f"{events} events in ClickHouse", patience_s)

    def _patience_s(self, stage: Stage) -> float:
        """Return how long rows are waited for: of who is known to lose some, not for long."""
        return VAIN_S if self.wanted.instead else stage.timing.patience_s


@contextlib.asynccontextmanager
async def bridges_beside(stage: Stage, wanted: Bridging) -> AsyncIterator[BridgeSide]:
    """Run ClickHouse while the context is open; bridges are ended with it, killed if need be."""
    async with contextlib.AsyncExitStack() as stack:
        servers: dict[str, ClickHouseServer] = {}
        for name in wanted.mirrors or (STORE,):
            folder = stage.root / name
            if wanted.disk_mb:
                await stack.enter_async_context(small_disk(folder, wanted.disk_mb))
            server = await stack.enter_async_context(clickhouse(folder, clock=stage.clock))
            servers[name] = server
            used = ServerUsed("ClickHouse", server.version, substitute=SUBSTITUTE)
            stage.report.servers.append(used)
        stage.mirrors = [{"name": name, **_table_of(servers[name].port)} for name in wanted.mirrors]
        side = BridgeSide(wanted, servers)
        port = side.server.port
        for number in range(1, 1 + (0 if wanted.mirrors else wanted.bridges)):
            side.bridges.append(_bridge(stage, wanted, f"bridge-{number}", port))
        stage.bridged = side
        try:
            yield side
        finally:
            await asyncio.gather(*(each.end() for each in side.bridges))


def _bridge(stage: Stage, wanted: Bridging, name: str, port: int) -> BridgeProcess:
    folder = stage.root / name
    folder.mkdir()
    watch = Watch(DataFolder(folder / "data"), stage.clock)
    table = stage.transports[wanted.via]
    if wanted.instead is not None:
        argv = wanted.instead(str(table["servers"]), port)
        return BridgeProcess(name, folder, argv, watch)
    config = folder / "forebay.toml"
    config.write_text(_config(folder / "data", wanted, table, port), encoding="utf-8")
    argv = (*stage.command, "run", "-c", str(config))
    return BridgeProcess(name, folder, argv, watch)


def _config(data: Path, wanted: Bridging, table: Mapping[str, Value], port: int) -> str:
    tables: dict[str, Mapping[str, Value]] = {
        "http": {"port": free_port()},
        "resilience": {"check_interval_s": 1, "recovery_hold_s": 1},
        "resilience.clickhouse_bridge": _QUICK,
        "bridge": {"transport": wanted.via, "group": GROUP, "batch_s": 1.0},
        "bridge.store": _table_of(port),
    }
    for name, more in wanted.config.items():
        tables[name] = {**tables.get(name, {}), **more}
    parts = [f"data = {json.dumps(str(data))}\n", toml("[[transports]]", table)]
    parts += [toml(f"[{name}]", each) for name, each in tables.items()]
    return "\n".join(parts)


def _table_of(port: int) -> Mapping[str, Value]:
    return {"kind": STORE, "url": f"http://127.0.0.1:{port}", "database": DATABASE}


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that are not gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
