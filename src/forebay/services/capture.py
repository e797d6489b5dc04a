"""Capture: sources to journal, and nothing else in the process.

Ties one journal, one group commit and the sources together, keeps every part running, and at
the end stops them in the order in which nothing received is left behind.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from forebay.domain.frames import Context, StreamsAsked
from forebay.resilience.backoff import Backoff
from forebay.services.backfiller import Backfiller, BackfillPlanner, OpenGaps
from forebay.services.group_commit import GroupCommit, GroupLimits
from forebay.telemetry import DrainTimedOut, Observer, SourceCrashed, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from forebay.clock import Clock
    from forebay.journal import JournalWriter
    from forebay.ports import Source
    from forebay.services.alternatives import Fills
    from forebay.services.directory import MarketDirectory


@dataclass(frozen=True, slots=True)
class SourceFeed:
    """A source by name, and where its open gaps are asked for (None: nowhere)."""

    name: str
    source: Source
    open_gaps: OpenGaps | None = None
    page_rows: int = 1
    """Ids that one page of its history answers: so many are asked for together."""
    asked: Callable[[], WantedStreams] | None = None
    """What it is to capture now; on record from the beginning, whether anything comes or not."""
    history: Fills | None = None
    """Who is asked to fill gaps, if not the source itself."""
    directory: MarketDirectory | None = None
    """What says which symbols it is to capture, where they come and go."""


@dataclass(frozen=True, slots=True)
class WantedStreams:
    """Whose streams a source is to capture, and which."""

    context: Context
    streams: tuple[tuple[str, str, str], ...]
    """Market, kind of event and symbol of each."""


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Times in seconds."""

    limits: GroupLimits = field(default_factory=GroupLimits)
    fill_poll_s: float = 1.0
    fills_at_once: int = 2
    drain_s: float = 10.0
    """How long, at the end, a journal that takes no frames is waited for."""
    steady_s: float = 60.0
    """A part that ran so long is started again without much waiting when it crashes."""


class Capture:
    """One capture process; :meth:`run` it once. ``sink`` may be used while it runs."""

    def __init__(
        self,
        writer: JournalWriter,
        feeds: Sequence[SourceFeed],
        *,
        clock: Clock,
        rng: random.Random,
        next_seq: int = 1,
        settings: CaptureSettings | None = None,
        observer: Observer = ignore,
        sheds: Callable[[], str] = str,
    ) -> None:
        """``sheds`` answers why gap fills have to wait; nothing if they need not."""
        self._writer = writer
        self._feeds = feeds
        self._clock = clock
        self._rng = rng
        self._settings = settings or CaptureSettings()
        self._observe = observer
        self._sheds = sheds
        self.sink = GroupCommit(
            writer,
            clock=clock,
            rng=rng,
            next_seq=next_seq,
            limits=self._settings.limits,
            observer=observer,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Capture until ``stop`` is set, then drain: end epochs, capture what is taken, close.

        Raises the journal's error if it broke in a way that waiting cannot heal.
        """
        self.sink.start()
        self._put_on_record()
        tasks = [
            asyncio.create_task(self._keep_running(name, part), name=f"forebay-{name}")
            for name, part in self._parts()
        ]
        ends = [asyncio.create_task(event.wait()) for event in (stop, self.sink.broken)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, *ends):
                task.cancel()
            await asyncio.gather(*tasks, *ends, return_exceptions=True)
            await self._drain()
        if self.sink.error is not None:
            raise self.sink.error

    def _put_on_record(self, venue: str = "") -> None:
        """Have the journal say what is asked for of each venue, or of one."""
        wanted: dict[str, list[WantedStreams]] = defaultdict(list)
        for asked in (feed.asked() for feed in self._feeds if feed.asked is not None):
            if venue in {"", asked.context.venue}:
                wanted[asked.context.venue].append(asked)
        for parts in wanted.values():
            streams = tuple(sorted({stream for part in parts for stream in part.streams}))
            self.sink.open(parts[0].context).control(StreamsAsked(streams))

    @property
    def directories(self) -> list[MarketDirectory]:
        """What says which symbols are captured, of each venue where they come and go."""
        return [feed.directory for feed in self._feeds if feed.directory is not None]

    def stats(self, *, reset_latency: bool = False) -> dict[str, int | float | bool]:
        """Where capture stands; latencies are from receipt to CAPTURED."""
        counters = self.sink.counters
        latency = self.sink.latency.read(reset=reset_latency)
        return {
            "received": self.sink.received,
            "captured": counters.captured,
            "bytes": counters.bytes,
            "commits": counters.commits,
            "connected": counters.subscribed,
            "wanted": sum(feed.source.connections for feed in self._feeds),
            "epochs": counters.opened,
            "reconnects": counters.closed,
            "p50_ms": latency.p50_ms,
            "p99_ms": latency.p99_ms,
            "max_ms": latency.max_ms,
            "pending_bytes": self.sink.pending_bytes,
            "full": self.sink.full,
        }

    def _parts(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        for feed in self._feeds:
            yield feed.name, partial(feed.source.run, self.sink)
            if feed.directory is not None:
                put = partial(self._put_on_record, feed.directory.venue)
                yield f"{feed.name}-registry", partial(feed.directory.run, self.sink, put)
            if feed.open_gaps is not None:
                yield f"{feed.name}-filler", partial(self._fill, feed, feed.open_gaps)

    async def _fill(self, feed: SourceFeed, open_gaps: OpenGaps) -> None:
        await Backfiller(
            feed.history or feed.source,
            self.sink,
            open_gaps,
            planner=BackfillPlanner(
                self._rng, at_once=self._settings.fills_at_once, span=feed.page_rows
            ),
            clock=self._clock,
            observer=self._observe,
            poll_s=self._settings.fill_poll_s,
            sheds=self._sheds,
        ).run()

    async def _keep_running(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part again whenever it ends, which it should not."""
        backoff = Backoff(self._rng, base=1.0, cap=30.0)
        while True:
            began = self._clock.monotonic_ns()
            try:
                await part()
                error = "it returned"
            except Exception as crash:  # noqa: BLE001 - told, and the part is started again
                error = f"{type(crash).__name__}: {crash}"
            if self._clock.monotonic_ns() - began >= self._settings.steady_s * 1e9:
                backoff.reset()
            delay_s = backoff.next()
            self._observe(SourceCrashed(name, error, delay_s))
            await self._clock.sleep(delay_s)

    async def _drain(self) -> None:
        closing = asyncio.create_task(self.sink.close(), name="forebay-drain")
        timer = asyncio.create_task(self._clock.sleep(self._settings.drain_s))
        try:
            await asyncio.wait({closing, timer}, return_when=asyncio.FIRST_COMPLETED)
            if not closing.done():
                pending = self.sink.pending_bytes
                self._observe(DrainTimedOut(pending, self._settings.drain_s))
        finally:
            timer.cancel()
            closing.cancel()
            await asyncio.gather(closing, timer, return_exceptions=True)
            await asyncio.to_thread(self._writer.close)
