"""All connections of one source: what one of them is refused costs the others nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from forebay.clock import sleep_unless
from forebay.sources.websocket.connection import Ear
from forebay.sources.websocket.lots import Lots, Refusal, named_in

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterable, Mapping

    from forebay.clock import Clock
    from forebay.ports import FrameSink
    from forebay.sources.roster import Attendance
    from forebay.sources.venue import ConnectionPurpose, Stream
    from forebay.sources.websocket.connection import Connection, Fate
    from forebay.sources.websocket.feed import WebSocketFeed
    from forebay.sources.websocket.lots import Lot
    from forebay.sources.websocket.timeouts import Timeouts

    MakeFeed = Callable[[ConnectionPurpose, Ear], WebSocketFeed]

_OURS = ("stopped", "paused", "crashed")
"""How reasons begin that say nothing about what was asked for."""


class Feeds:
    """A feed for each lot, for as long as :meth:`run` runs."""

    def __init__(
        self,
        asked: Iterable[ConnectionPurpose],
        make: MakeFeed,
        told: Attendance,
        *,
        clock: Clock,
        rng: random.Random,
        timeouts: Timeouts,
        size: int,
    ) -> None:
        """``make`` gives a feed of what is asked for; ``size`` symbols are of one at most."""
        self.lots = Lots(asked, timeouts, rng, size=size)
        self._make = make
        self.told = told
        self.clock = clock
        self.changed = asyncio.Event()

    async def run(self, sink: FrameSink) -> None:
        """Capture until cancelled."""
        if not self.lots.lots:
            return
        async with asyncio.TaskGroup() as group:
            for lot in list(self.lots.lots):
                self._begin(lot, group, sink)
            while True:
                self.changed.clear()
                due_ns = self.lots.next_due_ns()
                if due_ns is None:
                    await self.changed.wait()
                else:
                    wait_s = max(0.0, (due_ns - self.clock.monotonic_ns()) / 1e9)
                    await sleep_unless(self.changed, wait_s, self.clock)
                while lot_due := self.lots.due(self.clock.monotonic_ns()):
                    self._begin(lot_due, group, sink)

    def _begin(self, lot: Lot, group: asyncio.TaskGroup, sink: FrameSink) -> None:
        ear = _LotEar(self, lot, lambda following: self._begin(following, group, sink))
        group.create_task(self._make(lot.asked, ear).run(sink), name="forebay-feed")

    def over(self, lot: Lot, connection: Connection) -> list[Lot]:
        """Return the lots that follow on ``lot``, one of whose connections is over."""
        if not connection.opened:
            return [lot]
        self.told.lose(lot.asked.streams)
        if connection.blameless or connection.reason.startswith(_OURS):
            lot.accepted_ns = None
            return [lot]
        now = self.clock.monotonic_ns()
        said = connection.rejection
        named: Mapping[Stream, str] = {}
        if said is not None:
            named = said.refused or named_in(said.refusal, lot.asked)
        since_ns = connection.times.accepted_ns
        whole = said is not None and since_ns is None
        refusal = Refusal(said.refusal if said else connection.reason, named, whole)
        following = self.lots.ended(lot, now - (since_ns or now), refusal, now)
        if following.refused:
            self.told.refuse(following.refused, following.pause_s, told=False)
            self.changed.set()
        return following.lots


class _LotEar(Ear):
    """Hears for a lot."""

    def __init__(self, feeds: Feeds, lot: Lot, begin: Callable[[Lot], None]) -> None:
        self._feeds = feeds
        self._lot = lot
        self._begin = begin

    def accepted(self, streams: Collection[Stream]) -> None:
        feeds = self._feeds
        feeds.lots.accepted(self._lot, streams, feeds.clock.monotonic_ns())
        feeds.told.acknowledge(streams)

    def left_out(self, streams: Mapping[Stream, str]) -> None:
        feeds = self._feeds
        pause_s = feeds.lots.left_out(self._lot, streams, feeds.clock.monotonic_ns())
        feeds.told.refuse(streams, pause_s, told=True)
        feeds.changed.set()

    def complained(self) -> None:
        self._feeds.told.complained()

    def over(self, connection: Connection) -> Fate:
        following = self._feeds.over(self._lot, connection)
        if following == [self._lot]:
            return "asked" if self._feeds.lots.serving(self._lot) else "venue"
        for each in following:
            self._begin(each)
        return "last"
