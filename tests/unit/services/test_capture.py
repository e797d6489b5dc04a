"""Capture as a whole: its parts are kept running, and stopping leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Self

import pytest

from forebay.clock import ManualClock, SystemClock
from forebay.domain.frames import (
    Context,
    EpochAccepted,
    EpochClosed,
    EpochOpened,
    FrameKind,
    StreamsAsked,
    decode_control,
)
from forebay.errors import Corrupt, JournalFull
from forebay.journal import JournalReader, JournalWriter
from forebay.ports import FrameSink, HistoryRequest, Instrument
from forebay.services.capture import Capture, CaptureSettings, SourceFeed, WantedStreams
from forebay.sources.live import Timings
from forebay.sources.websocket import Timeouts
from forebay.telemetry import DrainTimedOut, SourceCrashed
from tests.support.fake_journal import FakeJournal
from tests.support.live_source import live
from tests.support.ws_server import Peer, WsServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.telemetry import TelemetryEvent


class FakeSource:
    """A source that runs what a test gives it."""

    connections = 3

    def __init__(self, body: Callable[[FrameSink], Awaitable[None]]) -> None:
        self.body = body
        self.runs = 0
        self.fills: list[HistoryRequest] = []

    async def run(self, sink: FrameSink) -> None:
        self.runs += 1
        await self.body(sink)

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        self.fills.append(request)
        take = sink.open(
            Context(venue="v", source="rest", purpose="history", collector="c", epoch="f")
        )
        take.frame(FrameKind.REST, b"page")

    async def instruments(self) -> Sequence[Instrument]:
        return []

    async def probe(self) -> None:
        raise AssertionError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""


async def steady(sink: FrameSink) -> None:
    """One accepted epoch with a frame now and then, closed when cancelled."""
    take = sink.open(Context(venue="v", source="ws", purpose="live", collector="c", epoch="e"))
    take.control(EpochOpened())
    take.control(EpochAccepted())
    try:
        while True:
            take.frame(FrameKind.TEXT, b"frame")
            await asyncio.sleep(0)
    finally:
        take.control(EpochClosed("stopped"))


def capture(
    journal: JournalWriter,
    *feeds: SourceFeed,
    clock: Clock | None = None,
    said: list[TelemetryEvent] | None = None,
    drain_s: float = 10.0,
) -> Capture:
    return Capture(
        journal,
        feeds,
        clock=clock or SystemClock(),
        rng=random.Random(1),
        settings=CaptureSettings(drain_s=drain_s),
        observer=(said if said is not None else []).append,
    )


async def until(condition: Callable[[], bool], clock: ManualClock | None = None) -> None:
    async with asyncio.timeout(20):
        while not condition():
            if clock is not None:
                clock.advance(0.1)
            await asyncio.sleep(0)


def asked_in(journal: FakeJournal) -> list[StreamsAsked]:
    """Return what the journal says is asked for, in order."""
    payloads = [payload for draft in journal.drafts for payload in draft.payloads]
    told = [decode_control(payload) for payload in payloads]
    return [control for control in told if isinstance(control, StreamsAsked)]


async def test_what_is_asked_for_is_on_record_again_when_markets_begin_and_end() -> None:
    wanted = ["A"]

    class Directory:
        venue = "v"

        async def run(self, sink: FrameSink, asked: Callable[[], None]) -> None:
            wanted.append("B")
            asked()
            await asyncio.Event().wait()

    async def nothing(_: FrameSink) -> None:
        await asyncio.Event().wait()

    def streams() -> WantedStreams:
        context = Context(venue="v", source="ws", purpose="live", collector="c", epoch="")
        return WantedStreams(context, tuple(("spot", "trade", symbol) for symbol in wanted))

    journal, directory = FakeJournal(), Directory()
    feed = SourceFeed("v", FakeSource(nothing), asked=streams, directory=directory)  # type: ignore[arg-type]
    whole, stop = capture(journal, feed), asyncio.Event()
    running = asyncio.create_task(whole.run(stop))
    await until(lambda: len(asked_in(journal)) == 2)
    stop.set()
    await running
    assert [[symbol for _, _, symbol in asked.streams] for asked in asked_in(journal)] == [
        ["A"],
        ["A", "B"],
    ]


async def test_what_is_asked_for_is_on_record_before_anything_comes() -> None:
    def wanted(venue: str, *symbols: str) -> Callable[[], WantedStreams]:
        context = Context(venue=venue, source="ws", purpose="live", collector="c", epoch="")
        streams = tuple(("spot", "trade", symbol) for symbol in symbols)
        return lambda: WantedStreams(context, streams)

    async def nothing(_: FrameSink) -> None:
        await asyncio.Event().wait()

    journal, source = FakeJournal(), FakeSource(nothing)
    feeds = [
        SourceFeed("v", source, asked=wanted("v", "A")),
        SourceFeed("v", source, asked=wanted("v", "B")),
    ]
    whole = capture(journal, *feeds, SourceFeed("w", source, asked=wanted("w", "A")))
    stop = asyncio.Event()
    task = asyncio.create_task(whole.run(stop))
    await until(lambda: whole.stats()["captured"] == 2)
    stop.set()
    await task
    told = {
        Context.decode(draft.context).venue: decode_control(draft.payloads[0])
        for draft in journal.drafts
    }
    assert told == {
        "v": StreamsAsked((("spot", "trade", "A"), ("spot", "trade", "B"))),
        "w": StreamsAsked((("spot", "trade", "A"),)),
    }


async def test_stopping_closes_epochs_and_captures_everything_first() -> None:
    journal = FakeJournal()
    before = asyncio.all_tasks()
    whole = capture(journal, SourceFeed("steady", FakeSource(steady)))
    stop = asyncio.Event()
    task = asyncio.create_task(whole.run(stop))
    await until(lambda: int(whole.stats()["captured"]) > 50)
    running = whole.stats()
    assert running["connected"] == running["epochs"] == 1
    assert running["wanted"] == FakeSource.connections
    assert running["full"] is False
    stop.set()
    await task
    ended = whole.stats()
    assert ended["received"] == ended["captured"]
    assert ended["connected"] == ended["pending_bytes"] == 0
    assert ended["reconnects"] == 1
    assert 0 < ended["p50_ms"] <= ended["p99_ms"] <= ended["max_ms"]
    last = journal.drafts[-1]
    closed = decode_control(last.payloads[-1])
    assert isinstance(closed, EpochClosed)
    assert closed.reason == "stopped"
    assert journal.closed
    assert asyncio.all_tasks() == before


async def test_a_crashed_source_is_started_again_and_told() -> None:
    clock = ManualClock()
    said: list[TelemetryEvent] = []

    async def crashing(_: FrameSink) -> None:
        raise ZeroDivisionError

    async def returning(_: FrameSink) -> None:
        return

    bad, odd, good = FakeSource(crashing), FakeSource(returning), FakeSource(steady)
    whole = capture(
        FakeJournal(),
        SourceFeed("bad", bad),
        SourceFeed("odd", odd),
        SourceFeed("ok", good),
        clock=clock,
        said=said,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(whole.run(stop))
    await until(lambda: bad.runs >= 6 and odd.runs >= 6, clock)
    stop.set()
    await until(task.done, clock)
    await task
    crashes = [happening for happening in said if isinstance(happening, SourceCrashed)]
    assert {crash.source for crash in crashes} == {"bad", "odd"}
    assert good.runs == 1
    delays = [crash.delay_s for crash in crashes if crash.source == "bad"]
    assert all(d <= min(30.0, 2.0**n) for n, d in enumerate(delays))
    assert max(delays) > 1.0, "back-off does not grow"


async def test_gaps_are_filled_into_the_same_journal() -> None:
    journal = FakeJournal()
    source = FakeSource(steady)
    gap = HistoryRequest("trade", "BTC-USD", 1, 5)

    async def open_gaps() -> tuple[list[HistoryRequest], int]:
        return [gap], 0

    whole = capture(journal, SourceFeed("steady", source, open_gaps))
    stop = asyncio.Event()
    task = asyncio.create_task(whole.run(stop))
    await until(lambda: b"page" in journal.payloads)
    stop.set()
    await task
    assert source.fills == [gap]


async def test_gaps_are_filled_by_whoever_has_the_history() -> None:
    journal, source, history = FakeJournal(), FakeSource(steady), FakeSource(steady)
    gap = HistoryRequest("trade", "BTC-USD", 1, 5)

    async def open_gaps() -> tuple[list[HistoryRequest], int]:
        return [gap], 0

    whole = capture(journal, SourceFeed("steady", source, open_gaps, history=history))
    stop = asyncio.Event()
    task = asyncio.create_task(whole.run(stop))
    await until(lambda: b"page" in journal.payloads)
    stop.set()
    await task
    assert (source.fills, history.fills) == ([], [gap])
    assert (source.runs, history.runs) == (1, 0)


@pytest.mark.parametrize("error", [Corrupt("The journal is broken."), OSError(5, "I/O error")])
async def test_a_broken_journal_ends_capture_with_its_error(error: Exception) -> None:
    journal = FakeJournal()
    journal.errors = [error]
    whole = capture(journal, SourceFeed("steady", FakeSource(steady)))
    before = asyncio.all_tasks()
    with pytest.raises(type(error)):
        await whole.run(asyncio.Event())
    assert journal.closed
    assert asyncio.all_tasks() == before


async def test_a_journal_that_stays_full_does_not_hold_the_end_for_ever() -> None:
    clock = ManualClock()
    journal = FakeJournal()
    journal.errors = [JournalFull("No space.") for _ in range(10_000)]
    said: list[TelemetryEvent] = []

    async def once(sink: FrameSink) -> None:
        take = sink.open(Context(venue="v", source="ws", purpose="live", collector="c", epoch="e"))
        take.frame(FrameKind.TEXT, b"frame")
        await asyncio.Event().wait()

    whole = capture(
        journal, SourceFeed("one", FakeSource(once)), clock=clock, said=said, drain_s=5.0
    )
    stop = asyncio.Event()
    task = asyncio.create_task(whole.run(stop))
    await until(lambda: bool(whole.stats()["full"]), clock)
    stop.set()
    await until(task.done, clock)
    await task
    drained = [happening for happening in said if isinstance(happening, DrainTimedOut)]
    assert len(drained) == 1
    assert drained[0].pending_bytes > 0
    assert journal.closed


async def test_cancelling_stops_as_well() -> None:
    journal = FakeJournal()
    whole = capture(journal, SourceFeed("steady", FakeSource(steady)))
    task = asyncio.create_task(whole.run(asyncio.Event()))
    await until(lambda: int(whole.stats()["captured"]) > 5)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert journal.closed
    assert whole.stats()["received"] == whole.stats()["captured"]


async def test_from_the_socket_to_the_real_journal(tmp_path: Path) -> None:
    """What a server sent over three connections is on disk, in order, when capture ends."""
    total = 1000

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.text(b'{"type":"subscriptions"}')
        for n in range(total):
            await peer.text(b'{"type":"match","n":%d}' % n)
        peer.writer.close()

    writer = JournalWriter.open(tmp_path, clock=SystemClock())
    async with WsServer(script) as server:
        source = live(
            ws_url=server.url,
            timings=Timings(feed=Timeouts(backoff_base_s=0.001, backoff_cap_s=0.002)),
        )
        whole = capture(writer, SourceFeed("coinbase", source))
        stop = asyncio.Event()
        task = asyncio.create_task(whole.run(stop))
        await until(lambda: int(whole.stats()["reconnects"]) >= 3)
        stop.set()
        await task
    reader = JournalReader(tmp_path)
    epochs: dict[str, list[bytes]] = {}
    seen = 0
    while blocks := reader.read():
        for block in blocks:
            seen += len(block.payloads)
            if block.kind == FrameKind.TEXT:
                name = Context.decode(block.context).epoch
                epochs.setdefault(name, []).extend(block.payloads)
    assert seen == whole.stats()["captured"]
    whole_epochs = list(epochs.values())[:3]
    wanted = [b'{"type":"subscriptions"}', *(b'{"type":"match","n":%d}' % n for n in range(total))]
    assert whole_epochs == [wanted] * 3
