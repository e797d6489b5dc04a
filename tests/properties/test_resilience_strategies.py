"""Random histories of each strategy against a brute-force account of what it may do."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay.clock import ManualClock
from forebay.resilience import (
    Answer,
    Bulkhead,
    BulkheadFull,
    FailureRate,
    FailuresWithin,
    Origin,
    RateLimit,
    RateLimited,
    Retry,
    RetryBudget,
    RetryConfig,
    StaleCache,
    deadline,
    remaining,
)

NS = 1_000_000_000
BUCKETS = 10
PAUSES = st.integers(0, 12).map(lambda seconds: seconds * NS) | st.integers(0, 12 * NS)
STEPS = st.lists(st.tuples(st.booleans(), PAUSES), max_size=60)
"""Whether each call failed, and how long after the last one it ended."""


@given(STEPS, st.integers(1, 5), st.integers(1, 30))
def test_failures_within_a_time_against_a_list(
    steps: list[tuple[bool, int]], failures: int, seconds: int
) -> None:
    window, now, times = FailuresWithin(failures, seconds).window(), 0, list[int]()
    for failed, later in steps:
        now += later
        if not failed:
            window.ok(now)
            continue
        times.append(now)
        recent = times[-failures:]
        expected = len(recent) == failures and recent[-1] - recent[0] <= seconds * NS
        assert window.bad(now) is expected


@given(
    STEPS, st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.integers(1, 8), st.sampled_from([1, 10, 20])
)
def test_a_failure_rate_against_a_list(
    steps: list[tuple[bool, int]], rate: float, minimum: int, seconds: int
) -> None:
    window, now = FailureRate(rate, seconds, minimum).window(), 0
    width, calls = seconds * NS // BUCKETS, list[tuple[int, bool]]()
    for failed, later in steps:
        now += later
        calls.append((now // width, failed))
        if not failed:
            window.ok(now)
            continue
        recent = [bad for bucket, bad in calls if bucket > now // width - BUCKETS]
        expected = len(recent) >= minimum and sum(recent) >= rate * len(recent)
        assert window.bad(now) is expected


@given(st.floats(0, 1), st.integers(0, 5), st.integers(0, 20), st.lists(st.booleans()))
def test_retries_never_exceed_the_share_and_the_floor(
    ratio: float, floor: int, saved: int, calls: list[bool]
) -> None:
    budget = RetryBudget(ratio, floor=floor, saved=floor + saved)
    made = retried = 0
    for is_call in calls:
        if is_call:
            made += 1
            budget.called()
        elif budget.spend():
            retried += 1
        assert 0 <= budget.left <= floor + saved
        assert retried <= ratio * made + floor
        # No less either: a deposit is a thousandth at most short of the share.
        if not is_call and retried == 0:
            assert floor == 0
            assert min(made * (ratio - 0.001), saved) < 1


@given(
    st.sampled_from([0.3, 1.0, 7.0, 1000.0]),
    st.integers(1, 6),
    st.lists(st.integers(0, 4 * NS), min_size=1, max_size=60),
)
def test_no_time_has_more_grants_than_burst_and_rate(
    per_second: float, burst: int, pauses: list[int]
) -> None:
    clock = ManualClock()
    limit = RateLimit(per_second, burst=burst, clock=clock)
    grants: list[int] = []
    for pause in pauses:
        clock.advance(pause / NS)
        now = clock.monotonic_ns()
        try:
            limit.take()
        except RateLimited as refused:
            clock.advance(refused.retry_after or 0)
            limit.take()  # it keeps its word
            now = clock.monotonic_ns()
        grants.append(now)
    for first, began in enumerate(grants):
        for last in range(first, len(grants)):
            assert last - first + 1 <= burst + per_second * (grants[last] - began) / NS + 1e-6


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=6), st.floats(0, 5))
def test_an_inner_deadline_never_ends_later(spans: list[float], later: float) -> None:
    clock = ManualClock()

    def nest(rest: list[float], limit: float) -> None:
        if not rest:
            return
        with deadline(rest[0], clock=clock):
            left = remaining()
            assert left is not None
            assert left <= min(limit, rest[0]) + 1e-9
            nest(rest[1:], left)
            after = remaining()
            assert after is not None
            assert after <= left

    nest(spans, float("inf"))
    clock.advance(later)
    assert remaining() is None


CONFIGS = st.builds(
    RetryConfig,
    attempts=st.none(),
    base=st.floats(0.01, 5),
    factor=st.floats(1, 4),
    cap=st.floats(5, 60),
) | st.builds(RetryConfig, attempts=st.none(), full_jitter=st.just(value=True))


@given(CONFIGS, st.integers(0, 2**32), st.none() | st.floats(0, 400))
def test_waits_are_within_their_bounds(config: RetryConfig, seed: int, asked: float | None) -> None:
    config = replace(config, asked=lambda _: asked)
    base, cap, full = config.base, config.cap, config.full_jitter
    retry = Retry(config, rng=random.Random(seed))
    for attempt in range(1, 12):
        wait = retry._wait_after(OSError(), attempt)
        nominal = min(cap, base * config.factor ** (attempt - 1))
        floor = min(asked or 0.0, config.longest_asked)
        assert wait is not None
        assert wait <= max(floor, min(cap, nominal * (1 if full else 1.1))) * (1 + 1e-9)
        assert wait >= floor
        if not full:
            assert wait >= nominal * 0.9 * (1 - 1e-9)


class Places(RuleBasedStateMachine):
    """A bulkhead with calls that enter, wait, are cancelled and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.inside = 0
        self.waiting: list[asyncio.Task[None]] = []

    @initialize(limit=st.integers(1, 3), waiting=st.integers(0, 3))
    def build(self, limit: int, waiting: int) -> None:
        self.bulkhead = Bulkhead(limit, waiting=waiting)

    def spin(self) -> None:
        async def turns() -> None:
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @rule()
    def enter_from_a_task(self) -> None:
        room = self.inside < self.bulkhead.limit
        queue = len(self.waiting) < self.bulkhead.waiting
        task = self.loop.create_task(self.bulkhead.atake())
        self.spin()
        if room:
            assert task.done()
            assert task.exception() is None
            self.inside += 1
        elif queue:
            assert not task.done()
            self.waiting.append(task)
        else:
            assert isinstance(task.exception(), BulkheadFull)

    @rule()
    def enter_from_a_thread(self) -> None:
        try:
            self.bulkhead.take()
        except BulkheadFull:
            assert self.inside == self.bulkhead.limit
        else:
            assert self.inside < self.bulkhead.limit
            self.inside += 1

    @precondition(lambda self: self.inside)
    @rule(cancel=st.booleans())
    def leave(self, *, cancel: bool) -> None:
        """The first waiter gets the place, or, if it is cancelled at once, the second."""
        self.bulkhead.give()
        if cancel and self.waiting:
            self.waiting.pop(0).cancel()
        self.spin()
        if self.waiting:
            assert self.waiting.pop(0).done()
        else:
            self.inside -= 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1))).cancel()
        self.spin()

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "bulkhead"):
            assert self.bulkhead.in_flight == self.inside <= self.bulkhead.limit
            assert self.bulkhead.queued == len(self.waiting)
            assert not any(task.done() for task in self.waiting)

    def teardown(self) -> None:
        for task in self.waiting:
            task.cancel()
        self.spin()
        self.loop.close()


class Answers(RuleBasedStateMachine):
    """A cache whose every answer is checked against all that was ever kept."""

    FRESH, STALE, ITEMS = 3, 10, 2

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.cache: StaleCache[str, int] = StaleCache(
            fresh=self.FRESH, stale=self.STALE, items=self.ITEMS, clock=self.clock
        )
        self.kept: dict[str, tuple[int, int]] = {}  # in order of use
        self.serial = 0

    @rule(seconds=st.integers(1, 6))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(key=st.sampled_from("abc"), fails=st.booleans())
    def get(self, key: str, *, fails: bool) -> None:
        now = self.clock.monotonic_ns() // NS
        asked, error = [], OSError("away")

        def load() -> int:
            asked.append(key)
            if fails:
                raise error
            self.serial += 1
            return self.serial

        kept = self.kept.get(key)
        age = now - kept[0] if kept else None
        try:
            answer = self.cache.get(key, load)
        except OSError:
            assert age is None or age > self.STALE
            return
        if age is not None and age <= self.FRESH:
            assert kept is not None
            assert (answer, asked) == (Answer(kept[1], Origin.CACHED, age), [])
        elif fails:
            assert kept is not None
            assert age is not None
            assert age <= self.STALE
            assert answer == Answer(kept[1], Origin.STALE, age, "OSError")
        else:
            assert answer == Answer(self.serial)
            kept = (now, self.serial)
        assert kept is not None
        self.kept.pop(key, None)
        self.kept[key] = kept
        if len(self.kept) > self.ITEMS:
            del self.kept[next(iter(self.kept))]

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.cache) == len(self.kept) <= self.ITEMS


SHORT = settings(max_examples=40, stateful_step_count=25)
TestPlaces = Places.TestCase
TestPlaces.settings = SHORT
TestAnswers = Answers.TestCase
TestAnswers.settings = SHORT
