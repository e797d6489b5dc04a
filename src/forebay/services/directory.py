"""The market registry, live: it asks a venue's list, and says what is to be captured and owed.

It looks at the whole list at its start and again and again, and asks for single markets as soon as
the venue says that something about them changed. Every answer is captured. A venue that does not
answer leaves what is captured as it is.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Protocol

from forebay.clock import sleep_unless
from forebay.domain.frames import StreamsOwed
from forebay.domain.listing import ListQuery, read_pages
from forebay.errors import Permanent, Transient, Unusable
from forebay.telemetry import (
    MarketGone,
    MarketImpossible,
    MarketsLeftOut,
    MarketsUnreadable,
    MarketsWanted,
    RegistryFailed,
    ValueUnknown,
    ignore,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterable, Sequence

    from forebay.clock import Clock
    from forebay.domain.frames import Context
    from forebay.domain.listing import Directory, ListedMarket, ListPage
    from forebay.errors import ForebayError
    from forebay.ports import FrameSink
    from forebay.services.registry import MarketOwing, Registry, RegistryMemory, RegistryNews
    from forebay.telemetry import Observer

JITTER: Final = 0.1
"""A wait is that share of it longer or shorter, so that collectors do not ask together."""
SOONER: Final = 0.2
"""A look comes after that share of the wait if the venue says that something changed, not what."""
QUIET_S: Final = 1.0
"""So long lies between two askings for markets of which the venue said something."""
PAGES_PER_FLUSH: Final = 4
"""A look waits for its pages to be CAPTURED each so many, which bounds its memory."""
PARTS_PER_LOOK: Final = 20
"""What markets are parts of is asked for at most so often in one look."""
MOST_TOLD: Final = 10_000
"""Markets of which the venue said something, and that wait to be asked for."""


class DirectorySource(Protocol):
    """What captures a venue, and whom its list is asked of."""

    def want(self, symbols: Iterable[str]) -> None:
        """Capture exactly these from now on."""
        ...

    async def page(self, target: str, cost: int, context: Context, sink: FrameSink) -> bytes:
        """Have an answer captured under ``context``, and return its body.

        Raises :class:`~forebay.errors.Transient` if the venue does not answer now, and
        :class:`~forebay.errors.Permanent` if it refuses.
        """
        ...


class MarketDirectory:
    """Keeps one source capturing what the patterns of its configuration stand for."""

    def __init__(
        self,
        directory: Directory,
        registry: Registry,
        source: DirectorySource,
        context: Context,
        *,
        kinds: Sequence[str],
        refresh_s: float,
        clock: Clock,
        rng: random.Random,
        observer: Observer = ignore,
        remember: Callable[[RegistryMemory], None] = lambda _: None,
    ) -> None:
        """``context`` is that of live answers, ``kinds`` are owed of each market.

        ``remember`` keeps what is to survive the process, and may block.
        """
        self._directory = directory
        self.registry = registry
        self._source = source
        self._context = context
        self.venue = context.venue
        self._kinds = tuple(kinds)
        self._refresh_s = refresh_s
        self._clock = clock
        self._rng = rng
        self._observe = observer
        self._asked: Callable[[], None] = lambda: None
        self._remember = remember
        self.wanted = registry.wanted(clock.wall_ns())
        source.want(self.wanted)
        self.looks = 0
        """How often the whole list was had."""
        self._told: set[str] = set()
        self._whole = False
        """Whether the venue said that something changed, and not what."""
        self._changed = asyncio.Event()
        self._parts: dict[str, None] = {}
        """Paths of what markets are parts of that are still to be asked."""
        self._known_parts: dict[str, None] = {}
        """Those that were asked for, or are going to be."""
        self._asking = ""

    def listed(self, symbols: Collection[str]) -> None:
        """Take that the venue said something about markets: see ``MessageVerdict.listed``."""
        self._whole |= "" in symbols
        theirs = self.registry.asked_of(symbols)
        self._told.update(theirs[: MOST_TOLD - len(self._told)])
        if self._whole or self._told:
            self._changed.set()

    def counts(self) -> dict[str, int]:
        """Return how many markets are known, by state, and how many are ``wanted`` now."""
        return {**self.registry.counts(), "wanted": len(self.wanted)}

    async def run(self, sink: FrameSink, asked: Callable[[], None] = lambda: None) -> None:
        """Look until cancelled; ``asked`` puts on record that others are wanted than before."""
        self._asked = asked
        while True:
            await self._look(sink)
            await self._hear(sink)

    async def _hear(self, sink: FrameSink) -> None:
        """Ask for what the venue says something about, until the next look is due."""
        began_ns = self._clock.monotonic_ns()
        wait_s = self._refresh_s * (1 + JITTER * (2 * self._rng.random() - 1))
        while True:
            due_s = wait_s * SOONER if self._whole else wait_s
            left_ns = began_ns + round(due_s * 1e9) - self._clock.monotonic_ns()
            if left_ns <= 0:
                return
            if self._told:
                await self._ask_told(sink)
                await self._clock.sleep(QUIET_S)
            else:
                self._changed.clear()
                await sleep_unless(self._changed, left_ns / 1e9, self._clock)

    # -------------------------------------------------------------------------- looks

    async def _look(self, sink: FrameSink) -> None:
        """Ask for everything once; what cannot be had is asked for by the next look."""
        began_ns = self._clock.wall_ns()
        self._forget_told()
        self._whole = False
        self._apply()
        try:
            queries = self.registry.queries(began_ns)
            answered = [await self._list(query, sink) for query in queries]
            await self._ask(self.registry.unseen(began_ns), sink)
            if all(answered):
                self.registry.looked(began_ns)
                self.looks += 1
            await self._ask_parts(sink)
        except Transient as error:
            self._failed(error)  # the others would not be answered either
        self._apply()
        if self.registry.left_out:
            self._observe(MarketsLeftOut(self.venue, self.registry.left_out))
        self._follow(self.registry.pass_time(began_ns), sink)
        await self._keep(sink)

    async def _ask_told(self, sink: FrameSink) -> None:
        """Ask for the markets of which the venue said something."""
        names = self._forget_told()
        try:
            await self._ask(names, sink)
        except Transient as error:
            self._failed(error)  # the next look asks for those that are known
        self._apply()
        await self._keep(sink)

    def _forget_told(self) -> list[str]:
        names = sorted(self._told)
        self._told.clear()
        return names

    async def _keep(self, sink: FrameSink) -> None:
        """Have what follows CAPTURED before it is remembered as done."""
        await sink.flushed()
        await asyncio.to_thread(self._remember, self.registry.memory())

    async def _ask(self, names: Sequence[str], sink: FrameSink) -> None:
        """Ask for markets by name, a batch at a time."""
        size = self._directory.names
        for start in range(0, len(names), size):
            await self._ask_some(names[start : start + size], sink)

    async def _ask_some(self, names: Sequence[str], sink: FrameSink) -> None:
        """Ask for a batch; one that is refused is halved until its culprits are found."""
        met = set[str]()
        try:
            await self._pages(ListQuery(names=tuple(names)), sink, met)
        except Permanent as error:
            self._failed(error)
            if len(names) > 1:
                middle = len(names) // 2
                await self._ask_some(names[:middle], sink)
                await self._ask_some(names[middle:], sink)
                return
        untold = [name for name in names if name not in met]
        self._follow(self.registry.untold(untold, self._clock.wall_ns()), sink)

    async def _list(self, query: ListQuery, sink: FrameSink) -> bool:
        """Have one list paged; return whether it was had to its end.

        Raises :class:`~forebay.errors.Transient` if the venue does not answer.
        """
        try:
            await self._pages(query, sink, set())
        except (Permanent, Unusable) as error:
            self._failed(error)
            return False
        return True

    async def _pages(self, query: ListQuery, sink: FrameSink, met: set[str]) -> None:
        """Have pages captured and told to the registry; ``met`` gets the symbols."""

        def take(page: ListPage) -> None:
            met.update(market.symbol for market in page.markets)
            self._take(page, sink)

        count = 0

        async def ask(target: str) -> bytes:
            nonlocal count
            if count and count % PAGES_PER_FLUSH == 0:
                await sink.flushed()
            count += 1
            return await self._page(target, sink)

        await read_pages(self._directory, query, ask, take)

    async def _page(self, target: str, sink: FrameSink) -> bytes:
        self._asking = target
        return await self._source.page(target, self._directory.cost, self._context, sink)

    async def _ask_parts(self, sink: FrameSink) -> None:
        """Have it told what markets are parts of; each path once."""
        for target in list(self._parts)[:PARTS_PER_LOOK]:
            try:
                await self._page(target, sink)
            except (Permanent, Unusable) as error:
                self._failed(error)
            del self._parts[target]

    # ----------------------------------------------------------------- what follows

    def _take(self, page: ListPage, sink: FrameSink) -> None:
        """Tell the registry, and follow what it says."""
        if page.unreadable:
            count, first = len(page.unreadable), page.unreadable[0]
            self._observe(MarketsUnreadable(self.venue, count, first))
        self._follow(self.registry.tell(page.markets, self._clock.wall_ns()), sink)
        for market in page.markets:
            self._note_parts(market)

    def _note_parts(self, market: ListedMarket) -> None:
        """Note what has to be asked of a market that is known."""
        for path in market.belongs if market.symbol in self.registry.known else ():
            if path not in self._known_parts:
                self._known_parts[path] = self._parts[path] = None
        while len(self._known_parts) > MOST_TOLD:
            del self._known_parts[next(iter(self._known_parts))]

    def _follow(self, news: RegistryNews, sink: FrameSink) -> None:
        """Put on record what is owed, and say what is remarkable."""
        venue = self.venue
        alike: dict[tuple[int | None, int | None], list[MarketOwing]] = defaultdict(list)
        for owing in news.owing:
            alike[owing[1:]].append(owing)
        for (since_ns, until_ns), some in alike.items():
            streams = tuple((kind, owing.symbol) for owing in some for kind in self._kinds)
            sink.open(self._context).control(StreamsOwed(streams, since_ns, until_ns))
        for symbol in news.gone:
            self._observe(MarketGone(venue, symbol))
        for symbol, columns in news.impossible:
            self._observe(MarketImpossible(venue, symbol, columns))
        for column, value in news.unknown:
            self._observe(ValueUnknown(venue, column, value))

    def _apply(self) -> None:
        """Have captured what is wanted now, if that is something else than before."""
        wanted = self.registry.wanted(self._clock.wall_ns())
        before, now = {*self.wanted}, {*wanted}
        if before == now:
            return
        self.wanted = wanted
        self._source.want(wanted)
        self._asked()
        added, removed = len(now - before), len(before - now)
        self._observe(MarketsWanted(self.venue, len(wanted), added, removed))

    def _failed(self, error: ForebayError) -> None:
        self._observe(RegistryFailed(self.venue, f"GET {self._asking}", str(error)))
