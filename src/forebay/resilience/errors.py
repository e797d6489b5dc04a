"""What a strategy raises itself, apart from what the guarded call raises.

Each is Transient: the same call may succeed later. ``retry_after`` says when, in seconds, or is
None where nobody can know; a :class:`~forebay.resilience.retry.Retry` waits at least so long.
"""

from __future__ import annotations

from forebay.errors import Transient


class CallRefused(Transient):
    """The call was not made: it never counts against the dependency."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        """Seconds until the call may be made; None if nobody can know, or an operator has to."""


class CircuitOpen(CallRefused):
    """A breaker let no call through; the error that tripped it is not kept alive."""

    message = "The breaker is open."
    hint = ""

    def __init__(self, breaker: str, retry_after: float | None, cause: str) -> None:
        Exception.__init__(self, breaker, retry_after, cause)  # made a text only for who reads it
        self.breaker = breaker
        self.retry_after = retry_after
        self.cause = cause
        """The type of the failure that tripped it, or why an operator opened it."""

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f" for another {self.retry_after:.1f} s"
        cause = f" after {self.cause}" if self.cause else ""
        return f"{self.breaker} is not called{wait}: its breaker is open{cause}."


class BulkheadFull(CallRefused):
    """As many calls are under way, or waiting, as the bulkhead allows."""


class RateLimited(CallRefused):
    """The rate is used up for ``retry_after`` seconds."""


class AttemptTimeout(Transient, TimeoutError):
    """One try took longer than its time-out; the breaker counts it as a failure."""


class DeadlineExceeded(Transient, TimeoutError):
    """The time for the call, with all its tries and waits, is over."""
