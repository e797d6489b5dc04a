"""Delays: their bounds, their spread, and what a server may ask for."""

from __future__ import annotations

import random
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import ConfigError
from forebay.resilience.backoff import Backoff, parse_retry_after, retry_delay


class Highest(random.Random):
    """Dice that always show the most."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def test_the_ceiling_doubles_to_the_cap_and_begins_again() -> None:
    backoff = Backoff(Highest(), base=0.5, cap=30.0)
    assert [backoff.next() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.attempt == 8
    backoff.reset()
    assert backoff.next() == 0.5


def test_jitter_is_full() -> None:
    backoff = Backoff(random.Random(1), base=30.0, cap=30.0)
    delays = sorted(backoff.next() for _ in range(1000))
    assert delays[0] < 0.5
    assert delays[-1] > 29.5
    assert 14 < sum(delays) / 1000 < 16


def test_it_never_gives_up_and_never_overflows() -> None:
    backoff = Backoff(Highest(), base=0.5, cap=30.0)
    backoff.attempt = 10**9
    assert backoff.next() == 30.0


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_bounds_that_make_no_sense_are_refused(base: float, cap: float) -> None:
    with pytest.raises(ConfigError, match="base is"):
        Backoff(random.Random(0), base=base, cap=cap)


def test_retries_grow_from_base_within_the_jitter_up_to_the_cap() -> None:
    for attempt, nominal in enumerate([2, 4, 8, 16, 30, 30], start=1):
        delays = [retry_delay(attempt, random.Random(seed)) for seed in range(200)]
        assert min(delays) >= nominal * 0.9
        assert max(delays) <= min(30, nominal * 1.1)
        assert max(delays) - min(delays) > nominal * 0.08


NOW_NS = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        (formatdate(1_700_000_090, usegmt=True), 90),
        (formatdate(1_699_999_000, usegmt=True), 0),
        ("Tue, 14 Nov 2023 22:14:50 -0000", 90),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", 1.5),
        ("0.493", 0.493),
        ("5.", 5),
        (".5", None),
        ("1.5.2", None),
        ("1e9", None),
        ("9" * 400, 999_999_999_999),
        ("²", None),
        ("Tue, 99 Nov 2023 22:14:50 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW_NS) == seconds


def test_a_date_is_compared_with_the_clock_that_wrote_it() -> None:
    until, sent = formatdate(1_600_000_035, usegmt=True), formatdate(1_600_000_000, usegmt=True)
    assert parse_retry_after(until, NOW_NS, sent) == 35
    assert parse_retry_after(until, NOW_NS, "nonsense") == 0
    assert parse_retry_after("7", NOW_NS, sent) == 7


@given(st.text())
def test_no_header_makes_it_fail(value: str) -> None:
    answer = parse_retry_after(value, NOW_NS)
    assert answer is None or answer >= 0
