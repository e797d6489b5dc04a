"""What a breaker decides, one event at a time: no lock, no waiting, and it is told the time.

The table of transitions is in :meth:`Machine.admit`, :meth:`Machine.end` and
:meth:`Machine.order`. :class:`~forebay.resilience.breaker.CircuitBreaker` calls them under its
lock.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from operator import length_hint
from typing import TYPE_CHECKING

from forebay.resilience.eras import Closed, Era, HalfOpen, Open, Snapshot, State
from forebay.resilience.verdict import Verdict
from forebay.telemetry import BreakerMoved

if TYPE_CHECKING:
    import random

    from forebay.clock import Clock
    from forebay.resilience.breaker_config import BreakerConfig

_HISTORY = 50
NEUTRAL_PER_PERMIT = 3
"""So many probes without a verdict for each permit, in a row, and it waits again."""
_MANY = 2**62
"""Successes are counted down from it, by the one counter that C keeps and a loop can turn: it
makes no integer, and no other thread comes between looking at it and counting."""


class Machine:
    """The state of one breaker. ``clock`` labels transitions with the wall clock, no more."""

    __slots__ = (
        "_clock", "_history", "_last_failure_ns", "_latency_count", "_latency_sum_ns", "_rng",
        "_ticks", "_transitions", "cause", "config", "ended", "era", "name", "quick",
        "quick_awaited", "rejected", "shut", "stale", "untold",
    )  # fmt: skip

    def __init__(self, name: str, config: BreakerConfig, clock: Clock, rng: random.Random) -> None:
        self.name = name
        self.config = config
        self._clock = clock
        self._rng = rng
        self._history: deque[BreakerMoved] = deque(maxlen=_HISTORY)
        self.untold: deque[BreakerMoved] = deque()
        self.ended = dict.fromkeys(Verdict, 0)
        self._ticks = repeat(None, _MANY)
        self.rejected = 0
        self.stale = 0
        self._transitions = {state.value: 0 for state in State}
        self._latency_sum_ns = self._latency_count = 0
        self.cause = ""
        self._last_failure_ns: int | None = None
        self.quick: Closed | None = None
        """The CLOSED era if a success needs neither the time nor the lock, else None."""
        self.quick_awaited: Closed | None = None
        """The same for an awaited call: None also if that has a time-out."""
        self.shut: Open | None = None
        """The OPEN or FORCED_OPEN era, else None."""
        self.era: Era = config.closed()
        self._begin(self.era)

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

    def end(
        self,
        era: Era,
        token: object,
        verdict: Verdict,
        now: int,
        what: str,
        *,
        began: int | None = None,
    ) -> None:
        """Judge the end of a call that ``era`` admitted; ``what`` names its failure."""
        live = era.end(token) if isinstance(era, HalfOpen) else True
        if era is not self.era or not live:
            self.stale += 1
            return
        self.ended[verdict] += 1
        if began is not None and verdict is not Verdict.NEUTRAL:
            self._latency_sum_ns += max(0, now - began)
            self._latency_count += 1
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
                era.fine = self._ticks

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
        wait = self.config.wait_ns(failed_rounds, self._rng)
        self._enter(Open(now, wait, failed_rounds), reason)

    def _enter(self, era: Era, reason: str) -> None:
        was = self.era
        if isinstance(was, Closed):
            was.fine = ()
        self._begin(era)
        self.era = era
        if was.state is not era.state:
            moved = BreakerMoved(self.name, was.state, era.state, reason, self._clock.wall_ns())
            self._transitions[era.state] += 1
            self._history.append(moved)
            self.untold.append(moved)

    def _begin(self, era: Era) -> None:
        if isinstance(era, Closed) and not era.streak:
            era.fine = self._ticks
        self.quick = era if isinstance(era, Closed) and self.config.is_quick() else None
        self.quick_awaited = self.quick if self.config.timeout is None else None
        self.shut = era if isinstance(era, Open) else None

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
        elif isinstance(era, Open) and not era.forced:
            era.wait_ns = config.wait_ns(era.failed_rounds, self._rng)

    def retry_after(self, now: int) -> float | None:
        """Seconds until a call may be let through; 0 if now, None if nobody can know."""
        if isinstance(self.era, Open):
            return self.era.remaining(now)
        return None if isinstance(self.era, HalfOpen) else 0.0

    def _opened_ns(self) -> int | None:
        # Without CLOSED between them, states other than these two follow each other twice at
        # most, so the history is long enough.
        for moved in reversed(self._history):
            if moved.now in {State.OPEN, State.FORCED_OPEN}:
                return moved.wall_ns
            if moved.now == State.CLOSED:
                break
        return None

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
            ok=ended[Verdict.OK] + _MANY - length_hint(self._ticks),
            failed=ended[Verdict.FAILURE],
            slow=ended[Verdict.SLOW],
            neutral=ended[Verdict.NEUTRAL],
            not_permitted=self.rejected,
            stale=self.stale,
            trips=self._transitions[State.OPEN],
            history=tuple(self._history),
            transitions=dict(self._transitions),
            opened_wall_ns=self._opened_ns(),
            latency_sum_ns=self._latency_sum_ns,
            latency_count=self._latency_count,
        )
