"""Random histories of a breaker: overlapping calls, a clock that jumps, orders at any moment.

The exhaustive check in ``tests/unit/resilience/test_breaker_model.py`` is for small numbers; this
one has larger ones, a window beside the streak and longer histories, and knows only invariants.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import types
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay.clock import ManualClock
from forebay.resilience import (
    Answer,
    BreakerConfig,
    CircuitBreaker,
    CircuitOpen,
    FailureRate,
    FailuresWithin,
    RateLimit,
    RateLimited,
    Snapshot,
    StaleCache,
    State,
)
from forebay.telemetry import BreakerMoved, TelemetryEvent

if TYPE_CHECKING:
    from collections.abc import Generator

NS = 1_000_000_000
DOWN = ConnectionError("down")
FAILING = {"ok": None, "fail": DOWN, "cancel": asyncio.CancelledError()}
JUMPS = st.sampled_from([0.0, 0.5, 1.0, 5.0, 10.0, -1.0, -1e6, 1e6])
WINDOWS = st.sampled_from([None, FailureRate(0.5, 20, 3), FailuresWithin(3, 10)])
CONFIGS = st.builds(
    BreakerConfig,
    failure_threshold=st.integers(1, 4),
    window=WINDOWS,
    recovery_timeout=st.sampled_from([1.0, 5.0]),
    recovery_backoff=st.sampled_from([1.0, 2.0]),
    recovery_max=st.just(10.0),
    recovery_jitter=st.sampled_from([0.0, 0.2]),
    success_threshold=st.integers(1, 3),
    half_open_permits=st.integers(1, 3),
    probe_lease=st.sampled_from([None, 2.0]),
    slow_call_duration=st.sampled_from([None, 4.0]),
)
LEGAL = {
    "call": {("open", "half_open"), ("half_open", "open")},  # the other: probes that hung
    "ok": {("half_open", "closed")},
    "fail": {("closed", "open"), ("half_open", "open")},
    "cancel": {("half_open", "open")},  # probes that said nothing, again and again
    "wait": set[tuple[str, str]](),
    "reconfigure": set[tuple[str, str]](),
}
"""What may follow from what: only failures trip, only a probe's success closes."""
SLOW = {("closed", "open"), ("half_open", "open")}


@types.coroutine
def suspend() -> Generator[None, None, None]:
    yield


class Breakers(RuleBasedStateMachine):
    """One breaker, with calls under way as permits and as decorated coroutines."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.moves: list[tuple[str, str]] = []
        self.calls: list[Any] = []
        self.asked = 0

    @initialize(config=CONFIGS, seed=st.integers(0, 99))
    def build(self, config: BreakerConfig, seed: int) -> None:
        self.breaker = CircuitBreaker(
            "b", config, clock=self.clock, rng=random.Random(seed), listener=self.hear
        )
        self.decorated = self.breaker(suspend_once)

    def hear(self, moved: TelemetryEvent) -> None:
        assert isinstance(moved, BreakerMoved)
        self.moves.append((moved.was, moved.now))

    @contextlib.contextmanager
    def only(self, *causes: str) -> Generator[Snapshot, None, None]:
        """Check that nothing happened but what these causes allow."""
        known = len(self.moves)
        yield self.breaker.snapshot()
        legal = set[tuple[str, str]]().union(*(LEGAL[cause] for cause in causes))
        if self.breaker.config.slow_call_duration is not None and causes != ("call",):
            legal |= SLOW
        assert set(self.moves[known:]) <= legal

    @precondition(lambda self: len(self.calls) < 8)
    @rule(decorated=st.booleans())
    def begin(self, *, decorated: bool) -> None:
        self.asked += 1
        with self.only("call") as before:
            try:
                call: Any = self.decorated() if decorated else self.breaker.acquire()
                if decorated:
                    call.send(None)
            except CircuitOpen:
                after = self.breaker.snapshot()
                assert after.state not in {State.CLOSED, State.DISABLED}
                assert after.not_permitted == before.not_permitted + 1
                return
        assert self.breaker.state in {State.CLOSED, State.DISABLED, State.HALF_OPEN}
        assert self.breaker.snapshot().probes <= self.breaker.config.half_open_permits
        self.calls.append(call)

    @precondition(lambda self: self.calls)
    @rule(how=st.sampled_from(["ok", "fail", "cancel"]), data=st.data())
    def end(self, how: str, data: st.DataObject) -> None:
        call = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        error = FAILING[how]
        with self.only(how) as before:
            if not isinstance(call, types.CoroutineType):
                call.success() if error is None else call.failure(error)
            else:
                with contextlib.suppress(StopIteration, ConnectionError, asyncio.CancelledError):
                    call.send(None) if error is None else call.throw(error)
        after = self.breaker.snapshot()
        if after.stale > before.stale:  # of another era: it moves nothing
            assert (after.state, after.streak, after.probes, after.trips) == (
                before.state, before.streak, before.probes, before.trips,
            )  # fmt: skip

    @rule(seconds=JUMPS)
    def wait(self, seconds: float) -> None:
        with self.only("wait"):
            self.clock.advance(seconds)

    @rule(config=CONFIGS)
    def reconfigure(self, config: BreakerConfig) -> None:
        with self.only("reconfigure") as before:
            self.breaker.reconfigure(config)
        after = self.breaker.snapshot()
        assert (after.streak, after.probes) == (before.streak, before.probes)

    @rule(order=st.sampled_from(["force_open", "disable", "reset", "force_half_open"]))
    def order(self, order: str) -> None:
        known, before = len(self.moves), self.breaker.state
        changed = getattr(self.breaker, order)("ordered")
        assert len(self.moves) == known + changed
        assert changed is (self.breaker.state is not before)

    @precondition(lambda self: self.breaker.state in {State.OPEN, State.HALF_OPEN})
    @rule()
    def is_never_stuck(self) -> None:
        """With time, and probes that answer, it closes, whatever hangs meanwhile."""
        for _ in range(40):
            self.clock.advance(13)  # longer than any wait or lease
            with contextlib.suppress(CircuitOpen):
                self.asked += 1
                self.breaker.acquire().success()
            if self.breaker.state is State.CLOSED:
                break
        assert self.breaker.state is State.CLOSED

    @invariant()
    def counts_every_call_once(self) -> None:
        if not hasattr(self, "breaker"):
            return
        seen = self.breaker.snapshot()
        ended = seen.ok + seen.failed + seen.slow + seen.neutral + seen.not_permitted + seen.stale
        assert ended + len(self.calls) == self.asked
        assert seen.probes <= len(self.calls)
        assert seen.trips == sum(now == "open" for _, now in self.moves)
        assert all(a[1] == b[0] for a, b in zip(self.moves, self.moves[1:], strict=False))

    def teardown(self) -> None:
        for call in self.calls:
            if isinstance(call, types.CoroutineType):
                call.close()


async def suspend_once() -> None:
    await suspend()


# ------------------------------------------------------------- time that goes back


@given(st.lists(st.tuples(st.booleans(), st.integers(-20 * NS, 20 * NS)), max_size=60))
def test_windows_survive_a_clock_that_goes_back(steps: list[tuple[bool, int]]) -> None:
    """They may judge by other times then, but never by fewer calls than they are told to."""
    rate, within, now = FailureRate(0.5, 10, 4).window(), FailuresWithin(3, 10).window(), 10**12
    failures = 0
    for calls, (failed, later) in enumerate(steps, start=1):
        now += later
        if failed:
            failures += 1
            assert not rate.bad(now) or calls >= 4
            assert not within.bad(now) or failures >= 3
        else:
            rate.ok(now)
            within.ok(now)


# ------------------------------------------------------------------------- waiting


class Answering(RuleBasedStateMachine):
    """Tasks that ask a cache for one key while its dependency answers, fails and is left."""

    STALE = 10

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.cache: StaleCache[str, int] = StaleCache(stale=self.STALE, clock=self.clock)
        self.gates: list[asyncio.Future[int]] = []
        self.tasks: list[asyncio.Task[Answer[int]]] = []
        self.kept: tuple[int, int] | None = None
        self.serial = 0

    async def load(self) -> int:
        gate: asyncio.Future[int] = self.loop.create_future()
        self.gates.append(gate)
        try:
            return await gate
        finally:
            self.gates.remove(gate)

    def spin(self) -> None:
        async def turns() -> None:
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @precondition(lambda self: len(self.tasks) < 6)
    @rule()
    def ask(self) -> None:
        self.tasks.append(self.loop.create_task(self.cache.aget("a", self.load)))
        self.spin()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        task = self.tasks.pop(data.draw(st.integers(0, len(self.tasks) - 1)))
        task.cancel()
        self.spin()
        assert task.cancelled()

    @rule(seconds=st.sampled_from([1, STALE, STALE + 1]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.gates)
    @rule(fails=st.booleans())
    def answer(self, *, fails: bool) -> None:
        now = self.clock.monotonic_ns() // NS
        if fails:
            self.gates[0].set_exception(DOWN)
        else:
            self.serial += 1
            self.gates[0].set_result(self.serial)
            self.kept = (now, self.serial)
        self.spin()
        old = self.kept if self.kept and now - self.kept[0] <= self.STALE else None
        for task in self.tasks:
            if old is None:
                assert task.exception() is DOWN
            else:
                assert task.result().value == old[1]
                assert task.result().age == (now - old[0] if fails else 0)
        self.tasks.clear()

    @invariant()
    def one_asks_while_any_waits(self) -> None:
        assert len(self.gates) == bool(self.tasks) == len(self.cache._asking)

    def teardown(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.spin()
        self.loop.close()


class Rates(RuleBasedStateMachine):
    """Tasks that wait for a rate, some of which leave; every grant is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.grants: list[int] = []
        self.refused: list[RateLimited] = []
        self.tasks: list[asyncio.Task[None]] = []

    @initialize(rate=st.integers(1, 3), burst=st.integers(1, 3), longest=st.integers(0, 4))
    def build(self, rate: int, burst: int, longest: int) -> None:
        self.rate, self.burst, self.longest = rate, burst, longest
        self.limit = RateLimit(rate, burst=burst, longest_wait=longest, clock=self.clock)

    async def take(self) -> None:
        asked = self.clock.monotonic_ns()
        try:
            await self.limit.atake()
        except RateLimited as refused:
            self.refused.append(refused)
            return
        now = self.clock.monotonic_ns()
        assert now - asked <= (self.longest + 1) * NS  # the clock here moves by whole seconds
        self.grants.append(now)

    def spin(self) -> None:
        async def turns() -> None:
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                task.result()

    @rule()
    def ask(self) -> None:
        self.tasks.append(self.loop.create_task(self.take()))
        self.spin()

    @rule()
    def wait(self) -> None:
        for _ in range(10):  # in small steps, so that a grant is looked at when it is due
            self.clock.advance(0.1)
            self.spin()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.tasks[data.draw(st.integers(0, len(self.tasks) - 1))].cancel()
        self.spin()

    @invariant()
    def no_time_has_too_many_grants(self) -> None:
        for first, began in enumerate(self.grants):
            for last in range(first, len(self.grants)):
                # A grant is noticed up to a step of the clock after it was due.
                span = (self.grants[last] - began) / NS + 0.1
                assert last - first + 1 <= self.burst + self.rate * span + 1e-6

    @invariant()
    def nobody_is_refused_who_could_wait(self) -> None:
        for refused in self.refused:
            assert refused.retry_after is not None
            assert refused.retry_after > self.longest

    def teardown(self) -> None:
        for task in self.tasks:
            task.cancel()
        if hasattr(self, "limit"):
            self.spin()
        self.loop.close()


TestBreakers = Breakers.TestCase
TestBreakers.settings = settings(max_examples=40, stateful_step_count=40)
TestAnswering = Answering.TestCase
TestAnswering.settings = settings(max_examples=25, stateful_step_count=20)
TestRates = Rates.TestCase
TestRates.settings = settings(max_examples=25, stateful_step_count=20)
