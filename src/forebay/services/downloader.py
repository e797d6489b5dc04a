"""Downloads history: a stream from one time to another, by pages, several at once.

What is still to be asked follows from coverage alone, which holds what the venue's history has
answered: there is no other record of how far a download got, so none can be lost or disagree.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.domain.coverage import StreamKey, TimeCoverage
from forebay.domain.intervals import IntervalSet
from forebay.errors import ForebayError, Permanent, Stuck, Transient, Unusable
from forebay.ports import HistoryRequest
from forebay.resilience.backoff import Backoff
from forebay.resilience.retry import asked_wait
from forebay.services.alternatives import AnsweredElsewhere
from forebay.telemetry import FillFailed, Observer, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from forebay.clock import Clock
    from forebay.domain.coverage import Coverage
    from forebay.ports import FrameSink
    from forebay.services.alternatives import Fills

_NS = 1_000_000_000
EMPTY_S = 3600
"""So long a time of which history said nothing is asked for again; of shorter ones each
download would ask anew, since markets that are quiet have thousands."""
ASKED_AGAIN_S = 30 * 86_400
"""How long after its last look what history often lacked is asked for once more."""
TRIES = 5
"""A page that is answered so often with what no page is does not come; the others go on."""
PATIENCE_S = 600.0
"""How long a venue may answer nothing at all until a download gives up."""


@dataclass(frozen=True, slots=True)
class Download:
    """A stream whose history is wanted from ``first`` to ``last``, both included."""

    venue: str
    market: str
    channel: str
    """A series, such as ``bar:1m``."""
    symbol: str
    first: int
    """UTC nanoseconds, the beginning of a period; ``last`` is the end of one."""
    last: int
    step_ns: int
    page_ns: int
    believed_after_s: tuple[int, ...] = ()
    """See :attr:`~forebay.domain.channels.Channel.believed_after_s`."""
    again: bool = False
    """Whether all of it is asked for, whatever was answered before."""

    @property
    def key(self) -> StreamKey:
        """The stream."""
        return StreamKey(self.venue, self.market, self.channel, self.symbol)

    def requests(self, coverage: Coverage | None, now_ns: int) -> list[HistoryRequest]:
        """Return what is still to be asked for, a page each, the oldest first."""
        held = coverage if isinstance(coverage, TimeCoverage) and not self.again else TimeCoverage()
        looked = IntervalSet()
        for members in held.verdict.looked.values():
            looked |= members
        todo = (held.fill | held.absent | looked).holes(self.first, self.last)
        todo |= self._due(held, now_ns).joined(self.page_ns)
        return [
            HistoryRequest(self.channel, self.symbol, *ends, "time", self.market, bulk=True)
            for ends in self._pages(todo)
        ]

    def _due(self, held: TimeCoverage, now_ns: int) -> IntervalSet:
        """Return what history said nothing of, and may be asked for again."""
        due, least_ns = IntervalSet(), max(self.step_ns, EMPTY_S * _NS)
        for count, members in held.verdict.looked.items():
            waits_s = (*self.believed_after_s, ASKED_AGAIN_S)
            wait_s = waits_s[min(count.looks, len(waits_s)) - 1]
            if not 0 <= now_ns - count.at_ns < wait_s * _NS:
                for first, last in members.within(self.first, self.last):
                    if last - first + 1 >= least_ns:
                        due.add(first, last)
        return due

    def _pages(self, todo: IntervalSet) -> Iterator[tuple[int, int]]:
        for first, last in todo:
            for begin in range(first, last + 1, self.page_ns):
                yield begin, min(begin + self.page_ns - 1, last)

    def empty(self, coverage: Coverage | None) -> list[tuple[int, int]]:
        """Return the longer times of which history said that it has nothing, in order."""
        if not isinstance(coverage, TimeCoverage):
            return []
        lacking = coverage.absent.copy()
        for members in coverage.verdict.looked.values():
            lacking |= members
        least_ns = max(self.step_ns, EMPTY_S * _NS)
        within = lacking.within(self.first, self.last)
        return [ends for ends in within if ends[1] - ends[0] + 1 >= least_ns]


@dataclass(slots=True)
class Progress:
    """How far one download is."""

    download: Download
    pages: int
    """To be asked for, since this began."""
    answered: int = 0
    failed: int = 0
    """Pages that are no pages, whenever they are asked for."""
    elsewhere: int = 0
    """Pages that another venue was asked for, since this one does not answer: still wanted."""
    refused: str = ""
    """Why the venue does not give it; the rest was not asked for then."""
    problem: str = ""
    """The last thing that was wrong with a page."""
    todo: deque[HistoryRequest] = field(default_factory=deque)

    @property
    def complete(self) -> bool:
        """Whether everything was asked for and answered."""
        return self.answered == self.pages


class Downloader:
    """Downloads from one source, several pages at once, a page of each stream in turn."""

    def __init__(
        self,
        source: Fills,
        sink: FrameSink,
        *,
        clock: Clock,
        rng: random.Random,
        observer: Observer = ignore,
        at_once: int = 4,
        ready: Callable[[], Awaitable[None]] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``ready`` is awaited before each page: by it, a download gives way to other work."""
        self._source = source
        self._sink = sink
        self._clock = clock
        self._rng = rng
        self._observe = observer
        self._at_once = at_once
        self._ready = ready
        self._patience_ns = round(patience_s * _NS)
        self._heard_ns = 0

    async def run(
        self,
        wanted: Iterable[tuple[Download, Sequence[HistoryRequest]]],
        progress: Callable[[list[Progress]], object] = lambda _: None,
    ) -> list[Progress]:
        """Ask for every request of each download; return what became of them.

        Raises :class:`~forebay.errors.Transient` if the venue answers nothing for too long; what
        was answered until then is captured.
        """
        found = [Progress(each, len(asked), todo=deque(asked)) for each, asked in wanted]
        turns = deque(each for each in found if each.todo)
        self._heard_ns = self._clock.monotonic_ns()
        progress(found)

        async def work() -> None:
            while turns:
                mine = turns.popleft()
                if not mine.todo:  # it was refused meanwhile
                    continue
                request = mine.todo.popleft()
                if mine.todo:
                    turns.append(mine)
                await self._page(mine, request)
                progress(found)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(work(), name="forebay-download")
        return found

    async def _page(self, mine: Progress, request: HistoryRequest) -> None:
        """Have one page captured, however long that takes."""
        backoff, tries = Backoff(self._rng, base=1.0, cap=30.0), 0
        while not mine.refused:
            if self._ready is not None:
                await self._ready()
            try:
                await self._source.fill(request, self._sink)
                await self._sink.flushed()
            except Permanent as error:
                mine.refused = str(error)
                mine.todo.clear()
                return
            except AnsweredElsewhere as error:
                mine.problem = str(error)
                mine.elsewhere += 1
                return
            except Transient as error:
                tries += isinstance(error, Unusable)
                mine.problem = str(error)
                if isinstance(error, Stuck) or tries >= TRIES:
                    mine.failed += 1
                    return
                await self._wait(request, error, backoff)
            else:
                mine.answered += 1
                self._heard_ns = self._clock.monotonic_ns()
                return

    async def _wait(self, request: HistoryRequest, error: Transient, backoff: Backoff) -> None:
        """Wait before a page is asked for again; raise what was wrong if that takes too long."""
        now = self._clock.monotonic_ns()
        if isinstance(error, Unusable):
            self._heard_ns = now
        elif now - self._heard_ns > self._patience_ns:
            raise error
        delay_s = max(backoff.next(), asked_wait(error) or 0.0)
        named = request.channel, request.symbol, request.first, request.last
        self._observe(FillFailed(*named, str(error), delay_s))
        await self._clock.sleep(delay_s)


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what ended a download: of several, an error of ours."""
    ours, _ = group.split(ForebayError)
    found: BaseException = ours if ours is not None else group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
