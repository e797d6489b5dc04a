"""Filling gaps without a running capture, and accepting them, by one that runs or without."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from forebay.app.alternatives import by_deliverer, with_alternatives
from forebay.app.checked_bars import FOUND, Query, stored_bars, watched
from forebay.app.control_records import context_of
from forebay.app.processes.local_socket import ask
from forebay.app.wiring import venues
from forebay.app.wiring.config import VenueConfig
from forebay.clock import SystemClock
from forebay.domain.frames import FrameKind, GapAccepted, RangeChecked, encode_control
from forebay.errors import Permanent, Transient, Unreachable
from forebay.journal import PendingBlock
from forebay.services.alternatives import AnsweredElsewhere
from forebay.services.backfiller import coalesce
from forebay.services.gap_detector import CheckedBars, GapDetector
from forebay.services.group_commit import GroupCommit
from forebay.sources.live import Wiring
from forebay.sources.rest import Budgets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.domain.coverage import StreamKey
    from forebay.journal import JournalWriter
    from forebay.ports import FrameSink, HistoryRequest, ReadableStore
    from forebay.services.alternatives import Fills
    from forebay.services.deliver import Deliverer
    from forebay.telemetry import Observer

DELIVERED_S = 20.0
"""How long deliver has until an acceptance counts."""
_POLL_S = 0.05
Refused: TypeAlias = "dict[tuple[str, str, str], Permanent]"
"""By market, channel and symbol of one venue, why its history was not had."""


def acceptance(gap: dict[str, Any], by: str, reason: str) -> GapAccepted:
    """Return the record that accepts a gap; of one up to a far id, it is that this end stays."""
    from forebay.domain.coverage.gaps import FAR_AHEAD, FAR_BEHIND  # noqa: PLC0415 - brings numpy

    first = gap["last"] if gap["reason"] == FAR_AHEAD else gap["first"]
    last = gap["first"] if gap["reason"] == FAR_BEHIND else gap["last"]
    named = gap["channel"], gap["symbol"], first, last
    about = {name: gap[name] for name in ("unit", "epoch", "market")}
    return GapAccepted(*named, " ".join(by.split()), " ".join(reason.split()), **about)


async def accept(
    folder: DataFolder,
    config: Config,
    told: list[tuple[str, GapAccepted]],
    observer: Observer,
) -> None:
    """Have acceptances, each with its venue, captured and delivered.

    Raises :class:`~forebay.errors.Transient` if they were captured and do not count yet.
    """
    request = {"op": "accept", "gaps": msgspec.to_builtins(told)}
    try:
        answer, _ = await asyncio.to_thread(ask, folder.capture_socket, request)
    except Unreachable:
        await asyncio.to_thread(_offline, folder, config, told, observer)
    else:
        await delivered(folder, answer["seq"])


def _offline(
    folder: DataFolder, config: Config, told: list[tuple[str, GapAccepted]], observer: Observer
) -> None:
    from forebay.app.offline.replay import offline  # noqa: PLC0415 - capture needs no store

    clock = SystemClock()
    with offline(folder, config, clock, observer) as (writer, deliverer):
        for venue, control in told:
            write(writer, venue, config.collector, control, clock)
        deliverer.drain()


def write(
    writer: JournalWriter,
    venue: str,
    collector: str,
    control: GapAccepted | RangeChecked,
    clock: Clock,
) -> None:
    """Have a record captured by this process, which holds the journal."""
    context = context_of(venue, collector, control).encode()
    frame, now = encode_control(control), clock.monotonic_ns()
    writer.commit([PendingBlock(int(FrameKind.CONTROL), context, [frame], [now])])


async def delivered(folder: DataFolder, seq: int) -> None:
    """Wait until a running deliver has stored all before ``seq``; raises ``Transient``."""
    try:
        async with asyncio.timeout(DELIVERED_S):
            while True:
                status, _ = await asyncio.to_thread(ask, folder.deliver_socket, {"op": "status"})
                if status["seq"] >= seq:
                    return
                await asyncio.sleep(_POLL_S)
    except (TimeoutError, Unreachable) as error:
        message = "It is captured, and counts once deliver has read it."
        raise Transient(message, hint="See `forebay status`.") from error


async def fill_gaps(
    folder: DataFolder, config: Config, observer: Observer, *, rest_url: str | None = None
) -> dict[str, int]:
    """Ask each venue's history for its open and permanent gaps; return the gaps of each state.

    Bars are compared with calendars before and after.

    Raises :class:`~forebay.errors.Transient` if a venue does not answer, and at the end
    :class:`~forebay.errors.Permanent` if one refused a symbol; the others are filled then.
    """
    from forebay.app.offline.replay import offline_store  # noqa: PLC0415 - capture needs no store

    clock, rng = SystemClock(), random.Random()
    refused: Refused = {}
    configured = {venue.name: venue for venue in config.venues}
    with offline_store(folder, config, clock, observer) as (writer, deliverer, store):
        check = _Checks(config, writer, deliverer, store, clock)
        await check.all()
        wiring = Wiring(config.collector, clock, rng, observer, budgets=Budgets(clock))
        held = by_deliverer(deliverer.coverage_of)
        for name in list(venues.VENUES):
            wanted, _ = deliverer.open_gaps(name, ("open", "permanent"))
            if not wanted:
                continue
            symbols = tuple({request.symbol for request in wanted})
            venue = configured.get(name, VenueConfig(name=name, symbols=symbols))
            if rest_url:
                venue = msgspec.structs.replace(venue, rest_url=rest_url)
            venues.check_addresses(venue)
            sink = GroupCommit(writer, clock=clock, rng=rng, next_seq=writer.position.seq)
            async with (
                sink,
                venues.source(venue, wiring) as first,
                with_alternatives(first, name, config, wiring, held, silent_s=0.0) as source,
            ):
                refused |= await _fill_each(source, wanted, sink)
                await sink.flushed()
            await asyncio.to_thread(deliverer.drain)
        await check.all()
        if refused:
            told = "; ".join(f"{symbol}: {said.message}" for (*_, symbol), said in refused.items())
            hint = "All other gaps were asked for; `forebay gaps list` shows what is open."
            raise Permanent(f"The venue refused to fill gaps of {told}", hint=hint)
        return deliverer.gap_counts()


async def check_bars(folder: DataFolder, config: Config, observer: Observer) -> list[CheckedBars]:
    """Compare the bars of every series with its calendar, and put on record what is missing.

    Raises :class:`~forebay.errors.Unreachable` while a capture holds the folder: it does the same.
    """
    from forebay.app.offline.replay import offline_store  # noqa: PLC0415 - capture needs no store

    clock = SystemClock()
    with offline_store(folder, config, clock, observer) as (writer, deliverer, store):
        return await _Checks(config, writer, deliverer, store, clock).all()


@dataclass(frozen=True, slots=True)
class _Checks:
    """Checks of bars by the process that holds journal and store."""

    config: Config
    writer: JournalWriter
    deliverer: Deliverer
    store: ReadableStore
    clock: Clock

    async def all(self) -> list[CheckedBars]:
        """Check every series that is stored."""
        held = self.deliverer.coverage_of
        with contextlib.closing(self.store.reader()) as reader:
            query: Query = functools.partial(reader.query, timeout_s=self.config.query.timeout_s)
            detector = GapDetector(stored_bars(query), held, self._record, clock=self.clock)
            found = watched(query(FOUND), self.config, held)
            return [await detector.check(bars) for bars in found]

    async def _record(self, stream: StreamKey, told: RangeChecked) -> None:
        write(self.writer, stream.venue, self.config.collector, told, self.clock)
        await asyncio.to_thread(self.deliverer.drain)


async def _fill_each(source: Fills, wanted: Sequence[HistoryRequest], sink: FrameSink) -> Refused:
    """Ask for each range; return which streams were refused: they are not asked for again."""
    refused: Refused = {}
    series = [request for request in wanted if request.series]
    for request in [*(each for each in wanted if not each.series), *coalesce(series, span=0)]:
        stream = request.market, request.channel, request.symbol
        if stream not in refused:
            try:
                await source.fill(request, sink)
            except AnsweredElsewhere:
                continue  # it stays open, and the others are asked for, too
            except Permanent as error:
                refused[stream] = error
    return refused
