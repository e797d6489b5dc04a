"""What a drill plays on: a simulated exchange and ``forebay run``, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forebay.app.reader import Data
from forebay.app.wiring.data_folder import DataFolder
from forebay.errors import ForebayError, Permanent, Transient, Unreachable
from forebay.lab.commands import FOREBAY, ask, running, stop, until
from forebay.lab.drills.plan import DrillCheck, DrillReport
from forebay.lab.drills.watch import Watch
from forebay.lab.servers import free_port
from forebay.lab.truth_client import TruthClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.lab.drills.bridge_side import BridgeSide
    from forebay.lab.drills.broker_servers import BrokerServers
    from forebay.lab.drills.plan import Drill, Timing, Value
    from forebay.lab.drills.watch import Observation
    from forebay.services.audit import AuditReport

_OURS = ("FOREBAY_", "DATA_DIR", "LOG_LEVEL", "HEALTH_", "ENABLE_AUTO_RECOVERY")
"""Environment that would configure the run beside its file."""
CALM_S = 2.5
"""So long must nothing be left to do at the end: heartbeats, one a second, tell the last ids."""
START_S = 60.0
_LAG = 1000
"""Frames. Commits gather frames for a tenth of a second, and the looks at both sides differ."""


@dataclass(slots=True)
class Stage:
    """One run of a drill; :meth:`exchange` and :meth:`capture` set it up and take it down."""

    drill: Drill
    root: Path
    """An empty folder: configuration, logs and the data folder."""
    seed: int
    timing: Timing
    clock: Clock
    say: Callable[[str], None] = lambda _what: None
    data_name: str = "data"
    """Of the data folder below :attr:`root`."""
    command: Sequence[str] = FOREBAY
    """Runs ``forebay``, see :func:`bound_by_modes`."""
    truth_url: str = ""
    report: DrillReport = field(init=False, repr=False)
    watch: Watch = field(init=False, repr=False)
    run: asyncio.subprocess.Process = field(init=False, repr=False)
    """``forebay run``, once it was started."""
    beside: list[Mapping[str, Value]] = field(default_factory=list)
    """Tables of further venues that are captured."""
    transports: dict[str, Mapping[str, Value]] = field(default_factory=dict)
    """By name, tables of what is published to."""
    brokers: BrokerServers | None = None
    """Which the drill has started."""
    mirrors: list[Mapping[str, Value]] = field(default_factory=list)
    """Tables of further stores that the capture fills."""
    bridged: BridgeSide | None = None
    """Of what is published: ClickHouse, and who writes to it."""
    _over_ns: int | None = None

    def __post_init__(self) -> None:
        self.watch = Watch(self.data, self.clock)
        self.report = DrillReport(name=self.drill.name, seed=self.seed, folder=str(self.root))

    @property
    def venue(self) -> str:
        """The simulated venue."""
        return self.drill.exchange

    @property
    def data(self) -> DataFolder:
        return DataFolder(self.root / self.data_name)

    @property
    def config(self) -> Path:
        return self.root / "forebay.toml"

    @contextlib.asynccontextmanager
    async def exchange(self) -> AsyncIterator[Mapping[str, Any]]:
        """Run the simulated exchange; the context is its addresses.

        Raises :class:`~forebay.errors.Unreachable` if it does not start.
        """
        async with running("lab", "serve", self.venue, *self._market()) as lab:
            assert lab.stdout is not None  # noqa: S101 - it was asked for
            try:
                urls = json.loads(await asyncio.wait_for(lab.stdout.readline(), START_S))
            except (ValueError, TimeoutError) as error:
                message = "The simulated exchange did not start."
                hint = f"`forebay lab serve {self.venue}` says why."
                raise Unreachable(message, hint=hint) from error
            self.truth_url = urls["truth_url"]
            yield urls

    @contextlib.asynccontextmanager
    async def capture(self, urls: Mapping[str, Any]) -> AsyncIterator[None]:
        """Run ``forebay run`` from a connection on; stop it at the end as a user would.

        Raises :class:`~forebay.errors.Transient` if it does not come up.
        """
        self._configure(urls)
        await self.start_run()
        watching = asyncio.create_task(self.watch.run(), name="drill-watch")
        began = "forebay run to begin"
        try:
            # Not before rows are stored: a fault that comes while deliver begins is another one.
            await self.until(
                lambda seen: seen.connected and bool(seen.url and seen.stored), began, START_S
            )
            yield
        except Transient as error:
            error.hint = error.hint or f"The run's log is {self.root / 'run.log'}."
            raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self.say("stopping")
            code = await stop(self.run)
            self.check(f"forebay run ends with exit code {code}", code == 0)

    def _market(self) -> tuple[str, ...]:
        drill = self.drill
        return (
            *("--seed", str(self.seed), "--symbols", ",".join(drill.symbols), "--start", "now"),
            *("--rate", str(drill.rate), "--faults", drill.faults),
            *(("--events", str(drill.events)) if drill.events else ()),
        )

    def _configure(self, urls: Mapping[str, Any]) -> None:
        venue = {
            "name": self.venue,
            "symbols": list(self.drill.symbols),
            "ws_url": urls["ws_url"],
            "rest_url": urls["rest_url"],
            "stale_after_s": 2.5,
            "reconnect_base_s": 0.2,
            **{name: urls[name] for name in ("credentials_file",) if name in urls},
            **self.drill.venue,
        }
        tables: dict[str, Mapping[str, Value]] = {
            "http": {"port": free_port()},
            "resilience": {"check_interval_s": 1, "recovery_hold_s": 1},
        }
        for name, table in self.drill.config.items():
            tables[name] = {**tables.get(name, {}), **table}
        parts = [f"data = {json.dumps(str(self.data.root))}\n"]
        parts += [toml(f"[{name}]", table) for name, table in tables.items()]
        parts += [toml("[[venues]]", each) for each in (venue, *self.beside)]
        parts += [toml("[[transports]]", each) for each in self.transports.values()]
        parts += [toml("[[mirrors]]", each) for each in self.mirrors]
        text = "\n".join(parts)
        self.watch.transports = tuple(self.transports)
        self.config.write_text(text, encoding="utf-8")

    async def start_run(self) -> None:
        """Start ``forebay run``; what was watched before stays known."""
        with (self.root / "run.log").open("ab") as log:
            self.run = await asyncio.create_subprocess_exec(
                *self.command,
                *("run", "-c", str(self.config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                env=environment(),
            )
        self.watch.supervisor = self.run.pid

    # ---------------------------------------------------------- the exchange

    async def trouble(
        self, name: str, settings: Mapping[str, int] | None = None, *, on: bool = True
    ) -> None:
        """Switch a trouble of the simulated exchange on or off."""
        self.say(f"{name} {'begins' if on else 'ends'}")
        method = "PUT" if on else "DELETE"
        await self._control(method, f"/faults/{name}", settings or {})

    async def hits(self, name: str) -> list[int]:
        """Return when a trouble struck, as nanoseconds of one clock."""
        return list((await self._control("GET", "/faults"))[name]["moments_ns"])

    async def opened(self) -> list[int]:
        """Return when connections were accepted, as nanoseconds of one clock."""
        return list((await self._control("GET", "/connections"))["opened_ns"])

    async def came_back(self, connections: int) -> None:
        """Wait until so many are connected."""

        async def look() -> bool | None:
            return (await self.truth())["connections"] >= connections or None

        patience_s = self.timing.patience_s
        await until(self.clock, look, f"{connections} connections", patience_s)

    async def truth(self) -> dict[str, Any]:
        """Return what the exchange says of itself."""
        return await asyncio.to_thread(TruthClient(self.truth_url).document)

    async def withheld(self) -> dict[str, Any]:
        """Return what subscribers were not given, by symbol."""
        return dict(await self._control("GET", "/withheld"))

    async def _control(self, method: str, path: str, document: object = None) -> Any:  # noqa: ANN401
        status, answer = await ask(self.truth_url + path, method, document)
        if status != 200:  # noqa: PLR2004 - OK
            raise Permanent(f"The simulated exchange answered {status} to {method} {path}.")
        return answer

    # ----------------------------------------------------------------- the run

    async def get(self, path: str) -> tuple[int, Any]:
        """Return status and body of any route."""
        seen = await self.until(lambda seen: bool(seen.url), "HTTP to be served", START_S)
        return await ask(seen.url + path)

    async def metric(self, name: str) -> float:
        """Return a metric, summed over its labels; 0 if it is not there."""
        _, text = await self.get("/metrics")
        found = 0.0
        for line in str(text).splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name:
                found += float(value)
        return found

    def happened(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the run's log that tell of one kind of telemetry event."""
        with (self.root / "run.log").open(errors="replace") as log:
            lines = [json.loads(line) for line in log if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    # ----------------------------------------------------------------- waiting

    async def until(
        self, holds: Callable[[Observation], bool], what: str, seconds: float | None = None
    ) -> Observation:
        """Wait until something holds of what is seen; return that look."""

        async def look() -> Observation | None:
            seen = self.watch.last
            return seen if seen is not None and holds(seen) else None

        patience_s = self.timing.patience_s if seconds is None else seconds
        return await until(self.clock, look, what, patience_s)

    async def breaker(self, name: str, *states: str) -> Observation:
        """Wait until a breaker is in one of ``states``."""
        what = f"the breaker {name} to be {' or '.join(states)}"
        return await self.until(lambda seen: seen.breakers.get(name) in states, what)

    async def seen(self) -> Observation:
        """Return a look that begins now."""
        return await self.watch.look()

    async def comes(self, holds: Callable[[Observation], bool], what: str) -> None:
        """Check that something comes to hold of what is seen."""
        came = False
        with contextlib.suppress(Transient):
            came = bool(await self.until(holds, what))
        self.check(what, ok=came)

    async def goes_on(self) -> None:
        """Check that a second's frames are captured from now on, and then :meth:`last`."""
        begin = await self.until(lambda seen: seen.capture is not None, "the capture to answer")
        goal = (begin.capture or {})["captured"] + self.drill.rate
        await self.comes(
            lambda seen: bool(seen.capture and seen.capture["captured"] >= goal),
            "capture goes on during the fault",
        )
        await self.last()

    async def last(self) -> None:
        """Let things be as they are for a while, or as long as the drill needs."""
        await self.clock.sleep(max(self.timing.fault_s, self.drill.least_s))

    def check(self, what: str, ok: bool) -> None:
        """Note something that had to be so."""
        self.report.checks.append(DrillCheck(what, ok))

    @contextlib.contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Make an error within a check that failed."""
        try:
            yield
        except ForebayError as error:
            self.check(str(error), ok=False)

    # ------------------------------------------------------------------- parts

    async def healthy(self) -> None:
        """Let the market go on for a while, all being well."""
        self.say("healthy")
        await self.clock.sleep(self.timing.healthy_s)
        self.report.healthy_rss_mb = self.report.healthy_rss_mb or self.watch.peak_rss_mb()

    def fault_over(self, hits: int) -> None:
        """Say that the fault is taken away now, and how often it struck."""
        self.report.fault_hits += hits
        self._over_ns = self.clock.monotonic_ns()
        self.say("recovering")

    async def recovered(self) -> None:
        """Wait until breakers, system and lag are as before, without a person."""
        await self.until(self._is_well, "the recovery")
        if self.bridged is not None:
            await self.bridged.caught_up(self)
        if self._over_ns is not None:
            self.report.recovery_s = round((self.clock.monotonic_ns() - self._over_ns) / 1e9, 2)

    def _is_well(self, seen: Observation) -> bool:
        names = () if self.bridged and self.bridged.bridges else self.drill.breakers
        closed = all(seen.breakers.get(name) == "closed" for name in names)
        lag = seen.lag
        return closed and seen.state == "healthy" and lag is not None and lag < _LAG

    async def settled(self) -> None:
        """End the market and wait until everything is stored and no gap is open."""
        self.say("the market has closed; filling the last gaps")
        await self._control("POST", "/close")
        calm_ns: int | None = None

        def calm(seen: Observation) -> bool:
            nonlocal calm_ns
            lag = _LAG if seen.lag is None else seen.lag
            # Heartbeats go on, so the store is never quite at the end of the journal.
            if not seen.connected or seen.gaps_open != 0 or lag >= _LAG // 10:
                calm_ns = None
            elif calm_ns is None:
                calm_ns = seen.at_ns
            return calm_ns is not None and seen.at_ns - calm_ns > CALM_S * 1e9

        await self.until(calm, "everything to be stored and filled")

    async def audit(self) -> AuditReport:
        """Return what ``forebay audit --truth`` finds, the market being known to the end."""
        self.say("auditing against the simulator's truth")
        with Data(self.data.root) as data:
            return await asyncio.to_thread(data.audit_report, truth=TruthClient(self.truth_url))


def bound_by_modes(command: Sequence[str]) -> Sequence[str]:
    """Return what runs ``command`` as a user whom a folder's mode binds.

    Linux lets root write where the mode forbids it (capabilities(7): CAP_DAC_OVERRIDE), so a drill
    that makes a folder read-only would prove nothing when root starts it. Without those
    capabilities root is a user like any other; everybody else is one already.
    """
    if os.geteuid() != 0 or sys.platform != "linux":
        return command
    if shutil.which("setpriv") is None:
        raise Unreachable("There is no setpriv.", hint="Install util-linux, or be another user.")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *command)


def environment() -> dict[str, str]:
    """Return this process's environment without what would configure ours."""
    return {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}


def toml(head: str, table: Mapping[str, Value]) -> str:
    """Write one table; JSON's scalars and lists are TOML's."""
    lines = [f"{key} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join([head, *lines]) + "\n"


def _toml_value(value: Value) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    pairs = (f"{json.dumps(key)} = {json.dumps(text)}" for key, text in value.items())
    return f"{{ {', '.join(pairs)} }}"
