"""The states of a breaker. An era is one state object, from one transition to the next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from forebay.resilience.windows import NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebay.resilience.windows import Window
    from forebay.telemetry import BreakerMoved


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

    __slots__ = ("_threshold", "fine", "streak", "window")
    state: ClassVar[State] = State.CLOSED

    def __init__(self, threshold: int | None, window: Window | None) -> None:
        self._threshold = threshold
        self.streak = 0
        self.window = window
        self.fine: Iterable[None] = ()
        """A success that changes nothing takes one item, which counts it. Empty if a success has
        to take the lock: it would heal a streak, or the era is over and it is stale."""

    def ok(self, now_ns: int) -> None:
        """A call succeeded."""
        self.streak = 0
        if self.window is not None:
            self.window.ok(now_ns)

    def bad(self, now_ns: int) -> bool:
        """A call failed or was slow; answers whether that trips."""
        self.streak += 1
        self.fine = ()
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
        """Whether a call is refused now, with nothing to change."""
        wait = self.wait_ns
        return wait is None or 0 <= now_ns - self.since_ns < wait

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
        """Let a probe through; answers its token. A token is no permit: those may be dropped."""
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
