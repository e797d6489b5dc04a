"""SIGKILL at any moment: a simulated market with faults, a capture that is killed, an audit.

Simulator and capture are processes of their own, started as a user starts them. A killed
process of the capture is restarted by its supervisor; a killed supervisor by the drill, as an
init system would. The proof is the audit that ``forebay audit --truth`` prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from forebay.app.processes.supervisor import statuses
from forebay.app.reader import Data
from forebay.errors import ForebayError
from forebay.lab.commands import POLL_S, running, start, stop, until
from forebay.lab.drills.plan import VENUE
from forebay.lab.truth_client import TruthClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.services.audit import AuditReport

Told = dict[str, dict[str, Any]]

HISTORY = 100
"""Events of a symbol that the simulated market has behind it when its clock starts."""
CALM_S = 2.5
"""So long must nothing be left to do before the run is over: heartbeats, one a second, tell
the last ids, and a tail that was withheld shows with them."""
CONNECT_S = 60.0
SETTLE_S = 60.0


@dataclass(frozen=True, slots=True)
class KillPlan:
    """What market, and who is killed when."""

    symbols: tuple[str, ...]
    rate: int
    """Events a second over all symbols."""
    events: int
    """Events over all symbols, then the market closes."""
    faults: str
    """As ``forebay lab serve --faults`` takes them."""
    kills: tuple[tuple[float, str], ...]
    """At which share of the market which process is killed: capture, deliver or supervisor."""
    seed: int = 1
    stale_after_s: float = 2.5
    reconnect_base_s: float = 0.2
    channels: tuple[str, ...] = ()
    """What is captured, as the configuration names it; empty is its default."""


@dataclass(slots=True)
class KillDrill:
    """One run of a plan in an empty data folder."""

    plan: KillPlan
    folder: DataFolder
    clock: Clock
    say: Callable[[str, float], None] = lambda _what, _share: None
    """Told what happens and how much of the run is done, 0 to 1."""
    look: Callable[[], None] = lambda: None
    """Called, in a thread, when everything is stored and the truth server still answers."""
    killed: list[str] = field(default_factory=list)
    truth_url: str = ""
    _run: asyncio.subprocess.Process | None = None

    async def run(self) -> AuditReport:
        """Capture, kill, recover, audit.

        Raises :class:`~forebay.errors.Transient` if a part does not come up or settle in time.
        """
        async with running("lab", "serve", VENUE, *self._market()) as lab:
            assert lab.stdout is not None  # noqa: S101 - it was asked for
            urls = json.loads(await asyncio.wait_for(lab.stdout.readline(), CONNECT_S))
            self.truth_url = urls["truth_url"]
            config = self._configured(urls)
            with (self.folder.root / "drill.log").open("ab") as log:
                self._run = await start("run", "-c", str(config), log=log)
                try:
                    await self._killings(config, log)
                    await self._settled()
                finally:
                    await stop(self._run)
            self.say("auditing against the simulator's truth", 0.97)
            with Data(self.folder.root) as data:
                report = await asyncio.to_thread(
                    data.audit_report, truth=TruthClient(self.truth_url)
                )
            await asyncio.to_thread(self.look)
            self.say("done", 1.0)
            return report

    def _market(self) -> tuple[str, ...]:
        plan = self.plan
        return (
            *("--seed", str(plan.seed), "--symbols", ",".join(plan.symbols), "--start", "now"),
            *("--rate", str(plan.rate), "--events", str(plan.events), "--faults", plan.faults),
        )

    def _configured(self, urls: dict[str, Any]) -> Path:
        """Write the capture's configuration: as usual, but quicker to notice a silent venue."""
        plan, file = self.plan, self.folder.root / "forebay.toml"
        symbols = ", ".join(f'"{symbol}"' for symbol in plan.symbols)
        channels = f"channels = {json.dumps(plan.channels)}\n" if plan.channels else ""
        file.write_text(
            f"data = {json.dumps(str(self.folder.root))}\n\n[http]\nport = 0\n\n"
            f'[[venues]]\nname = "{VENUE}"\nsymbols = [{symbols}]\n'
            f'ws_url = "{urls["ws_url"]}"\nrest_url = "{urls["rest_url"]}"\n'
            f"stale_after_s = {plan.stale_after_s}\nreconnect_base_s = {plan.reconnect_base_s}\n"
            f"{channels}",
            encoding="utf-8",
        )
        return file

    # ------------------------------------------------------------------ killing

    async def _killings(self, config: Path, log: IO[bytes]) -> None:
        """Kill each victim when its share of the market has been emitted."""
        await self._until(lambda told: told["capture"]["connected"] > 0, "a connection")
        for share, victim in self.plan.kills:
            await self._market_reaches(share)
            await self._kill(victim)
            if victim == "supervisor":
                self._run = await start("run", "-c", str(config), log=log)

    async def _kill(self, victim: str) -> None:
        if victim == "supervisor":
            assert self._run is not None  # noqa: S101 - it was started
            self._run.kill()
            await self._run.wait()
        else:
            told = await until(self.clock, lambda: self._told_by(victim), victim, CONNECT_S)
            with contextlib.suppress(ProcessLookupError):
                os.kill(told["pid"], signal.SIGKILL)
        self.killed.append(victim)
        self.say(f"killed {victim} with SIGKILL", 0.9 * self._share(await self._truth()))

    async def _told_by(self, role: str) -> dict[str, Any] | None:
        return (await asyncio.to_thread(statuses, self.folder))[role]

    # ------------------------------------------------------------------ waiting

    async def _truth(self) -> dict[str, Any]:
        return await asyncio.to_thread(TruthClient(self.truth_url).document)

    def _share(self, truth: dict[str, Any]) -> float:
        emitted: int = sum(stream["last"] + 1 - HISTORY for stream in truth["symbols"].values())
        return emitted / self.plan.events

    async def _market_reaches(self, share: float) -> None:
        while (done := self._share(await self._truth())) < share:
            self.say(f"capturing {self.plan.rate:,} events/s through faults", 0.9 * done)
            await self.clock.sleep(POLL_S)

    async def _settled(self) -> None:
        """Wait until the market has closed, everything is stored and no gap is open."""
        await self._market_reaches(1.0)
        self.say("the market has closed; filling the last gaps", 0.92)
        calm_since: int | None = None

        def calm(told: Told) -> bool:
            nonlocal calm_since
            capture, deliver = told["capture"], told["deliver"]
            # Heartbeats go on, so the store is never quite at the end of the journal.
            lag = capture["next_seq"] - deliver["seq"]
            if capture["connected"] and not deliver["gaps"]["open"] and lag < HISTORY:
                calm_since = calm_since or self.clock.monotonic_ns()
                return self.clock.monotonic_ns() - calm_since > CALM_S * 1e9
            calm_since = None
            return False

        await self._until(calm, "everything to be stored and filled", SETTLE_S)

    async def _until(
        self, holds: Callable[[Told], bool], what: str, seconds: float = CONNECT_S
    ) -> None:
        async def look() -> bool | None:
            told = await asyncio.to_thread(statuses, self.folder)
            answered = {role: said for role, said in told.items() if said is not None}
            return True if len(answered) == len(told) and holds(answered) else None

        try:
            await until(self.clock, look, what, seconds)
        except ForebayError as error:
            error.hint = f"The capture's log is {self.folder.root / 'drill.log'}."
            raise
