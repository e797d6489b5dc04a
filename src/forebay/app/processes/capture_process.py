"""The capture process: sockets to journal, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.control_records import RetoldFrame, SettledLetters, context_of
from forebay.app.processes import market_registry, samples
from forebay.app.processes.local_socket import Handler, LocalServer, Request, ask
from forebay.app.processes.process_breakers import ProcessBreakers
from forebay.app.processes.samples import CountingObserver
from forebay.app.processes.stream_news import StreamsTold
from forebay.app.processes.worker import StopSignal, retry_while_locked
from forebay.app.wiring import venues
from forebay.app.wiring.data_folder import DataFolder
from forebay.app.wiring.journaling import open_journal
from forebay.clock import SystemClock
from forebay.domain.frames import GapAccepted, RangeChecked
from forebay.ops.view import StreamReport
from forebay.ports import HistoryRequest
from forebay.services.capture import Capture, CaptureSettings, SourceFeed
from forebay.services.group_commit import GroupLimits
from forebay.sources.live import Wiring
from forebay.sources.rest import Budgets
from forebay.sources.roster import Roster
from forebay.times import span_ns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from forebay.app.processes.downloads import RunningDownloads
    from forebay.app.processes.history_pages import HistoryPages
    from forebay.app.processes.local_socket import Reply
    from forebay.app.wiring.config import Config, VenueConfig
    from forebay.ops.view import ProcessReport
    from forebay.resilience import CircuitBreaker
    from forebay.sources.live import LiveSource
    from forebay.telemetry import Observer

PROCESS, JOURNAL = "capture", "journal"
_STANDING = ("asked_ns", "acknowledged_ns", "refused", "refusals", "retry_ns")


async def run(config: Config, observer: Observer) -> dict[str, Any]:
    """Run the capture process until it is told to stop; return what it did."""
    clock, rng = SystemClock(), random.Random()
    life = StopSignal(asyncio.get_running_loop())
    folder = DataFolder(Path(config.data))
    tally = CountingObserver(observer)
    writer = await retry_while_locked(
        clock, life.stop, lambda: open_journal(folder, config, clock, tally)
    )
    guarding = ProcessBreakers(PROCESS, config, clock=clock, rng=rng, observer=tally)
    max_pending = config.journal.max_pending_mb << 20
    limits = GroupLimits(linger_s=config.journal.linger_ms / 1000, max_pending=max_pending)
    roster = Roster(clock)
    wiring = Wiring(config.collector, clock, rng, tally, budgets=Budgets(clock), roster=roster)
    async with contextlib.AsyncExitStack() as stack:
        feeds, wiring = await _feeds(stack, config, wiring, guarding)

        def sheds() -> str:
            return "it stops" if life.stop.is_set() else guarding.sheds()

        running = Capture(
            writer,
            feeds,
            clock=clock,
            rng=rng,
            next_seq=writer.position.seq,
            settings=CaptureSettings(limits=limits, fill_poll_s=config.fill.poll_s),
            observer=tally,
            sheds=guarding.sheds,
        )
        guarding.manager.watch(
            JOURNAL, lambda: _why_not(running), critical=True, depends_on=(PROCESS,)
        )
        history = folder, running, wiring, sheds, config
        handlers = {
            **_handlers(running, guarding, tally, roster, max_pending),
            "accept": _acceptor(running, config.collector),
            "letters": _letters(running, config.collector),
            **await stack.enter_async_context(_downloading(*history)),
            **await stack.enter_async_context(_handing_over(*history)),
        }
        await stack.enter_async_context(LocalServer(folder.capture_socket, handlers).serving())
        await stack.enter_async_context(guarding.recovering())
        await running.run(life.stop)
    return running.stats()


async def _feeds(
    stack: contextlib.AsyncExitStack, config: Config, wiring: Wiring, guarding: ProcessBreakers
) -> tuple[list[SourceFeed], Wiring]:
    """Return open feeds of each venue, and of what one tells of all its markets.

    They end with ``stack``; the wiring beside them has the breakers of their REST.
    """
    guarded = [_guarded(venue, wiring, guarding) for venue in config.venues]
    sources = [await stack.enter_async_context(source) for source, _ in guarded]
    wiring = dataclasses.replace(wiring, rest_breakers=_rest_breakers(config, guarding))
    feeds, beside = [], []
    for venue, source, (_, theirs) in zip(config.venues, sources, guarded, strict=True):
        feed = await stack.enter_async_context(_feed(venue, source, wiring, config))
        feeds.append(feed)
        if feed.directory is not None:
            heard = dataclasses.replace(theirs, listed=feed.directory.listed, roster=None)
            if (pushed := venues.pushed(venue, heard)) is not None:
                await stack.enter_async_context(pushed)
                beside.append(SourceFeed(f"{venue.name}-changes", pushed))
    return [*feeds, *beside], wiring


def _guarded(
    venue: VenueConfig, wiring: Wiring, guarding: ProcessBreakers
) -> tuple[LiveSource, Wiring]:
    """Return a venue behind breakers of its own; the REST one is probed when nobody calls."""

    async def probe() -> None:
        await source.probe()

    guarded = dataclasses.replace(
        wiring,
        rest_breaker=guarding.breaker(f"{venue.name}-rest", "rest", probe=probe),
        websocket_breaker=guarding.breaker(f"{venue.name}-websocket", "websocket", critical=True),
    )
    source = venues.source(venue, guarded)
    return source, guarded


def _rest_breakers(config: Config, guarding: ProcessBreakers) -> dict[str, CircuitBreaker]:
    """Return the breaker of each venue's REST."""
    made = guarding.manager.breakers
    return {venue.name: made[f"{venue.name}-rest"] for venue in config.venues}


@contextlib.asynccontextmanager
async def _feed(
    venue: VenueConfig, source: LiveSource, wiring: Wiring, config: Config
) -> AsyncIterator[SourceFeed]:
    """Give a source, and who fills its gaps: it, and its alternatives while it is away."""
    folder = DataFolder(Path(config.data))
    asker = _gap_asker(folder, venue.name) if config.fill.enabled else None
    directory = market_registry.directory_of(venue, source, wiring, folder)
    wanted = market_registry.wanted_of(venue, wiring, directory)
    rows = venues.page_rows(venue.name)
    feed = SourceFeed(venue.name, source, asker, rows, wanted, directory=directory)
    if not config.alternatives:
        yield feed
        return
    from forebay.app.alternatives import by_deliver, with_alternatives  # noqa: PLC0415 - numpy

    guarded = dataclasses.replace(wiring, rest_breaker=wiring.rest_breakers[venue.name])
    held = by_deliver(folder)
    async with with_alternatives(source, venue.name, config, guarded, held) as history:
        yield dataclasses.replace(feed, history=history)


def _handlers(
    running: Capture,
    guarding: ProcessBreakers,
    tally: CountingObserver,
    roster: Roster,
    max_pending: int,
) -> dict[str, Handler]:
    async def status(request: Request) -> dict[str, Any]:
        stats = running.stats(reset_latency=bool(request.get("reset_latency")))
        markets = market_registry.told_of(running.directories)
        return {"pid": os.getpid(), **stats, "next_seq": running.sink.next_seq, **markets}

    async def tell() -> ProcessReport:
        stats, counts = running.stats(), tally.counts()
        not_ready = _not_subscribed(running)
        if why := _why_not(running):
            not_ready = f"the journal takes no frames: {why}"
        return guarding.report(
            not_ready=not_ready,
            samples=[
                *samples.capture(stats, counts, max_pending=max_pending),
                *samples.roster(roster),
                *market_registry.samples(
                    (each.venue, each.counts()) for each in running.directories
                ),
                *guarding.samples(counts),
            ],
            buckets=samples.latency(running.sink.latency.totals()),
            status={
                **stats,
                "next_seq": running.sink.next_seq,
                **market_registry.told_of(running.directories),
            },
        )

    def standings() -> list[StreamReport]:
        return [
            StreamReport(**place._asdict(), **{name: getattr(each, name) for name in _STANDING})
            for place, each in roster.standings.items()
        ]

    streams = StreamsTold(lambda: roster.changes, standings)
    return {"status": status, **guarding.handlers(tell, streams=streams)}


def _acceptor(running: Capture, collector: str) -> Handler:
    async def accept(request: Request) -> dict[str, Any]:
        accepted = msgspec.convert(request["gaps"], list[tuple[str, GapAccepted | RangeChecked]])
        for venue, told in accepted:
            running.sink.open(context_of(venue, collector, told)).control(told)
        return {"seq": await running.sink.flushed()}

    return accept


def _letters(running: Capture, collector: str) -> Handler:
    async def letters(request: Request) -> dict[str, Any]:
        for frame in msgspec.convert(request["frames"], list[RetoldFrame]):
            running.sink.again(frame.block())
        for told in msgspec.convert(request["settled"], list[SettledLetters]):
            running.sink.again(told.block(collector))
        return {"seq": await running.sink.flushed()}

    return letters


@contextlib.asynccontextmanager
async def _downloading(
    folder: DataFolder,
    running: Capture,
    wiring: Wiring,
    sheds: Callable[[], str],
    config: Config,
) -> AsyncIterator[dict[str, Handler]]:
    """Give the handlers of whoever has bars downloaded, and end downloads with the block."""
    made: list[RunningDownloads] = []

    def downloads() -> RunningDownloads:
        from forebay.app.processes.downloads import RunningDownloads  # noqa: PLC0415 - numpy

        if not made:
            made.append(RunningDownloads(folder, config, running.sink, wiring, sheds))
        return made[0]

    async def begin(request: Request) -> dict[str, Any]:
        return await downloads().begin(request)

    async def tell(request: Request) -> dict[str, Any]:
        return await downloads().tell(request)

    keeping: list[asyncio.Task[None]] = []
    if config.downloader.venue:
        from forebay.app.offline.download_plan import configured  # noqa: PLC0415 - likewise

        if (wanted := configured(config)) is not None:
            every_s = span_ns(config.downloader.every) / 1e9
            kept = downloads().keep_up(wanted, max(every_s, 1.0))
            keeping.append(asyncio.create_task(kept, name="forebay-downloads"))
    try:
        yield {"backfill": begin, "backfill_status": tell}
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        for each in made:
            await each.close()


@contextlib.asynccontextmanager
async def _handing_over(
    folder: DataFolder,
    running: Capture,
    wiring: Wiring,
    sheds: Callable[[], str],
    config: Config,
) -> AsyncIterator[dict[str, Handler]]:
    """Give the handler of whoever looks at pages of history, and let go of them with the block."""
    made: list[HistoryPages] = []

    async def page(request: Request) -> Reply:
        from forebay.app.processes.downloads import Pacing  # noqa: PLC0415 - numpy
        from forebay.app.processes.history_pages import HistoryPages  # noqa: PLC0415

        if not made:
            pacing = Pacing(folder, running.sink, wiring.clock, sheds)
            unlisted = dataclasses.replace(wiring, roster=None)
            made.append(HistoryPages(config, unlisted, pacing))
        return await made[0].page(request)

    try:
        yield {"history": page}
    finally:
        for each in made:
            await each.close()


def _not_subscribed(running: Capture) -> str:
    """Return why nothing can come now; nothing if it can, or if no market is open."""
    if running.sink.counters.subscribed:
        return ""
    if any(not each.looks for each in running.directories):
        return "the list of markets was not had yet"
    return "no source is subscribed" if running.stats()["wanted"] else ""


def _why_not(running: Capture) -> str:
    """Why the journal takes no frames now; nothing if it does."""
    if running.sink.error is not None:
        return f"it broke: {running.sink.error}"
    return "its disk has no space or cannot be written to" if running.sink.full else ""


def _gap_asker(
    folder: DataFolder, venue: str
) -> Callable[[], Awaitable[tuple[Sequence[HistoryRequest], int]]]:
    async def open_gaps() -> tuple[Sequence[HistoryRequest], int]:
        request = {"op": "gaps", "venue": venue}
        answer, _ = await asyncio.to_thread(ask, folder.deliver_socket, request, timeout_s=5.0)
        return msgspec.convert(answer["gaps"], list[HistoryRequest]), answer["seq"]

    return open_gaps
