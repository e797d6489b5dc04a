"""Which venues there are, and how each is wired."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from forebay.errors import ConfigError
from forebay.sources.coinbase import protocol as coinbase_protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from forebay.app.config import VenueConfig
    from forebay.clock import Clock
    from forebay.ports import Parser
    from forebay.resilience import CircuitBreaker
    from forebay.sources.coinbase.connector import CoinbaseSource
    from forebay.telemetry import Observer

VENUES = ("coinbase",)


@dataclass(frozen=True, slots=True)
class Wiring:
    """What every source is handed."""

    collector: str
    clock: Clock
    rng: random.Random
    observer: Observer


def parsers() -> Mapping[str, Parser]:
    """Answer the parser of every venue by name."""
    return {coinbase_protocol.VENUE: coinbase_protocol.CoinbaseParser()}


def check_venue(name: str) -> str:
    """Answer ``name``; raises :class:`~forebay.errors.ConfigError` if there is no such venue."""
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


def source(
    config: VenueConfig,
    wiring: Wiring,
    *,
    rest_breaker: CircuitBreaker | None = None,
    websocket_breaker: CircuitBreaker | None = None,
) -> CoinbaseSource:
    """Answer the live source that ``config`` asks for; use it with ``async with``.

    Without breakers it has its own, by their presets.
    """
    from forebay.sources.coinbase import connector  # noqa: PLC0415 - only a capture needs sockets
    from forebay.sources.websocket import Patience  # noqa: PLC0415

    check_venue(config.name)
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
        rest_breaker=rest_breaker,
        websocket_breaker=websocket_breaker,
    )
