"""What a breaker is told: thresholds, waits and what counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.errors import ConfigError
from forebay.resilience.eras import Closed
from forebay.resilience.numbers import MOST_JITTER, grown, require_count, require_number
from forebay.resilience.verdict import Classify
from forebay.resilience.windows import NS

if TYPE_CHECKING:
    import random

    from forebay.resilience.windows import FailureRate, FailuresWithin

_LEASE = 30.0


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a breaker trips, how long it waits and what closes it. Durations are seconds."""

    failure_threshold: int | None = 5
    """Consecutive failures that trip it; None leaves that to ``window``."""
    window: FailureRate | FailuresWithin | None = None
    """Another way to trip, beside the consecutive failures."""
    recovery_timeout: float | None = 30.0
    """OPEN lasts so long, give or take ``recovery_jitter``, before a probe is let through; None:
    until an operator acts."""
    recovery_backoff: float = 1.0
    """Each failed recovery multiplies the next wait by this, up to ``recovery_max``."""
    recovery_max: float = 600.0
    recovery_jitter: float = 0.1
    success_threshold: int = 2
    """Probes that must succeed to close it."""
    half_open_permits: int = 1
    """Probes at a time."""
    probe_lease: float | None = None
    """A probe that has not ended after so long gives its place to another; None is the larger of
    ``timeout`` and ``recovery_timeout``, or 30 s if both are None."""
    timeout: float | None = None
    """Time-out of one call. Enforced on ``async def`` and ``acall``: a thread cannot be stopped."""
    slow_call_duration: float | None = None
    """A call that lasts so long counts as a failure, whatever it returned."""
    classify: Classify = field(default_factory=Classify)

    def __post_init__(self) -> None:
        if self.failure_threshold is not None:
            require_count("failure_threshold", self.failure_threshold)
        require_count("success_threshold", self.success_threshold)
        require_count("half_open_permits", self.half_open_permits)
        for name in ("recovery_timeout", "probe_lease", "timeout", "slow_call_duration"):
            if (seconds := getattr(self, name)) is not None:
                require_number(name, seconds, above=True)
        require_number("recovery_backoff", self.recovery_backoff, least=1.0)
        require_number("recovery_max", self.recovery_max)
        require_number("recovery_jitter", self.recovery_jitter, most=MOST_JITTER)
        if self.failure_threshold is None and self.window is None:
            raise ConfigError(
                "This breaker never trips.", hint="Give failure_threshold or a window."
            )
        if self.recovery_max < (self.recovery_timeout or 0.0):
            raise ConfigError(
                f"recovery_timeout is {self.recovery_timeout} s.",
                hint=f"It must be at most recovery_max, {self.recovery_max:g} s.",
            )

    def closed(self) -> Closed:
        """Begin a CLOSED era."""
        return Closed(self.failure_threshold, self.window.window() if self.window else None)

    def is_quick(self) -> bool:
        """Whether a success needs neither the time nor a look at the result."""
        counts = self.window is not None and self.window.window().counts_successes
        return not counts and self.slow_call_duration is None and self.classify.result is None

    def wait_ns(self, failed_rounds: int, rng: random.Random) -> int | None:
        """Nanoseconds that OPEN lasts after so many failed recoveries in a row; None for ever."""
        if self.recovery_timeout is None:
            return None
        most = self.recovery_max
        wait = grown(self.recovery_timeout, self.recovery_backoff, failed_rounds, most)
        jitter = rng.uniform(1.0 - self.recovery_jitter, 1.0 + self.recovery_jitter)
        return max(1, round(wait * jitter * NS))

    def lease_ns(self) -> int:
        """Nanoseconds that a probe may keep its place."""
        longest = max(self.timeout or 0.0, self.recovery_timeout or 0.0) or _LEASE
        return round((longest if self.probe_lease is None else self.probe_lease) * NS)

    def is_hung(self, ran_ns: int) -> bool:
        """Whether a probe that ended its lease has outlasted its time-out: then it failed."""
        return self.timeout is not None and ran_ns >= self.timeout * NS
