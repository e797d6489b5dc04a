"""What a breaker decides, one event at a time: no lock, no waiting, and it is told the time.

The table of transitions is in :meth:`Machine.admit`, :meth:`Machine.end` and
:meth:`Machine.order`. :class:`~forebay.resilience.breaker.CircuitBreaker` calls them under its
lock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from forebay.resilience.eras import OVER, Closed, Era, HalfOpen, Open, Snapshot
from forebay.resilience.verdict import Verdict
from forebay.telemetry import BreakerMoved

if TYPE_CHECKING:
    import random

    from forebay.clock import Clock
    from forebay.resilience.breaker_config import BreakerConfig

_HISTORY = 50
NEUTRAL_PER_PERMIT = 3
"""So many probes without a verdict for each permit, in a row, and it waits again."""


class Machine:
    """The state of one breaker. ``clock`` labels transitions with the wall clock, no more."""

    __slots__ = (
        "_clock", "_history", "_last_failure_ns", "_rng", "_trips", "cause", "config", "ended",
        "era", "name", "quick", "quick_ok", "rejected", "stale", "untold",
    )  # fmt: skip

    def __init__(self, name: str, config: BreakerConfig, clock: Clock, rng: random.Random) -> None:
        self.name = name
        self.config = config
        self._clock = clock
        self._rng = rng
        self._history: deque[BreakerMoved] = deque(maxlen=_HISTORY)
        self.untold: deque[BreakerMoved] = deque()
        self.ended = dict.fromkeys(Verdict, 0)
        self.quick_ok = 0
        """Successes that had nothing to change; counted without the lock."""
        self.rejected = 0
        self.stale = 0
        self._trips = 0
        self.cause = ""
        self._last_failure_ns: int | None = None
        self.era: Era = config.closed()
        self.quick = self._quick_of(self.era)
        """The CLOSED era if a success needs no more than a look at its streak, else None."""

    # ------------------------------------------------------------------- calls

    def admit(self, now: int) -> tuple[Era, object] | None:
        """Admit a call by an era, with a token if it is a probe; None refuses it."""
        era = self.era
        if isinstance(era, Open):
            if now < era.since_ns:
                era.anchor(now)
            if era.refuses(now):
                return None
            era = HalfOpen(era.failed_rounds)
            self._enter(era, "recovery timeout over")
        if not isinstance(era, HalfOpen):
            return era, None
        permits = self.config.half_open_permits
        if len(era.leases) >= permits:
            self._expire(era, now)
        if self.era is not era or len(era.leases) >= permits:
            return None
        return era, era.begin(now, now + self.config.lease_ns())

    def end(self, era: Era, token: object, verdict: Verdict, now: int, what: str) -> None:
        """Judge the end of a call that ``era`` admitted; ``what`` names its failure."""
        live = era.end(token) if isinstance(era, HalfOpen) else True
        if era is not self.era or not live:
            self.stale += 1
            return
        self.ended[verdict] += 1
        bad = verdict is Verdict.FAILURE or verdict is Verdict.SLOW
        if bad:
            self._last_failure_ns = self._clock.wall_ns()
            self.cause = what or verdict.value
        if isinstance(era, HalfOpen):
            self._probed(era, verdict, now)
        elif isinstance(era, Closed):
            if bad and era.bad(now):
                self._open(now, 0, self.cause)
            elif verdict is Verdict.OK:
                era.ok(now)

    def _probed(self, era: HalfOpen, verdict: Verdict, now: int) -> None:
        if verdict is Verdict.OK:
            era.won += 1
            era.neutral = 0
            if era.won >= self.config.success_threshold:
                self._enter(self.config.closed(), "probes succeeded")
        elif verdict is Verdict.NEUTRAL:
            era.neutral += 1
            most = NEUTRAL_PER_PERMIT * self.config.half_open_permits
            if not era.leases and era.neutral >= most:
                self._open(now, era.failed_rounds, "probes said nothing")
        else:
            self._open(now, era.failed_rounds + 1, self.cause)

    def _expire(self, era: HalfOpen, now: int) -> None:
        for token, began in era.expired(now):
            era.end(token)
            hung = self.config.is_hung(now - began)
            if hung:
                self.cause = "a probe that hung"
            self._probed(era, Verdict.FAILURE if hung else Verdict.NEUTRAL, now)
            if self.era is not era:
                return

    # ------------------------------------------------------------------ states

    def _open(self, now: int, failed_rounds: int, reason: str) -> None:
        self._trips += 1
        wait = self.config.wait_ns(failed_rounds, self._rng)
        self._enter(Open(now, wait, failed_rounds), reason)

    def _enter(self, era: Era, reason: str) -> None:
        was = self.era
        if isinstance(was, Closed):
            was.streak = OVER
        self.quick = self._quick_of(era)
        self.era = era
        if was.state is not era.state:
            moved = BreakerMoved(self.name, was.state, era.state, reason, self._clock.wall_ns())
            self._history.append(moved)
            self.untold.append(moved)

    def _quick_of(self, era: Era) -> Closed | None:
        return era if isinstance(era, Closed) and self.config.is_quick() else None

    def order(self, era: Era, reason: str) -> bool:
        """An operator wants this state; False if it is there. A reset always forgets failures."""
        moves = self.era.state is not era.state
        if moves or isinstance(era, Closed):
            self.cause = reason if isinstance(era, Open) else ""
            self._enter(era, reason)
        return moves

    def order_half_open(self, reason: str) -> bool:
        """An operator wants probes now; False unless OPEN or FORCED_OPEN. Never CLOSED."""
        era = self.era
        if not isinstance(era, Open):
            return False
        self._enter(HalfOpen(era.failed_rounds), reason)
        return True

    def reconfigure(self, config: BreakerConfig) -> None:
        """Go on under another configuration with what is known."""
        self.config = config
        era = self.era
        if isinstance(era, Closed):
            successor = config.closed()
            successor.carry(era)
            self._enter(successor, "")
        elif isinstance(era, Open) and era.wait_ns is not None:
            era.wait_ns = config.wait_ns(era.failed_rounds, self._rng)

    def retry_after(self, now: int) -> float | None:
        """Seconds until a call may be let through; 0 if now, None if nobody can know."""
        if isinstance(self.era, Open):
            return self.era.remaining(now)
        return None if isinstance(self.era, HalfOpen) else 0.0

    def snapshot(self, now: int) -> Snapshot:
        """Everything there is to say."""
        era, ended = self.era, self.ended
        return Snapshot(
            name=self.name,
            state=era.state,
            streak=era.streak if isinstance(era, Closed) else 0,
            probes=len(era.leases) if isinstance(era, HalfOpen) else 0,
            retry_after=self.retry_after(now),
            cause=self.cause,
            last_failure_wall_ns=self._last_failure_ns,
            ok=ended[Verdict.OK] + self.quick_ok,
            failed=ended[Verdict.FAILURE],
            slow=ended[Verdict.SLOW],
            neutral=ended[Verdict.NEUTRAL],
            not_permitted=self.rejected,
            stale=self.stale,
            trips=self._trips,
            history=tuple(self._history),
        )
