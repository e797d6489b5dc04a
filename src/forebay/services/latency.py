"""How long frames wait between RECEIVED and CAPTURED, as a histogram of fixed size."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BASE_NS = 10_000
_STEPS_PER_OCTAVE = 8
_EDGES_NS = tuple(round(_BASE_NS * 2 ** (i / _STEPS_PER_OCTAVE)) for i in range(200))
"""Upper edges of the buckets: 10 µs to about 5 minutes, each 9 % above the one before."""

_OCTAVES = range(4 * _STEPS_PER_OCTAVE, len(_EDGES_NS), _STEPS_PER_OCTAVE)
"""The edges that :meth:`LatencyHistogram.totals` tells: 160 µs to about 3 minutes."""
_FEW = 16
"""So many are looked up one by one: between the longest and the shortest wait are more buckets."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A summary: percentiles in milliseconds (to 9 %), the exact maximum, and how many frames."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class LatencyTotals:
    """All waits since the start, whatever was reset, in octaves."""

    edges_s: tuple[float, ...]
    counts: tuple[int, ...]
    """Frames that waited no longer than each edge, and one more count: of all frames."""
    sum_s: float
    """As if each had waited as long as its bucket allows: up to 9 % more than they did."""


class LatencyHistogram:
    """Counts waits in :data:`_EDGES_NS`; memory and the cost of a batch do not grow with frames."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_EDGES_NS) + 1)
        self._before = [0] * (len(_EDGES_NS) + 1)
        """What had been counted at the last reset, and is not in ``_counts`` any more."""
        self._max_ns = 0

    def add(self, received_ns: Sequence[int], captured_ns: int) -> None:
        """Count a batch received at the non-decreasing times ``received_ns`` (monotonic, ns).

        A long batch is sorted, so a bucket's share is found by bisection; only the buckets between
        the longest and the shortest wait are looked at.
        """
        if not received_ns:
            return
        longest = captured_ns - received_ns[0]
        self._max_ns = max(self._max_ns, longest)
        if len(received_ns) <= _FEW:
            for received in received_ns:
                self._counts[bisect_left(_EDGES_NS, captured_ns - received)] += 1
            return
        bucket = bisect_left(_EDGES_NS, captured_ns - received_ns[-1])
        end = len(received_ns)
        while end > 0:
            start = 0
            if bucket < len(_EDGES_NS):
                start = bisect_left(received_ns, captured_ns - _EDGES_NS[bucket], 0, end)
            self._counts[bucket] += end - start
            end = start
            bucket += 1

    def read(self, *, reset: bool = False) -> Latency:
        """Summarise what was counted since the last reset."""
        count = sum(self._counts)
        summary = Latency(count, self._percentile(0.5), self._percentile(0.99), self._max_ns / 1e6)
        if reset:
            self._before = self._all()
            self._counts = [0] * len(self._counts)
            self._max_ns = 0
        return summary

    def totals(self) -> LatencyTotals:
        """Return what was counted since the start; no reset is seen in it, and it resets nothing.

        Waits above the highest edge count as twice that edge in the sum.
        """
        counts = self._all()
        up_to = list(accumulate(counts))
        longest_ns = (*_EDGES_NS, 2 * _EDGES_NS[-1])
        return LatencyTotals(
            tuple(_EDGES_NS[index] / 1e9 for index in _OCTAVES),
            (*(up_to[index] for index in _OCTAVES), up_to[-1]),
            sum(count * edge for count, edge in zip(counts, longest_ns, strict=True)) / 1e9,
        )

    def _percentile(self, share: float) -> float:
        """Upper edge, in ms, of the bucket where ``share`` of all frames is reached."""
        count = sum(self._counts)
        if count == 0:
            return 0.0
        rank = max(1, math.ceil(share * count))
        bucket = bisect_left(list(accumulate(self._counts)), rank)
        edge = _EDGES_NS[bucket] if bucket < len(_EDGES_NS) else self._max_ns
        return min(edge, self._max_ns) / 1e6

    def _all(self) -> list[int]:
        return [before + now for before, now in zip(self._before, self._counts, strict=True)]
