"""The registries of the capture process: one of each venue where markets come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from forebay.app.wiring import venues
from forebay.domain.frames import Context
from forebay.errors import ForebayError
from forebay.ops.view import Sample
from forebay.services.capture import WantedStreams
from forebay.services.directory import MarketDirectory
from forebay.services.registry import Registry, RegistryTimes
from forebay.telemetry import RegistryNotKept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from forebay.app.wiring.config import VenueConfig
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.services.registry import RegistryMemory
    from forebay.sources.live import LiveSource, Wiring

REFRESH_S = 60.0
"""Between two looks, if nothing is said."""
LEADS, LINGERS = 2.0, 0.5
"""A market is captured so many refreshes before it opens, and so many after its end was noticed."""


def directory_of(
    config: VenueConfig, source: LiveSource, wiring: Wiring, folder: DataFolder
) -> MarketDirectory | None:
    """Return what keeps ``source`` capturing what its symbols stand for, if they come and go."""
    directory = venues.VENUES[config.name].directory
    if directory is None:
        return None
    refresh_s = config.refresh_s or REFRESH_S
    refresh_ns = refresh_s * 1e9
    times = RegistryTimes(lead_ns=round(LEADS * refresh_ns), linger_ns=round(LINGERS * refresh_ns))
    memory = folder.registry(config.name, venues.market_of(config))

    def remember(memory: RegistryMemory) -> None:
        try:
            folder.remember_registry(config.name, venues.market_of(config), memory)
        except (OSError, ForebayError) as error:
            wiring.observer(RegistryNotKept(config.name, str(error)))

    return MarketDirectory(
        directory,
        Registry(config.symbols, wiring.clock.wall_ns(), memory, times),
        source,
        replaced(_context(config, wiring), source="rest", channels=directory.kinds),
        kinds=venues.kinds(config),
        refresh_s=refresh_s,
        clock=wiring.clock,
        rng=wiring.rng,
        observer=wiring.observer,
        remember=remember,
    )


def wanted_of(
    config: VenueConfig, wiring: Wiring, directory: MarketDirectory | None
) -> Callable[[], WantedStreams]:
    """Return what says which streams are to be captured now, for the record."""
    kinds, context = venues.kinds(config), _context(config, wiring)

    def wanted() -> WantedStreams:
        symbols = config.symbols if directory is None else directory.wanted
        streams = ((venues.market_of(config), kind, symbol) for kind in kinds for symbol in symbols)
        return WantedStreams(context, tuple(streams))

    return wanted


def _context(config: VenueConfig, wiring: Wiring) -> Context:
    """Return what is said of who asks a venue, and for which part of it."""
    return Context(
        venue=config.name,
        source="ws",
        purpose="live",
        collector=wiring.collector,
        epoch="",
        market=venues.market_of(config),
    )


def told_of(directories: Iterable[MarketDirectory]) -> dict[str, dict[str, dict[str, int]]]:
    """Return what a status says of them: nothing if there are none."""
    told = {each.venue: each.counts() for each in directories}
    return {"markets": told} if told else {}


def samples(told: Iterable[tuple[str, Mapping[str, int]]]) -> list[Sample]:
    """Return how many markets of each venue are known and wanted; ``told`` are counts by state."""
    counts: dict[tuple[str, str], int] = {}
    for venue, states in told:
        for state, count in states.items():
            counts[venue, state] = counts.get((venue, state), 0) + count
    return [
        Sample("forebay_registry_markets", count, {"venue": venue, "state": state})
        for (venue, state), count in sorted(counts.items())
    ]
