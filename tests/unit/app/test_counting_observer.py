"""Counting what happens: by kind, by bounded labels, from many threads."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from forebay.app.processes.samples import OTHER, CountingObserver, endpoint
from forebay.telemetry import (
    CallRetried,
    DeadLettered,
    LossFound,
    ReconnectScheduled,
    RegistryFailed,
    RestRetried,
    RetriesEnded,
    ignore,
)

if TYPE_CHECKING:
    from forebay.telemetry import TelemetryEvent


def test_everything_is_passed_on_and_counted_by_kind() -> None:
    seen: list[TelemetryEvent] = []
    tally = CountingObserver(seen.append)
    told = [ReconnectScheduled("v", 1.0, 1), LossFound("l", 1, 2), LossFound("l", 3, 4)]
    for event in told:
        tally(event)
    assert seen == told
    assert tally.counts().happenings == {"ReconnectScheduled": 1, "LossFound": 2}
    assert tally.counts().errors == 2


def test_dead_letters_are_counted_as_many_as_there_are() -> None:
    tally = CountingObserver(ignore)
    tally(DeadLettered(3, "malformed", "v"))
    tally(DeadLettered(4, "malformed", "v"))
    tally(DeadLettered(1, "oversized", "v"))
    tally(DeadLettered(5, "malformed", "w"))
    assert tally.counts().dead_letters == {
        "v": {"malformed": 7, "oversized": 1},
        "w": {"malformed": 5},
    }


def test_failed_tries_of_rest_calls_are_counted_by_endpoint() -> None:
    tally = CountingObserver(ignore)
    tally(RestRetried("/products/BTC-USD/trades?after=5", "slow", 1.0, 1))
    tally(CallRetried("GET /products/ETH-USD/trades", 1.0, 2, "slow"))
    tally(RetriesEnded("GET /products", 5, "attempts"))
    tally(CallRetried("connect to the venue", 1.0, 2, "slow"))
    assert tally.counts().rest_errors == {"/products/*/trades": 2, "/products": 1}


def test_failed_calls_of_the_market_registry_are_counted_by_endpoint() -> None:
    tally = CountingObserver(ignore)
    for path in ("/markets?tickers=A-1", "/markets?status=open", "/events/KXGOLD15M-26AUG"):
        tally(RegistryFailed("v", f"GET {path}", "slow"))
    assert tally.counts().registry_errors == {"/markets": 2, "/events/*": 1}
    assert not tally.counts().rest_errors


def test_labels_that_others_choose_are_bounded() -> None:
    tally = CountingObserver(ignore, labels=3)
    for number in range(10):
        tally(DeadLettered(1, f"reason {number}"))
    tally(DeadLettered(1, "reason 0"))
    reasons = tally.counts().dead_letters[""]
    assert reasons == {"reason 0": 2, "reason 1": 1, "reason 2": 1, OTHER: 7}


def test_what_was_counted_does_not_change_any_more() -> None:
    tally = CountingObserver(ignore)
    before = tally.counts()
    tally(LossFound("l", 1, 2))
    assert (before.errors, sum(before.happenings.values())) == (0, 0)


def test_an_observer_may_be_told_in_turn() -> None:
    """The lock is not held while the next observer hears of it."""

    def echo(event: TelemetryEvent) -> None:
        if isinstance(event, LossFound):
            tally(ReconnectScheduled("v", 1.0, 1))

    tally = CountingObserver(echo)
    worker = threading.Thread(target=tally, args=(LossFound("l", 1, 2),), daemon=True)
    worker.start()
    worker.join(10)
    assert not worker.is_alive()
    assert tally.counts().happenings == {"LossFound": 1, "ReconnectScheduled": 1}


class Slow(str):
    """A label that lets other threads run whenever it is looked up."""

    __slots__ = ()

    def __hash__(self) -> int:
        return sum(map(len, self))

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)


def test_no_count_is_lost_between_threads() -> None:
    threads, each = 8, 400
    tally, begin = CountingObserver(ignore), threading.Barrier(threads)

    def work() -> None:
        begin.wait()
        for _ in range(each):
            tally(DeadLettered(2, Slow("malformed")))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    counts = tally.counts()
    assert counts.happenings == {"DeadLettered": threads * each}
    assert list(counts.dead_letters[""].values()) == [2 * threads * each]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/products/BTC-USD/trades?after=7", "/products/*/trades"),
        ("GET /products", "/products"),
        ("/v3/RuntimeSettings/17", "/*/*/*"),
        ("/products/", "/products/"),
        ("/", "/"),
        ("wss://venue.example/feed", ""),
        ("", ""),
        ("store", ""),
    ],
)
def test_endpoints(target: str, expected: str) -> None:
    assert endpoint(target) == expected
