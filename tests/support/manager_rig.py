"""A manager on a manual clock, breakers that trip at once, and what was told."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.resilience import BreakerConfig, ResilienceManager, State, SystemState
from forebay.telemetry import BreakerMoved, TelemetryEvent

if TYPE_CHECKING:
    from forebay.resilience import CircuitBreaker

HEALTHY, DEGRADED, CRITICAL, EMERGENCY = SystemState
DOWN = ConnectionError("down")
TRIPS_AT_ONCE = BreakerConfig(failure_threshold=1, recovery_timeout=10, recovery_jitter=0)


def fail() -> None:
    raise DOWN


def fine() -> int:
    return 1


def trip(breaker: CircuitBreaker) -> None:
    for _ in range(breaker.config.failure_threshold or 1):
        with pytest.raises(ConnectionError):
            breaker.call(fail)


class Service:
    """Something to probe: down or up, and it may hang."""

    def __init__(self) -> None:
        self.error: BaseException | None = DOWN
        self.gate: asyncio.Event | None = None
        self.probed = 0
        self.under_way = 0

    async def probe(self) -> None:
        self.probed += 1
        self.under_way += 1
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.under_way -= 1


class Rig:
    """A manager on a manual clock, with what it told."""

    def __init__(self, *, recovery_hold: float = 30.0, auto_recovery: bool = True) -> None:
        self.clock = ManualClock()
        self.told: list[TelemetryEvent] = []
        self.manager = ResilienceManager(
            process="deliver",
            clock=self.clock,
            rng=random.Random(1),
            listener=self.told.append,
            recovery_hold=recovery_hold,
            auto_recovery=auto_recovery,
        )

    def add(self, name: str, *needs: str, critical: bool = False) -> CircuitBreaker:
        return self.manager.register(name, TRIPS_AT_ONCE, critical=critical, depends_on=needs)

    def is_in(self, state: SystemState) -> bool:
        return self.manager.state is state

    def said(self) -> list[TelemetryEvent]:
        """What was told of services and of the whole since the last time."""
        told = [each for each in self.told if not isinstance(each, BreakerMoved)]
        self.told.clear()
        return told


def is_in(breaker: CircuitBreaker, state: State) -> bool:
    return breaker.state is state
