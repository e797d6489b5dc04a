"""What a connection says about its venue: the verdict, its moment, and the life after it."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from forebay.clock import ManualClock
from forebay.resilience import BreakerConfig, CircuitBreaker, CircuitOpen, presets
from forebay.sources.websocket import Timeouts
from forebay.sources.websocket.feed import Probation, Unsettled
from forebay.sources.websocket.timeouts import ConnectionTimes

if TYPE_CHECKING:
    from forebay.sources.websocket.connection import Connection

PATIENCE = Timeouts(settle_s=10)


class Table:
    """A breaker with some connections on trial; times move only here."""

    def __init__(self, config: BreakerConfig = presets.WEBSOCKET) -> None:
        self.clock = ManualClock()
        self.breaker = CircuitBreaker("ws", config, clock=self.clock, rng=random.Random(1))

    def trial(self) -> Probation:
        return Probation(self.breaker, PATIENCE, self.clock)

    def connection(self, *, accepted: bool = True, data: bool = False) -> Connection:
        now = self.clock.monotonic_ns()
        times = ConnectionTimes(now, now, now if accepted else None)
        return cast("Connection", SimpleNamespace(times=times, data=data))

    def fail(self, times: int) -> None:
        for _ in range(times):
            trial = self.trial()
            with pytest.raises(Unsettled) as caught:
                trial.end(self.connection(accepted=False), "ws://h")
            trial.fail(caught.value)

    def live(self, trial: Probation, connection: Connection, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            trial.look(connection)

    @property
    def state(self) -> str:
        return self.breaker.state.value

    @property
    def counts(self) -> tuple[int, int, int]:
        seen = self.breaker.snapshot()
        return seen.ok, seen.failed, seen.neutral


def test_three_that_end_before_they_settle_trip_it_and_the_cause_is_named() -> None:
    table = Table()
    table.fail(3)
    assert table.state == "open"
    assert table.breaker.snapshot().cause == "Unsettled"
    with pytest.raises(CircuitOpen):
        table.trial()


@pytest.mark.parametrize(("data", "at"), [(True, 1), (False, 10)])
def test_it_settles_with_data_or_after_a_while(data: bool, at: int) -> None:
    table = Table()
    trial, connection = table.trial(), table.connection(data=data)
    table.live(trial, connection, at - 1)
    assert table.counts == (0, 0, 0)
    table.live(trial, connection, 1)
    assert table.counts == (1, 0, 0)
    assert trial.settled


def test_what_is_not_accepted_never_settles() -> None:
    table = Table()
    trial, connection = table.trial(), table.connection(accepted=False, data=True)
    table.live(trial, connection, 100)
    assert (table.counts, trial.settled) == ((0, 0, 0), False)


def test_an_end_after_it_settled_is_no_failure() -> None:
    table = Table()
    for _ in range(10):
        trial = table.trial()
        trial.end(table.connection(data=True), "ws://h")
    assert (table.counts, table.state) == ((10, 0, 0), "closed")


def test_an_end_that_was_our_own_doing_says_nothing() -> None:
    table = Table()
    for _ in range(10):
        trial, connection = table.trial(), table.connection()
        connection.times.pause(table.clock.monotonic_ns())
        with pytest.raises(Unsettled) as caught:
            trial.end(connection, "ws://h")
        trial.fail(caught.value)
        trial.drop()
    assert (table.counts, table.state) == ((0, 0, 10), "closed")


def test_a_stop_says_nothing_and_gives_the_probe_back() -> None:
    table = Table()
    table.fail(3)
    table.clock.advance(34)
    trial = table.trial()
    assert table.breaker.snapshot().probes == 1
    trial.drop()
    assert table.breaker.snapshot().probes == 0
    trial.drop()
    trial.fail(Unsettled("too late"))
    assert table.counts == (0, 3, 1)


def test_the_probe_is_free_for_another_connection_once_it_has_settled() -> None:
    table = Table()
    table.fail(3)
    table.clock.advance(34)
    first, living = table.trial(), table.connection()
    with pytest.raises(CircuitOpen):
        table.trial()
    table.live(first, living, 10)
    assert table.state == "half_open"
    second = table.trial()
    second.end(table.connection(data=True), "ws://h")
    assert table.state == "closed"


def test_one_connection_alone_closes_it_by_living_on() -> None:
    table = Table()
    table.fail(3)
    table.clock.advance(34)
    trial, connection = table.trial(), table.connection()
    table.live(trial, connection, 19)
    assert table.state == "half_open"
    table.live(trial, connection, 1)
    assert table.state == "closed"


def test_a_connection_that_lives_heals_what_failed_beside_it() -> None:
    table = Table()
    trial, connection = table.trial(), table.connection()
    table.live(trial, connection, 10)
    for _ in range(5):
        table.fail(2)
        table.live(trial, connection, 10)
    assert table.state == "closed"
    table.live(trial, connection, 9)
    table.fail(2)
    assert table.breaker.snapshot().streak == 2, "healed more often than each settle_s"


@pytest.mark.parametrize("forced", [False, True])
def test_while_it_is_open_a_living_connection_proves_nothing_and_asks_for_nothing(
    forced: bool,
) -> None:
    table = Table()
    trial, connection = table.trial(), table.connection()
    table.live(trial, connection, 10)
    if forced:
        table.breaker.force_open("maintenance")
    else:
        table.fail(3)
    before = table.breaker.snapshot()
    table.live(trial, connection, 100)
    after = table.breaker.snapshot()
    assert (after.state, after.ok) == (before.state, before.ok)
    assert after.not_permitted == before.not_permitted


def test_a_living_connection_gives_way_to_a_probe_under_way() -> None:
    table = Table()
    trial, connection = table.trial(), table.connection()
    table.live(trial, connection, 10)
    table.fail(3)
    table.clock.advance(34)
    probe = table.trial()
    table.live(trial, connection, 25)
    assert table.state == "half_open"
    probe.fail(Unsettled("refused"))
    assert table.state == "open"
