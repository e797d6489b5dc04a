"""A tiny independent model of a breaker, and a walk through everything the two can do.

The model knows eras as numbers, the real class as objects. :func:`explore` makes every sequence
of events up to a depth, leaving out continuations of a state pair that was seen before, and
compares what can be observed after each event. One unit of time is a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import random
import types
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forebay.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import ModuleType

RECOVERY, BACKOFF, MOST, LEASE = 2, 2, 4, 3
TICKETS = 4
NEUTRALS = 3
START, SECOND = 1_700_000_000_000_000_000, 1_000_000_000
Event = tuple[str, ...]


class Disagree(AssertionError):
    """The real breaker did something else than the model."""


@dataclass(frozen=True)
class Params:
    """What is varied.

    ``hangs`` gives the probe a time-out as long as its lease. With ``operator``, an order to
    reconfigure takes the recovery timeout away, and the next gives it back.
    """

    failures: int
    successes: int
    permits: int
    hangs: bool = False
    operator: bool = False


@dataclass
class Model:
    """The table of transitions, written again from its text."""

    params: Params
    mode: str = "closed"
    era: int = 0
    now: int = 0
    streak: int = 0
    since: int = 0
    wait: int | None = 0
    recovers: bool = True
    round: int = 0
    won: int = 0
    neutral: int = 0
    leases: dict[int, int] = field(default_factory=dict)
    tickets: list[tuple[int, int]] = field(default_factory=list)  # (number, era)
    began: dict[int, int] = field(default_factory=dict)
    latency: int = 0
    opened: int | None = None
    serial: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)

    def fork(self) -> Model:
        other = copy.copy(self)
        other.leases, other.counts = dict(self.leases), dict(self.counts)
        other.began = dict(self.began)
        other.tickets, other.events = list(self.tickets), list(self.events)
        return other

    def move(self, mode: str) -> None:
        if mode != self.mode:
            self.events.append((self.mode, mode))
            if mode in {"open", "forced_open"}:
                self.opened = self.now
            elif mode == "closed":
                self.opened = None
        self.mode, self.era = mode, self.era + 1
        self.streak = self.won = self.neutral = 0
        self.leases = {}

    def open(self, round_: int) -> None:
        self.move("open")
        self.since, self.round = self.now, round_
        self.wait_anew()
        self.count("trips")

    def wait_anew(self) -> None:
        self.wait = min(MOST, RECOVERY * BACKOFF**self.round) if self.recovers else None

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def probe_ended(self, verdict: str) -> None:
        if verdict == "fail":
            self.open(self.round + 1)
        elif verdict == "ok":
            self.won, self.neutral = self.won + 1, 0
            if self.won >= self.params.successes:
                self.move("closed")
        else:
            self.neutral += 1
            if self.neutral >= NEUTRALS * self.params.permits and not self.leases:
                self.open(self.round)

    def call(self) -> bool:
        if self.mode == "open" and self.wait is not None:
            self.since = min(self.since, self.now)
            if self.now >= self.since + self.wait:
                self.move("half_open")
        if self.mode == "half_open" and len(self.leases) >= self.params.permits:
            for number in [n for n, ends in self.leases.items() if self.now >= ends]:
                del self.leases[number]
                self.probe_ended("fail" if self.params.hangs else "neutral")
                if self.mode != "half_open":
                    break
        full = self.mode == "half_open" and len(self.leases) >= self.params.permits
        if full or self.mode in {"open", "forced_open"}:
            self.count("not_permitted")
            return False
        self.serial += 1
        self.tickets.append((self.serial, self.era))
        self.began[self.serial] = self.now
        if self.mode == "half_open":
            self.leases[self.serial] = self.now + LEASE
        return True

    def end(self, index: int, verdict: str) -> None:
        number, era = self.tickets.pop(index)
        took = max(0, self.now - self.began.pop(number))
        if era != self.era or (self.mode == "half_open" and number not in self.leases):
            self.count("stale")
            return
        self.count({"ok": "ok", "fail": "failed", "none": "neutral"}[verdict])
        self.latency += took * (verdict != "none")
        if self.mode == "half_open":
            del self.leases[number]
            self.probe_ended(verdict)
        elif self.mode == "closed" and verdict == "ok":
            self.streak = 0
        elif self.mode == "closed" and verdict == "fail":
            self.streak += 1
            if self.streak >= self.params.failures:
                self.open(0)

    def order(self, what: str) -> None:
        if what == "half_open":
            if self.mode in {"open", "forced_open"}:
                round_ = self.round if self.mode == "open" else 0
                self.move("half_open")
                self.round = round_
        elif what == "reconfigure":
            self.recovers ^= self.params.operator
            if self.mode == "open":
                self.wait_anew()
            elif self.mode == "closed":
                streak = self.streak
                self.move("closed")
                self.streak = streak
        elif self.mode != what or what == "closed":
            self.move(what)
            self.round = 0

    def apply(self, event: Event) -> bool | None:
        kind = event[0]
        if kind == "call":
            return self.call()
        if kind == "end":
            self.end(int(event[1]), event[2])
        elif kind == "time":
            self.now += int(event[1])
        else:
            self.order(event[1])
        return None

    def events_from_here(self) -> list[Event]:
        events: list[Event] = [("time", "1")]
        if len(self.tickets) < TICKETS or self.mode in {"open", "forced_open"}:
            events.append(("call",))
        ends = len(self.tickets)
        events += [("end", str(i), how) for i in range(ends) for how in ("ok", "fail", "none")]
        if self.mode == "open":
            events.append(("time", "-1"))
        orders = ("forced_open", "disabled", "closed", "half_open", "reconfigure")
        return events + [("order", what) for what in orders]

    def key(self) -> tuple[object, ...]:
        is_open = self.mode == "open"
        waited = min(self.now - self.since, self.wait or MOST) if is_open else 0
        leases = {n: max(0, ends - self.now) for n, ends in self.leases.items()}
        tickets = sorted((era == self.era, leases.get(number, -1)) for number, era in self.tickets)
        numbers = (self.streak, self.round, self.won, self.neutral)
        return (self.mode, waited, self.wait if is_open else 0, self.recovers, *numbers, *tickets)

    def seen(self) -> dict[str, object]:
        left: float | None = 0.0 if self.mode in {"closed", "disabled"} else None
        if self.mode == "open" and self.wait is not None:
            left = max(0, self.since + self.wait - self.now)
        entered = Counter(now for _, now in self.events)
        return {
            "state": self.mode,
            "streak": self.streak,
            "probes": len(self.leases),
            "retry_after": left,
            "transitions": {state: entered[state] for state in STATES},
            "opened_wall_ns": None if self.opened is None else START + self.opened * SECOND,
            "latency_sum_ns": self.latency * SECOND,
            "latency_count": self.counts.get("ok", 0) + self.counts.get("failed", 0),
            **{name: self.counts.get(name, 0) for name in COUNTS},
        }


STATES = ("closed", "open", "half_open", "forced_open", "disabled")
COUNTS = ("ok", "failed", "neutral", "not_permitted", "stale", "trips")


class Real:
    """The class under test, driven by the same events: here through its permits."""

    unseen: tuple[str, ...] = ()

    def __init__(self, modules: dict[str, ModuleType], params: Params) -> None:
        self.clock = ManualClock(START)
        self.events: list[Any] = []
        self.operator, self.recovers = params.operator, True
        self.config = modules["breaker"].BreakerConfig(
            failure_threshold=params.failures,
            success_threshold=params.successes,
            half_open_permits=params.permits,
            recovery_timeout=RECOVERY,
            recovery_backoff=BACKOFF,
            recovery_max=MOST,
            recovery_jitter=0,
            probe_lease=LEASE,
            timeout=LEASE if params.hangs else None,
        )
        self.breaker: Any = modules["breaker"].CircuitBreaker(
            "b", self.config, clock=self.clock, rng=random.Random(0), listener=self.events.append
        )
        self.tickets: list[Any] = []
        self.error = ValueError("down")

    def apply(self, event: Event) -> bool | None:
        kind, breaker = event[0], self.breaker
        if kind == "call":
            try:
                self.tickets.append(self.begin())
            except Exception as error:
                if type(error).__name__ != "CircuitOpen":
                    raise
                return False
            return True
        if kind == "end":
            self.finish(self.tickets.pop(int(event[1])), event[2])
        elif kind == "time":
            self.clock.advance(int(event[1]))
        elif event[1] == "reconfigure":
            if self.operator:
                self.recovers = not self.recovers
            timeout = RECOVERY if self.recovers else None
            breaker.reconfigure(dataclasses.replace(self.config, recovery_timeout=timeout))
        else:
            orders = {
                "forced_open": breaker.force_open,
                "disabled": breaker.disable,
                "closed": breaker.reset,
                "half_open": breaker.force_half_open,
            }
            orders[event[1]]("ordered")
        return None

    def begin(self) -> object:
        """Make a call up to where it waits for the dependency."""
        return self.breaker.acquire()

    def finish(self, ticket: Any, how: str) -> None:  # noqa: ANN401
        """End it."""
        if how == "ok":
            ticket.success()
        elif how == "fail":
            ticket.failure(self.error)
        else:
            ticket.release()
        ticket.failure(self.error)  # the first word counts

    def held(self, ticket: Any) -> tuple[object, object]:  # noqa: ANN401
        """The era and the token that a call holds."""
        return ticket.era, ticket.token

    def key(self) -> tuple[object, ...]:
        """What the model cannot see: two paths to one model state may differ here."""
        machine, now = self.breaker._machine, self.clock.monotonic_ns()
        era = machine.era
        numbers = tuple(
            getattr(era, name, None) for name in ("streak", "failed_rounds", "won", "neutral")
        )
        leases = getattr(era, "leases", {})
        tickets = sorted(
            (held is era, max(0, leases.get(token, (0, now - 1))[1] - now))
            for held, token in map(self.held, self.tickets)
        )
        live = sorted(max(0, ends - now) for _, ends in leases.values())
        return (era.state, *numbers, tuple(live), tuple(tickets))


class Awaited(Real):
    """The same through a decorated coroutine function, whose successes mostly have no permit."""

    unseen = ("latency_sum_ns", "latency_count")  # such calls are not timed

    def __init__(self, modules: dict[str, ModuleType], params: Params) -> None:
        super().__init__(modules, params)
        self.call = self.breaker(_dependency)

    def begin(self) -> object:
        coroutine = self.call()
        coroutine.send(None)
        return coroutine

    def finish(self, ticket: Any, how: str) -> None:  # noqa: ANN401
        errors = {"fail": self.error, "none": asyncio.CancelledError()}
        with contextlib.suppress(StopIteration, *map(type, errors.values())):
            if how == "ok":
                ticket.send(None)
            else:
                ticket.throw(errors[how])

    def held(self, ticket: Any) -> tuple[object, object]:  # noqa: ANN401
        by = ticket.cr_frame.f_locals["by"]
        return super().held(by) if hasattr(by, "token") else (by, None)


@types.coroutine
def _suspend() -> Generator[None, None, None]:
    yield


async def _dependency() -> None:
    await _suspend()


def explore(
    modules: dict[str, ModuleType], params: Params, form: type[Real] = Real
) -> Iterator[tuple[int, int]]:
    """Walk one event deeper with each step; answers how many state pairs and events were seen.

    Raises Disagree with the path that leads there.
    """
    frontier: list[tuple[Model, tuple[Event, ...]]] = [(Model(params), ())]
    known: set[tuple[object, ...]] = set()
    edges = 0
    while True:
        following = []
        for model, path in frontier:
            for event in model.events_from_here():
                after = model.fork()
                edges += 1
                real = form(modules, params)
                for earlier in path:
                    real.apply(earlier)
                compare(after, real, event, path)
                key = (after.key(), real.key())
                if key not in known:
                    known.add(key)
                    following.append((after, (*path, event)))
        frontier = following
        yield len(known), edges


def compare(model: Model, real: Real, event: Event, path: tuple[Event, ...]) -> None:
    """Apply one event to both and look at everything."""
    expected, got = model.apply(event), real.apply(event)
    snapshot = real.breaker.snapshot()
    seen = {name: value for name, value in model.seen().items() if name not in real.unseen}
    found = {name: getattr(snapshot, name) for name in seen}
    moves = [(moved.was, moved.now) for moved in real.events]
    if (expected, seen, model.events) != (got, found, moves):
        raise Disagree(f"{(*path, event)}:\n{expected} {seen}\n{got} {found}\n{moves}")
