"""The two supervised processes: capture (sockets to journal) and deliver (journal to store).

Each is started by the supervisor as ``python -m forebay.app.processes ROLE`` with the
configuration as one line of JSON on its standard input. That pipe then stays open: when it
ends, the supervisor is gone, however it went, and the process stops, so that no orphan
lives on holding the data folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from forebay.app import logs, venues
from forebay.app.config import Config
from forebay.app.data_folder import DataFolder
from forebay.app.local_socket import LocalServer, Reply, Request, arrow_body, ask
from forebay.clock import SystemClock
from forebay.errors import ConfigError, ForebayError, Transient, Unreachable
from forebay.journal import CursorFile, JournalWriter
from forebay.ports import FillRequest
from forebay.services.capture import Capture, CaptureSettings, Feed
from forebay.services.deliver import IDLE_S, RETRY_S, Deliverer
from forebay.services.group_commit import Limits
from forebay.stores.duckdb import DuckDBStore
from forebay.telemetry import JournalRecovered, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from forebay.telemetry import Observer

LOCK_PATIENCE_S = 15.0
"""How long to wait for what an orphan of a killed supervisor still holds."""
_LOCK_POLL_S = 0.1
_ORPHAN_GRACE_S = 3.0
DRAIN_S = 30.0
"""How long deliver goes on, when asked to stop, to deliver what is captured."""


class Lifeline:
    """Tells when to stop: a signal asks to finish the work, the end of stdin to leave at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stop = asyncio.Event()
        self.orphaned = False
        self._loop = loop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def _watch(self) -> None:
        while os.read(0, 4096):
            pass
        self.orphaned = True
        with contextlib.suppress(RuntimeError):  # the loop may have ended already
            self._loop.call_soon_threadsafe(self.stop.set)
        # A process that is stuck must not hold the folder against its successor. Leaving
        # like this is as safe as being killed, which every part is built for.
        threading.Event().wait(_ORPHAN_GRACE_S)
        os._exit(1)


T = TypeVar("T")


async def _patiently(clock: SystemClock, stop: asyncio.Event, acquire: Callable[[], T]) -> T:
    """Call ``acquire`` until nobody else holds what it needs, within the patience for it."""
    deadline = clock.monotonic_ns() + round(LOCK_PATIENCE_S * 1e9)
    while True:
        try:
            return await asyncio.to_thread(acquire)
        except (Unreachable, ConfigError):
            if stop.is_set() or clock.monotonic_ns() > deadline:
                raise
        await clock.sleep(_LOCK_POLL_S)


def _json(handler: Callable[[Request], dict[str, Any]]) -> Callable[[Request], Awaitable[Reply]]:
    async def answer(request: Request) -> Reply:
        return handler(request), b""

    return answer


# ----------------------------------------------------------------- capture


async def capture(config: Config, observer: Observer) -> None:
    """Run the capture process until it is told to stop."""
    clock, rng = SystemClock(), random.Random()
    life = Lifeline(asyncio.get_running_loop())
    folder = DataFolder(config.data)
    floor = [position] if (position := CursorFile(folder.store_cursor).load()) else []
    writer = await _patiently(
        clock,
        life.stop,
        lambda: JournalWriter.open(
            folder.journal,
            clock=clock,
            segment_bytes=config.journal.segment_mb << 20,
            floor=floor,
        ),
    )
    report = writer.report
    observer(
        JournalRecovered(
            writer.position.log_id, writer.position.seq, report.truncated_bytes, len(report.losses)
        )
    )
    wiring = venues.Wiring(config.collector, clock, rng, observer)
    async with contextlib.AsyncExitStack() as stack:
        feeds = []
        for venue in config.venues:
            source = await stack.enter_async_context(venues.source(venue, wiring))
            asker = _gap_asker(folder, venue.name) if config.fill.enabled else None
            feeds.append(Feed(venue.name, source, asker))
        running = Capture(
            writer,
            feeds,
            clock=clock,
            rng=rng,
            next_seq=writer.position.seq,
            settings=CaptureSettings(
                limits=Limits(
                    linger_s=config.journal.linger_ms / 1000,
                    max_pending=config.journal.max_pending_mb << 20,
                ),
                fill_poll_s=config.fill.poll_s,
            ),
            observer=observer,
        )

        def status(request: Request) -> dict[str, Any]:
            stats = running.stats(reset_latency=bool(request.get("reset_latency")))
            return {"pid": os.getpid(), **stats, "next_seq": running.sink.next_seq}

        server = LocalServer(folder.capture_socket, {"status": _json(status)})
        async with server.serving():
            await running.run(life.stop)


def _gap_asker(
    folder: DataFolder, venue: str
) -> Callable[[], Awaitable[tuple[Sequence[FillRequest], int]]]:
    async def open_gaps() -> tuple[Sequence[FillRequest], int]:
        request = {"op": "gaps", "venue": venue}
        answer, _ = await asyncio.to_thread(ask, folder.deliver_socket, request, timeout_s=5.0)
        return [FillRequest(*gap) for gap in answer["gaps"]], answer["seq"]

    return open_gaps


# ----------------------------------------------------------------- deliver


async def deliver(config: Config, observer: Observer) -> None:
    """Run the deliver process until it is told to stop."""
    clock = SystemClock()
    life = Lifeline(asyncio.get_running_loop())
    folder = DataFolder(config.data)
    store = await _patiently(
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
        table = await asyncio.to_thread(store.query, str(request["query"]), timeout_s=timeout_s)
        return {"rows": table.num_rows}, await asyncio.to_thread(arrow_body, table)

    def gaps(request: Request) -> dict[str, Any]:
        wanted, seq = deliverer.open_gaps(request.get("venue"))
        return {"gaps": [(g.channel, g.symbol, g.first, g.last) for g in wanted], "seq": seq}

    def status(_: Request) -> dict[str, Any]:
        return {"pid": os.getpid(), **deliverer.status()}

    handlers = {"sql": sql, "gaps": _json(gaps), "status": _json(status)}
    async with LocalServer(folder.deliver_socket, handlers).serving():
        await _deliver_until_stopped(deliverer, life, clock, observer)
    await asyncio.to_thread(store.close)


async def _deliver_until_stopped(
    deliverer: Deliverer, life: Lifeline, clock: SystemClock, observer: Observer
) -> None:
    """Deliver; after a signal until everything captured is stored, within :data:`DRAIN_S`."""
    deadline: int | None = None
    while not life.orphaned:
        if life.stop.is_set() and deadline is None:
            deadline = clock.monotonic_ns() + round(DRAIN_S * 1e9)
        if deadline is not None and clock.monotonic_ns() > deadline:
            return
        try:
            frames = await asyncio.to_thread(deliverer.step)
        except Transient as error:
            observer(StoreUnavailable(str(error), RETRY_S))
            await _sleep_or_stop(life, RETRY_S)
            continue
        if not frames:
            if life.stop.is_set():
                return
            await _sleep_or_stop(life, IDLE_S)


async def _sleep_or_stop(life: Lifeline, seconds: float) -> None:
    if life.stop.is_set():
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(life.stop.wait(), seconds)


# -------------------------------------------------------------------- main

ROLES = {"capture": capture, "deliver": deliver}


def _first_line() -> bytes:
    """Read stdin up to the end of its first line and not a byte further."""
    with os.fdopen(0, "rb", buffering=0, closefd=False) as stdin:
        return stdin.readline()


def main(role: str) -> int:
    """Run one role; answer the exit code."""
    config = Config.model_validate_json(_first_line())
    logs.configure(config.log_level, service=role)
    try:
        uvloop.run(ROLES[role](config, logs.observer()))
    except ForebayError as error:
        sys.stderr.write(f"forebay {role}: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
