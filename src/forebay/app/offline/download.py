"""Downloading bars without a running capture: the venue's history to journal and store."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.offline.replay import offline
from forebay.app.wiring import venues
from forebay.app.wiring.config import VenueConfig
from forebay.clock import SystemClock
from forebay.errors import ConfigError, Transient
from forebay.services.deliver import PACE_S, RETRY_S
from forebay.services.downloader import Download, Downloader, Progress, first_error
from forebay.services.group_commit import GroupCommit
from forebay.sources.history import ByBars
from forebay.sources.live import Wiring
from forebay.sources.rest import Budgets
from forebay.text import did_you_mean
from forebay.times import to_ns, to_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.services.deliver import Deliverer
    from forebay.sources.history import Series
    from forebay.sources.venue import Venue
    from forebay.telemetry import Observer

BACKLOG_BYTES = 16 << 20
"""So much may be captured and not stored before no further page is asked for."""
_NS = 1_000_000_000
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bars that are wanted: every series of every symbol, in one range."""

    venue: str
    symbols: tuple[str, ...]
    timeframes: tuple[str, ...]
    """Series: a time frame and what else tells it from others, such as ``1m,adjusted``."""
    since: str
    until: str
    """Not included; ISO 8601, empty: now."""
    market: str = ""
    """Empty: the venue's first."""
    rest_url: str = ""
    at_once: int = 4


def venue_config(config: Config, wanted: Wanted) -> VenueConfig:
    """Return how the venue is reached; raises :class:`~forebay.errors.ConfigError`."""
    venues.check_venue(wanted.venue)
    market = wanted.market or venues.VENUES[wanted.venue].markets[0]
    base = VenueConfig(name=wanted.venue, symbols=wanted.symbols, market=market)
    for configured in config.venues:
        if configured.name == wanted.venue and configured.market == market:
            base = msgspec.structs.replace(configured, symbols=wanted.symbols, channels=())
    if wanted.rest_url:
        base = msgspec.structs.replace(base, rest_url=wanted.rest_url)
    venues.check(base)
    return base


def plan(wanted: Wanted, market: str, now_ns: int) -> list[Download]:
    """Return what is to be downloaded of each symbol and series.

    Raises :class:`~forebay.errors.ConfigError` for what the source does not offer.
    """
    venue = venues.VENUES[wanted.venue]
    history = venue.history.get("bar")
    if not isinstance(history, ByBars):
        message = f"The history of {venue.title} has no bars."
        raise ConfigError(message, hint="What it has of other kinds is asked for to fill gaps.")
    found = []
    for name in dict.fromkeys(wanted.timeframes):
        series = history.series.get(name)
        if series is None:
            hint = did_you_mean(name, (), f"There is: {', '.join(history.series)}.")
            raise ConfigError(f"{venue.title} has no bars of {name!r}.", hint=hint)
        first, end = _range(wanted, venue, name, series, now_ns)
        found += [
            Download(
                wanted.venue,
                market,
                f"bar:{name}",
                symbol,
                first,
                end - 1,
                series.step_s * _NS,
                series.page_s * _NS,
                venue.channels["bar"].believed_after_s,
            )
            for symbol in dict.fromkeys(wanted.symbols)
        ]
    return found


def _range(wanted: Wanted, venue: Venue, name: str, series: Series, now_ns: int) -> tuple[int, int]:
    """Return when the first bar opens and the last one that is over closes."""
    step = series.step_s * _NS
    since, until = to_ns(wanted.since), to_ns(wanted.until) if wanted.until else now_ns
    if until <= since:
        message = f"The range from {wanted.since} to {wanted.until or 'now'} is empty."
        raise ConfigError(message, hint="--to is not included, and comes after --from.")
    listed = to_ns(series.since) if series.since else since
    if until <= listed:
        message = f"{venue.title} has no bars of {name} from before {series.since}."
        raise ConfigError(message, hint="Ask for a later range.")
    over = now_ns - round(series.lag_s * _NS)
    if series.session != "UTC" or series.step_s > _DAY_S:
        over -= step  # its bars do not begin at multiples of their length
    first = -(-max(since, listed) // step) * step
    end = min(-(-until // step) * step, over // step * step)
    if end <= first:
        message = f"No bar of {name} from {to_text(since)} to {to_text(until)} is over yet."
        raise ConfigError(message, hint="Ask for an earlier range, or later.")
    return first, end


@dataclass(slots=True)
class Downloaded:
    """What a download came to."""

    progress: list[Progress]
    stored: int = 0
    """Bars that were not stored before."""
    dead_letters: int = 0
    empty: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By stream, the longer times of which the source said that it has nothing."""

    @property
    def complete(self) -> bool:
        """Whether everything that was wanted has been answered."""
        return all(each.complete for each in self.progress)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "complete": self.complete,
            "stored": self.stored,
            "dead_letters": self.dead_letters,
            "downloads": [self._one(each) for each in self.progress],
        }

    def _one(self, each: Progress) -> dict[str, Any]:
        download = each.download
        return {
            "venue": download.venue,
            "market": download.market,
            "symbol": download.symbol,
            "timeframe": download.channel.partition(":")[2],
            "from": to_text(download.first),
            "to": to_text(download.last + 1),
            "pages": each.pages,
            "answered": each.answered,
            "failed": each.failed,
            "refused": each.refused,
            "problem": "" if each.complete else each.problem,
            "empty": [
                {"from": to_text(first), "to": to_text(last + 1)}
                for first, last in self.empty.get(download.key.name, ())
            ],
        }


async def download(
    folder: DataFolder,
    config: Config,
    wanted: Wanted,
    observer: Observer,
    progress: Callable[[Sequence[Progress], int], object] = lambda *_: None,
    *,
    clock: Clock | None = None,
) -> Downloaded:
    """Download what is wanted and not there yet; ``progress`` is told of it, and of bars stored.

    Raises :class:`~forebay.errors.ConfigError` for what the source does not offer, and
    :class:`~forebay.errors.Transient` if it does not answer; what was answered is stored.
    """
    clock, rng = clock or SystemClock(), random.Random()
    venue = venue_config(config, wanted)
    downloads = plan(wanted, venue.market, clock.wall_ns())
    with offline(folder, config, clock, observer) as (writer, deliverer):
        deliverer.forget_totals()
        now_ns = clock.wall_ns()
        todo = [
            (each, each.requests(deliverer.coverage_of(each.key), now_ns)) for each in downloads
        ]
        sink = GroupCommit(writer, clock=clock, rng=rng, next_seq=writer.position.seq)
        storing = _Storing(deliverer, sink, clock)
        wiring = Wiring(config.collector, clock, rng, observer, budgets=Budgets(clock))
        try:
            async with sink, venues.source(venue, wiring) as source, storing.beside():
                downloader = Downloader(
                    source,
                    sink,
                    clock=clock,
                    rng=rng,
                    observer=observer,
                    at_once=wanted.at_once,
                    ready=storing.ready,
                )
                ended = await downloader.run(todo, lambda now: progress(now, storing.bars))
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        finally:
            await asyncio.to_thread(deliverer.drain)
        return _account(ended, deliverer)


def _account(ended: list[Progress], deliverer: Deliverer) -> Downloaded:
    total = deliverer.delivered
    empty = {
        each.download.key.name: each.download.empty(deliverer.coverage_of(each.download.key))
        for each in ended
    }
    return Downloaded(ended, total.stored.get("bars", 0), total.dead_letters, empty)


class _Storing:
    """Stores what is captured while more is, and says when there is room for more."""

    def __init__(self, deliverer: Deliverer, sink: GroupCommit, clock: Clock) -> None:
        self._deliverer = deliverer
        self._sink = sink
        self._clock = clock
        self._bytes = 0
        """Of what was captured, how much is stored."""

    @property
    def bars(self) -> int:
        """How many bars were stored so far that were not before."""
        return self._deliverer.delivered.stored.get("bars", 0)

    async def ready(self) -> None:
        """Wait until store and journal keep up."""
        while self._sink.pressure or self._sink.counters.bytes - self._bytes > BACKLOG_BYTES:
            await self._clock.sleep(PACE_S)

    @contextlib.asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Store while the block runs; an error that ends it ends the block too."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run(), name="forebay-storing")
            try:
                yield
            finally:
                task.cancel()

    async def _run(self) -> None:
        while True:
            taken = self._sink.counters.bytes
            moving = asyncio.ensure_future(asyncio.to_thread(self._deliverer.drain))
            try:
                frames = await asyncio.shield(moving)
                self._bytes = taken
                wait_s = 0.0 if frames else PACE_S
            except asyncio.CancelledError:
                await asyncio.wait({moving})  # the store must not be closed under it
                raise
            except Transient:  # it is offered again
                wait_s = RETRY_S
            await self._clock.sleep(wait_s)
