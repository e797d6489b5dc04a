"""A venue's live source against small servers."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from forebay.sources import coinbase
from forebay.sources.live import Addresses, LiveSource, Timings, Wiring
from forebay.sources.venue import ConnectionPurpose, Limits
from forebay.telemetry import ignore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.clock import Clock
    from forebay.resilience import CircuitBreaker
    from forebay.sources.rest import Budgets
    from forebay.sources.roster import Roster
    from forebay.sources.venue import Venue
    from forebay.sources.websocket.feed import Dial
    from forebay.telemetry import Observer

NOWHERE = Addresses("ws://127.0.0.1:1", "http://127.0.0.1:1")
UNPACED = replace(coinbase.VENUE, limits=Limits(rest=()))
"""Coinbase, which may be asked as often as one likes."""


def live(
    symbols: Sequence[str] = ("BTC-USD",),
    *,
    venue: Venue = UNPACED,
    ws_url: str = "",
    rest_url: str = "",
    channels: Sequence[str] = (),
    timings: Timings | None = None,
    size: int | None = None,
    clock: Clock | None = None,
    observer: Observer = ignore,
    rest_breaker: CircuitBreaker | None = None,
    websocket_breaker: CircuitBreaker | None = None,
    budgets: Budgets | None = None,
    dial: Dial | None = None,
    roster: Roster | None = None,
) -> LiveSource:
    """Return a source that talks to nobody but the addresses given."""
    return LiveSource(
        venue,
        ConnectionPurpose(tuple(symbols), tuple(channels) or venue.default_channels),
        Wiring(
            "c1",
            clock or SystemClock(),
            random.Random(4),
            observer,
            rest_breaker=rest_breaker,
            websocket_breaker=websocket_breaker,
            budgets=budgets,
            dial=dial,
            roster=roster,
        ),
        addresses=Addresses(ws_url or NOWHERE.ws_url, rest_url or NOWHERE.rest_url),
        timings=timings,
        symbols_per_connection=size,
    )
