"""Finds bars that a calendar lets expect and the store does not hold, and puts them on record.

What is found goes into the journal as :class:`~forebay.domain.frames.RangeChecked`, so gaps of
bars are gaps as all others: open until filled, on record when the source said again and again that
it has nothing, accepted by a person. Whoever fills gaps asks; only the store closes one: the next
check looks at it once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forebay.domain.calendars import Grid, expected, missing
from forebay.domain.coverage import GAP_STATES, StreamKey
from forebay.domain.frames import RangeChecked
from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from forebay.clock import Clock
    from forebay.domain.calendars import Calendar
    from forebay.domain.calendars.grid import GridBars
    from forebay.domain.coverage import Coverage, Gap
    from forebay.domain.intervals import Interval

    Times = npt.NDArray[np.int64]

MOST_BARS = 500_000
"""Are looked at together, which bounds the memory of a check."""
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


StoredBars = Callable[[WatchedBars, int, int], Awaitable["Times"]]
"""Returns the open times, UTC nanoseconds, of the final bars that the store holds and that begin
from one moment up to another."""
HeldCoverage = Callable[[StreamKey], "Coverage | None"]
"""Returns what is stored of a stream's coverage."""
Record = Callable[[StreamKey, RangeChecked], Awaitable[None]]
"""Has a record captured and delivered, so that coverage has it when this returns."""


@dataclass(slots=True)
class CheckedBars:
    """What a check of one series came to."""

    stream: StreamKey
    expected: int = 0
    """How many bars should be there by now."""
    missing: IntervalSet = field(default_factory=IntervalSet)
    """The times of those that are not."""
    absent: int = 0
    """How many those are."""
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
        self, stored: StoredBars, coverage: HeldCoverage, record: Record, *, clock: Clock
    ) -> None:
        self._stored = stored
        self._coverage = coverage
        self._record = record
        self._clock = clock

    async def check(self, bars: WatchedBars) -> CheckedBars:
        """Compare the store with the calendar, and record what differs from what is on record.

        Raises :class:`~forebay.errors.ForebayError` if the store or the journal fails.
        """
        found, grid = CheckedBars(bars.stream), Grid(bars.series.timeframe, bars.series.session)
        end_ns = self._clock.wall_ns() - bars.lag_ns
        if bars.end_ns is not None:
            end_ns = min(end_ns, bars.end_ns)
        for begin in range(bars.begin_ns, end_ns, MOST_BARS * grid.step_ns):
            some = grid.bars(begin, min(begin + MOST_BARS * grid.step_ns, end_ns))
            some = some.only(some.ends <= end_ns)
            if len(some.opens):
                await self._compare(bars, some, found)
        found.states = dict.fromkeys(map(str, GAP_STATES), 0)
        for gap in self._gaps(bars.stream):
            found.states[gap.state] += 1
        return found

    async def _compare(self, bars: WatchedBars, grid: GridBars, found: CheckedBars) -> None:
        """Look at some bars that are over, and add to what was found."""
        first, last = int(grid.opens[0]), int(grid.ends[-1]) - 1
        wanted = expected(bars.calendar, bars.series.timeframe, first, last, bars.series.session)
        opens = await self._stored(bars, first, last + 1)
        lacking = missing(wanted, opens)
        gaps = self._gaps(bars.stream)
        known = IntervalSet((gap.first, gap.last) for gap in gaps if gap.state != "filled")
        if lacking != known.within(first, last):
            there = grid.only(np.isin(grid.opens, opens)).times()
            stored = there & IntervalSet((gap.first, gap.last) for gap in gaps)
            for record in records(bars.stream, (first, last), lacking, stored):
                await self._record(bars.stream, record)
        found.expected += len(wanted.opens)
        found.absent += int(lacking.contains(wanted.opens).sum())
        found.missing |= lacking

    def _gaps(self, stream: StreamKey) -> Sequence[Gap]:
        held = self._coverage(stream)
        return held.gaps(stream) if held is not None else []


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
