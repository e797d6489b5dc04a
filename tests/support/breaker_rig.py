"""A breaker on a manual clock, with what it told: for tests that look at it from outside."""

from __future__ import annotations

import random

import pytest

from forebay.clock import ManualClock
from forebay.resilience import BreakerConfig, CircuitBreaker, State
from forebay.telemetry import BreakerMoved, TelemetryEvent

DOWN = ConnectionError("down")


def fail() -> None:
    raise DOWN


def fine() -> int:
    return 1


class Rig:
    """A breaker on a manual clock, with what it told."""

    def __init__(self, **config: object) -> None:
        self.clock = ManualClock()
        self.told: list[TelemetryEvent] = []
        settings = {"failure_threshold": 3, "recovery_timeout": 10.0, "recovery_jitter": 0.0}
        self.breaker = CircuitBreaker(
            "b",
            BreakerConfig(**(settings | config)),  # type: ignore[arg-type]
            clock=self.clock,
            rng=random.Random(1),
            listener=self.told.append,
        )

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(ConnectionError) as raised:
                self.breaker.call(fail)
            assert raised.value is DOWN

    def is_in(self, state: State) -> bool:
        return self.breaker.state is state

    def trip(self) -> None:
        self.fail(self.breaker.config.failure_threshold or 1)
        assert self.is_in(State.OPEN)

    def half_open(self) -> None:
        self.trip()
        self.clock.advance(10)

    def moves(self) -> list[tuple[str, str]]:
        assert all(isinstance(moved, BreakerMoved) for moved in self.told)
        return [(moved.was, moved.now) for moved in self.told if isinstance(moved, BreakerMoved)]
