"""What real recordings of forex have, against what the calendar lets expect."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from forebay.domain.calendars import FOREX, WeeklyHours, expected, missing
from forebay.domain.calendars.weekly import NEW_YORK
from forebay.domain.intervals import IntervalSet
from tests.support.recordings import DATA

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

HOUR = 3600 * 10**9
MINUTE = 60 * 10**9


def recorded(name: str, column: str, shape: str) -> npt.NDArray[np.int64]:
    path = DATA / "forex" / name
    if not path.exists():
        pytest.skip(f"the recording {name} is not beside this checkout")
    with path.open() as lines:
        times = [
            datetime.strptime(row[column].removesuffix("+00:00"), shape).replace(tzinfo=UTC)
            for row in csv.DictReader(lines)
        ]
    return np.array([int(time.timestamp()) * 10**9 for time in times], dtype=np.int64)


def hourly() -> npt.NDArray[np.int64]:
    return recorded("EURUSD-1h-ask-2017.csv", "Time", "%d.%m.%Y %H:%M:%S.%f")


def spans(opens: npt.NDArray[np.int64], step: int) -> IntervalSet:
    return IntervalSet((at, at + step - 1) for at in opens.tolist())


def closed(pieces: Iterable[tuple[int, int]]) -> list[tuple[str, float]]:
    return [
        (
            f"{datetime.fromtimestamp((last + 1) / 1e9, UTC):%a %d.%m. %H}",
            (first - last - 1) / HOUR,
        )
        for (_, last), (first, _) in pairwise(pieces)
    ]


def test_the_hourly_recording_has_exactly_the_bars_that_are_expected() -> None:
    opens = hourly()
    wanted = expected(FOREX, "1h", int(opens[0]), int(opens[-1]) + HOUR)
    assert wanted.opens.tolist() == opens.tolist()
    assert not missing(wanted, opens)


def test_its_calendar_is_51_week_ends_and_one_christmas_break() -> None:
    opens = hourly()
    hours = FOREX.open(int(opens[0]), int(opens[-1]) + HOUR)
    assert hours == spans(opens, HOUR)
    breaks = closed(hours)
    week_ends = [long for name, long in breaks if name.startswith("Fri")]
    (christmas,) = [each for each in breaks if not each[0].startswith("Fri")]
    assert len(week_ends) == 51
    assert sorted(set(week_ends)) == [47.0, 48.0, 49.0]
    assert christmas == ("Mon 25.12. 08", 14.0)


def test_negative_control_without_closures_the_calendar_sees_false_gaps() -> None:
    opens = hourly()
    wanted = expected(
        WeeklyHours(NEW_YORK, FOREX.hours), "1h", int(opens[0]), int(opens[-1]) + HOUR
    )
    assert missing(wanted, opens).count() == 15 * HOUR


def test_the_minute_recording_lacks_nothing_but_minutes_without_quotes() -> None:
    opens = recorded("GBPUSD-1m-ask-2012.csv", "timestamp", "%Y-%m-%d %H:%M:%S")
    wanted = expected(FOREX, "1m", int(opens[0]), int(opens[-1]) + MINUTE)
    assert np.isin(opens, wanted.opens).all()
    holes = [(last - first + 1) // MINUTE for first, last in missing(wanted, opens)]
    within = 96 + 10 * 2 + 4
    assert sum(holes) == within + 4  # the rest stands beside four week-ends
    assert max(holes) == 4


def test_ticks_of_new_year_begin_when_the_calendar_opens() -> None:
    path = DATA / "forex" / "EURUSD-ticks-20200101.csv"
    if not path.exists():
        pytest.skip("the recording of ticks is not beside this checkout")
    with path.open() as lines:
        day, clock = next(lines).split(",")[0].split()
    utc = datetime.strptime(day + clock[:6], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    first = int((utc + timedelta(hours=5)).timestamp()) * 10**9
    (hours,) = FOREX.open(first - 24 * HOUR, first + HOUR)
    assert hours[0] == first
