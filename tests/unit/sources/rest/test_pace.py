"""The token bucket, driven by numbers."""

from __future__ import annotations

import random

import pytest

from forebay.sources.rest.pace import TokenBucket

S = 1_000_000_000


def test_a_burst_is_free_and_the_rest_is_spaced() -> None:
    bucket = TokenBucket(rate=10, burst=15)
    waits = [bucket.reserve(0) for _ in range(18)]
    assert waits[:15] == [0] * 15
    assert waits[15:] == pytest.approx([0.1, 0.2, 0.3])


def test_an_idle_bucket_refills_to_the_burst_and_no_further() -> None:
    bucket = TokenBucket(rate=10, burst=3)
    assert [bucket.reserve(0) for _ in range(3)] == [0, 0, 0]
    waits = [bucket.reserve(1000 * S) for _ in range(5)]
    assert waits == pytest.approx([0, 0, 0, 0.1, 0.2])


def test_no_second_ever_holds_more_than_burst_and_rate() -> None:
    rng = random.Random(3)
    bucket = TokenBucket(rate=10, burst=15)
    now, calls = 0, []
    for _ in range(600):
        now += round(rng.expovariate(30) * S)
        calls.append(now + round(bucket.reserve(now) * S))
    assert calls == sorted(calls), "first come, first served"
    for start in calls:
        assert sum(start <= call < start + S for call in calls) <= 15 + 10


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_bucket_that_gives_nothing_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="rate must be positive"):
        TokenBucket(rate, burst)
