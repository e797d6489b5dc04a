"""Closures as they are written, and moments that a clock shows twice or never."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.calendars import ALWAYS, Closure, GivenHours, WeeklyHours, hours_of
from forebay.domain.calendars.weekly import moment_ns
from forebay.domain.intervals import IntervalSet

NEW_YORK = ZoneInfo("America/New_York")
HOUR = 3600 * 10**9
ZONES = ("America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Tokyo", "UTC")


def ns(*at: int) -> int:
    return int(datetime(*at, tzinfo=UTC).timestamp()) * 10**9  # type: ignore[arg-type, misc]


def closed(text: str, first: int, last: int, zone: str = "UTC") -> list[tuple[int, int]]:
    within = Closure.of_text(text).within(first, last, ZoneInfo(zone))
    return [(begin // HOUR, (end + 1) // HOUR) for begin, end in within]


def test_a_closure_is_of_one_year_or_of_all() -> None:
    day = ns(2026, 12, 25) // HOUR
    assert closed("2026-12-25", 2020, 2030) == [(day, day + 24)]
    assert len(closed("12-25", 2020, 2030)) == 11
    assert closed("2026-12-24 22:00/2026-12-25 06:00", 2026, 2026) == [(day - 2, day + 6)]
    (turn,) = closed("12-31 12:00/01-01 12:00", 2026, 2026)
    assert turn == (ns(2026, 12, 31, 12) // HOUR, ns(2027, 1, 1, 12) // HOUR)


def test_29_february_is_closed_where_there_is_one() -> None:
    assert len(closed("02-29", 2020, 2028)) == 3


@pytest.mark.parametrize(
    "text", ["Christmas", "12-25/2026-12-26", "2026-13-01", "12-24/12-25/12-26", "12-25 25:00"]
)
def test_what_is_no_closure_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Closure.of_text(text)


def test_a_border_inside_the_doubled_hour_is_the_first_of_the_two() -> None:
    assert moment_ns(date(2024, 11, 3), 90, NEW_YORK) == ns(2024, 11, 3, 5, 30)
    hours = WeeklyHours(NEW_YORK, tuple(hours_of("Sun 01:30-03:00")))
    (found,) = hours.open(ns(2024, 11, 3), ns(2024, 11, 4))
    assert found == (ns(2024, 11, 3, 5, 30), ns(2024, 11, 3, 8) - 1)


def test_a_border_in_the_hour_that_is_left_out_is_where_clocks_jump() -> None:
    assert moment_ns(date(2024, 3, 10), 150, NEW_YORK) == ns(2024, 3, 10, 7)
    hours = WeeklyHours(NEW_YORK, tuple(hours_of("Sun 02:30-03:00")))
    assert not hours.open(ns(2024, 3, 10), ns(2024, 3, 11))
    assert hours.open(ns(2024, 3, 17), ns(2024, 3, 18))


@given(
    st.sampled_from(ZONES),
    st.dates(date(1990, 1, 1), date(2037, 1, 1)),
    st.lists(st.integers(0, 1440), min_size=2, max_size=2).map(sorted),
)
def test_what_is_later_on_the_wall_is_never_earlier(
    zone: str, day: date, minutes: list[int]
) -> None:
    first, last = (moment_ns(day, minute, ZoneInfo(zone)) for minute in minutes)
    assert first <= last


@given(st.integers(0, 10**18), st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_question_in_two_parts_says_what_one_does(begin: int, one: int, other: int) -> None:
    text = ("Mon-Fri 09:30-16:00", "Sat 23:00-02:00", "Sun 17:00-Mon 01:30")
    hours = tuple(each for part in text for each in hours_of(part))
    given_hours = GivenHours(IntervalSet([(5, 10**14), (10**15, 10**18)]))
    for calendar in (
        ALWAYS,
        given_hours,
        WeeklyHours(NEW_YORK, hours, (Closure.of_text("12-25"), Closure.of_text("2001-05-01"))),
    ):
        middle, end = begin + one, begin + one + other
        parts = calendar.open(begin, middle) | calendar.open(middle, end)
        assert parts == calendar.open(begin, end)
        assert all(begin <= first <= last < end for first, last in parts)
