"""Finds bars that a calendar lets expect and the store does not hold, and has them asked for.

What is found goes into the journal as :class:`~forebay.domain.frames.RangeChecked`, so gaps of
bars are gaps as all others: open until filled, on record when the source said again and again that
it has nothing, accepted by a person. Only the store closes one: what was asked for is looked at
once more. A source that does not answer says nothing, so a dead feed is no quiet market.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from forebay.domain.calendars import Grid, expected, missing
from forebay.domain.coverage import GAP_STATES, StreamKey
from forebay.domain.frames import RangeChecked
from forebay.domain.intervals import IntervalSet
from forebay.errors import ForebayError
from forebay.telemetry import FillFailed, ignore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from forebay.clock import Clock
    from forebay.domain.calendars import Calendar
    from forebay.domain.coverage import Coverage, Gap
    from forebay.domain.coverage.base import Count
    from forebay.domain.intervals import Interval
    from forebay.telemetry import Observer

    Times = npt.NDArray[np.int64]

AGAIN_NS = 7 * 86_400 * 10**9
"""What a source said for good that it does not have is asked for again after so long: histories
have been completed years later."""
MOST_RANGES = 5000
"""In one record."""


class BarSeries(NamedTuple):
    """What the bars of one series say of themselves."""

    timeframe: str
    session: str = "UTC"
    of: str = ""
    """Empty: whatever they are of."""
    adjusted: bool = False


@dataclass(frozen=True, slots=True)
class WatchedBars:
    """Bars that should be there."""

    stream: StreamKey
    """Its channel names the series, such as ``bar:1m``."""
    series: BarSeries
    calendar: Calendar
    begin_ns: int
    """From when on, UTC nanoseconds: nothing in the store says what is missing before it."""
    end_ns: int | None = None
    """Until when, not included; None: until now."""
    lag_ns: int = 0
    """How long after its end a bar may take to be there."""
    waits_s: tuple[int, ...] = (60, 600, 3600, 21_600)
    """How long after one look a source is asked again; see
    :attr:`~forebay.domain.channels.Channel.believed_after_s`."""


StoredBars = Callable[[WatchedBars, int, int], Awaitable["Times"]]
"""Returns the open times, UTC nanoseconds, of the final bars that the store holds and that begin
from one moment up to another."""
HeldCoverage = Callable[[StreamKey], "Coverage | None"]
"""Returns what is stored of a stream's coverage."""
Record = Callable[[StreamKey, RangeChecked], Awaitable[None]]
"""Has a record captured and delivered, so that coverage has it when this returns."""


class AskSource(Protocol):
    """Asks a source for bars."""

    async def __call__(self, stream: StreamKey, ranges: Sequence[Interval]) -> None:
        """Have each range, or more around it, asked for, captured and delivered.

        What the source did not have is recorded as lacking. Raises
        :class:`~forebay.errors.ForebayError` if it did not answer, which says nothing of what it
        has.
        """
        ...


@dataclass(slots=True)
class CheckedBars:
    """What a check of one series came to."""

    stream: StreamKey
    expected: int
    """How many bars should be there by now."""
    missing: IntervalSet
    """The times of those that are not."""
    absent: int = 0
    """How many those are."""
    asked: tuple[Interval, ...] = ()
    error: str = ""
    """Why the source could not be asked; then what is missing stays open."""
    states: dict[str, int] = field(default_factory=dict)
    """How many gaps of each state the stream has now."""

    def document(self) -> dict[str, object]:
        """Return it as JSON can hold it; ``missing`` counts bars, not holes."""
        return {
            **self.stream._asdict(),
            "expected": self.expected,
            "missing": self.absent,
            "gaps": self.states,
        }


class GapDetector:
    """Checks series of bars, one after the other."""

    def __init__(
        self,
        stored: StoredBars,
        coverage: HeldCoverage,
        record: Record,
        ask: AskSource | None = None,
        *,
        clock: Clock,
        observer: Observer = ignore,
    ) -> None:
        """Without ``ask`` it only finds and records: whoever fills open gaps does the rest."""
        self._stored = stored
        self._coverage = coverage
        self._record = record
        self._ask = ask
        self._clock = clock
        self._observe = observer
        self._again_ns: dict[StreamKey, dict[Interval, int]] = {}
        """When it asked again for what is permanent: coverage counts no such look."""

    async def check(self, bars: WatchedBars) -> CheckedBars:
        """Compare, record, ask for what may be asked for, and compare again.

        Raises :class:`~forebay.errors.ForebayError` if the store or the journal fails.
        """
        found = await self._compare(bars)
        ranges = self._due(bars) if self._ask is not None else []
        if self._ask is not None and ranges:
            found.asked = tuple(ranges)
            try:
                await self._ask(bars.stream, ranges)
            except ForebayError as error:
                found.error = str(error)
                named = bars.stream.channel, bars.stream.symbol, ranges[0][0], ranges[-1][1]
                self._observe(FillFailed(*named, found.error, 0.0))
            again = await self._compare(bars)
            found.missing, found.absent = again.missing, again.absent
        found.states = dict.fromkeys(map(str, GAP_STATES), 0)
        for gap in self._gaps(bars.stream):
            found.states[gap.state] += 1
        return found

    async def _compare(self, bars: WatchedBars) -> CheckedBars:
        """Compare the store with the calendar, and record what differs from what is on record."""
        series, end_ns = bars.series, self._clock.wall_ns() - bars.lag_ns
        if bars.end_ns is not None:
            end_ns = min(end_ns, bars.end_ns)
        grid = Grid(series.timeframe, series.session).bars(bars.begin_ns, end_ns)
        grid = grid.only(grid.ends <= end_ns)
        if not len(grid.opens):
            return CheckedBars(bars.stream, 0, IntervalSet())
        first, last = int(grid.opens[0]), int(grid.ends[-1]) - 1
        wanted = expected(bars.calendar, series.timeframe, first, last, series.session)
        opens = await self._stored(bars, first, last + 1)
        lacking = missing(wanted, opens)
        gaps = self._gaps(bars.stream)
        known = IntervalSet((gap.first, gap.last) for gap in gaps if gap.state != "filled")
        if lacking != known.within(first, last):
            there = grid.only(np.isin(grid.opens, opens)).times()
            stored = there & IntervalSet((gap.first, gap.last) for gap in gaps)
            for record in records(bars.stream, (first, last), lacking, stored):
                await self._record(bars.stream, record)
        absent = int(lacking.contains(wanted.opens).sum())
        return CheckedBars(bars.stream, len(wanted.opens), lacking, absent)

    def _gaps(self, stream: StreamKey) -> Sequence[Gap]:
        held = self._coverage(stream)
        return held.gaps(stream) if held is not None else []

    def _due(self, bars: WatchedBars) -> list[Interval]:
        """Return what to ask for now."""
        held, now_ns = self._coverage(bars.stream), self._clock.wall_ns()
        if held is None:
            return []
        before, again, ranges = self._again_ns.get(bars.stream, {}), {}, []
        for gap in held.gaps(bars.stream):
            hole, looks = (gap.first, gap.last), held.looks(gap.first, gap.last)
            if gap.state == "open" and now_ns >= looks.at_ns + _wait_ns(looks, bars.waits_s):
                ranges.append(hole)
            elif gap.state == "permanent":
                again[hole] = max(looks.at_ns, before.get(hole, 0))
                if now_ns >= again[hole] + AGAIN_NS:
                    again[hole] = now_ns
                    ranges.append(hole)
        self._again_ns[bars.stream] = again
        return ranges


def records(
    stream: StreamKey, whole: Interval, lacking: IntervalSet, stored: IntervalSet
) -> Iterator[RangeChecked]:
    """Return what was found in a range, in records of a bounded size."""
    pieces, (first, end) = [*lacking], whole
    for at in range(0, max(1, len(pieces)), MOST_RANGES):
        behind = pieces[at + MOST_RANGES : at + MOST_RANGES + 1]
        last = behind[0][0] - 1 if behind else end
        yield RangeChecked(
            stream.channel,
            stream.symbol,
            first,
            last,
            tuple(lacking.within(first, last)),
            tuple(stored.within(first, last)),
            stream.market,
        )
        first = last + 1


def _wait_ns(looks: Count, waits_s: Sequence[int]) -> int:
    """Return how long after its last look a hole is asked for again."""
    return waits_s[min(looks.looks, len(waits_s)) - 1] * 10**9 if looks.looks and waits_s else 0
