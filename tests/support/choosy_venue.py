"""A small Coinbase that does not want some products, and says so in one of many ways."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from forebay.domain.frames import StreamsRefused
from forebay.sources.live import LiveSource, Timings
from forebay.sources.roster import Roster
from forebay.sources.websocket import Timeouts
from tests.support.frames import heartbeat, match
from tests.support.live_source import live
from tests.support.sinks import RecordingSink
from tests.support.ws_server import WsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from forebay.telemetry import TelemetryEvent
    from tests.support.ws_server import Peer

PATIENCE = Timeouts(
    accept_s=0.4,
    stale_s=5.0,
    backoff_base_s=0.001,
    backoff_cap_s=0.02,
    settle_s=0.3,
    refused_base_s=0.1,
    refused_cap_s=0.2,
)


class Choosy:
    """``how`` the products in ``bad`` are turned away.

    ``named``: an error names one of them; ``unnamed``: an error names none; ``left_out``: the
    acknowledgement lists the others; ``ignored``: nothing is answered at all; ``dropped``: all is
    acknowledged, and the link breaks a moment later.
    """

    def __init__(self, how: str, *bad: str) -> None:
        self.how = how
        self.bad = set(bad)
        self.asked: list[list[str]] = []
        self.peers: list[Peer] = []

    async def script(self, peer: Peer) -> None:
        request = json.loads((await peer.receive())[1])
        products = list(request["product_ids"])
        self.asked.append(products)
        self.peers.append(peer)
        bad = self.bad.intersection(products)
        if bad and self.how in ("named", "unnamed"):
            told = {"type": "error", "message": "Failed to subscribe"}
            told |= {"reason": f"{min(bad)} is not a valid product"} if self.how == "named" else {}
            await peer.text(json.dumps(told).encode())
        elif not bad or self.how != "ignored":
            given = [each for each in products if self.how == "dropped" or each not in bad]
            await self.accept(peer, request["channels"], given)
            if bad and self.how == "dropped":
                await asyncio.sleep(0.05)
                peer.abort()
        await peer.gone()

    async def accept(self, peer: Peer, channels: list[str], products: list[str]) -> None:
        listed = [{"name": name, "product_ids": products} for name in channels]
        await peer.text(json.dumps({"type": "subscriptions", "channels": listed}).encode())
        for number, product in enumerate(products, 1):
            await peer.text(match(number, product))
            await peer.text(heartbeat(number, product))


class Rig:
    def __init__(
        self, url: str, venue: Choosy, symbols: tuple[str, ...], channels: tuple[str, ...]
    ) -> None:
        self.venue = venue
        self.sink = RecordingSink()
        self.said: list[TelemetryEvent] = []
        self.roster = Roster(SystemClock())
        self.source: LiveSource = live(
            symbols,
            ws_url=url,
            channels=channels,
            observer=self.said.append,
            timings=Timings(feed=PATIENCE),
            roster=self.roster,
        )

    def heard(self, kind: type[TelemetryEvent]) -> list[TelemetryEvent]:
        return [event for event in self.said if isinstance(event, kind)]

    def told(self) -> set[str]:
        """Products of which a trade was captured."""
        return {
            json.loads(payload)["product_id"]
            for epoch in self.sink.epochs
            for _, payload in epoch.data
            if b'"match"' in payload
        }

    def refused(self) -> set[str]:
        """Products that the roster says are refused."""
        return {place.symbol for place, each in self.roster.standings.items() if each.refused}

    def on_record(self) -> list[StreamsRefused]:
        """What the journal is told of refusals."""
        return [
            control
            for epoch in self.sink.epochs
            for control in epoch.controls
            if isinstance(control, StreamsRefused)
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def capturing(
    venue: Choosy, *symbols: str, channels: tuple[str, ...] = ()
) -> AsyncIterator[Rig]:
    """Capture ``symbols`` from ``venue`` while the block runs."""
    async with WsServer(venue.script) as server:
        rig = Rig(server.url, venue, symbols, channels)
        async with rig.source as source:
            task = asyncio.create_task(source.run(rig.sink))
            try:
                yield rig
            finally:
                task.cancel()
                await asyncio.wait({task})
            assert task.cancelled(), task.exception()
