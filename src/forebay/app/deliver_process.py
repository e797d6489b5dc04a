"""The deliver process: journal to store, and answers to whoever reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.app import venues
from forebay.app.arrow_stream import encode_arrow
from forebay.app.child import Lifeline, patiently
from forebay.app.data_folder import DataFolder
from forebay.app.hourly import HourlyParquet
from forebay.app.keeping import Backlog, House, keeping_house
from forebay.app.local_socket import LocalServer, Reply, Request, json_handler
from forebay.clock import SystemClock
from forebay.errors import Transient
from forebay.journal import CursorFile
from forebay.services.deliver import BACKLOG_FRAMES, PACE_S, RETRY_S, Deliverer
from forebay.stores.duckdb import DuckDBStore
from forebay.stores.duckdb.query import read_only_query
from forebay.telemetry import StoreUnavailable

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from forebay.app.config import Config
    from forebay.telemetry import Observer

DELIVER_NICENESS = 5
"""Capture comes first: a frame not yet synced can be lost, one not yet delivered cannot."""
INTERRUPT_S = 0.1
"""How long a query that nobody waits for has until it is interrupted again."""
DRAIN_S = 30.0
"""How long to go on, when asked to stop, to deliver what is captured."""


async def run(config: Config, observer: Observer) -> None:
    """Run the deliver process until it is told to stop."""
    os.nice(DELIVER_NICENESS)
    clock = SystemClock()
    life = Lifeline(asyncio.get_running_loop())
    folder = DataFolder(Path(config.data))
    store = await patiently(
        clock,
        life.stop,
        lambda: DuckDBStore(folder.database, memory_limit_mb=config.store.memory_limit_mb),
    )
    deliverer = await asyncio.to_thread(
        Deliverer,
        folder.journal,
        store,
        venues.parsers(),
        cursor=CursorFile(folder.store_cursor),
        observer=observer,
    )

    async def sql(request: Request) -> Reply:
        timeout_s = min(float(request.get("timeout_s", config.query.timeout_s)), 3600.0)
        table = await _queried(store.reader(), str(request["query"]), timeout_s)
        return {"rows": table.num_rows}, await asyncio.to_thread(encode_arrow, table)

    def gaps(request: Request) -> dict[str, Any]:
        wanted, seq = deliverer.open_gaps(request.get("venue"))
        return {"gaps": [(g.channel, g.symbol, g.first, g.last) for g in wanted], "seq": seq}

    def status(_: Request) -> dict[str, Any]:
        return {"pid": os.getpid(), **deliverer.status()}

    handlers = {"sql": sql, "gaps": json_handler(gaps), "status": json_handler(status)}
    house = House(
        folder, config.journal, lambda: deliverer.position, clock=clock, observer=observer
    )
    backlog = Backlog()
    async with contextlib.AsyncExitStack() as beside:
        await beside.enter_async_context(LocalServer(folder.deliver_socket, handlers).serving())
        await beside.enter_async_context(keeping_house(house, backlog, clock, observer))
        if config.store.parquet:
            hourly = HourlyParquet(folder.parquet, store, clock=clock)
            await beside.enter_async_context(keeping_house(hourly, backlog, clock, observer))
        await _deliver_until_stopped(deliverer, life, clock, observer, backlog)
    await asyncio.to_thread(store.close)


async def _queried(connection: duckdb.DuckDBPyConnection, query: str, timeout_s: float) -> pa.Table:
    """Answer a query; when cancelled, because nobody waits for it any more, stop it."""

    def answer() -> pa.Table:
        with connection:
            return read_only_query(connection, query, timeout_s=timeout_s)

    answering = asyncio.get_running_loop().run_in_executor(None, answer)
    try:
        return await asyncio.shield(answering)
    except asyncio.CancelledError:
        while not answering.done():  # what has not begun yet cannot be interrupted yet
            connection.interrupt()
            await asyncio.wait({answering}, timeout=INTERRUPT_S)
        await asyncio.gather(answering, return_exceptions=True)
        raise


async def _deliver_until_stopped(
    deliverer: Deliverer, life: Lifeline, clock: SystemClock, observer: Observer, backlog: Backlog
) -> None:
    """Deliver; after a signal until everything captured is stored, within :data:`DRAIN_S`."""
    deadline: int | None = None
    while not life.orphaned:
        backlog.stopping = life.stop.is_set()
        if backlog.stopping and deadline is None:
            deadline = clock.monotonic_ns() + round(DRAIN_S * 1e9)
        if deadline is not None and clock.monotonic_ns() > deadline:
            return
        try:
            frames = backlog.frames = await asyncio.to_thread(deliverer.step)
        except Transient as error:
            observer(StoreUnavailable(str(error), RETRY_S))
            await _sleep_or_stop(life, RETRY_S)
            continue
        if not frames and life.stop.is_set():
            return
        if frames < BACKLOG_FRAMES:
            await _sleep_or_stop(life, PACE_S)


async def _sleep_or_stop(life: Lifeline, seconds: float) -> None:
    if life.stop.is_set():
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(life.stop.wait(), seconds)
