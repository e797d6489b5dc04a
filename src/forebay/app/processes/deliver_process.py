"""The deliver process: journal to store, and answers to whoever reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.arrow_stream import encode_arrow
from forebay.app.processes import samples
from forebay.app.processes.counting_observer import CountingObserver
from forebay.app.processes.hourly import HourlyParquet
from forebay.app.processes.local_socket import LocalServer, Reply, Request, json_handler
from forebay.app.processes.maintenance import DeliveryPace, JournalMaintenance, run_maintenance
from forebay.app.processes.process_breakers import ProcessBreakers
from forebay.app.processes.worker import StopSignal, retry_while_locked
from forebay.app.wiring import stores, venues
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.domain.coverage import StreamKey
from forebay.journal import CursorFile
from forebay.ops.view import StreamReport
from forebay.ports import HourFiles
from forebay.services.checkpoints import BookCheckpoints, Derives
from forebay.services.deliver import CONSUMER, REST_S, Deliverer
from forebay.services.guarded_delivery import GuardedDelivery
from forebay.services.ledger_builder import LiveSums

if TYPE_CHECKING:
    import pyarrow as pa

    from forebay.app.wiring.config import Config
    from forebay.ops.view import ProcessReport
    from forebay.ports import Readable, Reader, Store
    from forebay.telemetry import Observer

DELIVER_NICENESS = 5
"""Capture comes first: a frame not yet synced can be lost, one not yet delivered cannot."""
_QUERIES = ThreadPoolExecutor(4, thread_name_prefix="query")
"""Queries have threads of their own: however many are asked, delivery has one."""
INTERRUPT_S = 0.1
"""How long a query that nobody waits for has until it is interrupted again."""
PROCESS, STORE = "deliver", "store"


async def run(config: Config, observer: Observer) -> dict[str, Any]:
    """Run the deliver process until it is told to stop; answer where it stands then."""
    os.nice(DELIVER_NICENESS)
    clock, rng = SystemClock(), random.Random()
    life = StopSignal(asyncio.get_running_loop())
    folder = DataFolder(Path(config.data))
    tally = CountingObserver(observer)
    guarding = ProcessBreakers(PROCESS, config, clock=clock, rng=rng, observer=tally)
    store = await retry_while_locked(
        clock, life.stop, lambda: stores.open_store(folder, config.store)
    )
    sums = LiveSums()
    deliverer = await asyncio.to_thread(_deliverer, folder, store, tally, sums)
    delivery = GuardedDelivery(
        deliverer,
        folder.journal,
        clock=clock,
        rng=rng,
        breaker=guarding.breaker(STORE, "store", critical=True),
        system=lambda: guarding.manager.state,
        observer=tally,
        rest_s=REST_S,
    )
    where = folder, config.journal, lambda: deliverer.position, store.first_told
    journal = JournalMaintenance(*where, live=sums, clock=clock, observer=tally)
    reporting = await _Reporting.begin(guarding, deliverer, delivery, tally)
    handlers = {
        **_reading(store, deliverer, guarding),
        **guarding.handlers(reporting.tell, lambda changed: journal.configure(changed.journal)),
    }
    pace = DeliveryPace()
    async with contextlib.AsyncExitStack() as beside:
        await beside.enter_async_context(LocalServer(folder.deliver_socket, handlers).serving())
        await beside.enter_async_context(guarding.recovering())
        await beside.enter_async_context(run_maintenance(journal, pace, clock, tally))
        if config.store.parquet and isinstance(store, HourFiles):
            hourly = HourlyParquet(folder.parquet, store, clock=clock)
            await beside.enter_async_context(
                run_maintenance(hourly, pace, clock, tally, guarding.sheds)
            )
        if isinstance(store, Derives):
            checkpoints = BookCheckpoints(store, venues.parsers())
            await beside.enter_async_context(
                run_maintenance(checkpoints, pace, clock, tally, guarding.sheds)
            )
        await delivery.run(life, pace)
    found = await delivery.measure()
    last = {**deliverer.status(), "backlog": found.backlog}
    await asyncio.to_thread(store.close)
    return last


def _deliverer(folder: DataFolder, store: Store, observer: Observer, sums: LiveSums) -> Deliverer:
    cursor = CursorFile(folder.cursor(CONSUMER))
    parts = folder.journal, store, venues.parsers()
    return Deliverer(*parts, cursor=cursor, observer=observer, sums=sums)


def _reading(store: Readable, deliverer: Deliverer, guarding: ProcessBreakers) -> dict[str, Any]:
    """Return the handlers of whoever reads."""

    async def sql(request: Request) -> Reply:
        wanted = request.get("timeout_s", guarding.config.query.timeout_s)
        table = await _queried(
            store.reader(), str(request["query"]), min(float(wanted), 3600.0), request.get("limit")
        )
        return {"rows": table.num_rows}, await asyncio.to_thread(encode_arrow, table)

    def gaps(request: Request) -> dict[str, Any]:
        wanted, seq = deliverer.open_gaps(request.get("venue"))
        return {"gaps": msgspec.to_builtins(wanted), "seq": seq}

    def coverage(request: Request) -> dict[str, Any]:
        held = deliverer.coverage_of(StreamKey(*request["stream"]))
        return {"unit": held.unit if held else "", "rows": list(held.rows()) if held else []}

    def status(_: Request) -> dict[str, Any]:
        return {"pid": os.getpid(), **deliverer.status()}

    return {
        "sql": sql,
        "gaps": json_handler(gaps),
        "coverage": json_handler(coverage),
        "status": json_handler(status),
    }


@dataclass(slots=True)
class _Reporting:
    """What this process says of itself."""

    guarding: ProcessBreakers
    deliverer: Deliverer
    delivery: GuardedDelivery
    tally: CountingObserver
    inherited: int
    """Frames that were captured and not stored when this process began."""

    @classmethod
    async def begin(
        cls,
        guarding: ProcessBreakers,
        deliverer: Deliverer,
        delivery: GuardedDelivery,
        tally: CountingObserver,
    ) -> _Reporting:
        found = await delivery.measure()
        return cls(guarding, deliverer, delivery, tally, found.backlog)

    async def tell(self) -> ProcessReport:
        seen, status, counts = (
            await self.delivery.measure(),
            self.deliverer.status(),
            self.tally.counts(),
        )
        store = stores.kind_of(self.guarding.config.store).name
        return self.guarding.report(
            not_ready="",
            samples=[
                *samples.deliver(status, seen, counts, store=store, inherited=self.inherited),
                *self.guarding.samples(counts),
            ],
            streams=[
                StreamReport(**key._asdict(), heard_ns=ns or None)
                for key, ns in self.deliverer.heard.items()
            ],
            hears=True,
            status={**status, "backlog": seen.backlog, "lag_s": round(seen.lag_s, 3)},
        )


async def _queried(
    reader: Reader, query: str, timeout_s: float, limit: int | None = None
) -> pa.Table:
    """Return a query; when cancelled, because nobody waits for it any more, stop it."""

    def answer() -> pa.Table:
        with contextlib.closing(reader):
            return reader.query(query, timeout_s=timeout_s, limit=limit)

    answering = asyncio.get_running_loop().run_in_executor(_QUERIES, answer)
    try:
        return await asyncio.shield(answering)
    except asyncio.CancelledError:
        while not answering.done():  # what has not begun yet cannot be interrupted yet
            reader.interrupt()
            await asyncio.wait({answering}, timeout=INTERRUPT_S)
        await asyncio.gather(answering, return_exceptions=True)
        raise
