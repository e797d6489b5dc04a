"""Closes gaps: asks deliver which are open, plans what to ask for now, has the source fill them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from forebay.errors import ForebayError, Permanent, Unusable
from forebay.ports import FrameSink, HistoryRequest
from forebay.resilience.backoff import Backoff
from forebay.resilience.retry import asked_wait
from forebay.telemetry import (
    FillDone,
    FillFailed,
    FillStarted,
    GapsUnknown,
    Observer,
    WorkResumed,
    WorkShed,
    ignore,
)

if TYPE_CHECKING:
    import random

    from forebay.clock import Clock
    from forebay.services.alternatives import Fills

CONSIDERED = 500
"""Planning runs beside the sockets and must not hold them up, however many gaps there are."""
SERIES_SPAN_NS = 86_400 * 10**9
"""What is missing of one series within so long is asked for together: it may be many minutes."""
_Counted: TypeAlias = tuple[str, str, str, str]
"""Market, channel, symbol and unit: only numbers that agree in all of them are of one kind."""


@dataclass(slots=True)
class _Asked:
    """One range that was asked for, and when it may be asked for again."""

    request: HistoryRequest
    backoff: Backoff
    running: bool = True
    not_before_ns: int = 0
    evidence_seq: int = 0
    """Deliver must have read up to here before its opinion on the gap counts again."""
    since_ns: int | None = None
    """When it was answered first, or would have been, had its looks been of this process."""


class BackfillPlanner:
    """Remembers what was asked for, so that each gap is asked for once per evidence. Pure.

    A gap that deliver reports may be one whose answers lie in the journal already, unread. So
    a range that was filled is not asked for again until deliver's cursor has passed the fill's
    end, and one that failed not before its back-off. One that is open in spite of its answers is
    asked for again after as long as it has been so already: hopeless asking thins out. Ranges are
    compared by overlap, since a gap's edges move while it is worked on.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        at_once: int = 2,
        span: int = 1000,
        base_s: float = 1.0,
        cap_s: float = 30.0,
        settle_s: float = 1.0,
        hopeless_s: float = 21_600.0,
    ) -> None:
        """Ask for a gap once it was open for ``settle_s``.

        A frame that is merely late closes it by itself meanwhile, and a venue's history may
        lag behind its feed. ``span`` ids are asked for together, since one page answers them all.
        What failed waits up to ``cap_s``, what was answered in vain, or refused, up to
        ``hopeless_s``.
        """
        self._rng = rng
        self._settle_ns = round(settle_s * 1e9)
        self._first_seen: dict[tuple[_Counted, str, int], int] = {}
        self._at_once = at_once
        self._span = span
        self._base_s = base_s
        self._cap_s = cap_s
        self._hopeless_s = hopeless_s
        self._asked: list[_Asked] = []
        self._turn = 0

    def plan(
        self, gaps: Sequence[HistoryRequest], cursor_seq: int, now_ns: int, wall_ns: int = 0
    ) -> list[HistoryRequest]:
        """Return what to begin now; each request must be ended by :meth:`filled` or :meth:`failed`.

        At most :data:`CONSIDERED` gaps are looked at; if all of those have to wait, the next
        call looks at those behind them. So give them in a stable order. ``wall_ns`` is of the
        clock that earlier looks at a gap are told by.
        """
        settled = self._settled(gaps, now_ns)
        slots = self._at_once - sum(asked.running for asked in self._asked)
        if slots <= 0:
            return []
        self._forget(gaps)
        settled = in_turns(settled)  # a stream of many gaps must not starve the others
        window = settled[self._turn : self._turn + CONSIDERED]
        free = [gap for gap in window if not self._blocked(gap, cursor_seq, now_ns, wall_ns)]
        # Gaps that cannot be filled must not starve those behind them.
        stuck = not free and self._turn + CONSIDERED < len(settled)
        self._turn = self._turn + CONSIDERED if stuck else 0
        running = Counter(_counted(asked.request) for asked in self._asked if asked.running)
        chosen = in_turns(coalesce(free, self._span), running)[:slots]
        for request in chosen:
            self._remember(request, now_ns)
        return chosen

    def filled(self, request: HistoryRequest, next_seq: int, now_ns: int) -> None:
        """The fill ended, and its answers lie before journal sequence number ``next_seq``."""
        asked = self._running(request)
        asked.running, asked.evidence_seq = False, next_seq
        asked.backoff.reset()
        asked.not_before_ns = now_ns + round(self._in_vain_s(asked, now_ns) * 1e9)

    def failed(self, request: HistoryRequest, now_ns: int, *, refused: bool = False) -> float:
        """The fill did not end; return the seconds until it may be tried again.

        ``refused``: the venue answered, and repeating the question soon does not help.
        """
        asked = self._running(request)
        delay_s = self._in_vain_s(asked, now_ns) if refused else asked.backoff.next()
        asked.running = False
        asked.not_before_ns = now_ns + round(delay_s * 1e9)
        return delay_s

    def _in_vain_s(self, asked: _Asked, now_ns: int) -> float:
        """Return how long to wait after an answer: as long as it was answered in vain already."""
        if asked.since_ns is None:
            asked.since_ns = now_ns
        return min(max((now_ns - asked.since_ns) / 1e9, self._base_s), self._hopeless_s)

    def _settled(self, gaps: Sequence[HistoryRequest], now_ns: int) -> list[HistoryRequest]:
        """Return the gaps that are old enough; one is known by either end: the other may move."""
        seen: dict[tuple[_Counted, str, int], int] = {}
        settled = []
        for gap in gaps:
            ends = [(_counted(gap), "first", gap.first), (_counted(gap), "last", gap.last)]
            since = min(self._first_seen.get(end, now_ns) for end in ends)
            seen |= dict.fromkeys(ends, since)
            if now_ns - since >= self._settle_ns:
                settled.append(gap)
        self._first_seen = seen
        return settled

    def _running(self, request: HistoryRequest) -> _Asked:
        return next(asked for asked in self._asked if asked.running and asked.request == request)

    def _blocked(self, gap: HistoryRequest, cursor_seq: int, now_ns: int, wall_ns: int) -> bool:
        known = [asked for asked in self._asked if overlap(asked.request, gap)]
        if not known:  # not since this process began
            return 0 <= wall_ns - gap.looked_ns < gap.wait_s * 1e9
        return any(
            asked.running or now_ns < asked.not_before_ns or cursor_seq < asked.evidence_seq
            for asked in known
        )

    def _remember(self, request: HistoryRequest, now_ns: int) -> None:
        """Take over the longest back-off of what ``request`` overlaps."""
        backoff = Backoff(self._rng, base=self._base_s, cap=self._cap_s)
        kept, since = [], []
        for asked in self._asked:
            if asked.running or not overlap(asked.request, request):
                kept.append(asked)
            else:
                backoff.attempt = max(backoff.attempt, asked.backoff.attempt)
                since += [] if asked.since_ns is None else [asked.since_ns]
        if not since and request.wait_s:
            since.append(now_ns - round(request.wait_s * 1e9))
        self._asked = [*kept, _Asked(request, backoff, since_ns=min(since, default=None))]

    def _forget(self, gaps: Iterable[HistoryRequest]) -> None:
        """Drop what overlaps no open gap any more, so that memory is bounded by the gaps."""
        open_gaps = list(gaps)
        self._asked = [
            asked
            for asked in self._asked
            if asked.running or any(overlap(asked.request, gap) for gap in open_gaps)
        ]


def overlap(one: HistoryRequest, other: HistoryRequest) -> bool:
    """Return whether two requests have something of one stream in common."""
    return _counted(one) == _counted(other) and one.first <= other.last and other.first <= one.last


def coalesce(gaps: Iterable[HistoryRequest], span: int) -> list[HistoryRequest]:
    """Join gaps of one stream that lie within ``span`` ids, or of one series within a day.

    Other gaps in time stay apart.
    """
    joined: list[HistoryRequest] = []
    for gap in sorted(gaps, key=lambda gap: (_counted(gap), gap.first, gap.last)):
        last = joined[-1] if joined else None
        most = SERIES_SPAN_NS if gap.series else span if gap.unit == "id" else 0
        if (
            last is not None
            and _counted(last) == _counted(gap)
            and max(gap.last, last.last) - last.first < most
        ):
            joined[-1] = replace(last, last=max(gap.last, last.last))
        else:
            joined.append(gap)
    return joined


def in_turns(
    gaps: Iterable[HistoryRequest], had: Mapping[_Counted, int] = MappingProxyType({})
) -> list[HistoryRequest]:
    """Return gaps in turns, one of each stream after the other; ``had``: turns that streams had."""
    turns, ranked = Counter(had), []
    for gap in gaps:
        stream = _counted(gap)
        ranked.append((turns[stream], gap))
        turns[stream] += 1
    return [gap for _, gap in sorted(ranked, key=lambda turn: turn[0])]


def _counted(request: HistoryRequest) -> _Counted:
    return request.market, request.channel, request.symbol, request.unit


OpenGaps = Callable[[], Awaitable[tuple[Sequence[HistoryRequest], int]]]
"""Returns the open gaps and the journal sequence number up to which that is the truth.

Raises :class:`~forebay.errors.Transient` while deliver is away."""
_WORK = "gap fills"
LONGEST_WAIT_S = 3600.0
"""A venue, or the breaker before it, that asks for a longer wait is asked again after this one."""


class Backfiller:
    """Fills one source's gaps until cancelled; no failure of a fill ends it.

    An error that says when to come again says so for the whole venue: no fill begins before.
    None begins while ``sheds`` says why work that can wait has to, either; those under way go on,
    since what they were answered is captured already.
    """

    def __init__(
        self,
        source: Fills,
        sink: FrameSink,
        open_gaps: OpenGaps,
        *,
        planner: BackfillPlanner,
        clock: Clock,
        observer: Observer = ignore,
        poll_s: float = 1.0,
        sheds: Callable[[], str] = str,
    ) -> None:
        self._source = source
        self._sink = sink
        self._open_gaps = open_gaps
        self._planner = planner
        self._clock = clock
        self._observe = observer
        self._poll_s = poll_s
        self._sheds = sheds
        self._shed = ""
        self._unknown = False
        """Whether deliver was away when it was asked last: that is told once."""
        self._not_before_ns = 0
        self._fills: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Poll, plan, fill; a poll comes early when a fill has ended."""
        try:
            while True:
                await self._poll()
                await self._pause()
        finally:
            for fill in self._fills:
                fill.cancel()
            await asyncio.gather(*self._fills, return_exceptions=True)

    async def _poll(self) -> None:
        if self._must_wait() or self._clock.monotonic_ns() < self._not_before_ns:
            return
        try:
            gaps, cursor_seq = await self._open_gaps()
        except ForebayError as error:
            if not self._unknown:
                self._observe(GapsUnknown(str(error)))
            self._unknown = True
            return
        self._unknown = False
        now, wall = self._clock.monotonic_ns(), self._clock.wall_ns()
        for request in self._planner.plan(gaps, cursor_seq, now, wall):
            fill = asyncio.create_task(self._fill(request), name="forebay-fill")
            self._fills.add(fill)

    def _must_wait(self) -> bool:
        was, self._shed = self._shed, self._sheds()
        if bool(was) is not bool(self._shed):
            self._observe(WorkShed(_WORK, self._shed) if self._shed else WorkResumed(_WORK))
        return bool(self._shed)

    async def _pause(self) -> None:
        """Wait for the next poll; a fill that broke in an unforeseen way is raised here."""
        timer = asyncio.create_task(self._clock.sleep(self._poll_s), name="forebay-fill-poll")
        try:
            await asyncio.wait({timer, *self._fills}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
        ended = {fill for fill in self._fills if fill.done()}
        self._fills -= ended
        for fill in ended:
            fill.result()

    async def _fill(self, request: HistoryRequest) -> None:
        named = (request.channel, request.symbol, request.first, request.last)
        self._observe(FillStarted(*named))
        try:
            await self._source.fill(request, self._sink)
            next_seq = await self._sink.flushed()
        except ForebayError as error:
            now = self._clock.monotonic_ns()
            asked_s = min(asked_wait(error) or 0.0, LONGEST_WAIT_S)
            self._not_before_ns = max(self._not_before_ns, now + round(asked_s * 1e9))
            refused = isinstance(error, Permanent | Unusable)
            delay_s = max(self._planner.failed(request, now, refused=refused), asked_s)
            self._observe(FillFailed(*named, str(error), delay_s))
        else:
            self._planner.filled(request, next_seq, self._clock.monotonic_ns())
            self._observe(FillDone(*named, next_seq))
