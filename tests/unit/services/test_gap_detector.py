"""Bars that are expected and not stored: all found, none invented, closed by the store alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from forebay.domain.calendars import ALWAYS, FOREX, Grid, WeeklyHours, expected, hours_of
from forebay.domain.coverage import Acceptance, Look, StreamKey
from forebay.domain.coverage.time import TimeCoverage
from forebay.domain.frames import decode_control, encode_control
from forebay.domain.intervals import IntervalSet
from forebay.services import gap_detector
from forebay.services.gap_detector import BarSeries, CheckedBars, GapDetector, WatchedBars, records

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.domain.calendars import Calendar
    from forebay.domain.calendars.grid import GridBars, Times
    from forebay.domain.frames import RangeChecked
    from forebay.domain.intervals import Interval

MINUTE = 60 * 10**9
HOUR = 60 * MINUTE
DAY = 24 * HOUR
STREAM = StreamKey("massive", "forex", "bar:1m", "EUR-USD")
WAITS_S = (60, 600)


def ns(*at: int) -> int:
    return int(datetime(*at, tzinfo=UTC).timestamp()) * 10**9  # type: ignore[arg-type, misc]


@dataclass
class World:
    """A store, coverage kept by the records of a journal, a source, and a clock."""

    series: BarSeries
    calendar: Calendar
    begin_ns: int
    now_ns: int
    stored: set[int] = field(default_factory=set)
    truth: set[int] = field(default_factory=set)
    """Open times of the bars that the source has."""
    refused: set[int] = field(default_factory=set)
    """Those whose rows are dead letters."""
    down: bool = False
    coverage: TimeCoverage = field(default_factory=TimeCoverage)
    asked: list[Interval] = field(default_factory=list)
    records: list[RangeChecked] = field(default_factory=list)

    def wall_ns(self) -> int:
        return self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    async def read(self, bars: WatchedBars, begin_ns: int, end_ns: int) -> Times:
        opens = [at for at in self.stored if begin_ns <= at < end_ns]
        return np.array(opens, dtype=np.int64)  # in any order

    async def record(self, stream: StreamKey, told: RangeChecked) -> None:
        again = decode_control(encode_control(told))
        assert again == told
        self.records.append(told)
        self.coverage.checked(told.first, told.last, told.missing, told.stored)

    async def fill(self) -> None:
        """Ask for all open gaps, as whoever fills gaps does; a source that is down says nothing."""
        for first, last in [] if self.down else self.gaps("open"):
            self.asked.append((first, last))
            grid = Grid(self.series.timeframe, self.series.session).bars(first, last + 1)
            there = np.array([at in self.truth for at in grid.opens.tolist()], dtype=np.bool_)
            listed = grid.only(there)
            self.stored |= set(listed.opens.tolist()) - self.refused
            lacking = listed.times().holes(first, last)
            self.coverage.finished(first, last, lacking, Look(self.now_ns, WAITS_S))

    async def check(self, bars: WatchedBars | None = None) -> CheckedBars:
        detector = GapDetector(self.read, lambda _: self.coverage, self.record, clock=self)
        return await detector.check(bars or self.watched())

    def watched(self, end_ns: int | None = None) -> WatchedBars:
        return WatchedBars(STREAM, self.series, self.calendar, self.begin_ns, end_ns)

    def gaps(self, *states: str) -> IntervalSet:
        found = self.coverage.gaps(STREAM)
        return IntervalSet((gap.first, gap.last) for gap in found if gap.state in states)


def world(timeframe: str, calendar: Calendar, begin: int, end: int, session: str = "UTC") -> World:
    made = World(BarSeries(timeframe, session), calendar, begin, end)
    made.truth = set(expected(calendar, timeframe, begin, end, session).opens.tolist())
    made.stored = set(made.truth)
    return made


def a_year(timeframe: str, calendar: Calendar = FOREX, session: str = "UTC") -> World:
    return world(timeframe, calendar, ns(2024, 1, 1), ns(2025, 1, 1), session)


def planted(year: World) -> IntervalSet:
    """Take bars out of the store and return their times; none of them in closed hours."""
    grid = expected(year.calendar, year.series.timeframe, year.begin_ns, year.now_ns)
    out = np.zeros(len(grid.opens), dtype=np.bool_)
    out[[0, len(out) - 1, 1000, 1002, len(out) // 2]] = True  # first, last, single ones
    for begin, end in (
        (ns(2024, 2, 6, 3), ns(2024, 2, 6, 9)),  # hours
        (ns(2024, 3, 10), ns(2024, 3, 11)),  # a day across each change of New York's clocks
        (ns(2024, 11, 3), ns(2024, 11, 4)),
        (ns(2024, 7, 5, 20), ns(2024, 7, 7, 23)),  # both sides of a week-end
    ):
        out |= (grid.opens >= begin) & (grid.opens < end)
    year.stored -= set(grid.opens[out].tolist())
    return grid.only(out).times()


async def holes_are_found_and_filled(year: World) -> None:
    holes = planted(year)
    # Strangers that make up for the number of what is missing, and are not it.
    saturday = ns(2024, 6, 8)
    year.stored |= {saturday + at * MINUTE for at in range(len(year.truth) - len(year.stored))}
    found = await year.check()
    assert found.missing == holes
    assert year.gaps("open") == holes
    assert {gap.reason for gap in year.coverage.gaps(STREAM)} == {"not_stored"}
    assert found.states["filled"] == 0
    await year.fill()
    found = await year.check()
    assert not found.missing
    assert year.truth <= year.stored
    assert year.gaps("filled") == holes
    assert not year.gaps("open", "permanent", "accepted")


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1h"])
async def test_every_planted_hole_of_a_year_is_found_and_filled(timeframe: str) -> None:
    await holes_are_found_and_filled(a_year(timeframe))


def by_counts(wanted: GridBars, stored: Times) -> IntervalSet:
    """The documents' mistake: enough rows are taken for all rows."""
    return IntervalSet() if len(stored) >= len(wanted.opens) else wanted.times()


def by_ends(wanted: GridBars, stored: Times) -> IntervalSet:
    """Another one: only what is younger than the last stored bar is missing."""
    return wanted.only(wanted.opens > max(stored.tolist())).times()


@pytest.mark.parametrize("mistake", [by_counts, by_ends])
async def test_negative_control_a_check_that_trusts_counts_fails_the_same_test(
    mistake: Callable[[GridBars, Times], IntervalSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_detector, "missing", mistake)
    with pytest.raises(AssertionError):
        await holes_are_found_and_filled(a_year("1m"))


@pytest.mark.parametrize("timeframe", ["1h", "4h", "1d", "1w"])
@pytest.mark.parametrize("session", ["UTC", "NY17"])
async def test_a_whole_year_has_no_gap(timeframe: str, session: str) -> None:
    year = a_year(timeframe, session=session)
    found = await year.check()
    assert not found.missing
    assert not year.records
    assert found.expected > 50


@pytest.mark.parametrize("session", ["UTC", "NY17"])
async def test_days_at_the_clock_changes_are_found_and_filled(session: str) -> None:
    year = a_year("1d", session=session)
    days = [
        at
        for at in year.truth
        if any(0 <= at - ns(2024, m, d) < DAY for m, d in ((3, 10), (11, 3)))
    ]
    assert len(days) == 2
    year.stored -= set(days)
    found = await year.check()
    assert len(found.missing) == 2
    if session == "NY17":  # Sunday evening to Monday evening: clocks changed that morning
        assert found.missing.count() == 2 * DAY
    await year.fill()
    assert not (await year.check()).missing


async def test_a_bar_that_is_not_over_is_not_missing() -> None:
    start = ns(2024, 6, 3)
    now = world("1h", ALWAYS, start, start + 3 * HOUR + 59 * MINUTE)
    now.stored = {start, start + HOUR, start + 2 * HOUR}
    assert not (await now.check()).missing
    now.now_ns += MINUTE
    assert (await now.check()).missing.first == start + 3 * HOUR


async def test_a_quiet_minute_is_on_record_as_said_empty_and_taken_back_when_rows_appear() -> None:
    quiet = world("1m", ALWAYS, ns(2024, 6, 3), ns(2024, 6, 3, 1))
    minute = ns(2024, 6, 3, 0, 30)
    quiet.truth.discard(minute)
    quiet.stored.discard(minute)
    hole = IntervalSet([(minute, minute + MINUTE - 1)])
    watched = quiet.watched(quiet.now_ns)
    for wait_s in (0, *WAITS_S):
        assert quiet.gaps("permanent") == IntervalSet()
        quiet.now_ns += wait_s * 10**9
        await quiet.check(watched)
        await quiet.fill()
    await quiet.check(watched)
    assert quiet.gaps("permanent") == hole
    (gap,) = quiet.coverage.gaps(STREAM)
    assert gap.reason == "absent_from_history"
    quiet.stored.add(minute)
    await quiet.check(watched)
    assert quiet.gaps("filled") == hole
    assert not quiet.gaps("permanent", "open")


async def test_a_source_that_does_not_answer_says_nothing() -> None:
    dead = world("1m", ALWAYS, ns(2024, 6, 3), ns(2024, 6, 3, 1))
    dead.stored = {at for at in dead.truth if at < ns(2024, 6, 3, 0, 20)}
    dead.down = True
    watched = dead.watched(dead.now_ns)
    for _ in range(5):
        await dead.check(watched)
        await dead.fill()
        dead.now_ns += DAY
    assert dead.gaps("open").count() == 40 * MINUTE
    assert not dead.gaps("permanent", "filled")


async def test_a_long_series_is_looked_at_in_parts_that_say_together_what_one_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gap_detector, "MOST_BARS", 1000)
    year, read = a_year("1h"), World.read
    spans = []

    async def reading(bars: WatchedBars, begin_ns: int, end_ns: int) -> Times:
        spans.append((begin_ns, end_ns))
        return await read(year, bars, begin_ns, end_ns)

    year.read = reading  # type: ignore[method-assign]
    count, holes = len(year.truth), planted(year)
    found = await year.check()
    assert (found.missing, found.expected) == (holes, count)
    assert found.absent == count - len(year.stored)
    assert year.gaps("open") == holes
    assert len(spans) == 9
    assert max(end - begin for begin, end in spans) == 1000 * HOUR
    year.records.clear()
    await year.check()
    assert not year.records


async def test_what_a_source_lists_and_the_store_refuses_stays_open() -> None:
    made = world("1m", ALWAYS, ns(2024, 6, 3), ns(2024, 6, 3, 1))
    minute = ns(2024, 6, 3, 0, 30)
    made.stored.discard(minute)
    made.refused = {minute}
    for _ in range(3):
        await made.check()
        assert made.gaps("open") == IntervalSet([(minute, minute + MINUTE - 1)])
        await made.fill()
    await made.check()
    assert not made.gaps("filled", "permanent")


async def test_a_bar_that_is_lost_after_it_filled_a_gap_opens_it_again() -> None:
    made = world("1m", ALWAYS, ns(2024, 6, 3), ns(2024, 6, 3, 1))
    minute = ns(2024, 6, 3, 0, 30)
    made.stored.discard(minute)
    await made.check()
    await made.fill()
    await made.check()
    assert made.gaps("filled")
    made.stored.discard(minute)
    await made.check()
    assert made.gaps("open") == IntervalSet([(minute, minute + MINUTE - 1)])


async def test_bars_that_come_by_themselves_close_a_gap_without_a_question() -> None:
    made = world("1m", ALWAYS, ns(2024, 6, 3), ns(2024, 6, 3, 1))
    minute = ns(2024, 6, 3, 0, 30)
    made.stored.discard(minute)
    await made.check()
    made.stored.add(minute)
    found = await made.check()
    assert found.states == {"open": 0, "filled": 1, "permanent": 0, "accepted": 0}


async def test_what_is_expected_no_more_is_no_gap_and_was_not_filled() -> None:
    made = world("1h", ALWAYS, ns(2024, 6, 3), ns(2024, 6, 10))
    made.calendar = WeeklyHours(ZoneInfo("UTC"), tuple(hours_of("Mon-Fri 00:00-24:00")))
    made.stored = set(expected(made.calendar, "1h", made.begin_ns, made.now_ns).opens.tolist())
    everyday = WatchedBars(STREAM, made.series, ALWAYS, made.begin_ns)
    assert (await made.check(everyday)).states["open"] == 1
    found = await made.check()
    assert found.states == {"open": 0, "filled": 0, "permanent": 0, "accepted": 0}
    assert not made.coverage.fill


async def test_what_is_accepted_is_asked_for_no_more() -> None:
    made = world("1m", ALWAYS, ns(2024, 6, 3), ns(2024, 6, 3, 1))
    minute = ns(2024, 6, 3, 0, 30)
    made.stored.discard(minute)
    await made.check()
    made.coverage.accept(minute, minute + MINUTE - 1, Acceptance(made.now_ns, "", "ann", "holiday"))
    found = await made.check()
    await made.fill()
    assert found.states["accepted"] == 1
    assert not made.asked


async def test_a_check_that_finds_nothing_new_writes_nothing() -> None:
    made = world("1m", ALWAYS, ns(2024, 6, 3), ns(2024, 6, 3, 1))
    made.stored.discard(ns(2024, 6, 3, 0, 30))
    for _ in range(3):
        await made.check()
    assert len(made.records) == 1


async def test_what_was_found_survives_a_restart() -> None:
    made = world("1m", ALWAYS, ns(2024, 6, 3), ns(2024, 6, 3, 1))
    made.stored -= {ns(2024, 6, 3, 0, 30), ns(2024, 6, 3, 0, 40)}
    await made.check()
    again = TimeCoverage.from_rows(list(made.coverage.rows()), [])
    assert again.gaps(STREAM) == made.coverage.gaps(STREAM)
    assert made.coverage.copy().gaps(STREAM) == made.coverage.gaps(STREAM)
    assert len(again.gaps(STREAM)) == 2


def test_many_holes_are_told_in_records_that_say_together_what_one_would() -> None:
    holes = IntervalSet((at * 10, at * 10 + 3) for at in range(12_345))
    stored = IntervalSet((at * 10 + 5, at * 10 + 6) for at in range(0, 12_345, 3))
    whole = (0, 200_000)
    told = list(records(STREAM, whole, holes, stored))
    assert [len(record.missing) for record in told] == [5000, 5000, 2345]
    assert told[0].first == 0
    assert told[-1].last == 200_000
    for before, behind in pairwise(told):
        assert behind.first == before.last + 1
    joined = IntervalSet(piece for record in told for piece in record.missing)
    assert joined == holes
    assert IntervalSet(piece for record in told for piece in record.stored) == stored
