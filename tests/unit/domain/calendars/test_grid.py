"""Where bars begin and end, and which a calendar lets expect."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.calendars import ALWAYS, FOREX, GivenHours, Grid, expected, missing
from forebay.domain.calendars.grid import STEPS
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds.bar import SESSIONS, TIMEFRAMES

HOUR = 3600 * 10**9
DAY = 24 * HOUR
START = st.integers(1_000_000_000, 2_000_000_000).map(lambda second: second * 10**9)


def ns(*at: int) -> int:
    return int(datetime(*at, tzinfo=UTC).timestamp()) * 10**9  # type: ignore[arg-type, misc]


def test_every_time_frame_of_bars_has_a_grid() -> None:
    assert tuple(STEPS) == TIMEFRAMES
    assert {session for session in SESSIONS if Grid("1d", session)} == set(SESSIONS)
    for wrong in (("2h", "UTC"), ("1d", "Tokyo")):
        with pytest.raises(ValueError, match="There is no time frame"):
            Grid(*wrong)


def test_the_new_york_day_over_the_end_of_summer_time_has_25_hours() -> None:
    bars = Grid("1d", "NY17").bars(ns(2024, 11, 1), ns(2024, 11, 6))
    hours = ((bars.ends - bars.opens) // HOUR).tolist()
    starts = [datetime.fromtimestamp(at / 1e9, UTC).strftime("%d %H") for at in bars.opens]
    assert dict(zip(starts, hours, strict=True)) == {
        "01 21": 24,
        "02 21": 25,
        "03 22": 24,
        "04 22": 24,
        "05 22": 24,
    }


def test_the_new_york_day_over_the_begin_of_summer_time_has_23_hours() -> None:
    bars = Grid("1d", "NY17").bars(ns(2024, 3, 9), ns(2024, 3, 11))
    assert ((bars.ends - bars.opens) // HOUR).tolist() == [23, 24]


def test_weeks_begin_on_monday_or_with_the_forex_week() -> None:
    bars = Grid("1w").bars(ns(2024, 1, 1), ns(2024, 2, 1))
    assert {datetime.fromtimestamp(at / 1e9, UTC).weekday() for at in bars.opens} == {0}
    bars = Grid("1w", "NY17").bars(ns(2024, 10, 20), ns(2024, 11, 20))
    hours = ((bars.ends - bars.opens) // HOUR).tolist()
    assert bars.opens[0] == ns(2024, 10, 20, 21)
    assert hours == [168, 169, 168, 168, 168]
    assert FOREX.open(int(bars.opens[0]), int(bars.opens[0]) + 1)


@pytest.mark.parametrize("session", SESSIONS)
def test_bars_of_four_hours_stay_on_one_grid_over_both_changes(session: str) -> None:
    bars = Grid("4h", session).bars(ns(2024, 1, 1), ns(2025, 1, 1))
    assert not (bars.opens % (4 * HOUR)).any()
    assert len(bars.opens) == 366 * 6


@given(st.sampled_from(TIMEFRAMES), st.sampled_from(SESSIONS), START, st.integers(0, 90 * DAY))
def test_a_grid_has_no_hole_and_no_overlap(
    timeframe: str, session: str, begin: int, length: int
) -> None:
    length //= {"1s": 3000, "1m": 30, "5m": 30}.get(timeframe, 1)
    grid, end = Grid(timeframe, session), begin + length
    bars = grid.bars(begin, end)
    assert (bars.opens[1:] == bars.ends[:-1]).all()
    assert ((bars.opens >= begin) & (bars.opens < end)).all()
    longest = grid.step_ns + HOUR
    if len(bars.opens):  # none is left out at either end
        assert bars.opens[0] - begin < longest
        assert bars.ends[-1] >= end
    else:
        assert length < longest
    middle = begin + length // 3
    halves = grid.bars(begin, middle), grid.bars(middle, end)
    assert np.concatenate([half.opens for half in halves]).tolist() == bars.opens.tolist()


@given(
    START,
    st.lists(st.tuples(st.integers(0, 2 * DAY), st.integers(0, DAY)), max_size=6),
    st.sampled_from(("15m", "1h", "4h", "1d")),
)
def test_a_bar_is_expected_exactly_if_some_moment_of_it_is_open(
    begin: int, hours: list[tuple[int, int]], timeframe: str
) -> None:
    calendar = GivenHours(IntervalSet([(begin + at, begin + at + long) for at, long in hours]))
    found = set(expected(calendar, timeframe, begin, begin + 3 * DAY).opens.tolist())
    for opens, ends in zip(*Grid(timeframe).bars(begin, begin + 3 * DAY), strict=True):
        assert (opens in found) is bool(calendar.hours.within(int(opens), int(ends) - 1))


@pytest.mark.parametrize(("moment", "place"), [(0, 0), (HOUR - 1, 0), (HOUR, 1)])
def test_one_open_nanosecond_is_enough_for_the_bar_that_it_is_in(moment: int, place: int) -> None:
    begin = ns(2024, 6, 3)
    calendar = GivenHours(IntervalSet([(begin + moment, begin + moment)]))
    found = expected(calendar, "1h", begin, begin + DAY)
    assert found.opens.tolist() == [begin + place * HOUR]


def test_the_forex_week_has_no_bar_on_saturday_and_a_short_one_on_sunday() -> None:
    bars = expected(FOREX, "1d", ns(2024, 6, 3), ns(2024, 6, 10))
    days = [datetime.fromtimestamp(at / 1e9, UTC).strftime("%a") for at in bars.opens]
    assert days == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sun"]
    bars = expected(FOREX, "1d", ns(2024, 6, 2, 21), ns(2024, 6, 9, 21), "NY17")
    assert len(bars.opens) == 5


@given(st.sets(st.integers(0, 199)), st.lists(st.integers(-50, 400)))
def test_what_is_missing_is_what_is_expected_and_not_stored(
    holes: set[int], strangers: list[int]
) -> None:
    minute, begin = 60 * 10**9, ns(2024, 6, 3)
    wanted = expected(ALWAYS, "1m", begin, begin + 200 * minute)
    kept = [at for place, at in enumerate(wanted.opens.tolist()) if place not in holes]
    odd = [begin + each * minute + 1 for each in strangers]
    found = missing(wanted, np.array([*kept, *odd, *kept[:3]], dtype=np.int64))
    assert found.count() == len(holes) * minute
    assert all(begin + hole * minute in found for hole in holes)


def test_what_is_missing_on_both_sides_of_a_week_end_is_two_holes() -> None:
    friday = ns(2024, 6, 7, 20)
    wanted = expected(FOREX, "1h", friday, friday + int(timedelta(days=3).total_seconds() * 1e9))
    found = list(missing(wanted, wanted.opens[2:]))
    assert found == [(friday, friday + HOUR - 1), (ns(2024, 6, 9, 21), ns(2024, 6, 9, 22) - 1)]
