"""Breakers behind one small interface: ours, every peer that is installed, and two naive ones.

All are told the same: three failures trip, one successful probe closes, one probe at a time where
a breaker can say so. Peers keep their own time, so their recovery timeout is short and really
passes; ours and the naive ones are told the time.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import itertools
import threading
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from forebay.clock import ManualClock
from forebay.resilience import BreakerConfig, CircuitBreaker
from tests.resilience_peers.naive import Eager, Flagged

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 3
RECOVERY_S = 0.05
_serial = itertools.count()


def _pass_time() -> None:
    threading.Event().wait(RECOVERY_S * 2)


@dataclass(frozen=True, slots=True)
class Breaker:
    """One new breaker: how it decorates a ``def`` and an ``async def``, if it can.

    ``wait`` lets its recovery timeout, and the lease of a probe, pass.
    """

    plain: Callable[[Any], Any] | None
    awaited: Callable[[Any], Any] | None
    wait: Callable[[], object] = _pass_time


@dataclass(frozen=True, slots=True)
class Contender:
    """A kind of breaker, and the distribution it is in; ours and the naive ones are in none."""

    name: str
    make: Callable[[], Breaker]
    distribution: str = ""

    def version(self) -> str | None:
        """What is installed; None if it is not, and nothing to say if it need not be."""
        if not self.distribution:
            return ""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None


def _ours() -> Breaker:
    clock = ManualClock()
    config = BreakerConfig(
        failure_threshold=FAILURES,
        success_threshold=1,
        recovery_timeout=RECOVERY_S,
        recovery_jitter=0,
    )
    breaker = CircuitBreaker("probed", config, clock=clock)
    return Breaker(breaker, breaker, lambda: clock.advance(RECOVERY_S))


def _eager() -> Breaker:
    clock = ManualClock()
    breaker = Eager(FAILURES, RECOVERY_S, clock)
    return Breaker(breaker.plain, breaker.awaited, lambda: clock.advance(RECOVERY_S))


def _flagged() -> Breaker:
    clock = ManualClock()
    breaker = Flagged(FAILURES, RECOVERY_S, clock)
    return Breaker(breaker.plain, breaker.awaited, lambda: clock.advance(RECOVERY_S))


def _pybreaker() -> Breaker:
    library = importlib.import_module("pybreaker")
    breaker = library.CircuitBreaker(fail_max=FAILURES, reset_timeout=RECOVERY_S)
    return Breaker(breaker, None)


def _aiobreaker() -> Breaker:
    library = importlib.import_module("aiobreaker")
    span = timedelta(seconds=RECOVERY_S)
    breaker = library.CircuitBreaker(fail_max=FAILURES, timeout_duration=span)
    return Breaker(breaker(), breaker())


def _circuitbreaker() -> Breaker:
    library = importlib.import_module("circuitbreaker")
    breaker = library.CircuitBreaker(FAILURES, RECOVERY_S, name=f"probed {next(_serial)}")
    return Breaker(breaker, breaker)


def _purgatory() -> Breaker:
    library = importlib.import_module("purgatory")
    plain = library.SyncCircuitBreakerFactory(default_threshold=FAILURES, default_ttl=RECOVERY_S)
    awaited = library.AsyncCircuitBreakerFactory(default_threshold=FAILURES, default_ttl=RECOVERY_S)
    return Breaker(plain("probed"), awaited("probed"))


def _hyx() -> Breaker:
    library = importlib.import_module("hyx.circuitbreaker")
    breaker = library.consecutive_breaker(
        failure_threshold=FAILURES, recovery_time_secs=RECOVERY_S, recovery_threshold=1
    )
    return Breaker(None, breaker)


def _resilient_circuit() -> Breaker:
    library = importlib.import_module("resilient_circuit")
    breaker = library.CircuitProtectorPolicy(
        resource_key=f"probed {next(_serial)}",
        storage=importlib.import_module("resilient_circuit.storage").InMemoryStorage(),
        cooldown=timedelta(seconds=RECOVERY_S),
        failure_limit=Fraction(FAILURES - 1, FAILURES),  # 3/3 would be 1/1: the first trips
        success_limit=Fraction(1, 1),
    )
    return Breaker(breaker, breaker)


def _pyresilience() -> Breaker:
    library = importlib.import_module("pyresilience")
    decorate = library.resilient(
        circuit_breaker=library.CircuitBreakerConfig(
            failure_threshold=FAILURES, recovery_timeout=RECOVERY_S, success_threshold=1
        )
    )
    return Breaker(decorate, decorate)


def _interlock() -> Breaker:
    library = importlib.import_module("interlock")
    config = library.Config(
        minimum_number_of_calls=FAILURES,
        permitted_calls_in_half_open=1,
        max_concurrent_probes=1,
        wait_duration_in_open=RECOVERY_S,
    )
    breaker = library.CircuitBreaker(name="probed", config=config)
    return Breaker(breaker, breaker)


def _nopanic() -> Breaker:
    library = importlib.import_module("nopanic")
    breaker = library.CircuitBreaker(min_calls=FAILURES, reset_timeout=RECOVERY_S)
    return Breaker(breaker, breaker)


OURS = Contender("forebay", _ours)
CONTROLS = (Contender("naive, eager", _eager), Contender("naive, flagged", _flagged))
PEERS = (
    Contender("pybreaker", _pybreaker, "pybreaker"),
    Contender("aiobreaker", _aiobreaker, "aiobreaker"),
    Contender("circuitbreaker", _circuitbreaker, "circuitbreaker"),
    Contender("purgatory", _purgatory, "purgatory"),
    Contender("hyx", _hyx, "hyx"),
    Contender("resilient-circuit", _resilient_circuit, "resilient-circuit"),
    Contender("pyresilience", _pyresilience, "pyresilience"),
    Contender("interlock", _interlock, "interlock-cb"),
    Contender("nopanic", _nopanic, "nopanic"),
)
