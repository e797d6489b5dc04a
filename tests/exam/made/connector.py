"""The made-up venue, live: one connection for all symbols, and no history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from forebay.errors import Permanent
from forebay.ports import Instrument
from forebay.sources.websocket import FeedPlan, WebSocketFeed
from tests.exam.made.protocol import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.app.config import VenueConfig
    from forebay.app.venues import Wiring
    from forebay.ports import FillRequest, FrameSink


class MadeSource:
    """Implements :class:`forebay.ports.Source`."""

    connections = 1

    def __init__(self, config: VenueConfig, wiring: Wiring) -> None:
        self._symbols = config.symbols
        plan = FeedPlan(
            venue=config.name,
            collector=wiring.collector,
            url=config.ws_url,
            messages=(b"subscribe",),
            accepts=lambda payload: payload == ACCEPTED,
            symbols=config.symbols,
        )
        self._feed = WebSocketFeed(
            plan, clock=wiring.clock, rng=wiring.rng, observer=wiring.observer
        )

    async def run(self, sink: FrameSink) -> None:
        """See :class:`forebay.ports.Source`."""
        await self._feed.run(sink)

    async def fill(self, request: FillRequest, sink: FrameSink) -> None:
        """Refuse: the venue keeps no history."""
        del sink
        raise Permanent(f"There is no history to fill {request} from.")

    async def instruments(self) -> Sequence[Instrument]:
        """See :class:`forebay.ports.Source`."""
        pairs = [(symbol, *symbol.split("-", 1)) for symbol in self._symbols]
        return [
            Instrument(symbol, symbol.lower(), base, quote, "") for symbol, base, quote in pairs
        ]

    async def probe(self) -> None:
        """Nothing: there is no history to ask."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""
