"""SIGKILL at any moment: a simulated market with faults, a capture that is killed, an audit.

Simulator and capture are processes of their own, started as a user starts them. A killed
process of the capture is restarted by its supervisor; a killed supervisor by the drill, as an
init system would. The proof is the audit that ``forebay audit --truth`` prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.lab.commands import POLL_S, until
from forebay.lab.drills.plan import Drill, Timing
from forebay.lab.drills.stage import START_S, Stage
from forebay.lab.exchanges.market import HISTORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.services.audit import AuditReport


@dataclass(frozen=True, slots=True)
class KillPlan:
    """What market, and who is killed when."""

    market: Drill
    """Which closes after its :attr:`~forebay.lab.drills.plan.Drill.events`."""
    kills: tuple[tuple[float, str], ...]
    """At which share of the market which process is killed: capture, deliver or supervisor."""
    seed: int = 1


@dataclass(slots=True)
class KillDrill:
    """One run of a plan in an empty data folder."""

    plan: KillPlan
    folder: DataFolder
    clock: Clock
    say: Callable[[str, float], None] = lambda _what, _share: None
    """Told what happens and how much of the run is done, 0 to 1."""
    look: Callable[[str], None] = lambda _url: None
    """Called, in a thread, with the truth server's address when everything is stored."""
    killed: list[str] = field(default_factory=list)
    _done: float = 0.0

    async def run(self) -> AuditReport:
        """Capture, kill, recover, audit.

        Raises :class:`~forebay.errors.Transient` if a part does not come up or settle in time.
        """
        plan, root = self.plan, self.folder.root
        stage = Stage(plan.market, root, plan.seed, Timing(), self.clock, self._say, ".")
        async with stage.exchange() as urls:
            async with stage.capture(urls):
                await self._killings(stage)
                await stage.settled()
            self._done = 1.0
            report = await stage.audit()
            await asyncio.to_thread(self.look, stage.truth_url)
        self.say("done", 1.0)
        return report

    def _say(self, what: str) -> None:
        self.say(what, 0.05 + 0.9 * self._done)

    async def _killings(self, stage: Stage) -> None:
        """Kill each victim when its share of the market has been emitted, until all has been."""
        for share, victim in self.plan.kills:
            await self._market_reaches(share, stage)
            await self._kill(victim, stage)
        await self._market_reaches(1.0, stage)

    async def _kill(self, victim: str, stage: Stage) -> None:
        if victim == "supervisor":
            stage.run.kill()
            await stage.run.wait()
            await stage.start_run()
        else:

            async def look() -> int | None:
                return (await stage.seen()).pid(victim)

            pid = await until(self.clock, look, f"{victim} to answer", START_S)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.killed.append(victim)
        self._say(f"killed {victim} with SIGKILL")

    async def _market_reaches(self, share: float, stage: Stage) -> None:
        while True:
            symbols = (await stage.truth())["symbols"].values()
            self._done = (
                sum(each["last"] + 1 - HISTORY for each in symbols) / self.plan.market.events
            )
            if self._done >= share:
                return
            self._say(f"capturing {self.plan.market.rate:,} events/s through faults")
            await self.clock.sleep(POLL_S)


# ------------------------------------------------------------------ the demonstration

RATE = 3000
"""With one millisecond of venue time between two events of a symbol, the simulated market
then runs in real time."""
FAULTS = (
    "drop=0.0005,duplicate=0.001,reorder=0.001,corrupt=0.0002,late=0.0005,"
    "disconnect=0.00005,halfopen=0.00002,rate_limit=0.1"
)
KILLS = ((0.25, "capture"), (0.45, "deliver"), (0.65, "capture"))


def demo_plan(seconds: float, seed: int) -> KillPlan:
    """Return the plan of what ``forebay demo`` runs, whose market lasts ``seconds``."""
    symbols = ("BTC-USD", "ETH-USD", "SOL-USD")
    events = round(seconds * RATE)
    market = Drill("demo", rate=RATE, symbols=symbols, events=events, faults=FAULTS)
    return KillPlan(market, KILLS, seed)
