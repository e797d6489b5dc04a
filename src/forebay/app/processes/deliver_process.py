"""The deliver process: journal to store, and answers to whoever reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.processes import samples
from forebay.app.processes.bar_checks import QUERY_S, BarChecks, Outages
from forebay.app.processes.local_socket import Handler, LocalServer, Request
from forebay.app.processes.maintenance import (
    DeliveryPace,
    HourlyParquet,
    JournalMaintenance,
    MaintenanceTask,
    run_maintenance,
)
from forebay.app.processes.process_breakers import ProcessBreakers
from forebay.app.processes.samples import CountingObserver
from forebay.app.processes.store_delivery import EMBEDDED, StoreAnswers, guarded
from forebay.app.processes.stream_news import StreamsTold, reports_of_heard
from forebay.app.processes.verification import BarVerification
from forebay.app.processes.worker import StopSignal, retry_while_locked
from forebay.app.wiring import stores, venues
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.domain.coverage import StreamKey
from forebay.journal import CursorFile
from forebay.ports import HourFiles
from forebay.services.checkpoints import BookCheckpoints, Derives
from forebay.services.clock_skew import SkewWatch
from forebay.services.deliver import CONSUMER, Deliverer
from forebay.services.ledger_builder import LiveSums

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import pyarrow as pa

    from forebay.app.wiring.config import Config
    from forebay.clock import Clock
    from forebay.ops.view import ProcessReport, Sample
    from forebay.ports import Readable
    from forebay.services.guarded_delivery import GuardedDelivery
    from forebay.telemetry import Observer

DELIVER_NICENESS = 5
"""Capture comes first: a frame not yet synced can be lost, one not yet delivered cannot."""
STORE = EMBEDDED


async def run(config: Config, observer: Observer) -> dict[str, Any]:
    """Run the deliver process until it is told to stop; return where it stands then."""
    os.nice(DELIVER_NICENESS)
    clock, rng = SystemClock(), random.Random()
    life = StopSignal(asyncio.get_running_loop())
    folder = DataFolder(Path(config.data))
    tally = CountingObserver(observer)
    outages = Outages(tally)
    place = stores.stores_of(config)[0]
    guarding = ProcessBreakers(place.role, config, clock=clock, rng=rng, observer=tally)
    opening = partial(stores.open_store, folder, place.config)
    store = await retry_while_locked(clock, life.stop, opening)
    sums, skew = LiveSums(), SkewWatch(clock)
    cursor = CursorFile(folder.cursor(CONSUMER))
    parts = folder.journal, store, venues.parsers()
    deliverer = await asyncio.to_thread(
        Deliverer, *parts, cursor=cursor, observer=outages, sums=sums, skew=skew
    )
    delivery = guarded(
        *(deliverer, folder.journal, place, guarding), clock=clock, observer=tally, cursor=cursor
    )
    where = folder, config.journal, lambda: deliverer.position, store.first_told
    journal = JournalMaintenance(*where, live=sums, clock=clock, observer=tally)
    verification = BarVerification(config, folder, _answering(store), clock, outages)
    tell = _teller(
        *(guarding, deliverer, delivery, tally, skew),
        inherited=(await delivery.measure()).backlog,
        compared=verification.samples,
    )
    handlers = {
        "sql": StoreAnswers(store, place, guarding).sql,
        **_reading(deliverer),
        "verify": verification.take,
        **guarding.handlers(tell, lambda now: journal.configure(now.journal), _heard(deliverer)),
    }
    pace, sheds = DeliveryPace(), guarding.sheds
    async with contextlib.AsyncExitStack() as beside:
        await beside.enter_async_context(LocalServer(folder.deliver_socket, handlers).serving())
        await beside.enter_async_context(guarding.recovering())
        await beside.enter_async_context(run_maintenance(journal, pace, clock, tally))
        for task in _tasks(config, folder, store, clock):
            await beside.enter_async_context(run_maintenance(task, pace, clock, tally, sheds))
        checks = BarChecks(config, store, deliverer, outages, clock)
        await beside.enter_async_context(checks.beside(pace, sheds))
        await beside.enter_async_context(verification.beside(pace, sheds))
        await delivery.run(life, pace)
    last = {**deliverer.status(), "backlog": (await delivery.measure()).backlog}
    await asyncio.to_thread(store.close)
    return last


def _tasks(
    config: Config, folder: DataFolder, store: Readable, clock: Clock
) -> Iterator[MaintenanceTask]:
    """Return what is to be made of what is stored."""
    if config.store.parquet and isinstance(store, HourFiles):
        yield HourlyParquet(folder.parquet, store, clock=clock)
    if isinstance(store, Derives):
        yield BookCheckpoints(store, venues.parsers())


def _reading(deliverer: Deliverer) -> dict[str, Handler]:
    """Return the handlers of whoever asks what is stored."""

    async def gaps(request: Request) -> dict[str, Any]:
        wanted, seq = deliverer.open_gaps(request.get("venue"))
        return {"gaps": msgspec.to_builtins(wanted), "seq": seq}

    async def coverage(request: Request) -> dict[str, Any]:
        held = deliverer.coverage_of(StreamKey(*request["stream"]))
        return {"unit": held.unit if held else "", "rows": list(held.rows()) if held else []}

    async def status(_: Request) -> dict[str, Any]:
        return {"pid": os.getpid(), **deliverer.status()}

    return {"gaps": gaps, "coverage": coverage, "status": status}


def _heard(deliverer: Deliverer) -> StreamsTold:
    """Return what tells which streams were heard."""
    return StreamsTold(
        lambda: deliverer.delivered.frames, lambda: reports_of_heard(deliverer.heard)
    )


def _answering(store: Readable) -> Callable[[str], pa.Table]:
    def answer(query: str) -> pa.Table:
        with contextlib.closing(store.reader()) as reader:
            return reader.query(query, timeout_s=QUERY_S)

    return answer


def _teller(
    guarding: ProcessBreakers,
    deliverer: Deliverer,
    delivery: GuardedDelivery,
    tally: CountingObserver,
    skew: SkewWatch,
    *,
    inherited: int,
    compared: Callable[[], list[Sample]],
) -> Callable[[], Awaitable[ProcessReport]]:
    """Return what tells of this process, which found ``inherited`` frames to store."""

    async def tell() -> ProcessReport:
        seen, status, counts = await delivery.measure(), deliverer.status(), tally.counts()
        store = stores.name_of(guarding.config.store)
        captured = [venue.name for venue in guarding.config.venues]
        return guarding.report(
            not_ready="",
            samples=[
                *samples.deliver(
                    status, seen, counts, store=store, inherited=inherited, venues=captured
                ),
                *samples.skews(skew.skews()),
                *compared(),
                *guarding.samples(counts),
            ],
            hears=True,
            status={**status, "backlog": seen.backlog, "lag_s": round(seen.lag_s, 3)},
        )

    return tell
