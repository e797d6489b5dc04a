"""Moments of a zone's wall clock, those included that its clock shows twice or never."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

DAY_NS = 86_400 * 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


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


@lru_cache(maxsize=65_536)
def border_ns(day: date, minute: int, zone: ZoneInfo) -> int:
    """Return what :func:`moment_ns` does; borders of days are asked for again and again."""
    return moment_ns(day, minute, zone)


def day_of(moment: int) -> date:
    """Return the date in UTC of a moment in nanoseconds."""
    return date(1970, 1, 1) + timedelta(days=moment // DAY_NS)
