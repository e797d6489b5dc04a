"""The forex week against a computation of its own: the rules of the United States, by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from forebay.domain.calendars import FOREX, WeeklyHours, hours_of
from forebay.domain.calendars.weekly import NEW_YORK
from forebay.domain.intervals import IntervalSet

HOUR = 3600 * 10**9
WEEK = WeeklyHours(NEW_YORK, FOREX.hours)
"""Without closures, which are another matter."""
FIRST, LAST = date(2004, 1, 1), date(2026, 12, 31)


def ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


def nth_sunday(year: int, month: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (nth - 1))


def last_sunday_of_october(year: int) -> date:
    last = date(year, 10, 31)
    return last - timedelta(days=(last.weekday() + 1) % 7)


def hours_behind_utc(day: date) -> int:
    """New York's offset at 17:00 of a day: clocks change on a Sunday at two in the morning."""
    if day.year >= 2007:
        begin, end = nth_sunday(day.year, 3, 2), nth_sunday(day.year, 11, 1)
    else:
        begin, end = nth_sunday(day.year, 4, 1), last_sunday_of_october(day.year)
    return 4 if begin <= day < end else 5


def five_o_clock(day: date) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return ns(midnight + timedelta(hours=17 + hours_behind_utc(day)))


def by_hand(day: date) -> IntervalSet:
    """The open moments of a day in UTC."""
    begin = ns(datetime(day.year, day.month, day.day, tzinfo=UTC))
    sunday = day - timedelta(days=(day.weekday() + 1) % 7)
    open_moments = IntervalSet()
    for week in (sunday - timedelta(days=7), sunday):
        open_moments.add(five_o_clock(week), five_o_clock(week + timedelta(days=5)) - 1)
    return open_moments.within(begin, begin + 24 * HOUR - 1)


def test_it_is_right_on_every_date_of_twenty_years() -> None:
    day, wrong = FIRST, []
    while day <= LAST:
        begin = ns(datetime(day.year, day.month, day.day, tzinfo=UTC))
        if WEEK.open(begin, begin + 24 * HOUR) != by_hand(day):
            wrong.append(day)
        day += timedelta(days=1)
    assert not wrong
    assert (LAST - FIRST).days > 20 * 365


def test_one_question_says_what_many_do() -> None:
    begin, end = ns(datetime(2004, 1, 1, tzinfo=UTC)), ns(datetime(2024, 1, 1, tzinfo=UTC))
    whole = WEEK.open(begin, end)
    days = IntervalSet()
    for at in range(begin, end, 24 * HOUR):
        for piece in WEEK.open(at, min(at + 24 * HOUR, end)):
            days.add(*piece)
    assert whole == days
    assert len(whole) == 1045


@pytest.mark.parametrize("hours", [4, 5])
def test_negative_control_a_week_of_fixed_utc_hours_is_wrong_for_months(hours: int) -> None:
    """What goes wrong where the week is written in UTC once: half of the year's week-ends."""
    wrong = [
        day
        for day in (FIRST + timedelta(days=n) for n in range(365))
        if five_o_clock(day) % (24 * HOUR) != (17 + hours) * HOUR
    ]
    assert len(wrong) > 100


def test_christmas_and_new_year_are_closed_and_the_days_beside_them_are_not() -> None:
    def is_open(*at: int) -> bool:
        moment = ns(datetime(*at, tzinfo=NEW_YORK))  # type: ignore[arg-type, misc]
        return bool(FOREX.open(moment, moment + 1))

    assert not is_open(2024, 12, 25, 12)
    assert is_open(2024, 12, 25, 17)
    assert is_open(2024, 12, 24, 12)
    assert is_open(2024, 12, 31, 16, 59)
    assert not is_open(2024, 12, 31, 17)
    assert not is_open(2025, 1, 1, 16, 59)
    assert is_open(2025, 1, 1, 17)


def test_hours_of_a_week_are_read_from_words() -> None:
    assert tuple(hours_of("Sun 17:00-Fri 17:00")) == FOREX.hours
    assert [hours.day for hours in hours_of("Fri-Mon 09:30-16:00")] == [4, 5, 6, 0]
    overnight = hours_of("Sun 18:00-02:00")
    assert [(hours.day, hours.end_day) for hours in overnight] == [(6, 0)]
    for wrong in ("Sunday", "Xyz 09:00-10:00", "Mon 25:00-26:00", "Mon 09:61-10:00"):
        with pytest.raises(ValueError, match="write"):
            hours_of(wrong)
