"""The alert rules while scrapes are lost, processes start again, and who reports dies or goes."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest

from forebay.ops import alerts
from tests.support.alert_films import (
    CASES,
    LEAD,
    STALE,
    Case,
    Film,
    Rise,
    failed,
    films,
    played,
    steps,
)
from tests.support.rules import parsed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.alert_films import Value

CRITICAL = {
    rule["alert"] for rule in parsed(alerts.text()) if rule["labels"]["severity"] == "critical"
}
GAUGES = {
    name: case for name, case in CASES.items() if isinstance(case, Case) and name != "ForebayDown"
}
COUNTERS = {name: case for name, case in CASES.items() if isinstance(case, Rise)}
OF_CHILDREN = {
    "ForebayBreakerOpenLong": "deliver",
    "ForebayBufferLarge": "deliver",
    "ForebayLagLarge": "deliver",
    "ForebayJournalFull": "capture",
}
"""Critical alerts about what a child of the supervisor tells, and which child."""
GAP = 4
"""Steps that a new start takes."""


def lasting(case: Case, bad: int, calm: int) -> dict[str, Sequence[Value]]:
    """Calm, the trouble for so many steps, and calm again."""
    return {
        series: [good] * LEAD + [trouble] * bad + [good] * calm
        for series, (trouble, good) in case.series.items()
    }


def scraped(
    series: Mapping[str, Sequence[Value]], lost: Collection[int]
) -> dict[str, Sequence[Value]]:
    """The series as they are seen when the scrapes ``lost`` fail."""
    length = max(map(len, series.values()))
    return {
        **{
            name: [STALE if step in lost else value for step, value in enumerate(values)]
            for name, values in series.items()
        },
        "up": [int(step not in lost) for step in range(length)],
    }


def told(fires: Iterable[int], silent: Iterable[int]) -> dict[int, bool]:
    return dict.fromkeys(silent, False) | dict.fromkeys(fires, True)


# ------------------------------------------------------------------- lost scrapes


def gauges_with_lost_scrapes(phase: int) -> Iterator[Film]:
    """It fires and clears a step late at most, and does neither in between."""
    for alert, case in GAUGES.items():
        patience = steps(case.after_s)
        begins, ends = LEAD + patience, LEAD + patience + 20
        series = lasting(case, patience + 20, patience + 25)
        lost = range(phase, ends + patience + 25, 9)
        looks = told(
            range(begins + 1, ends), [*range(begins), *range(ends + 1, ends + patience + 20)]
        )
        yield Film(alert, scraped(series, lost), looks)
        calm = {name: [good] * 60 for name, (_, good) in case.series.items()}
        yield Film(alert, scraped(calm, range(phase, 60, 9)), told((), range(60)))


def counters_with_lost_scrapes(phase: int) -> Iterator[Film]:
    """What rises enough fires a step late at most, and what rises less never.

    With a scrape lost at its edge, increase() takes a window for up to a fifteenth longer.
    """
    for alert, case in COUNTERS.items():
        less = dataclasses.replace(case, below=case.below - case.below // 15)
        trouble, below, *_ = films(alert, less)
        for film in (trouble, below):
            length = max(map(len, film.series.values()))
            late = {step + 1: True for step, fires in film.looks.items() if fires}
            looks = {step: False for step, fires in film.looks.items() if not fires} | late
            yield Film(alert, scraped(film.series, range(phase, length, 9)), looks)


def with_every_ninth_scrape_lost(phase: int) -> list[Film]:
    up = [int(step % 9 != phase) for step in range(100)]
    well = Film("ForebayDown", {"up": up}, told((), range(100)))
    return [well, *gauges_with_lost_scrapes(phase), *counters_with_lost_scrapes(phase)]


@pytest.mark.parametrize("phase", [4, *(pytest.param(n, marks=pytest.mark.drill) for n in (0, 8))])
def test_every_ninth_scrape_lost_changes_nothing(phase: int, tmp_path: Path) -> None:
    result = played(tmp_path, alerts.text(), with_every_ninth_scrape_lost(phase))
    assert result.returncode == 0, result.stdout


def test_a_breaker_that_stays_open_is_told_within_seven_minutes(tmp_path: Path) -> None:
    """Whichever scrapes are the lost ones, and half of them at that."""
    case = GAUGES["ForebayBreakerOpenLong"]
    found = []
    for often in (2, 3, 9):
        for phase in range(often):
            series = scraped(lasting(case, 60, 0), range(phase, 64, often))
            found.append(Film("ForebayBreakerOpenLong", series, {LEAD + steps(420): True}))
    result = played(tmp_path, alerts.text(), found)
    assert result.returncode == 0, result.stdout


def test_a_rule_that_looks_at_the_last_scrape_alone_is_seen(tmp_path: Path) -> None:
    """The rules as they are without looking back: each of them fails the films above."""
    rules = re.sub(r"last_over_time\(([^\[\]]*)\[\w+\]\)", r"\1", alerts.text())
    assert failed(played(tmp_path, rules, with_every_ninth_scrape_lost(4))) == {*GAUGES}


# ------------------------------------------------------------------- new starts


def with_a_new_start() -> Iterator[Film]:
    """In the midst of it whoever tells it starts again, which takes a minute."""
    for alert, case in GAUGES.items():
        patience = steps(case.after_s)
        begins = LEAD + patience
        away = LEAD + max(1, patience // 2)
        series = scraped(lasting(case, patience + 20, 0), range(away, away + GAP))
        # A look while it is away sees what was told before.
        yield Film(alert, series, told(range(begins, begins + 20), range(begins)))
    for alert, rise in COUNTERS.items():
        if rise.by_one or rise.sustained_s:
            continue
        lead, half = steps(rise.window_s), rise.fires // 2
        before = [0] * lead + [half] * 2
        after = [0] * 2 + [rise.fires - half] * 4
        values: Sequence[Value] = [*before, *[STALE] * GAP, *after]
        last = len(values) - 1
        yield Film(alert, {rise.series: values}, {lead - 1: False, last: True})


def test_a_new_start_in_between_neither_clears_an_alert_nor_puts_it_off(tmp_path: Path) -> None:
    result = played(tmp_path, alerts.text(), [*with_a_new_start()])
    assert result.returncode == 0, result.stdout


# ------------------------------------------------------------------- who reports is dead

DEAD = steps(5400)
"""Steps that it stays dead: longer than any rule looks back."""


def throughout(begins: int, back: int) -> Iterable[int]:
    """The first ten minutes and the last, and steps of those in between."""
    return [*range(begins, begins + steps(600)), *range(begins, back, 20), *range(back - 4, back)]


def with_a_dead_run(alert: str, case: Case) -> Film:
    """A target that dies while an alert is critical, and comes back well hours later."""
    begins = LEAD + steps(case.after_s)
    back = begins + 2 + DEAD
    after = steps(case.after_s) + 4
    series = scraped(lasting(case, back - LEAD, after), range(begins + 2, back))
    ends = back + 1 + steps(60)
    return Film("", series, told(throughout(begins, back), range(ends, back + after)))


def with_a_dead_child(alert: str, case: Case) -> Film:
    """The same of a child; the supervisor says a step later that it is down."""
    begins = LEAD + steps(case.after_s)
    dies, back = begins + 2, begins + 2 + DEAD
    after = steps(case.after_s) + 4
    series: dict[str, Sequence[Value]] = {
        name: [STALE if dies <= step < back else value for step, value in enumerate(values)]
        for name, values in lasting(case, back - LEAD, after).items()
    }
    child = f'forebay_service_up{{service="{OF_CHILDREN[alert]}"}}'
    series[child] = [int(not dies < step < back) for step in range(back + after)]
    series["up"] = [1] * (back + after)
    return Film("", series, told(throughout(begins, back), range(back + 1, back + after)))


def the_dead() -> list[Film]:
    runs = [with_a_dead_run(alert, case) for alert, case in GAUGES.items() if alert in CRITICAL]
    return [*runs, *(with_a_dead_child(alert, GAUGES[alert]) for alert in OF_CHILDREN)]


def test_while_the_one_who_reports_is_dead_something_stays_critical(tmp_path: Path) -> None:
    result = played(tmp_path, alerts.text(), the_dead())
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("missing", ["ForebayDown", "ForebayProcessDown"])
def test_without_the_alert_about_the_dead_that_is_seen(missing: str, tmp_path: Path) -> None:
    begins = alerts.text().index(f"      - alert: {missing}")
    ends = alerts.text().index("      - alert: ", begins + 20)
    rules = alerts.text()[:begins] + alerts.text()[ends:]
    assert played(tmp_path, rules, the_dead()).returncode == 1


def test_a_lag_stays_critical_for_an_hour_without_a_word_of_who_told_it(tmp_path: Path) -> None:
    length = steps(3600)
    lag: Sequence[Value] = [400] * 10 + [STALE] * length
    series = {"forebay_store_lag_seconds": lag, "up": [1] * (length + 10)}
    film = Film("ForebayLagLarge", series, told(range(steps(60), length), []))
    result = played(tmp_path, alerts.text(), [film])
    assert result.returncode == 0, result.stdout


# ------------------------------------------------------------------- removed on purpose


def test_a_target_that_is_removed_stops_alarming_within_six_minutes(tmp_path: Path) -> None:
    found = []
    for alert, case in GAUGES.items():
        patience = steps(case.after_s)
        gone = LEAD + patience + 2
        rest = steps(360) + patience + 40
        series: dict[str, Sequence[Value]] = {
            name: [*values, *[STALE] * rest]
            for name, values in lasting(case, patience + 2, 0).items()
        }
        series["up"] = [1] * gone + [STALE] * rest
        silent = told((), range(gone + steps(360), gone + rest))
        found += [Film(alert, series, {gone - 1: True} | silent), Film("", series, silent)]
    result = played(tmp_path, alerts.text(), found)
    assert result.returncode == 0, result.stdout


def test_a_process_that_is_taken_out_stops_alarming_within_six_minutes(tmp_path: Path) -> None:
    rest = steps(900)
    down: Sequence[Value] = [0] * 20 + [STALE] * rest
    series = {'forebay_service_up{service="deliver"}': down, "up": [1] * (rest + 20)}
    looks = {19: True} | told((), range(20 + steps(360), 20 + rest))
    result = played(tmp_path, alerts.text(), [Film("", series, looks)])
    assert result.returncode == 0, result.stdout


# ------------------------------------------------------------------- three collectors


def three(last: dict[str, Sequence[Value]]) -> dict[str, Sequence[Value]]:
    """Three instances of a job, of which the last has the series ``last``."""
    length = max(map(len, last.values()))
    ready, wanted = "forebay_collectors_ready", "forebay_collectors_wanted"
    series: dict[str, Sequence[Value]] = {}
    for name in "ab":
        well: Mapping[str, Sequence[Value]] = {name: [1] * length for name in (ready, wanted, "up")}
        series |= {f'{metric}{{instance="{name}"}}': [*values] for metric, values in well.items()}
    return series | {f'{metric}{{instance="c"}}': values for metric, values in last.items()}


def collector(ready: Sequence[Value], up: Sequence[Value]) -> dict[str, Sequence[Value]]:
    wanted: Sequence[Value] = [STALE if value == STALE else 1 for value in ready]
    return {"forebay_collectors_ready": ready, "forebay_collectors_wanted": wanted, "up": up}


def test_a_collector_of_three_that_dies_is_missed_until_it_is_removed(tmp_path: Path) -> None:
    away = steps(1800)
    dead = collector([1] * 10 + [STALE] * away, [1] * 10 + [0] * away)
    gone = collector([1] * 10 + [STALE] * away, [1] * 10 + [STALE] * away)
    flaky: Sequence[Value] = [1 if step % 9 else STALE for step in range(away)]
    lossy = collector(flaky, [int(step % 9 != 0) for step in range(away)])
    fires = 10 + steps(120) + steps(60)
    found = [
        Film("ForebayGatherersFew", three(dead), told(range(fires, away), range(10))),
        Film("ForebayGatherersFew", three(gone), told((), range(10 + steps(360), away))),
        Film("ForebayGatherersFew", three(lossy), told((), range(away))),
        Film("ForebayGatherersAlarm", three(dead), told((), range(away))),
    ]
    result = played(tmp_path, alerts.text(), found)
    assert result.returncode == 0, result.stdout
