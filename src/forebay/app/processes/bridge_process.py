"""The bridge process: one transport to one store, shared with the bridges of its group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.app.processes import samples
from forebay.app.processes.local_socket import LocalServer
from forebay.app.processes.process_breakers import ProcessBreakers
from forebay.app.processes.samples import CountingObserver
from forebay.app.processes.store_delivery import StoreAnswers
from forebay.app.processes.worker import StopSignal, retry_while_locked
from forebay.app.wiring import bridges, stores, transports
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.journal import StateFile
from forebay.services.bridge import Bridge
from forebay.services.bridge_letters import BridgeLetters
from forebay.services.guarded_bridge import GuardedBridge
from forebay.services.lane_feed import Batching
from forebay.services.letters import Attempts, LetterBox, LetterSpool

if TYPE_CHECKING:
    from forebay.app.wiring.config import Config
    from forebay.clock import Clock
    from forebay.ops.view import ProcessReport
    from forebay.ports import Transport
    from forebay.telemetry import Observer

BRIDGE_NICENESS = 5
"""Capture comes first, as with delivery."""


async def run(config: Config, observer: Observer) -> dict[str, Any]:
    """Store what is published until told to stop; return where it stands then."""
    os.nice(BRIDGE_NICENESS)
    clock, rng = SystemClock(), random.Random()
    life = StopSignal(asyncio.get_running_loop())
    said, folder, tally = config.bridge, DataFolder(Path(config.data)), CountingObserver(observer)
    alone = not bridges.captures(config)
    guarding = ProcessBreakers(
        bridges.ROLE, config, clock=clock, rng=rng, observer=tally, critical=alone
    )
    kind, table = stores.kind_of(said.store), bridges.transport_of(config)
    path = folder.bridge_database(kind.name)
    store = await retry_while_locked(clock, life.stop, lambda: kind.open(said.store, path))
    transport = await asyncio.to_thread(transports.kind_of(table).open, table, tally)
    letters = await asyncio.to_thread(_letters, folder, transport, clock, tally, said.tries)
    bridge = Bridge(
        transport,
        store,
        group=said.group,
        observer=tally,
        clock=clock,
        batching=Batching(said.batch_rows, said.batch_s),
        letters=letters,
        tries=said.tries,
    )
    breaker = guarding.breaker(bridges.breaker_of(config), "clickhouse_bridge", critical=alone)
    guarded = GuardedBridge(
        bridge, name=said.transport, clock=clock, rng=rng, breaker=breaker, observer=tally
    )
    running = BridgeRun(bridge, guarded, guarding, letters, tally)
    guarding.manager.watch(
        f"{said.transport}-bridge-reading", lambda: guarded.trouble, depends_on=(bridges.ROLE,)
    )
    async with contextlib.AsyncExitStack() as beside:
        place = stores.FolderStore(bridges.ROLE, said.store)
        answers = StoreAnswers(store, place, guarding)
        handlers = {"sql": answers.sql, **guarding.handlers(running.tell)}
        await beside.enter_async_context(
            LocalServer(folder.socket(bridges.ROLE), handlers).serving()
        )
        await beside.enter_async_context(guarding.recovering())
        await guarded.run(life)
    last = running.status()
    await asyncio.to_thread(transport.close)
    await asyncio.to_thread(store.close)
    return last


def _letters(
    folder: DataFolder, transport: Transport, clock: Clock, tally: Observer, tries: int
) -> BridgeLetters:
    attempts = Attempts(StateFile(folder.letters / "attempts"))
    box = LetterBox(transport, LetterSpool(folder.letters), clock=clock, observer=tally)
    return BridgeLetters(attempts, box, clock, tries)


@dataclass(slots=True)
class BridgeRun:
    """One bridge that runs, and what is told of it."""

    bridge: Bridge
    guarded: GuardedBridge
    guarding: ProcessBreakers
    letters: BridgeLetters
    tally: CountingObserver

    def status(self) -> dict[str, Any]:
        """Return what ``forebay status`` prints of it."""
        config, total = self.guarding.config, self.bridge.delivered
        lanes = self.guarded.lanes()
        return {
            "reads": config.bridge.transport,
            "group": config.bridge.group,
            "store": stores.name_of(config.bridge.store),
            "rows": total.rows,
            "stored": dict(total.stored),
            "duplicates": total.duplicates,
            "conflicts": total.conflicts,
            "dead_letters": total.dead_letters,
            "steps": total.steps,
            "failed": self.guarded.failed,
            "in_hand": self.guarded.in_hand(),
            "letters_kept": self.letters.kept,
            "lag_s": round(max((each.lag_s for each in lanes), default=0.0), 3),
            "lanes": len(lanes),
            "waiting": {each.lane: each.reason for each in lanes if each.reason},
        }

    def not_ready(self) -> str:
        """Return why it cannot read what is published; nothing if it can, whatever is stored."""
        if self.guarded.trouble:
            return f"{self.guarding.config.bridge.transport}: {self.guarded.trouble}"
        return "" if self.guarded.begun else "the bridge has not joined its group yet"

    async def tell(self) -> ProcessReport:
        """Report on this process."""
        status, alone = self.status(), not bridges.captures(self.guarding.config)
        return self.guarding.report(
            not_ready=self.not_ready(),
            samples=[
                *samples.bridge(status, self.guarded.lanes(), alone=alone),
                *self.guarding.samples(self.tally.counts()),
            ],
            status=status,
        )
