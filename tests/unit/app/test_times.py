"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from forebay.app.times import to_ns
from forebay.errors import ConfigError

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


def test_no_time_at_all() -> None:
    with pytest.raises(ConfigError, match="'yesterday' is not a time"):
        to_ns("yesterday")
