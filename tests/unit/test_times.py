"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from forebay.errors import ConfigError
from forebay.times import span_ns, to_ns, to_text

NOON = 1_795_348_800_000_000_000


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-22T12:00:00Z",
        "2026-11-22 12:00:00",
        "2026-11-22T13:00:00+01:00",
        datetime(2026, 11, 22, 12, tzinfo=UTC),
        datetime(2026, 11, 22, 7, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_the_same_moment_in_many_spellings(moment: str | datetime) -> None:
    assert to_ns(moment) == NOON


def test_microseconds_are_exact() -> None:
    assert to_ns("2026-11-22T12:00:00.123457Z") == NOON + 123_457_000


@pytest.mark.parametrize("digits", ["123457089", "12345708", "1234570"])
def test_nanoseconds_are_exact_too(digits: str) -> None:
    moment_ns = NOON + int(digits.ljust(9, "0"))
    assert to_ns(f"2026-11-22T13:00:00.{digits}+01:00") == moment_ns
    assert to_ns(to_text(moment_ns, exact=True)) == moment_ns


def test_no_time_at_all() -> None:
    with pytest.raises(ConfigError, match="'yesterday' is not a time"):
        to_ns("yesterday")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1s", 1), ("90m", 5400), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_a_span_of_time(text: str, seconds: int) -> None:
    assert span_ns(text) == seconds * 10**9


@pytest.mark.parametrize(
    "text",
    ["", "7", "d", "7 d", "7D", "-7d", "1.5d", "07d", "00", "0d", "7days", "7d\n", "1e3d"],
)
def test_no_span_of_time_at_all(text: str) -> None:
    with pytest.raises(ConfigError, match="is no span of time") as raised:
        span_ns(text)
    assert '"12h"' in raised.value.hint


def test_a_moment_as_text() -> None:
    assert to_text(NOON + 999_999_999) == "2026-11-22T12:00:00Z"
    assert to_text(0) == "1970-01-01T00:00:00Z"
    assert to_text(NOON + 70, exact=True) == "2026-11-22T12:00:00.000000070Z"
