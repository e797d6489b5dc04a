"""Closes gaps: asks deliver which are open and has the source fill them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from forebay.errors import ForebayError, Permanent, Unusable
from forebay.ports import HistoryRequest
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
    from forebay.clock import Clock
    from forebay.ports import FrameSink, Source
    from forebay.services.backfill_plan import BackfillPlanner

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
        source: Source,
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
