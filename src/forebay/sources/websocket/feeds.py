"""All connections of one source: what one of them is refused costs the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from forebay.clock import sleep_unless
from forebay.sources.websocket.ear import Ear
from forebay.sources.websocket.lots import Lots, Refusal, named_in

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from forebay.clock import Clock
    from forebay.ports import FrameSink
    from forebay.sources.roster import Attendance
    from forebay.sources.venue import ConnectionPurpose, Stream
    from forebay.sources.websocket.connection import Connection
    from forebay.sources.websocket.ear import Fate
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
        connections: int = 0,
        whole: ConnectionPurpose | None = None,
        listed: Callable[[frozenset[str]], None] = lambda _: None,
    ) -> None:
        """``make`` gives a feed of what is asked for; of the others, see :class:`Lots`."""
        self.lots = Lots(asked, timeouts, rng, size=size, connections=connections, whole=whole)
        self._make = make
        self._begin: Callable[[Lot], None] = lambda _: None
        """Begins a feed, while they run."""
        self._running: dict[Lot, tuple[WebSocketFeed, asyncio.Task[None]]] = {}
        self.told = told
        self.listed = listed
        self.clock = clock
        self.changed = asyncio.Event()

    async def run(self, sink: FrameSink) -> None:
        """Capture until cancelled."""
        async with asyncio.TaskGroup() as group:
            with self._beginning(group, sink):
                for lot in list(self.lots.lots):
                    self._begin(lot)
                await self._ask_again()

    async def _ask_again(self) -> None:
        """Ask for what was refused when it is due, for ever."""
        while True:
            self.changed.clear()
            due_ns = self.lots.next_due_ns()
            if due_ns is None:
                await self.changed.wait()
            else:
                wait_s = max(0.0, (due_ns - self.clock.monotonic_ns()) / 1e9)
                await sleep_unless(self.changed, wait_s, self.clock)
            while lot_due := self.lots.due(self.clock.monotonic_ns()):
                self._begin(lot_due)

    def want(self, symbols: Iterable[str]) -> None:
        """Capture ``symbols`` from here on, and what is not among them no more."""
        begun, changed, ended = self.lots.want(symbols, self._changeable)
        for lot in ended:
            if running := self._running.pop(lot, None):
                running[1].cancel()
        for lot in changed:
            if running := self._running.get(lot):
                running[0].change(lot.asked)
        for lot in begun:
            self._begin(lot)
        self.changed.set()

    def _changeable(self, lot: Lot) -> bool:
        running = self._running.get(lot)
        return running is None or running[0].changeable

    @contextlib.contextmanager
    def _beginning(self, group: asyncio.TaskGroup, sink: FrameSink) -> Iterator[None]:
        """Have feeds begun in ``group`` while the block runs."""

        def begin(lot: Lot) -> None:
            feed = self._make(lot.asked, _LotEar(self, lot))
            task = group.create_task(feed.run(sink), name="forebay-feed")
            self._running[lot] = feed, task
            task.add_done_callback(lambda _: self._running.pop(lot, None))

        self._begin = begin
        try:
            yield
        finally:
            self._begin = lambda _: None

    def follow(self, lot: Lot, connection: Connection) -> Fate:
        """One of the connections of ``lot`` is over; begin what follows instead of it, if it is."""
        if lot not in self.lots.lots:
            return "last"
        following = self.over(lot, connection)
        if following == [lot]:
            return "asked" if self.lots.serving(lot) else "venue"
        for each in following:
            self._begin(each)
        return "last"

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

    def __init__(self, feeds: Feeds, lot: Lot) -> None:
        self._feeds = feeds
        self._lot = lot

    def accepted(self, streams: Collection[Stream]) -> None:
        feeds = self._feeds
        feeds.lots.accepted(self._lot, streams, feeds.clock.monotonic_ns())
        feeds.told.acknowledge(streams)

    def left_out(self, streams: Mapping[Stream, str]) -> None:
        feeds = self._feeds
        streams = feeds.lots.wanted_of(streams)
        pause_s = feeds.lots.left_out(self._lot, streams, feeds.clock.monotonic_ns())
        feeds.told.refuse(streams, pause_s, told=True)
        feeds.changed.set()

    def complained(self) -> None:
        self._feeds.told.complained()

    def listed(self, symbols: frozenset[str]) -> None:
        self._feeds.listed(symbols)

    def over(self, connection: Connection) -> Fate:
        return self._feeds.follow(self._lot, connection)
