"""How long frames wait between RECEIVED and CAPTURED, as a histogram of fixed size."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_BASE_NS = 10_000
_STEPS_PER_OCTAVE = 8
_EDGES_NS = tuple(round(_BASE_NS * 2 ** (i / _STEPS_PER_OCTAVE)) for i in range(200))
"""Upper edges of the buckets: 10 µs to about 5 minutes, each 9 % above the one before."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A summary: percentiles in milliseconds (to 9 %), the exact maximum, and how many frames."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class LatencyHistogram:
    """Counts waits in :data:`_EDGES_NS`; memory and the cost of a batch do not grow with frames."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_EDGES_NS) + 1, dtype=np.int64)
        self._max_ns = 0

    def add(self, received_ns: Sequence[int], captured_ns: int) -> None:
        """Count a batch received at the non-decreasing times ``received_ns`` (monotonic, ns).

        The batch is sorted, so a bucket's share is found by bisection; only the buckets between
        the longest and the shortest wait are looked at.
        """
        if not received_ns:
            return
        longest = captured_ns - received_ns[0]
        self._max_ns = max(self._max_ns, longest)
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
        count = int(self._counts.sum())
        summary = Latency(count, self._percentile(0.5), self._percentile(0.99), self._max_ns / 1e6)
        if reset:
            self._counts[:] = 0
            self._max_ns = 0
        return summary

    def _percentile(self, share: float) -> float:
        """Upper edge, in ms, of the bucket where ``share`` of all frames is reached."""
        count = int(self._counts.sum())
        if count == 0:
            return 0.0
        rank = max(1, math.ceil(share * count))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        edge = _EDGES_NS[bucket] if bucket < len(_EDGES_NS) else self._max_ns
        return min(edge, self._max_ns) / 1e6
