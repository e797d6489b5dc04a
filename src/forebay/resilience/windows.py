"""What failures of a CLOSED breaker add up to, beside consecutive ones, which all breakers count.

Only a failing or slow call can trip, never a success: a rate that crosses its threshold because
old successes leave the window trips at the next failure. Times are monotonic nanoseconds; nothing
here locks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from forebay.resilience.numbers import require_count, require_number

NS = 1_000_000_000
BUCKETS = 10


class CallWindow(Protocol):
    """Counts the calls of one CLOSED era."""

    def ok(self, now_ns: int) -> None:
        """A call succeeded."""
        ...

    def bad(self, now_ns: int) -> bool:
        """A call failed or was slow; return whether that trips."""
        ...

    def carry(self, old: CallWindow | None) -> None:
        """Take over what ``old`` knows and this can hold."""
        ...


@dataclass(frozen=True, slots=True)
class FailuresWithin:
    """Trip at ``failures`` failures of which the oldest is at most ``seconds`` old.

    Successes do not heal it: a busy service with a small share of errors trips.
    """

    failures: int
    seconds: float

    def __post_init__(self) -> None:
        require_count("failures", self.failures)
        require_number("seconds", self.seconds, above=True)

    def window(self) -> CallWindow:
        """Begin to count."""
        return _FailuresWithin(self)


@dataclass(frozen=True, slots=True)
class FailureRate:
    """Trip when at least ``rate`` of the calls of the last ``seconds``, and enough of them, failed.

    Counted in ten buckets, so what is looked at is between nine and ten tenths of ``seconds``.
    """

    rate: float = 0.5
    seconds: float = 60.0
    minimum_calls: int = 10

    def __post_init__(self) -> None:
        require_number("rate", self.rate, above=True, most=1.0)
        require_number("seconds", self.seconds, above=True)
        require_count("minimum_calls", self.minimum_calls)

    def window(self) -> CallWindow:
        """Begin to count."""
        return _FailureRate(self)


class _FailuresWithin:
    def __init__(self, config: FailuresWithin) -> None:
        self._span = round(config.seconds * NS)
        self._times: deque[int] = deque(maxlen=config.failures)

    def ok(self, now_ns: int) -> None:
        """Nothing: a success costs nothing."""

    def bad(self, now_ns: int) -> bool:
        times = self._times
        times.append(now_ns)
        return len(times) == times.maxlen and now_ns - times[0] <= self._span

    def carry(self, old: CallWindow | None) -> None:
        if isinstance(old, _FailuresWithin):
            self._times.extend(old._times)  # noqa: SLF001 - of one kind


class _FailureRate:
    def __init__(self, config: FailureRate) -> None:
        self._config = config
        self._width = max(1, round(config.seconds * NS / BUCKETS))
        self._buckets: deque[list[int]] = deque(maxlen=BUCKETS)  # [number, good, bad]

    def _bucket(self, now_ns: int) -> list[int]:
        buckets, number = self._buckets, now_ns // self._width
        # A clock that went back counts into the newest bucket.
        if not buckets or number > buckets[-1][0]:
            buckets.append([number, 0, 0])
            while buckets[0][0] <= number - BUCKETS:
                buckets.popleft()
        return buckets[-1]

    def ok(self, now_ns: int) -> None:
        self._bucket(now_ns)[1] += 1

    def bad(self, now_ns: int) -> bool:
        self._bucket(now_ns)[2] += 1
        failed = sum(bucket[2] for bucket in self._buckets)
        calls = failed + sum(bucket[1] for bucket in self._buckets)
        return calls >= self._config.minimum_calls and failed >= self._config.rate * calls

    def carry(self, old: CallWindow | None) -> None:
        if isinstance(old, _FailureRate) and old._width == self._width:  # noqa: SLF001 - of one kind
            self._buckets.extend(list(bucket) for bucket in old._buckets)  # noqa: SLF001
