"""The capture process: sockets to journal, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.app import venues
from forebay.app.child import Lifeline, patiently
from forebay.app.data_folder import DataFolder
from forebay.app.journaling import open_journal
from forebay.app.local_socket import LocalServer, Request, ask, json_handler
from forebay.clock import SystemClock
from forebay.ports import FillRequest
from forebay.services.capture import Capture, CaptureSettings, Feed
from forebay.services.group_commit import Limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from forebay.app.config import Config
    from forebay.telemetry import Observer


async def run(config: Config, observer: Observer) -> None:
    """Run the capture process until it is told to stop."""
    clock, rng = SystemClock(), random.Random()
    life = Lifeline(asyncio.get_running_loop())
    folder = DataFolder(Path(config.data))
    writer = await patiently(
        clock, life.stop, lambda: open_journal(folder, config, clock, observer)
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
            settings=_settings(config),
            observer=observer,
        )

        def status(request: Request) -> dict[str, Any]:
            stats = running.stats(reset_latency=bool(request.get("reset_latency")))
            return {"pid": os.getpid(), **stats, "next_seq": running.sink.next_seq}

        server = LocalServer(folder.capture_socket, {"status": json_handler(status)})
        async with server.serving():
            await running.run(life.stop)


def _settings(config: Config) -> CaptureSettings:
    return CaptureSettings(
        limits=Limits(
            linger_s=config.journal.linger_ms / 1000,
            max_pending=config.journal.max_pending_mb << 20,
        ),
        fill_poll_s=config.fill.poll_s,
    )


def _gap_asker(
    folder: DataFolder, venue: str
) -> Callable[[], Awaitable[tuple[Sequence[FillRequest], int]]]:
    async def open_gaps() -> tuple[Sequence[FillRequest], int]:
        request = {"op": "gaps", "venue": venue}
        answer, _ = await asyncio.to_thread(ask, folder.deliver_socket, request, timeout_s=5.0)
        return [FillRequest(*gap) for gap in answer["gaps"]], answer["seq"]

    return open_gaps
