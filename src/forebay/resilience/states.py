"""The states of a breaker and what moves it between them: no lock, no waiting, told the time.

An *era* is one state object, from one transition to the next.
:class:`~forebay.resilience.breaker.CircuitBreaker` calls the machine under its lock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from forebay.resilience.windows import NS
from forebay.telemetry import BreakerMoved

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from forebay.clock import Clock
    from forebay.resilience.breaker import BreakerConfig
    from forebay.resilience.windows import CallWindow
    from forebay.telemetry import TelemetryEvent

_HISTORY = 50
NEUTRAL_PER_PERMIT = 3
"""So many probes without a verdict for each permit, in a row, and it waits again."""


class CallVerdict(Enum):
    """What the end of a call says about the dependency."""

    OK = "ok"
    FAILURE = "failure"
    SLOW = "slow"
    """It ended without an error, or was given up, after the slow call duration: a failure."""
    NEUTRAL = "neutral"
    """It says nothing about the dependency: cancelled, refused before it, or ignored."""


class State(StrEnum):
    """What a breaker does with a call."""

    CLOSED = "closed"
    """Makes it."""
    OPEN = "open"
    """Refuses it, until the recovery timeout is over."""
    HALF_OPEN = "half_open"
    """Makes it if a probe is free."""
    FORCED_OPEN = "forced_open"
    """Refuses it, until an operator says otherwise."""
    DISABLED = "disabled"
    """Makes it and only counts."""


class Closed:
    """Calls are made, and counted: consecutive failures, and the window beside them.

    A success after a failure sets ``streak`` to 0, so old failures never add up, and successive
    time-outs of one caller do, however far apart.
    """

    __slots__ = ("_threshold", "streak", "window")
    state: ClassVar[State] = State.CLOSED

    def __init__(self, threshold: int | None, window: CallWindow | None) -> None:
        self._threshold = threshold
        self.streak = 0
        self.window = window

    def ok(self, now_ns: int) -> None:
        """A call succeeded."""
        self.streak = 0
        if self.window is not None:
            self.window.ok(now_ns)

    def bad(self, now_ns: int) -> bool:
        """A call failed or was slow; return whether that trips."""
        self.streak += 1
        beside = self.window is not None and self.window.bad(now_ns)
        return beside or (self._threshold is not None and self.streak >= self._threshold)

    def carry(self, old: Closed) -> None:
        """Go on from another era's counts, under other thresholds."""
        self.streak = old.streak
        if self.window is not None:
            self.window.carry(old.window)


class Disabled:
    """Calls are made; nothing follows from how they end."""

    state: ClassVar[State] = State.DISABLED


class Open:
    """Calls are refused from ``since_ns`` for ``wait_ns``; until an operator acts if None."""

    __slots__ = ("failed_rounds", "forced", "since_ns", "wait_ns")

    def __init__(
        self, since_ns: int, wait_ns: int | None, failed_rounds: int, *, forced: bool = False
    ) -> None:
        self.forced = forced
        """An operator ordered it; the configuration has no say."""
        self.since_ns = since_ns
        self.wait_ns = wait_ns
        self.failed_rounds = failed_rounds
        """Recoveries in a row that failed before."""

    @property
    def state(self) -> State:
        """FORCED_OPEN if an operator ordered it, OPEN if failures did."""
        return State.FORCED_OPEN if self.forced else State.OPEN

    def refuses(self, now_ns: int) -> bool:
        """Whether a call is refused now."""
        return self.wait_ns is None or now_ns - self.since_ns < self.wait_ns

    def anchor(self, now_ns: int) -> None:
        """The clock is before ``since_ns``: wait once from now, and no longer."""
        self.since_ns = now_ns

    def remaining(self, now_ns: int) -> float | None:
        """Seconds until a probe; None if an operator has to come."""
        if self.wait_ns is None:
            return None
        return max(0, self.since_ns + self.wait_ns - now_ns) / NS


class HalfOpen:
    """Probes are let through, each with a lease; nobody else."""

    __slots__ = ("failed_rounds", "leases", "neutral", "won")
    state: ClassVar[State] = State.HALF_OPEN

    def __init__(self, failed_rounds: int) -> None:
        self.failed_rounds = failed_rounds
        self.won = 0
        """Probes that succeeded."""
        self.neutral = 0
        """Probes in a row that ended without a verdict."""
        self.leases: dict[object, tuple[int, int]] = {}
        """When each live probe began and when its lease ends, by a token the probe holds."""

    def begin(self, now_ns: int, ends_ns: int) -> object:
        """Let a probe through and return its token, which is no permit: those may be dropped."""
        token = object()
        self.leases[token] = (now_ns, ends_ns)
        return token

    def end(self, token: object) -> bool:
        """Take a lease back; False if it was not live any more."""
        return self.leases.pop(token, None) is not None

    def expired(self, now_ns: int) -> list[tuple[object, int]]:
        """Tokens of leases that are over, with when their probes began."""
        return [(token, began) for token, (began, ends) in self.leases.items() if now_ns >= ends]


Era: TypeAlias = Closed | Open | HalfOpen | Disabled


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A breaker at one moment. Every call that has ended or was refused is in one count.

    ``ok + failed + slow + neutral + not_permitted + stale`` is the number of those calls.
    ``streak`` is of consecutive failures, ``trips`` of transitions to OPEN, and ``history`` has
    the last transitions, oldest first; ``transitions`` counts all by the state entered.
    ``retry_after`` is in seconds. ``latency_sum_ns`` is of the ``latency_count`` calls that were
    ok, failed or slow and whose begin was timed: those of a permit, a guard, ``call`` and
    ``acall``, and of a decorated function when its success needs the time.
    """

    name: str
    state: State
    streak: int
    probes: int
    retry_after: float | None
    cause: str
    last_failure_wall_ns: int | None
    ok: int
    failed: int
    slow: int
    neutral: int
    not_permitted: int
    stale: int
    trips: int
    history: tuple[BreakerMoved, ...]
    transitions: Mapping[str, int]
    opened_wall_ns: int | None
    """When it went to OPEN or FORCED_OPEN last; None if it was CLOSED since."""
    latency_sum_ns: int
    latency_count: int


class StateMachine:
    """The state of one breaker. ``clock`` labels transitions with the wall clock, no more."""

    def __init__(self, name: str, config: BreakerConfig, clock: Clock, rng: random.Random) -> None:
        self.name = name
        self.config = config
        self._clock = clock
        self._rng = rng
        self._history: deque[BreakerMoved] = deque(maxlen=_HISTORY)
        self.untold: deque[TelemetryEvent] = deque()
        self._ended = dict.fromkeys(CallVerdict, 0)
        self._ok = 0
        self.rejected = 0
        self._stale = 0
        self._transitions = {state.value: 0 for state in State}
        self._latency_sum_ns = self._latency_count = 0
        self.cause = ""
        self._last_failure_ns: int | None = None
        self._opened_ns: int | None = None
        self.era: Era = config.closed()
        self.quick = config.quick(self.era)
        """The CLOSED era if a success only ends its streak, however long it took; else None."""

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
        verdict: CallVerdict,
        now: int,
        what: str,
        *,
        began: int | None = None,
    ) -> None:
        """Judge the end of a call that ``era`` admitted; ``what`` names its failure."""
        live = era.end(token) if isinstance(era, HalfOpen) else True
        if era is not self.era or not live:
            self._stale += 1
            return
        self._ended[verdict] += 1
        if began is not None and verdict is not CallVerdict.NEUTRAL:
            self._latency_sum_ns += max(0, now - began)
            self._latency_count += 1
        bad = verdict is CallVerdict.FAILURE or verdict is CallVerdict.SLOW
        if bad:
            self._last_failure_ns = self._clock.wall_ns()
            self.cause = what or verdict.value
        if isinstance(era, HalfOpen):
            self._probed(era, verdict, now)
        elif isinstance(era, Closed):
            if bad and era.bad(now):
                self._open(now, 0, self.cause)
            elif verdict is CallVerdict.OK:
                era.ok(now)

    def succeeded(self, era: Closed) -> None:
        """:meth:`end` of a success that a quick era admitted."""
        if era is self.era:
            self._ok += 1
            era.streak = 0
        else:
            self._stale += 1

    def _probed(self, era: HalfOpen, verdict: CallVerdict, now: int) -> None:
        if verdict is CallVerdict.OK:
            era.won += 1
            era.neutral = 0
            if era.won >= self.config.success_threshold:
                self._enter(self.config.closed(), "probes succeeded")
        elif verdict is CallVerdict.NEUTRAL:
            era.neutral += 1
            most = NEUTRAL_PER_PERMIT * self.config.half_open_permits
            if not era.leases and era.neutral >= most:
                self._open(now, era.failed_rounds, "probes said nothing")
        else:
            self._open(now, era.failed_rounds + 1, self.cause)

    def _expire(self, era: HalfOpen, now: int) -> None:
        for token, began in era.expired(now):
            era.end(token)
            limit = self.config.timeout
            hung = limit is not None and now - began >= limit * NS
            if hung:
                self.cause = "a probe that hung"
            self._probed(era, CallVerdict.FAILURE if hung else CallVerdict.NEUTRAL, now)
            if self.era is not era:
                return

    # ------------------------------------------------------------------ states

    def _open(self, now: int, failed_rounds: int, reason: str) -> None:
        wait = self.config.wait_ns(failed_rounds, self._rng)
        self._enter(Open(now, wait, failed_rounds), reason)

    def _enter(self, era: Era, reason: str) -> None:
        was, self.era = self.era, era
        self.quick = self.config.quick(era)
        if was.state is not era.state:
            moved = BreakerMoved(self.name, was.state, era.state, reason, self._clock.wall_ns())
            self._transitions[era.state] += 1
            self._history.append(moved)
            self.untold.append(moved)
            if era.state in {State.OPEN, State.FORCED_OPEN}:
                self._opened_ns = moved.wall_ns
            elif era.state is State.CLOSED:
                self._opened_ns = None

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

    def snapshot(self, now: int) -> Snapshot:
        """Everything there is to say."""
        era, ended = self.era, self._ended
        return Snapshot(
            name=self.name,
            state=era.state,
            streak=era.streak if isinstance(era, Closed) else 0,
            probes=len(era.leases) if isinstance(era, HalfOpen) else 0,
            retry_after=self.retry_after(now),
            cause=self.cause,
            last_failure_wall_ns=self._last_failure_ns,
            ok=ended[CallVerdict.OK] + self._ok,
            failed=ended[CallVerdict.FAILURE],
            slow=ended[CallVerdict.SLOW],
            neutral=ended[CallVerdict.NEUTRAL],
            not_permitted=self.rejected,
            stale=self._stale,
            trips=self._transitions[State.OPEN],
            history=tuple(self._history),
            transitions=dict(self._transitions),
            opened_wall_ns=self._opened_ns,
            latency_sum_ns=self._latency_sum_ns,
            latency_count=self._latency_count,
        )
