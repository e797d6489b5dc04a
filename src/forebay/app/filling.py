"""Filling gaps without a running capture."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec

from forebay.app import venues
from forebay.app.config import VenueConfig
from forebay.app.replay import offline
from forebay.clock import SystemClock
from forebay.services.group_commit import GroupCommit

if TYPE_CHECKING:
    from forebay.app.config import Config
    from forebay.app.data_folder import DataFolder
    from forebay.telemetry import Observer


async def fill_gaps(
    folder: DataFolder, config: Config, observer: Observer, *, rest_url: str | None = None
) -> dict[str, int]:
    """Ask each venue's history for its open gaps; answer how many gaps there are of each state.

    Raises :class:`~forebay.errors.Transient` if a venue does not answer.
    """
    clock, rng = SystemClock(), random.Random()
    configured = {venue.name: venue for venue in config.venues}
    with offline(folder, config, clock, observer) as (writer, deliverer):
        wiring = venues.Wiring(config.collector, clock, rng, observer)
        for name in venues.VENUES:
            wanted, _ = deliverer.open_gaps(name)
            if not wanted:
                continue
            symbols = tuple({request.symbol for request in wanted})
            venue = configured.get(name, VenueConfig(name=name, symbols=symbols))
            if rest_url:
                venue = msgspec.structs.replace(venue, rest_url=rest_url)
            sink = GroupCommit(writer, clock=clock, rng=rng, next_seq=writer.position.seq)
            async with sink, venues.source(venue, wiring) as source:
                for request in wanted:
                    await source.fill(request, sink)
                await sink.flushed()
            await asyncio.to_thread(deliverer.drain)
        return deliverer.gap_counts()
