"""Pages of a venue's history that are only looked at, asked for by a running capture.

Whoever compares them asks the capture for each: the venue's address has one budget for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from forebay.app.offline.download_plan import WantedBars, venue_config
from forebay.app.processes.local_socket import asked
from forebay.app.wiring import venues
from forebay.ports import HistoryRequest
from forebay.services.pages_in_hand import PagesInHand, hand_over

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.app.processes.downloads import Pacing
    from forebay.app.processes.local_socket import Reply, Request
    from forebay.app.wiring.config import Config
    from forebay.ports import FrameSink, Source
    from forebay.sources.live import Wiring

PAGE_S = 600.0
"""How long a page may take: it waits for all else that the venue is asked."""
KEPT = 8
"""So many sources are held open, of different venues, markets or addresses."""


class HistoryPages:
    """What one capture process asks of histories and hands over."""

    def __init__(self, config: Config, wiring: Wiring, pacing: Pacing) -> None:
        self._config = config
        self._wiring = wiring
        self._pacing = pacing
        self._sources: dict[tuple[str, str, str], Source] = {}

    async def page(self, request: Request) -> Reply:
        """Handle ``{"op": "history", "wanted": …, "page": …}``; the body is of `hand_over`."""
        wanted = msgspec.convert(request["wanted"], WantedBars)
        venue = venue_config(self._config, wanted)
        at = (venue.name, venue.market, venue.rest_url)
        if (source := self._sources.get(at)) is None:
            source = self._sources[at] = venues.source(venue, self._wiring)
        while len(self._sources) > KEPT:
            await _let_go(self._sources.pop(next(iter(self._sources))))
        await self._pacing.ready()
        hand = PagesInHand()
        await source.fill(msgspec.convert(request["page"], HistoryRequest), hand)
        return {}, hand.encoded()

    async def close(self) -> None:
        """Let go of every source."""
        while self._sources:
            await _let_go(self._sources.popitem()[1])


async def _let_go(source: Source) -> None:
    async with source:
        pass


class PagesByCapture:
    """Asks the capture that has a folder for pages, each once."""

    def __init__(self, capture: Path, wanted: WantedBars) -> None:
        self._capture = capture
        self._wanted = msgspec.to_builtins(wanted)

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        """Do as :meth:`~forebay.ports.Source.fill`, whose errors are raised here too.

        Raises :class:`~forebay.errors.Unreachable` if no capture runs.
        """
        page = msgspec.to_builtins(request)
        message = {"op": "history", "wanted": self._wanted, "page": page}
        _, body = await asked(self._capture, message, timeout_s=PAGE_S)
        hand_over(body, sink)
