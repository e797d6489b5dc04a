"""Thresholds of the systems that Forebay replaces, as named configurations.

A service that waits for an answer (:data:`CLICKHOUSE`, :data:`REDIS`, :data:`FIRESTORE`) also
trips at a failure rate of one half over a minute, at ten calls or more.
"""

from __future__ import annotations

from typing import Final

from forebay.resilience.breaker import BreakerConfig
from forebay.resilience.retry import RetryConfig
from forebay.resilience.windows import FailureRate

_RATE: Final = FailureRate(rate=0.5, seconds=60.0, minimum_calls=10)

CLICKHOUSE: Final = BreakerConfig(
    failure_threshold=3, recovery_timeout=120.0, timeout=30.0, success_threshold=2, window=_RATE
)
"""Queries."""
CLICKHOUSE_BRIDGE: Final = BreakerConfig(
    failure_threshold=5, recovery_timeout=60.0, success_threshold=1
)
"""Batches that a bridge writes, and writes again until they are stored."""
REDIS: Final = BreakerConfig(
    failure_threshold=5, recovery_timeout=30.0, timeout=5.0, success_threshold=3, window=_RATE
)
FIRESTORE: Final = BreakerConfig(
    failure_threshold=8, recovery_timeout=60.0, timeout=10.0, success_threshold=3, window=_RATE
)
MESSAGING: Final = BreakerConfig(failure_threshold=5, recovery_timeout=30.0, success_threshold=1)
"""Batches that a publisher hands over, and hands over again until they are acknowledged."""
EXCHANGE_API: Final = BreakerConfig(failure_threshold=5, recovery_timeout=60.0, success_threshold=3)
WEBSOCKET: Final = BreakerConfig(failure_threshold=3, recovery_timeout=30.0, success_threshold=2)

WAITED_FOR: Final = RetryConfig(attempts=3, base=1.0, factor=2.0, cap=30.0, jitter=0.1)
"""A call that somebody waits for."""
WAITED_FOR_EXCHANGE: Final = RetryConfig(attempts=5, base=2.0, factor=2.0, cap=30.0, jitter=0.1)
"""A call to an exchange that somebody waits for."""
ENDLESS: Final = RetryConfig(attempts=None, base=0.5, cap=30.0, full_jitter=True)
"""Delivery and reconnects: what nothing may end but a stop."""
