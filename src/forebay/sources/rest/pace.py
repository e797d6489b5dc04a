"""A token bucket that says how long to wait, and never waits itself."""

from __future__ import annotations


class TokenBucket:
    """At most ``burst`` calls at once and ``rate`` a second in the long run; first come, first.

    Kept as one number: the time at which the bucket will be full again. A bucket that lacks
    n tokens now is full in n intervals.
    """

    def __init__(self, rate: float, burst: int) -> None:
        if rate <= 0 or burst < 1:
            message = f"rate must be positive and burst at least 1, not {rate} and {burst}"
            raise ValueError(message)
        self._interval_ns = round(1e9 / rate)
        self._burst_ns = self._interval_ns * burst
        self._full_ns: int | None = None

    def reserve(self, now_ns: int) -> float:
        """Take one token, now or in the future; return the seconds to wait for it."""
        full = now_ns if self._full_ns is None else max(self._full_ns, now_ns)
        self._full_ns = full + self._interval_ns
        return max(0, self._full_ns - self._burst_ns - now_ns) / 1e9
