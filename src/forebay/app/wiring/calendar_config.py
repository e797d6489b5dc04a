"""What a configuration says of a calendar of its own; apart, since configuration is long."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class CalendarConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Open hours of your own, by a zone's clock; repeat the table for more calendars."""

    name: str
    """What a venue calls it by."""
    weekly: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Hours of every week: Mon-Fri 09:30-16:00 once a day, Sun 17:00-Fri 17:00 at a stretch."""
    zone: Annotated[str, Meta(min_length=1)] = "UTC"
    """Whose clock, such as America/New_York."""
    closed: tuple[str, ...] = ()
    """What is closed: 2026-12-25, 12-25 of every year, 12-24 17:00/12-25 17:00."""
