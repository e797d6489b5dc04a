"""Where the bars of a time frame begin and end, and which of them a calendar lets expect."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.calendars.weekly import DAY_NS, NEW_YORK, day_of, moment_ns
from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from forebay.domain.calendars.weekly import Calendar

    Times = npt.NDArray[np.int64]
else:
    from forebay.lazy import numpy as np

STEPS = {
    "1s": 1,
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "1h": 3600,
    "4h": 14_400,
    "1d": 86_400,
    "1w": 604_800,
}
"""Seconds of a bar, where clocks do not change."""
_MONDAY_NS = 4 * DAY_NS
"""1970-01-05."""
_BEGINS = {"NY17": (6, 17 * 60), "NY00": (0, 0)}
"""Of sessions by the clock of New York: the weekday with which a week begins, Monday being 0, and
the minute at which a day does."""


class GridBars(NamedTuple):
    """Times of bars in UTC nanoseconds, rising, both of shape (n,)."""

    opens: Times
    ends: Times
    """Not included."""

    def only(self, wanted: npt.NDArray[np.bool_]) -> GridBars:
        """Return those for which ``wanted``, of shape (n,), is true."""
        return GridBars(self.opens[wanted], self.ends[wanted])

    def times(self) -> IntervalSet:
        """Return the times that they cover."""
        breaks = np.flatnonzero(self.opens[1:] != self.ends[:-1]) + 1
        firsts = self.opens[np.r_[:1, breaks]] if len(self.opens) else self.opens
        lasts = self.ends[np.r_[breaks - 1, len(self.ends) - 1]] if len(self.ends) else self.ends
        return IntervalSet(zip(firsts.tolist(), (lasts - 1).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Grid:
    """The bars of one time frame, whether or not the market is open.

    Bars up to four hours begin on one grid from midnight UTC, whatever the session is and clocks
    do. Days begin at midnight UTC, or at 17:00 or midnight in New York, and then some have 23 or 25
    hours; weeks begin with the day of which most is Monday.
    """

    timeframe: str
    session: str = "UTC"

    def __post_init__(self) -> None:
        if self.timeframe not in STEPS or self.session not in ("UTC", *_BEGINS):
            message = f"There is no time frame {self.timeframe!r} by {self.session!r}"
            raise ValueError(message)

    @property
    def step_ns(self) -> int:
        """How long a bar is where clocks do not change."""
        return STEPS[self.timeframe] * 10**9

    @property
    def bends(self) -> bool:
        """Whether the length of a bar depends on where it is."""
        return self.session in _BEGINS and self.timeframe in ("1d", "1w")

    def bars(self, begin_ns: int, end_ns: int) -> GridBars:
        """Return the bars that begin at ``begin_ns`` or later, and before ``end_ns``."""
        if self.bends:
            borders = self._borders(begin_ns, end_ns)
            found = GridBars(borders[:-1], borders[1:])
            return found.only((found.opens >= begin_ns) & (found.opens < end_ns))
        step = self.step_ns
        origin = _MONDAY_NS if self.timeframe == "1w" else 0
        first = -(-(begin_ns - origin) // step) * step + origin
        opens = np.arange(first, max(first, end_ns), step, dtype=np.int64)
        return GridBars(opens, opens + step)

    def _borders(self, begin_ns: int, end_ns: int) -> Times:
        """Return when days or weeks begin in New York, from before a range to behind it."""
        weekday, minute = _BEGINS[self.session]
        step = 7 if self.timeframe == "1w" else 1
        day = day_of(begin_ns) - timedelta(days=step + 1)
        if step > 1:
            day -= timedelta(days=(day.weekday() - weekday) % 7)
        days = (day_of(max(begin_ns, end_ns)) - day).days + 2 * (step + 1)
        closes = [
            moment_ns(day + timedelta(days=each), minute, NEW_YORK) for each in range(0, days, step)
        ]
        return np.array(closes, dtype=np.int64)


def expected(
    calendar: Calendar, timeframe: str, begin_ns: int, end_ns: int, session: str = "UTC"
) -> GridBars:
    """Return the bars beginning from ``begin_ns`` up to ``end_ns`` that are open at some moment.

    A bar counts as open if its market is for any part of it: the first bar of a week may be short.
    """
    bars = Grid(timeframe, session).bars(begin_ns, end_ns)
    if not len(bars.opens):
        return bars
    return bars.only(open_at(calendar, bars.opens, bars.ends))


def open_at(calendar: Calendar, opens: Times, ends: Times) -> npt.NDArray[np.bool_]:
    """Return which bars are open at some moment; all of shape (n,), ``n`` at least 1."""
    hours = list(calendar.open(int(opens.min()), int(ends.max())))
    if not hours:
        return np.zeros(len(opens), dtype=np.bool_)
    firsts, lasts = np.array(hours, dtype=np.int64).T
    place = np.searchsorted(lasts, opens)
    begun: npt.NDArray[np.bool_] = firsts[np.minimum(place, len(firsts) - 1)] < ends
    return begun & (place < len(firsts))


def missing(wanted: GridBars, stored: Times) -> IntervalSet:
    """Return the times of the bars that are expected and none of ``stored``, which are open times.

    Bars are compared one by one, never by their number: a bar that is there twice, or in closed
    hours, makes up for none that is not.
    """
    return wanted.only(~np.isin(wanted.opens, stored)).times()
