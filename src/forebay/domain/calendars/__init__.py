"""When markets are open, as evidence of what to expect: never a filter of what is stored.

A calendar is pure: it is asked for the open times between two moments and answers from its own
rules. Dates and hours of a zone come from the zone database of the system, or of ``tzdata``.
"""

from __future__ import annotations

from forebay.domain.calendars.grid import Grid, expected, missing
from forebay.domain.calendars.weekly import (
    ALWAYS,
    FOREX,
    Calendar,
    Closure,
    GivenHours,
    WeeklyHours,
    hours_of,
)

__all__ = [
    "ALWAYS",
    "FOREX",
    "Calendar",
    "Closure",
    "GivenHours",
    "Grid",
    "WeeklyHours",
    "expected",
    "hours_of",
    "missing",
]
