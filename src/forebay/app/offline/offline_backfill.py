"""Filling gaps without a running capture."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from forebay.app.offline.replay import offline
from forebay.app.wiring import venues
from forebay.app.wiring.config import VenueConfig
from forebay.clock import SystemClock
from forebay.errors import Permanent
from forebay.services.group_commit import GroupCommit
from forebay.sources.live import Wiring
from forebay.sources.rest import Budgets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.ports import FrameSink, HistoryRequest, Source
    from forebay.telemetry import Observer


Refused: TypeAlias = "dict[tuple[str, str, str], Permanent]"
"""By market, channel and symbol of one venue, why its history was not had."""


async def fill_gaps(
    folder: DataFolder, config: Config, observer: Observer, *, rest_url: str | None = None
) -> dict[str, int]:
    """Ask each venue's history for its open and permanent gaps; return the gaps of each state.

    Raises :class:`~forebay.errors.Transient` if a venue does not answer, and at the end
    :class:`~forebay.errors.Permanent` if one refused a symbol; the others are filled then.
    """
    clock, rng = SystemClock(), random.Random()
    refused: Refused = {}
    configured = {venue.name: venue for venue in config.venues}
    with offline(folder, config, clock, observer) as (writer, deliverer):
        wiring = Wiring(config.collector, clock, rng, observer, budgets=Budgets(clock))
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
            async with sink, venues.source(venue, wiring) as source:
                refused |= await _fill_each(source, wanted, sink)
                await sink.flushed()
            await asyncio.to_thread(deliverer.drain)
        if refused:
            raise _refusal(refused)
        return deliverer.gap_counts()


async def _fill_each(source: Source, wanted: Sequence[HistoryRequest], sink: FrameSink) -> Refused:
    """Ask for each range; return which streams were refused: they are not asked for again."""
    refused: Refused = {}
    for request in wanted:
        stream = request.market, request.channel, request.symbol
        if stream not in refused:
            try:
                await source.fill(request, sink)
            except Permanent as error:
                refused[stream] = error
    return refused


def _refusal(refused: Refused) -> Permanent:
    told = "; ".join(f"{symbol}: {error.message}" for (*_, symbol), error in refused.items())
    hint = "All other gaps were asked for; `forebay gaps list` shows what is open."
    return Permanent(f"The venue refused to fill gaps of {told}", hint=hint)
