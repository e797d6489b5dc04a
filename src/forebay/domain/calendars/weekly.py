"""Calendars: always, given hours, or hours of a week in a zone without some closures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from forebay.domain.intervals import IntervalSet

NEW_YORK = ZoneInfo("America/New_York")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MINUTES = 1440
DAY_NS = 86_400 * 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_WEEK = timedelta(days=7)
_HOURS = re.compile(
    r"(?P<day>\w{3}) (?P<begin>\d\d:\d\d)-(?P<until>\w{3}) (?P<end>\d\d:\d\d)"
    r"|(?P<first>\w{3})(?:-(?P<last>\w{3}))? (?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)"
)
_DATE = re.compile(r"(?:(\d{4})-)?(\d\d)-(\d\d)(?: (\d\d:\d\d))?")


class Calendar(Protocol):
    """When a market is open."""

    def open(self, begin_ns: int, end_ns: int) -> IntervalSet:
        """Return the open moments from ``begin_ns`` up to ``end_ns``, which is not included.

        UTC nanoseconds; the end of an interval is the last open nanosecond.
        """
        ...


class Always:
    """A market that never closes."""

    def open(self, begin_ns: int, end_ns: int) -> IntervalSet:
        """See :class:`Calendar`."""
        return IntervalSet([(begin_ns, end_ns - 1)])


ALWAYS = Always()


@dataclass(frozen=True, slots=True)
class GivenHours:
    """Hours that somebody handed in, such as a venue; at all other times nothing is expected."""

    hours: IntervalSet

    def open(self, begin_ns: int, end_ns: int) -> IntervalSet:
        """See :class:`Calendar`."""
        return self.hours.within(begin_ns, end_ns - 1)


# --------------------------------------------------------------- wall clocks of a zone


@lru_cache(maxsize=65_536)
def moment_ns(day: date, minute: int, zone: ZoneInfo) -> int:
    """Return when the clock of ``zone`` shows ``minute`` of a day, in UTC nanoseconds.

    The first time if it shows that twice. If the clock leaves it out, the moment at which it is
    put forward. So what is later on the wall is never earlier in UTC. ``minute`` may be 1440.
    """
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) != wall:
        found = _put_forward(wall.replace(tzinfo=zone, fold=1).astimezone(UTC), found, zone)
    return (found - _EPOCH) // _SECOND * 10**9


def _put_forward(before: datetime, behind: datetime, zone: ZoneInfo) -> datetime:
    """Return the first second between two moments at which the offset is that of the later."""
    offset = behind.astimezone(zone).utcoffset()
    while behind - before > _SECOND:
        middle = before + (behind - before) // _SECOND // 2 * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            behind = middle
        else:
            before = middle
    return behind


def day_of(moment: int) -> date:
    """Return the date in UTC of a moment in nanoseconds."""
    return date(1970, 1, 1) + timedelta(days=moment // DAY_NS)


# ----------------------------------------------------------------------- weekly hours


class Hours(NamedTuple):
    """Open hours of every week, from one minute up to another, by the zone's wall clock."""

    day: int
    """0 is Monday."""
    minute: int
    """Of that day, from 0 to 1440."""
    end_day: int
    end_minute: int
    """If this is not later in the week, it is in the next one."""

    @property
    def weeks(self) -> int:
        """How many weeks later than it began it ends."""
        return int((self.end_day, self.end_minute) <= (self.day, self.minute))


class _Moment(NamedTuple):
    """A minute of a date; of every year, if it names none."""

    year: int | None
    month: int
    day: int
    minute: int | None


@dataclass(frozen=True, slots=True)
class Closure:
    """Hours on certain dates in which a market is closed that is open by its week."""

    begin: _Moment
    end: _Moment
    """Not included; the end of its day if it names no minute."""

    @classmethod
    def of_text(cls, text: str) -> Closure:
        """Read ``2026-12-25``, ``12-25`` of every year, or ``12-24 17:00/12-25 17:00``.

        Raises :class:`ValueError` with a sentence.
        """
        parts = [_moment(part, text) for part in text.split("/")]
        if len(parts) > 2 or (parts[0].year is None) != (parts[-1].year is None):  # noqa: PLR2004
            raise ValueError(_closure_hint(text))
        return cls(parts[0], parts[-1])

    def within(self, first_year: int, last_year: int, zone: ZoneInfo) -> IntervalSet:
        """Return the closed moments of closures that begin in some years."""
        closed = IntervalSet()
        for year in range(first_year, last_year + 1):
            if self.begin.year in (None, year):
                begin, end = _date(self.begin, year), _date(self.end, self.end.year or year)
                if begin and end and end < begin:  # over the turn of the year
                    end = _date(self.end, year + 1)
                if begin and end:
                    first = moment_ns(begin, self.begin.minute or 0, zone)
                    minute = _MINUTES if self.end.minute is None else self.end.minute
                    closed.add(first, moment_ns(end, minute, zone) - 1)
        return closed


def _date(moment: _Moment, year: int) -> date | None:
    """Return the date in a year; None of 29 February in a year that has none."""
    try:
        return date(year, moment.month, moment.day)
    except ValueError:
        return None


def _closure_hint(text: str) -> str:
    return f"{text!r} is no closed time: write 2026-12-25, 12-25 or 12-24 17:00/12-25 17:00"


def _moment(part: str, text: str) -> _Moment:
    read = _DATE.fullmatch(part.strip())
    if read is None:
        raise ValueError(_closure_hint(text))
    year, month, day, clock = read.groups()
    date(int(year or 2000), int(month), int(day))  # a leap year
    minute = None if clock is None else _minute(clock)
    return _Moment(None if year is None else int(year), int(month), int(day), minute)


def _minute(clock: str) -> int:
    hours, minutes = map(int, clock.split(":"))
    minute = hours * 60 + minutes
    if minute > _MINUTES or minutes > 59:  # noqa: PLR2004
        message = f"{clock} is no time of day: write 00:00 to 24:00"
        raise ValueError(message)
    return minute


def hours_of(text: str) -> list[Hours]:
    """Read ``Sun 17:00-Fri 17:00``, or ``Mon-Fri 09:30-16:00``, which is once a day.

    Hours that end at or before they begin end on the next day. Raises :class:`ValueError` with a
    sentence.
    """
    read = _HOURS.fullmatch(text.strip())
    if read is None:
        message = f"{text!r} is no open time: write Mon-Fri 09:30-16:00 or Sun 17:00-Fri 17:00"
        raise ValueError(message)
    if read["day"]:
        ends = _day(read["day"]), _minute(read["begin"]), _day(read["until"]), _minute(read["end"])
        return [Hours(*ends)]
    first, last = _day(read["first"]), _day(read["last"] or read["first"])
    begin, end = _minute(read["from"]), _minute(read["to"])
    days = [day % 7 for day in range(first, (last if last >= first else last + 7) + 1)]
    return [Hours(day, begin, day if end > begin else (day + 1) % 7, end) for day in days]


def _day(name: str) -> int:
    if name.title() not in DAYS:
        message = f"{name!r} is no day: write one of {', '.join(DAYS)}"
        raise ValueError(message)
    return DAYS.index(name.title())


@dataclass(frozen=True, slots=True)
class WeeklyHours:
    """Hours of a week by the wall clock of a zone, without some closures."""

    zone: ZoneInfo
    hours: tuple[Hours, ...]
    closures: tuple[Closure, ...] = ()

    def open(self, begin_ns: int, end_ns: int) -> IntervalSet:
        """See :class:`Calendar`."""
        found = IntervalSet()
        if begin_ns >= end_ns:
            return found
        first, last = day_of(begin_ns), day_of(end_ns)
        monday = first - timedelta(days=first.weekday()) - 2 * _WEEK
        while monday <= last + _WEEK:
            for hours in self.hours:
                begin = monday + timedelta(days=hours.day)
                end = monday + timedelta(days=hours.end_day) + hours.weeks * _WEEK
                opens = moment_ns(begin, hours.minute, self.zone)
                found.add(opens, moment_ns(end, hours.end_minute, self.zone) - 1)
            monday += _WEEK
        for closure in self.closures:
            found -= closure.within(first.year - 1, last.year + 1, self.zone)
        return found.within(begin_ns, end_ns - 1)


FOREX_CLOSURES = tuple(
    map(
        Closure.of_text,
        (
            "12-24 17:00/12-24 18:00",
            "12-25 03:00/12-25 17:00",
            "12-31 17:00/01-01 17:00",
        ),
    )
)
"""Christmas and New Year by New York's clock, as narrow as recordings of 2017 and 2020 show them.

A closure that is too narrow costs a question to the source, one that is too wide hides a gap."""
FOREX = WeeklyHours(NEW_YORK, (Hours(6, 17 * 60, 4, 17 * 60),), FOREX_CLOSURES)
"""Sunday 17:00 to Friday 17:00 in New York."""
