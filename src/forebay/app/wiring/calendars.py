"""Calendars by the names that a configuration gives them, those of exchanges from a library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from forebay.domain.calendars import ALWAYS, FOREX, Closure, WeeklyHours, hours_of
from forebay.domain.intervals import IntervalSet
from forebay.errors import ConfigError
from forebay.text import nearest

if TYPE_CHECKING:
    from forebay.app.wiring.calendar_config import CalendarConfig
    from forebay.app.wiring.complaints import Complaints
    from forebay.app.wiring.config import Config
    from forebay.domain.calendars import Calendar

EXCHANGE = "exchange:"
"""Before the name of an exchange, as the library has it: its ISO 10383 code, mostly."""
BUILT_IN: dict[str, Calendar] = {"24/7": ALWAYS, "forex": FOREX}
_EXTRA = "In the clone, pip install '.[calendars]' brings the library that knows exchanges."
_MARGIN = timedelta(days=8)


class ExchangeHours:
    """The sessions of an exchange, without their breaks."""

    def __init__(self, name: str) -> None:
        """Raises :class:`~forebay.errors.ConfigError` if nobody knows that exchange."""
        try:
            import exchange_calendars  # noqa: PLC0415 - an extra, and slow
        except ImportError as error:
            raise ConfigError(f"The calendar of {name} needs a library.", hint=_EXTRA) from error
        self._name = name
        self._library = exchange_calendars
        known = exchange_calendars.get_calendar_names()
        if name not in known:
            near = nearest(name, known)
            hint = (
                f"Did you mean {EXCHANGE}{near}?" if near else "Write for instance exchange:XNYS."
            )
            raise ConfigError(f"There is no calendar of an exchange {name!r}.", hint=hint)

    def open(self, begin_ns: int, end_ns: int) -> IntervalSet:
        """See :class:`~forebay.domain.calendars.Calendar`.

        Raises :class:`~forebay.errors.ConfigError` for years of which the library knows nothing.
        """
        ends = (datetime.fromtimestamp(at // 10**9, UTC).date() for at in (begin_ns, end_ns))
        begin, end = next(ends) - _MARGIN, next(ends) + _MARGIN
        try:
            calendar = self._library.get_calendar(self._name, start=str(begin), end=str(end))
        except (ValueError, LookupError) as error:
            message = f"The calendar of {self._name} does not reach from {begin} to {end}: {error}."
            raise ConfigError(message, hint="Choose another calendar or another time.") from error
        found = IntervalSet()
        for opens, closes in zip(calendar.opens, calendar.closes, strict=True):
            found.add(opens.value, closes.value - 1)
        for begins, ends_again in zip(calendar.break_starts, calendar.break_ends, strict=True):
            if begins == begins:  # noqa: PLR0124 - a session without a break has no time here
                found -= IntervalSet([(begins.value, ends_again.value - 1)])
        return found.within(begin_ns, end_ns - 1)


def calendar_of(name: str, config: Config) -> Calendar:
    """Return the calendar of a name; raises :class:`~forebay.errors.ConfigError`."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name.startswith(EXCHANGE):
        return ExchangeHours(name.removeprefix(EXCHANGE))
    for own in config.calendars:
        if own.name == name:
            return of_config(own)
    known = [*BUILT_IN, *(own.name for own in config.calendars)]
    near = nearest(name, known)
    hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(known)} and exchange:CODE."
    raise ConfigError(f"There is no calendar {name!r}.", hint=hint)


def of_config(own: CalendarConfig) -> WeeklyHours:
    """Return a calendar that was written down; raises :class:`~forebay.errors.ConfigError`."""
    if own.name in BUILT_IN or own.name.startswith(EXCHANGE):
        raise ConfigError(f"The calendar {own.name!r} is there already.", hint="Name it otherwise.")
    try:
        zone: Any = ZoneInfo(own.zone)
    except (OSError, ValueError, LookupError) as error:
        message = f"The calendar {own.name!r} is of a zone {own.zone!r} that nobody knows."
        raise ConfigError(message, hint="Write for instance America/New_York.") from error
    try:
        hours = tuple(hours for text in own.weekly for hours in hours_of(text))
        return WeeklyHours(zone, hours, tuple(map(Closure.of_text, own.closed)))
    except ValueError as error:
        message = f"The calendar {own.name!r} cannot be read: {error}."
        raise ConfigError(message, hint="See docs/explanation/calendars.md.") from error


def check(config: Config, complaints: Complaints) -> None:
    """Note what is wrong with the calendars of a configuration, and with the names of them."""
    for own in config.calendars:
        with complaints.noted():
            of_config(own)
    wrong = {own.name for own in config.calendars}
    for venue in config.venues:
        if venue.calendar and venue.calendar not in wrong:  # those have been looked at
            with complaints.noted():
                calendar_of(venue.calendar, config)
