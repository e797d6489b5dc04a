"""Which venues there are, and how each is wired."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from forebay.errors import ConfigError
from forebay.sources.coinbase.protocol import CoinbaseParser

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from forebay.app.config import VenueConfig
    from forebay.clock import Clock
    from forebay.ports import Parser, Source
    from forebay.resilience import CircuitBreaker
    from forebay.telemetry import Observer


@dataclass(frozen=True, slots=True)
class Wiring:
    """What every source is handed."""

    collector: str
    clock: Clock
    rng: random.Random
    observer: Observer
    rest_breaker: CircuitBreaker | None = None
    """Without one a source has its own, by the preset; likewise of the other."""
    websocket_breaker: CircuitBreaker | None = None


class Venue(NamedTuple):
    """How the two halves of a venue are made."""

    parser: Callable[[], Parser]
    source: Callable[[VenueConfig, Wiring], Source]


def _coinbase(config: VenueConfig, wiring: Wiring) -> Source:
    from forebay.sources.coinbase import connector  # noqa: PLC0415 - only a capture needs sockets
    from forebay.sources.websocket import Patience  # noqa: PLC0415

    patience = Patience(stale_s=config.stale_after_s, backoff_base_s=config.reconnect_base_s)
    return connector.CoinbaseSource(
        config.symbols,
        collector=wiring.collector,
        clock=wiring.clock,
        rng=wiring.rng,
        observer=wiring.observer,
        ws_url=config.ws_url or connector.WS_URL,
        rest_url=config.rest_url or connector.REST_URL,
        timings=connector.Timings(feed=patience),
        rest_breaker=wiring.rest_breaker,
        websocket_breaker=wiring.websocket_breaker,
    )


VENUES: dict[str, Venue] = {"coinbase": Venue(CoinbaseParser, _coinbase)}
"""Every venue by name. Read whenever one is needed, so that a program may add its own first."""


def parsers() -> Mapping[str, Parser]:
    """Return the parser of every venue by name."""
    return {name: venue.parser() for name, venue in VENUES.items()}


def source(config: VenueConfig, wiring: Wiring) -> Source:
    """Return the live source that ``config`` asks for; use it with ``async with``.

    Raises :class:`~forebay.errors.ConfigError` if there is no such venue.
    """
    return VENUES[check_venue(config.name)].source(config, wiring)


def check_venue(name: str) -> str:
    """Return ``name``; raises :class:`~forebay.errors.ConfigError` if there is no such venue."""
    if name not in VENUES:
        near = difflib.get_close_matches(name, VENUES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There is: {', '.join(VENUES)}."
        raise ConfigError(f"There is no venue {name!r}.", hint=hint)
    return name


def check_addresses(config: VenueConfig) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if an address is none, before it is tried."""
    for key, schemes in (("ws_url", ("ws", "wss")), ("rest_url", ("http", "https"))):
        url: str = getattr(config, key)
        if url and not _is_address(url, schemes):
            hint = f"Write {schemes[0]}://HOST:PORT or {schemes[1]}://HOST."
            raise ConfigError(f"The {key} of {config.name}, {url!r}, is no address.", hint=hint)


def _is_address(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises too, if it is no number or none that a port can have
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname)
