"""The latency histogram against the plain computation."""

from __future__ import annotations

import random

import pytest

from forebay.services.latency import LatencyHistogram

MS = 1_000_000


@pytest.mark.parametrize("seed", range(20))
def test_percentiles_are_within_a_bucket_of_the_truth(seed: int) -> None:
    rng = random.Random(seed)
    histogram = LatencyHistogram()
    waits: list[int] = []
    now = 0
    for _ in range(50):
        now += 1000 * MS
        batch = sorted(
            now - round(rng.lognormvariate(0, 2) * MS) for _ in range(rng.choice([1, 3, 200]))
        )
        histogram.add(batch, now)
        waits.extend(now - received for received in batch)
    waits.sort()
    latency = histogram.read()
    assert latency.count == len(waits)
    assert latency.max_ms == waits[-1] / MS
    for share, got in ((0.5, latency.p50_ms), (0.99, latency.p99_ms)):
        true = waits[max(0, -(-round(len(waits) * share * 100) // 100) - 1)] / MS
        assert true * 0.99 <= got <= max(true * 1.1, 0.011)


def test_an_hour_and_nothing_fit() -> None:
    histogram = LatencyHistogram()
    histogram.add([], 5)
    assert histogram.read().count == 0
    assert histogram.read().p99_ms == 0
    histogram.add([0], 3600 * 1000 * MS)
    histogram.add([7], 7)
    latency = histogram.read()
    assert latency.count == 2
    assert latency.p99_ms == latency.max_ms == 3600 * 1000


def test_reset_forgets() -> None:
    histogram = LatencyHistogram()
    histogram.add([0, 0], 20 * MS)
    assert histogram.read(reset=True).count == 2
    histogram.add([0], 1 * MS)
    latency = histogram.read()
    assert (latency.count, latency.max_ms) == (1, 1.0)


def test_totals_go_on_over_a_reset_and_reset_nothing() -> None:
    histogram = LatencyHistogram()
    histogram.add([0, 0], 20 * MS)
    assert histogram.read(reset=True).count == 2
    histogram.add([0], 1 * MS)
    histogram.add([0], 3600 * 1000 * MS)
    totals = histogram.totals()
    by_edge = dict(zip(totals.edges_s, totals.counts, strict=False))
    assert [count for edge, count in by_edge.items() if edge < 0.001] == [0, 0, 0]
    assert {count for edge, count in by_edge.items() if 0.001 < edge < 0.02} == {1}
    assert {count for edge, count in by_edge.items() if edge > 0.021} == {3}
    assert totals.counts[-1] == 4
    assert list(totals.edges_s) == sorted(totals.edges_s)
    assert totals == histogram.totals()
    assert histogram.read().count == 2


def test_the_sum_of_the_totals_is_within_a_bucket_of_the_truth() -> None:
    histogram = LatencyHistogram()
    waits = [MS * wait for wait in (1, 3, 10, 31, 100, 316, 1000)]
    for wait in waits:
        histogram.add([0], wait)
    true = sum(waits) / 1e9
    assert true <= histogram.totals().sum_s <= true * 1.1
