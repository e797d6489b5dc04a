"""How a call survives; what never fails needs nothing from here.

It knows nothing of markets and can be used on its own. First is outermost: a fallback around a
deadline, around retries, around a rate limit, around a breaker, around a bulkhead.
"""

from __future__ import annotations

from forebay.resilience.backoff import Backoff
from forebay.resilience.breaker import BreakerConfig, CircuitBreaker, Classifier, Permit
from forebay.resilience.deadline import adeadline, attempt, deadline, remaining
from forebay.resilience.dependencies import start_order
from forebay.resilience.errors import (
    AttemptTimeout,
    BulkheadFull,
    CallRefused,
    CircuitOpen,
    DeadlineExceeded,
    RateLimited,
)
from forebay.resilience.fallback import Answer, Fallback, Origin, StaleCache
from forebay.resilience.health import (
    Hysteresis,
    ServiceHealth,
    SystemHealth,
    SystemState,
    assess,
)
from forebay.resilience.limits import Bulkhead, RateLimit
from forebay.resilience.manager import ResilienceManager
from forebay.resilience.retry import Retry, RetryBudget, RetryConfig
from forebay.resilience.states import CallVerdict, Snapshot, State
from forebay.resilience.windows import FailureRate, FailuresWithin

Refused, Verdict = CallRefused, CallVerdict
"""The names that these two had before."""

__all__ = [
    "Answer", "AttemptTimeout", "Backoff", "BreakerConfig", "Bulkhead", "BulkheadFull",
    "CallRefused", "CallVerdict", "CircuitBreaker", "CircuitOpen", "Classifier", "DeadlineExceeded",
    "FailureRate", "FailuresWithin", "Fallback", "Hysteresis", "Origin", "Permit", "RateLimit",
    "RateLimited", "Refused", "ResilienceManager", "Retry", "RetryBudget", "RetryConfig",
    "ServiceHealth", "Snapshot", "StaleCache", "State", "SystemHealth", "SystemState", "Verdict",
    "adeadline", "assess", "attempt", "deadline", "remaining", "start_order",
]  # fmt: skip
