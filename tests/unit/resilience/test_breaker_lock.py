"""What happens under a breaker's lock, what never does, and ends of calls that do without it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import ManualClock
from forebay.resilience import (
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Classifier,
    State,
)
from forebay.resilience.states import StateMachine
from tests.support.breaker_rig import DOWN, Rig, fail, fine

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from forebay.telemetry import TelemetryEvent


class Watched:
    """A breaker whose lock is looked at wherever it gets out of its own code."""

    def __init__(self, **config: Any) -> None:  # noqa: ANN401
        self.locked: list[tuple[str, bool]] = []
        self.clock = ManualClock()
        watched = self

        class Dice(random.Random):
            def uniform(self, a: float, b: float) -> float:
                watched.look("transition")
                return a

        def judge(_: object) -> bool:
            self.look("judge")
            return False

        def listener(_: TelemetryEvent) -> None:
            self.look("listener")

        settings = {"failure_threshold": 1, "success_threshold": 1, "half_open_permits": 1}
        self.breaker = CircuitBreaker(
            "b",
            BreakerConfig(**(settings | config), classify=Classifier(result=judge)),
            clock=self.clock,
            rng=Dice(),
            listener=listener,
        )

    def look(self, who: str) -> None:
        self.locked.append((who, self.breaker._lock.locked()))

    def seen(self) -> dict[str, set[bool]]:
        return {
            name: {locked for who, locked in self.locked if who == name} for name, _ in self.locked
        }


def test_transitions_are_made_under_the_lock_and_nobody_is_asked_or_told_there() -> None:
    watched = Watched()
    breaker = watched.breaker
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    watched.clock.advance(60)
    breaker.call(fine)
    breaker.force_open("x")
    breaker.reset("x")
    assert watched.seen() == {"transition": {True}, "judge": {False}, "listener": {False}}


def test_probes_that_hung_are_one_transition_under_the_lock() -> None:
    watched = Watched(timeout=5.0, half_open_permits=2)
    watched.breaker.acquire().failure(DOWN)
    watched.clock.advance(60)
    hung = [watched.breaker.acquire() for _ in range(2)]
    watched.locked.clear()
    watched.clock.advance(60)
    with pytest.raises(CircuitOpen, match="after a probe that hung"):
        watched.breaker.acquire()
    assert watched.locked == [("transition", True), ("listener", False)]
    for permit in hung:
        permit.release()


def test_orders_and_looks_are_made_under_the_lock() -> None:
    watched = Watched()
    orders: list[Callable[[], object]] = [
        lambda: watched.breaker.reconfigure(BreakerConfig(failure_threshold=1)),
        lambda: watched.breaker.reset("x"),
        watched.breaker.snapshot,
        watched.breaker.retry_after,
    ]
    machine = watched.breaker._machine
    for order in orders:
        held: list[bool] = []

        class Seen:
            """Stands for the machine, and tells whether the lock is held when it is used."""

            untold = machine.untold

            def __getattr__(self, name: str, held: list[bool] = held) -> object:
                held.append(watched.breaker._lock.locked())
                return getattr(machine, name)

        watched.breaker._machine = Seen()  # type: ignore[assignment]
        order()
        assert set(held) == {True}
    watched.breaker._machine = machine


def test_who_begins_to_probe_tells_so_at_once() -> None:
    rig = Rig()
    rig.half_open()
    probe = rig.breaker.acquire()
    assert rig.moves() == [("closed", "open"), ("open", "half_open")]
    probe.release()


# -------------------------------------------------------------- ends without the lock


def test_a_consumer_that_leaves_is_counted_and_told_at_once_if_the_lock_is_free() -> None:
    rig = Rig(success_threshold=1)
    rig.half_open()

    @rig.breaker
    def items() -> Generator[int, None, None]:
        yield 1

    taken = items()
    assert next(taken) == 1
    taken.close()
    # Neither asks for the lock, so nobody else can have counted it.
    assert rig.breaker.state is State.CLOSED
    assert rig.moves()[-1] == ("half_open", "closed")


def test_what_waited_for_the_lock_is_counted_before_what_comes_next() -> None:
    rig = Rig(half_open_permits=2, success_threshold=1)
    rig.half_open()
    left, other = rig.breaker.acquire(), rig.breaker.acquire()
    with rig.breaker._lock:
        left.gave = True
        left.end(GeneratorExit())
    other.failure(DOWN)
    assert rig.breaker.snapshot().stale == 1
    assert rig.is_in(State.CLOSED)


def test_a_place_given_back_inside_the_lock_is_free_for_the_next_caller() -> None:
    rig = Rig()
    rig.half_open()
    left = rig.breaker.acquire()
    with rig.breaker._lock:
        left.end(GeneratorExit())
    rig.breaker.acquire().release()
    assert rig.breaker.snapshot().neutral == 2


def test_a_call_closed_inside_the_lock_is_counted_later() -> None:
    rig = Rig()

    @rig.breaker
    async def call() -> None:
        await asyncio.sleep(0)

    pending: Any = call()
    pending.send(None)
    with rig.breaker._lock:
        pending.close()
    assert rig.breaker.snapshot().neutral == 1


def test_a_call_that_its_generator_left_is_over_though_the_permit_is_kept() -> None:
    rig = Rig()
    rig.half_open()
    permit = rig.breaker.acquire()
    permit.failure(GeneratorExit())
    assert permit.era is None
    assert (rig.breaker.snapshot().probes, rig.breaker.snapshot().neutral) == (0, 1)


def test_a_block_that_was_not_entered_or_has_ended_ends_nothing() -> None:
    breaker = Rig().breaker
    block = breaker.guard()
    block.__exit__(None, None, None)
    with block:
        pass
    block.__exit__(None, None, None)
    assert breaker.snapshot().ok == 1


ENDINGS: dict[str, Callable[[CircuitBreaker], object]] = {
    "admit": lambda breaker: breaker.acquire().release(),
    "succeeded": lambda breaker: breaker(fine)(),
    "end": lambda breaker: breaker.acquire().success(),
    "snapshot": lambda breaker: breaker.snapshot(),
}


@pytest.mark.parametrize("inside", ENDINGS)
def test_what_ends_inside_the_lock_is_counted_and_told_as_soon_as_it_is_free(
    inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the collector ends an abandoned call there, or another thread finds it taken."""
    rig = Rig(failure_threshold=1)
    permits = [rig.breaker.acquire()]
    method = getattr(StateMachine, inside)

    def ending(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401
        if permits:
            permits.pop().failure(DOWN)
            assert rig.is_in(State.CLOSED)
        return method(*args, **kwargs)

    monkeypatch.setattr(StateMachine, inside, ending)
    ENDINGS[inside](rig.breaker)
    assert rig.is_in(State.OPEN)
    assert rig.moves() == [("closed", "open")]


def test_entering_a_block_that_is_live_asks_for_no_other_call() -> None:
    breaker = Rig().breaker
    with breaker.guard() as permit, permit:
        assert permit.live
    assert breaker.snapshot().ok == 1


def test_a_block_of_a_bulkhead_that_is_dropped_gives_its_place_back() -> None:
    bulkhead = Bulkhead(1)
    block = bulkhead.guard().__enter__()
    assert bulkhead.in_flight == 1
    del block
    assert bulkhead.in_flight == 0
