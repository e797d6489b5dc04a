"""The ranges of time in which a batch looks for rows that are stored already."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forebay.stores.lookups import CLUSTER_GAP_NS, MAX_CLUSTERS, time_clusters
from tests.support.frames import HOUR, SECOND, T0


def clusters(*times: int) -> list[tuple[int, int]]:
    return time_clusters(np.array(times, dtype=np.int64))


def test_a_late_row_has_a_range_of_its_own() -> None:
    late = T0 - 30 * HOUR
    assert clusters(T0, T0 + SECOND, late, T0 + 5) == [(late, late), (T0, T0 + SECOND)]


def test_clusters_part_just_beyond_the_gap() -> None:
    assert clusters(T0 + CLUSTER_GAP_NS, T0) == [(T0, T0 + CLUSTER_GAP_NS)]
    apart = T0 + CLUSTER_GAP_NS + 1
    assert clusters(apart, T0) == [(T0, T0), (apart, apart)]
    assert clusters(T0) == [(T0, T0)]
    assert clusters(T0, T0) == [(T0, T0)]


def test_above_the_most_the_narrowest_steps_are_bridged() -> None:
    steps = [HOUR * (index + 2) for index in range(MAX_CLUSTERS + 3)]
    times = [T0 + sum(steps[:index]) for index in range(len(steps) + 1)]
    found = clusters(*times)
    assert len(found) == MAX_CLUSTERS
    assert found[0] == (T0, times[4]), "the four narrowest steps"
    assert found[1:] == [(time_ns, time_ns) for time_ns in times[5:]]


def test_one_above_the_most_is_one_step_bridged() -> None:
    times = [T0, *(T0 + index * HOUR for index in range(2, MAX_CLUSTERS)), T0 + 99 * HOUR]
    close = T0 + 99 * HOUR + CLUSTER_GAP_NS + 1
    found = clusters(*times, close)
    assert len(found) == MAX_CLUSTERS
    assert found[-1] == (T0 + 99 * HOUR, close)


def test_as_many_as_may_be_stay_apart() -> None:
    times = [T0 + index * HOUR for index in range(MAX_CLUSTERS)]
    assert clusters(*times) == [(time_ns, time_ns) for time_ns in times]


@given(st.lists(st.integers(T0 - 2000 * HOUR, T0), min_size=1, max_size=60))
def test_clusters_hold_every_row_in_order_without_overlap(times: list[int]) -> None:
    found = clusters(*times)
    assert len(found) <= MAX_CLUSTERS
    assert [end for ends in found for end in ends] == sorted(end for ends in found for end in ends)
    assert {end for ends in found for end in ends} <= set(times)
    assert all(any(first <= time_ns <= last for first, last in found) for time_ns in times)
