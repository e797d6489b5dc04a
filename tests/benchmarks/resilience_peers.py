"""What a breaker and a retry cost beside those of other libraries.

*Overhead* is the CPU time of a decorated call less that of the bare function, both measured in
turn in every round; the figure is how many calls' overhead fits into a second. All breakers have
their defaults, are closed and judge every call a success.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebay.resilience import CircuitBreaker, CircuitOpen, Retry
from tests.benchmarks.harness import OURS, Goal, Row, alternate
from tests.benchmarks.resilience import (
    CALLS,
    REFUSALS,
    ROUNDS,
    awaited,
    cpu_of,
    cpu_of_awaited,
    open_breaker,
    refusals_of,
    work,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Decorate = Callable[[Callable[[int], Any]], Callable[[int], Any]]

PEER_CALLS = CALLS // 10
"""They take longer; a contender's turn should not."""
UNIT = "calls/s of CPU beyond the bare call"
CHEAPER = Goal(ratio=1)
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Peer:
    """A library, what makes its decorator, and the goals beside it: called and awaited."""

    name: str
    module: str
    make: Callable[[Any], Decorate]
    called: Goal | None = None
    awaited: Goal | None = None
    has_async: bool = True


BREAKERS = (
    Peer(
        "circuitbreaker",
        "circuitbreaker",
        lambda library: library.CircuitBreaker(name="measured"),
        CHEAPER,
        CHEAPER,
    ),
    Peer(
        "nopanic",
        "nopanic",
        lambda library: library.CircuitBreaker(),
        CHEAPER,
        CHEAPER,
    ),
    Peer(
        "interlock-cb",
        "interlock",
        lambda library: library.CircuitBreaker(name="measured"),
        CHEAPER,
        CHEAPER,
    ),
    Peer(
        "pybreaker",
        "pybreaker",
        lambda library: library.CircuitBreaker(),
        CHEAPER,
        has_async=False,
    ),
)
RETRIES = (
    Peer(
        "tenacity",
        "tenacity",
        lambda library: library.retry(stop=library.stop_after_attempt(_TRIES)),
    ),
    Peer("stamina", "stamina", lambda library: library.retry(on=OSError, attempts=_TRIES)),
)


def _overhead(fn: Callable[[int], Any], calls: int) -> Callable[[], float]:
    return lambda: calls / max(cpu_of(fn, calls) - cpu_of(work, calls), 1e-9)


def _awaited_overhead(fn: Callable[[int], Any], calls: int) -> Callable[[], float]:
    return lambda: calls / max(cpu_of_awaited(fn, calls) - cpu_of_awaited(awaited, calls), 1e-9)


def _library(module: str) -> Any:  # noqa: ANN401
    """Answer a library, or None if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        return None


def _rows(
    name: str,
    contenders: dict[str, Callable[[], float]],
    goals: dict[str, Goal | None],
    unit: str = UNIT,
) -> Iterator[Row]:
    """One row for each peer, all of one run; one that is not installed is a row that says so."""
    rounds = alternate(contenders, ROUNDS)
    for peer, goal in goals.items():
        if peer in contenders:
            yield rounds.row(f"{name}, {peer}", unit, goal, peer)
        else:
            yield Row(f"{name}, {peer}", unit, str(goal or ""), note=f"{peer} is not installed")


def _compare(
    name: str, decorate: Decorate, peers: tuple[Peer, ...], *, asynchronous: bool
) -> Iterator[Row]:
    measure = _awaited_overhead if asynchronous else _overhead
    fn = awaited if asynchronous else work
    asked = [peer for peer in peers if peer.has_async or not asynchronous]
    contenders = {OURS: measure(decorate(fn), CALLS // 2)}
    for peer in asked:
        if library := _library(peer.module):
            contenders[peer.name] = measure(peer.make(library)(fn), PEER_CALLS)
    goals = {peer.name: peer.awaited if asynchronous else peer.called for peer in asked}
    yield from _rows(name, contenders, goals)


def _fail(value: int) -> int:
    raise ConnectionError(value)


def _refusals() -> Iterator[Row]:
    """What it costs to be refused, the raising and the catching included."""
    refused = open_breaker()(work)
    contenders = {OURS: lambda: refusals_of(refused, CircuitOpen)}
    if library := _library("nopanic"):
        breaker = library.CircuitBreaker(min_calls=1, reset_timeout=600)
        refusals_of(breaker(_fail), ConnectionError, calls=1)
        peer = breaker(work)
        contenders["nopanic"] = lambda: refusals_of(peer, library.CircuitOpen, REFUSALS)
    yield from _rows("breaker, refusal", contenders, {"nopanic": CHEAPER}, "calls/s of CPU")


def run() -> Iterator[Row]:
    """A breaker beside its peers, and the path of a retry on which nothing fails."""
    breaker = "breaker, overhead of a call"
    awaiting = "breaker, overhead of an awaited call"
    yield from _compare(breaker, CircuitBreaker("b"), BREAKERS, asynchronous=False)
    yield from _compare(awaiting, CircuitBreaker("b"), BREAKERS, asynchronous=True)
    yield from _refusals()
    for asynchronous, what in ((False, "a call"), (True, "an awaited call")):
        name = f"retry, overhead of {what} that succeeds"
        yield from _compare(name, Retry(), RETRIES, asynchronous=asynchronous)
