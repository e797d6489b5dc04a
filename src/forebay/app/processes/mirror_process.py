"""A mirror's process: journal to a further store, on its own, and answers to whoever reads it."""

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
from forebay.app.processes.maintenance import DeliveryPace
from forebay.app.processes.process_breakers import ProcessBreakers, served_by_journal
from forebay.app.processes.samples import CountingObserver
from forebay.app.processes.store_delivery import StoreAnswers, guarded
from forebay.app.processes.worker import StopSignal, retry_while_locked
from forebay.app.store_reach import begun_at
from forebay.app.wiring import stores, venues
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.journal import CursorFile, JournalReader
from forebay.journal.overview import overview
from forebay.services.deliver import Deliverer
from forebay.telemetry import CursorNotSaved, RowsLeftOut
from forebay.times import to_text

if TYPE_CHECKING:
    from forebay.app.processes.local_socket import Handler, Request
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.stores import FolderStore
    from forebay.ops.view import ProcessReport
    from forebay.services.guarded_delivery import GuardedDelivery
    from forebay.telemetry import Observer, TelemetryEvent

MIRROR_NICENESS = 5
"""Capture comes first, as with delivery."""


async def run(config: Config, observer: Observer, name: str) -> dict[str, Any]:
    """Feed the mirror ``name`` until told to stop; return where it stands then."""
    os.nice(MIRROR_NICENESS)
    clock, rng = SystemClock(), random.Random()
    life = StopSignal(asyncio.get_running_loop())
    (place,) = (each for each in stores.stores_of(config) if each.role == stores.MIRROR + name)
    (said,) = (each for each in config.mirrors if stores.name_of(each) == name)
    folder, tally = DataFolder(Path(config.data)), CountingObserver(observer)
    guarding = ProcessBreakers(
        place.role, config, clock=clock, rng=rng, observer=tally, critical=False
    )
    store = await retry_while_locked(
        clock, life.stop, lambda: stores.open_store(folder, place.config)
    )

    def hear(event: TelemetryEvent) -> None:
        """Pass on what is about the mirror: of what was captured, deliver tells."""
        if isinstance(event, CursorNotSaved | RowsLeftOut):
            tally(event)

    cursor = CursorFile(folder.cursor(place.role))
    await asyncio.to_thread(note_begin, folder, place.role)
    parts = folder.journal, store, venues.parsers()
    deliverer = await asyncio.to_thread(Deliverer, *parts, cursor=cursor, observer=hear)
    delivery = guarded(
        deliverer,
        folder.journal,
        place,
        guarding,
        clock=clock,
        observer=tally,
        cursor=cursor,
        critical=False,
    )
    running = MirrorRun(place, said.required, deliverer, delivery, guarding, tally)
    handlers: dict[str, Handler] = {
        "sql": StoreAnswers(store, place, guarding).sql,
        "status": running.answer,
        **guarding.handlers(running.tell),
    }
    async with contextlib.AsyncExitStack() as beside:
        await beside.enter_async_context(LocalServer(folder.socket(place.role), handlers).serving())
        await beside.enter_async_context(guarding.recovering())
        await delivery.run(life, DeliveryPace())
    last = await running.status()
    await asyncio.to_thread(store.close)
    return last


def note_begin(folder: DataFolder, role: str) -> None:
    """Keep from when on a mirror has what was captured, if it is new and the journal is not."""
    if CursorFile(folder.cursor(role)).load() is not None or begun_at(folder, role).load():
        return
    with JournalReader(folder.journal) as reader:
        is_whole = reader.position.seq <= 1
    oldest_ns = None if is_whole else overview(folder.journal).oldest_ns
    if oldest_ns is not None:
        begun_at(folder, role).store(to_text(oldest_ns).encode())


@dataclass(slots=True)
class MirrorRun:
    """One mirror that is fed, and what is told of it."""

    place: FolderStore
    required: bool
    deliverer: Deliverer
    delivery: GuardedDelivery
    guarding: ProcessBreakers
    tally: CountingObserver

    async def status(self) -> dict[str, Any]:
        """Return what ``forebay status`` prints of it."""
        seen, said = await self.delivery.measure(), self.deliverer.status()
        return {
            "mirror": self.place.name,
            "required": self.required,
            **{name: said[name] for name in ("rows", "log_id", "seq", "gaps", "behind")},
            "backlog": seen.backlog,
            "lag_s": round(seen.lag_s, 3),
            "failed": seen.database_errors,
        }

    async def answer(self, _: Request) -> dict[str, Any]:
        """Handle ``{"op": "status"}``."""
        return {"pid": os.getpid(), **await self.status()}

    async def tell(self) -> ProcessReport:
        """Report on this process, which is ready also while its store is away."""
        status = await self.status()
        report = self.guarding.report(
            not_ready="",
            samples=[*samples.mirror(status), *self.guarding.samples(self.tally.counts())],
            status=status,
        )
        return served_by_journal(report) if self.required else report
