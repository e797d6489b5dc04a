"""Downloading bars without a running capture: the venue's history to journal and store."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from msgspec import structs

from forebay.app.alternatives import by_deliverer, with_alternatives
from forebay.app.offline.download_plan import TABLE, Downloaded, plan, venue_config
from forebay.app.offline.replay import offline
from forebay.app.processes.process_breakers import configured
from forebay.app.wiring import venues
from forebay.clock import SystemClock
from forebay.errors import Transient
from forebay.resilience import CircuitBreaker
from forebay.services.deliver import PACE_S
from forebay.services.downloader import Downloader, first_error
from forebay.services.group_commit import GroupCommit
from forebay.sources.live import Wiring
from forebay.sources.rest import Budgets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from forebay.app.offline.download_plan import WantedBars
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.services.deliver import Deliverer
    from forebay.services.downloader import Progress
    from forebay.telemetry import Observer

BACKLOG_BYTES = 8 << 20
"""So much may be captured and not stored before no further page is asked for."""
STORE_MB = 128
"""So much memory the store has for one download: it gives none of it back before the end."""
_RETRY_S = 0.5
"""How long to wait after the store could not take a commit."""


async def download(
    folder: DataFolder,
    config: Config,
    wanted: WantedBars,
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
    with offline(folder, _sparing(config), clock, observer) as (writer, deliverer):
        deliverer.forget_totals()
        now_ns = clock.wall_ns()
        todo = [
            (each, each.requests(deliverer.coverage_of(each.key), now_ns)) for each in downloads
        ]
        sink = GroupCommit(writer, clock=clock, rng=rng, next_seq=writer.position.seq)
        storing = _Storing(deliverer, sink, clock)
        limits = configured("rest", config)
        breaker = CircuitBreaker(
            f"{venue.name}-rest", limits, clock=clock, rng=rng, listener=observer
        )
        wiring = Wiring(config.collector, clock, rng, observer, breaker, budgets=Budgets(clock))
        try:
            held = by_deliverer(deliverer.coverage_of)
            async with (
                sink,
                venues.source(venue, wiring) as first,
                with_alternatives(first, venue.name, config, wiring, held) as source,
                storing.beside(),
            ):
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
        total = deliverer.delivered
        counts = total.stored.get(TABLE, 0), total.dead_letters
        return Downloaded.of(ended, deliverer.coverage_of, *counts)


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
        return self._deliverer.delivered.stored.get(TABLE, 0)

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
                wait_s = _RETRY_S
            await self._clock.sleep(wait_s)


def _sparing(config: Config) -> Config:
    memory_mb = min(STORE_MB, config.store.memory_limit_mb)
    store = structs.replace(config.store, memory_limit_mb=memory_mb)
    return structs.replace(config, store=store)
