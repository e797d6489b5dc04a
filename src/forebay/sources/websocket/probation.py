"""What one connection says about its venue, to the breaker that all of them share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.errors import Unreachable
from forebay.resilience import CircuitBreaker, CircuitOpen, State
from forebay.sources.websocket.timeouts import Timeouts, settled

if TYPE_CHECKING:
    from forebay.clock import Clock
    from forebay.resilience import Permit
    from forebay.sources.websocket.connection import Connection

_PROVES = {State.CLOSED, State.HALF_OPEN}
"""In the other states a connection that lives proves nothing: others could not be made."""


class Unsettled(Unreachable):
    """A connection ended before it had settled."""


class Probation:
    """A connection on trial until it has settled, which is the call that the breaker counts.

    The permit goes back at the verdict and not at the connection's end, so that one probe which
    lives on does not keep the others from theirs. From then on every ``settle_s`` of life is one
    more success: a single connection closes a breaker that wants two of them, and what failed
    beside a healthy connection does not add up for hours.
    """

    def __init__(self, breaker: CircuitBreaker, timeouts: Timeouts, clock: Clock) -> None:
        """Ask for the call. Raises :class:`~forebay.resilience.CircuitOpen`."""
        self._breaker = breaker
        self._timeouts = timeouts
        self._clock = clock
        self._permit: Permit | None = breaker.acquire()
        self._next_ns = 0
        self.settled = False

    def look(self, connection: Connection) -> None:
        """Say so if the connection has settled, or has lived on for as long again."""
        now = self._clock.monotonic_ns()
        if self.settled:
            if now >= self._next_ns:
                self._lived_on(now)
        elif settled(connection.times, self._timeouts, now, data=connection.data):
            self.settled = True
            self._next_ns = self._after(now)
            permit, self._permit = self._permit, None
            if permit is not None:
                permit.success()

    def end(self, connection: Connection, url: str) -> None:
        """The connection is over. Raises :class:`Unsettled` if it had not settled."""
        self.look(connection)
        if connection.times.paused_ns is not None:
            self.drop()  # the journal took no frames, which says nothing about the venue
        if not self.settled:
            raise Unsettled(f"The connection to {url} ended before it had settled.")

    def fail(self, error: Exception) -> None:
        """The connection was not made, or ended too early. Nothing happens after a verdict."""
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.failure(error)

    def drop(self) -> None:
        """Nothing follows: we stopped, or it was our own doing. Nothing happens after a verdict."""
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.release()

    def _lived_on(self, now: int) -> None:
        self._next_ns = self._after(now)
        if self._breaker.state in _PROVES:
            with contextlib.suppress(CircuitOpen):  # its probe is somebody else's
                self._breaker.acquire().success()

    def _after(self, now: int) -> int:
        return now + round(self._timeouts.settle_s * 1e9)
