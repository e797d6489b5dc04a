"""Thresholds and windows that make no sense, and the bound of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.errors import ConfigError
from forebay.resilience import BreakerConfig, FailureRate, FailuresWithin

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_threshold": 0},
        {"failure_threshold": None},
        {"success_threshold": 0},
        {"half_open_permits": 0},
        {"recovery_timeout": 0},
        {"recovery_backoff": 0.5},
        {"recovery_max": 1.0},
        {"recovery_jitter": 1.0},
        {"timeout": -1.0},
        {"probe_lease": 0.0},
        {"slow_call_duration": 0.0},
    ],
    ids=str,
)
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as refused:
        BreakerConfig(**wrong)  # type: ignore[arg-type]
    assert refused.value.hint


@pytest.mark.parametrize(
    "make",
    [
        lambda: FailureRate(0),
        lambda: FailureRate(1.1),
        lambda: FailureRate(minimum_calls=0),
        lambda: FailuresWithin(0, 1),
        lambda: FailuresWithin(1, 0),
    ],
)
def test_windows_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize(("apart", "trips"), [(10 * 10**9, True), (10 * 10**9 + 1, False)])
def test_failures_exactly_as_far_apart_as_the_window_trip(apart: int, *, trips: bool) -> None:
    window = FailuresWithin(2, 10).window()
    assert [window.bad(0), window.bad(apart)] == [False, trips]


def test_a_failure_rate_forgets_nothing_while_a_clock_goes_back_and_forth() -> None:
    window = FailureRate(1.0, 10, 12).window()
    answers = [window.bad((100 - 5 * (call % 2)) * 10**9) for call in range(12)]
    assert answers == [False] * 11 + [True]
