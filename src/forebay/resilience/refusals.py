"""What a strategy raises itself, apart from what the guarded call raises.

::

    Transient
    ├── Refused              the call was not made: it never counts against the dependency
    │   ├── CircuitOpen      the breaker is not CLOSED and has no probe to give
    │   ├── BulkheadFull     too many calls at once
    │   └── RateLimited      too many calls in a time
    ├── AttemptTimeout       one try took too long
    └── DeadlineExceeded     all tries together took too long

Each is Transient: the same call may succeed later. ``retry_after`` says when, in seconds, or is
None where nobody can know; a :class:`~forebay.resilience.retry.Retry` waits at least so long.
"""

from __future__ import annotations

from forebay.errors import Transient


class Refused(Transient):
    """The call was not made; ``retry_after`` seconds from now it may be."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class CircuitOpen(Refused):
    """The breaker ``breaker`` let no call through.

    ``cause`` is the type of the failure that tripped it, or why an operator opened it. The error
    itself is not kept, since its traceback would keep alive all that it saw.
    """

    def __init__(self, breaker: str, retry_after: float | None, cause: str) -> None:
        # Refusing must stay cheap while a dependency is down: no chain of constructors, and the
        # sentence is put together when it is read.
        self.message = "The breaker is open."
        self.hint = ""
        self.retry_after = retry_after
        self.breaker = breaker
        self.cause = cause

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f" for another {self.retry_after:.1f} s"
        cause = f" after {self.cause}" if self.cause else ""
        return f"{self.breaker} is not called{wait}: its breaker is open{cause}."


class BulkheadFull(Refused):
    """As many calls are under way, or waiting, as the bulkhead allows."""


class RateLimited(Refused):
    """The rate is used up for ``retry_after`` seconds."""


class AttemptTimeout(Transient, TimeoutError):
    """One try took longer than its time-out; the breaker counts it as a failure."""


class DeadlineExceeded(Transient, TimeoutError):
    """The time for the call, with all its tries and waits, is over."""
