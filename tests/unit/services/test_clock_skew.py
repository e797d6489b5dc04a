"""Whose clock is off: what delays say, and what they do not."""

from __future__ import annotations

import random

import pytest

from forebay.clock import ManualClock
from forebay.services.clock_skew import (
    LEAST_EVENTS,
    MINUTES,
    Delays,
    SkewWatch,
    host_skew_s,
    skew_s,
    skew_within,
)

SECOND = 1_000_000_000


def events(*seconds: float) -> Delays:
    return Delays(len(seconds), min(round(each * SECOND) for each in seconds))


def watched(minutes: list[dict[str, list[float]]]) -> dict[str, float]:
    """What is said after minutes in which events of each venue took so many seconds."""
    clock = ManualClock()
    watch = SkewWatch(clock)
    for told in minutes:
        watch.add({venue: events(*delays) for venue, delays in told.items() if delays})
        clock.advance(60)
    clock.advance(-1)
    return watch.skews()


def way(rng: random.Random, least: float, skew: float = 0.0) -> list[float]:
    """Twenty events that take at least so long, most of them seconds more."""
    return [skew + least + rng.expovariate(0.5) for _ in range(19)] + [skew + least]


# ------------------------------------------------------------------------ a venue


def test_a_network_that_delays_events_by_seconds_now_and_then_is_no_skew() -> None:
    rng = random.Random(1)
    assert watched([{"v": way(rng, 0.02)} for _ in range(3)])["v"] == pytest.approx(0.02)


@pytest.mark.parametrize("skew", [2.5, -2.5, 3600.0, -3600.0])
def test_a_skew_is_told_to_the_shortest_way(skew: float) -> None:
    rng = random.Random(2)
    found = watched([{"v": way(rng, 0.02, skew)} for _ in range(3)])["v"]
    assert found == pytest.approx(skew + 0.02)


def test_every_event_late_by_three_seconds_looks_like_a_clock_three_seconds_ahead() -> None:
    """What cannot be told apart one way; the other sign can: nothing comes before it was sent."""
    rng = random.Random(3)
    late = watched([{"v": way(rng, 3.0)} for _ in range(3)])
    ahead = watched([{"v": way(rng, 0.0, 3.0)} for _ in range(3)])
    assert late["v"] == pytest.approx(ahead["v"])


def test_what_a_quiet_venue_tells_a_new_connection_is_no_evidence() -> None:
    """The last trades before it, as old as they may be, and nothing else for minutes."""
    assert watched([{"v": [3600.0] * 50}, {}, {}]) == {}
    assert watched([{"v": [0.02] * 10}, {"v": [3600.0] * 50}])["v"] == pytest.approx(0.02)


def test_too_few_events_say_nothing() -> None:
    half = LEAST_EVENTS // 2
    assert skew_s([Delays(half, 5), Delays(half - 1, 5)]) is None
    assert skew_s([Delays(half, 5), Delays(half, 7)]) == 5 / SECOND
    assert skew_s([Delays(LEAST_EVENTS, 5)]) is None
    assert skew_s([]) is None


def test_minutes_that_are_over_are_forgotten_and_the_clock_may_be_set_meanwhile() -> None:
    clock = ManualClock()
    watch = SkewWatch(clock)
    for delay in [0.02] * 3 + [5.02] * MINUTES:
        watch.add({"v": events(*[delay] * 10)})
        clock.step_wall(-7200)
        clock.advance(60)
    clock.advance(-1)
    assert watch.skews() == {"v": pytest.approx(5.02)}
    clock.advance(60 * MINUTES)
    assert watch.skews() == {}, "one that tells nothing says nothing"


def test_what_comes_in_one_minute_is_one_look() -> None:
    clock = ManualClock()
    watch = SkewWatch(clock)
    for late in range(20):
        watch.add({"v": events(1.0 + late, 2.0 + late)})
        clock.advance(1)
    assert watch.skews() == {}
    clock.advance(40)
    watch.add({"v": events(3.0)})
    assert watch.skews() == {"v": 1.0}


# ------------------------------------------------------------------------- the host


@pytest.mark.parametrize(
    ("skews", "host"),
    [
        ({}, None),
        ({"a": 9.0}, None),
        ({"a": 0.02, "b": 0.3}, 0.02),
        ({"a": 3.0, "b": 0.02}, 0.0),
        ({"a": 3.0, "b": 3.4, "c": 3.9}, 3.0),
        ({"a": -3.0, "b": -2.6}, -3.0),
        ({"a": 3.0, "b": -3.0}, 0.0),
        ({"a": 3.0, "b": 3.1, "c": 0.1}, 0.0),
    ],
    ids=["none", "one", "well", "one off", "all ahead", "all behind", "contrary", "most"],
)
def test_the_host_is_off_when_all_venues_agree(skews: dict[str, float], host: float | None) -> None:
    assert host_skew_s(skews) == host


# ------------------------------------------------------------------------ processes


@pytest.mark.parametrize(
    ("told", "skew"),
    [(100, 0), (103, 0), (101, 0), (98, -2), (107, 4)],
    ids=["at once", "at the end", "between", "behind", "ahead"],
)
def test_a_clock_that_is_read_during_a_slow_answer_is_not_off(told: int, skew: int) -> None:
    assert skew_within(told * SECOND, 100 * SECOND, 103 * SECOND) == skew


def test_our_own_clock_may_be_set_back_while_we_wait() -> None:
    assert skew_within(99 * SECOND, 100 * SECOND, 98 * SECOND) == 0
