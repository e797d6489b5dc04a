"""Channels that are asked for by REST, again and again: live, though nothing is connected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from forebay.domain.frames import EpochAccepted, EpochClosed, EpochOpened, StreamsEnded
from forebay.errors import Permanent, Stuck, Transient
from forebay.sources.venue import PollRound
from forebay.telemetry import PollFailed, SubscriptionAccepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from forebay.clock import Clock
    from forebay.domain.frames import Context
    from forebay.ports import EpochSink, FrameSink
    from forebay.sources.roster import Attendance
    from forebay.sources.venue import Poll, Stream
    from forebay.telemetry import Observer

_NS = 1_000_000_000
SKIPPED = 60
"""A symbol that is refused again and again is asked for after so many rounds at the latest."""
MOST_PAGES = 1000
"""An answer that has more of them is an error."""


def next_round(poll: Poll, now_ns: int) -> int:
    """Return when the first round after ``now_ns`` begins, UTC nanoseconds."""
    every_ns, after_ns = round(poll.every_s * _NS), round(poll.after_s * _NS)
    return ((now_ns - after_ns) // every_ns + 1) * every_ns + after_ns


class Poller:
    """Asks for the channel and symbols of ``context`` together, at once and then on time.

    An answer that does not come ends the epoch. A symbol that the venue refuses is found by halves
    and asked for alone, and more seldom.
    """

    def __init__(
        self,
        poll: Poll,
        context: Context,
        *,
        ask: Callable[[str, int, Context, FrameSink], Awaitable[bytes]],
        epoch: Callable[[], str],
        told: Attendance,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """``ask`` has the answer to a path, of some weight, captured; ``epoch`` makes up a name."""
        self._poll = poll
        self._context = context
        self._channel = context.channels[0]
        self._ask = ask
        self._new_epoch = epoch
        self._told = told
        self._clock = clock
        self._observe = observer
        self._control: EpochSink | None = None
        self._accepted: set[str] = set()
        """Symbols that are accepted in this epoch."""
        self._since: dict[str, int] = {}
        """When each symbol was last asked for with success."""
        self._refusals: dict[str, int] = {}
        """How often in a row each symbol was refused, if it was."""
        self._left: dict[str, int] = {}
        """How many rounds leave it out."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """What is asked for."""
        return self._context.symbols

    @property
    def refused(self) -> bool:
        """Whether the venue gives none of them."""
        return len(self._refusals) == len(self.symbols)

    def keep(self, symbols: Collection[str]) -> None:
        """Ask for no others than ``symbols`` from here on."""
        gone = [each for each in self.symbols if each not in symbols]
        if gone:
            self._end([each for each in gone if each in self._accepted])
            left = tuple(each for each in self.symbols if each in symbols)
            self._context = replaced(self._context, symbols=left)
            if self._control is not None:
                self._control.renew(self._context)
        for symbol in gone:
            for known in (self._since, self._refusals, self._left):
                known.pop(symbol, None)

    async def run(self, sink: FrameSink) -> None:
        """Poll until cancelled."""
        now_ns = self._clock.wall_ns()
        try:
            while True:
                await self._round(now_ns, sink)
                await sink.flushed()  # a journal that takes nothing must not fill the memory
                due_ns = next_round(self._poll, max(now_ns, self._clock.wall_ns()))
                await self._clock.sleep(max(0, due_ns - self._clock.wall_ns()) / _NS)
                now_ns = max(due_ns, self._clock.wall_ns())
        finally:
            self._close("stopped")

    async def _round(self, now_ns: int, sink: FrameSink) -> None:
        """Ask for all that is due: together, but those that were refused each alone."""
        due = [each for each in self.symbols if not self._left.get(each)]
        self._left = {each: left - 1 for each, left in self._left.items() if left}
        together = tuple(each for each in due if each not in self._refusals)
        for some in filter(None, (together, *((each,) for each in due if each in self._refusals))):
            await self._some(some, now_ns, sink)

    async def _some(self, symbols: tuple[str, ...], now_ns: int, sink: FrameSink) -> None:
        if self._control is None:
            self._context = replaced(self._context, epoch=self._new_epoch())
            self._control = sink.open(self._context)
            self._control.control(EpochOpened())
        try:
            await self._pages(symbols, now_ns, sink)
        except Permanent as error:
            half = len(symbols) // 2
            if half:
                await self._some(symbols[:half], now_ns, sink)
                await self._some(symbols[half:], now_ns, sink)
            else:
                self._refuse(symbols[0], error)
        except (Transient, ValueError, RecursionError) as error:
            more = f" and {len(symbols) - 1} more" if len(symbols) > 1 else ""
            named = f"{symbols[0]}{more}"
            self._observe(PollFailed(self._context.venue, self._channel, named, str(error)))
            self._close(f"a poll failed: {getattr(error, 'message', error)}")
        else:
            self._answered([each for each in symbols if each in self.symbols], now_ns)

    async def _pages(self, symbols: tuple[str, ...], now_ns: int, sink: FrameSink) -> None:
        """Ask for one page after the other."""
        every_ns = round(self._poll.every_s * _NS)
        since_ns = min(self._since.get(each, now_ns - every_ns) for each in symbols)
        target, asked = self._poll.request(PollRound(symbols, since_ns, now_ns)), set[str]()
        while target:
            if target in asked or len(asked) >= MOST_PAGES:
                message = f"The pages of {self._channel} of {symbols[0]} come to no end."
                raise Stuck(message, hint="It is asked for again.")
            if asked:
                await sink.flushed()
            asked.add(target)
            body = await self._ask(target, self._poll.cost, self._context, sink)
            target = self._poll.following(target, body)

    def _answered(self, symbols: Sequence[str], now_ns: int) -> None:
        for symbol in symbols:
            self._since[symbol] = now_ns
            self._refusals.pop(symbol, None)
        fresh = [each for each in symbols if each not in self._accepted]
        if self._control is None or not fresh:
            return
        if not self._accepted:
            self._observe(SubscriptionAccepted(self._context.venue, self._context.epoch))
        self._accepted.update(fresh)
        self._control.control(EpochAccepted(tuple(self._streams(fresh))))
        self._told.acknowledge(self._streams(fresh))

    def _refuse(self, symbol: str, error: Permanent) -> None:
        if symbol not in self.symbols:
            return
        times = self._refusals.get(symbol, 0)
        left = min(1 << min(times, 62), SKIPPED)
        self._refusals[symbol], self._left[symbol] = times + 1, left
        self._end([symbol] if symbol in self._accepted else [])
        if not self._accepted:
            self._close(f"refused: {error.message}")
        (stream,) = self._streams([symbol])
        self._told.refuse({stream: str(error)}, (left + 1) * self._poll.every_s)

    def _end(self, symbols: Sequence[str]) -> None:
        """Note that the epoch goes on without some symbols; it is over if none is left."""
        self._accepted.difference_update(symbols)
        if symbols and self._accepted and self._control is not None:
            self._control.control(StreamsEnded(tuple(self._streams(symbols))))

    def _close(self, reason: str) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.control(EpochClosed(reason))
            self._told.lose(self._streams(self.symbols))
        self._accepted.clear()

    def _streams(self, symbols: Iterable[str]) -> list[Stream]:
        return [(self._channel, symbol) for symbol in symbols]


class Polls:
    """The pollers of one kind of event, of at most so many symbols each as it asks for at once."""

    def __init__(
        self, at_once: int, make: Callable[[tuple[str, ...]], Poller], symbols: Sequence[str]
    ) -> None:
        self._at_once = at_once
        self._make = make
        self._changed = asyncio.Event()
        self.pollers: list[Poller] = []
        self.want(symbols)

    def want(self, symbols: Sequence[str]) -> None:
        """Ask for ``symbols`` from here on, and for no others."""
        wanted = dict.fromkeys(symbols)
        for poller in self.pollers:
            poller.keep(wanted)
        self.pollers = [each for each in self.pollers if each.symbols]
        known = {symbol for each in self.pollers for symbol in each.symbols}
        fresh = [symbol for symbol in wanted if symbol not in known]
        for begin in range(0, len(fresh), self._at_once):
            self.pollers.append(self._make(tuple(fresh[begin : begin + self._at_once])))
        self._changed.set()

    async def run(self, sink: FrameSink) -> None:
        """Poll until cancelled."""
        running: dict[Poller, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for poller in [each for each in running if each not in self.pollers]:
                    running.pop(poller).cancel()
                for poller in self.pollers:
                    if poller not in running:
                        running[poller] = group.create_task(poller.run(sink))
                await self._changed.wait()
