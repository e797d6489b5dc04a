"""A breaker from outside: what its users see, and what breaks the peers."""

from __future__ import annotations

import asyncio

import pytest

from forebay.resilience import BulkheadFull, CircuitOpen, State
from tests.support.breaker_rig import DOWN, Rig, fail, fine


def test_it_trips_refuses_probes_and_closes() -> None:
    rig = Rig(success_threshold=2)
    assert rig.breaker.call(fine) == 1
    rig.trip()
    with pytest.raises(CircuitOpen) as refused:
        rig.breaker.call(fine)
    assert refused.value.retry_after == 10
    assert str(refused.value) == (
        "b is not called for another 10.0 s: its breaker is open after ConnectionError."
    )
    rig.clock.advance(10)
    assert rig.is_in(State.OPEN)
    rig.breaker.call(fine)
    assert rig.is_in(State.HALF_OPEN)
    rig.breaker.call(fine)
    assert rig.is_in(State.CLOSED)
    assert rig.moves() == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
    seen = rig.breaker.snapshot()
    assert (seen.ok, seen.failed, seen.not_permitted, seen.trips) == (3, 3, 1, 1)
    assert list(seen.history) == rig.told


def test_a_success_heals_however_old_the_failures_are() -> None:
    rig = Rig()
    for _ in range(20):
        rig.fail(2)
        rig.breaker.call(fine)
    assert rig.is_in(State.CLOSED)
    rig.fail(2)
    rig.clock.advance(86400)
    rig.fail(1)
    assert rig.is_in(State.OPEN)


def test_the_decorated_success_heals_too() -> None:
    rig = Rig()
    good, bad = rig.breaker(fine), rig.breaker(fail)
    for _ in range(3):
        for _ in range(2):
            with pytest.raises(ConnectionError):
                bad()
        good()
    assert rig.is_in(State.CLOSED)
    assert rig.breaker.snapshot().ok == 3


# ------------------------------------------------------------ what breaks the peers


async def test_of_fifty_callers_at_half_open_one_is_a_probe() -> None:
    rig, hits, gate = Rig(), 0, asyncio.Event()
    rig.half_open()

    @rig.breaker
    async def call() -> None:
        nonlocal hits
        hits += 1
        await gate.wait()

    tasks = [asyncio.create_task(call()) for _ in range(50)]
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert hits == 1
    assert sum(isinstance(result, CircuitOpen) for result in results) == 49


async def test_a_cancelled_probe_gives_its_place_to_another_and_moves_nothing() -> None:
    rig = Rig(success_threshold=1)
    rig.half_open()

    @rig.breaker
    async def call(gate: asyncio.Event) -> None:
        await gate.wait()

    probe = asyncio.create_task(call(asyncio.Event()))
    await asyncio.sleep(0)
    assert rig.breaker.snapshot().probes == 1
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert (rig.breaker.state, rig.breaker.snapshot().probes) == (State.HALF_OPEN, 0)
    ready = asyncio.Event()
    ready.set()
    await call(ready)
    assert rig.is_in(State.CLOSED)


@pytest.mark.parametrize("limit", [None, 60.0])
async def test_cancelled_calls_do_not_trip(limit: float | None) -> None:
    rig = Rig(timeout=limit)

    @rig.breaker
    async def call() -> None:
        await asyncio.Event().wait()

    for _ in range(6):
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert rig.is_in(State.CLOSED)
    assert rig.breaker.snapshot().neutral == 6


@pytest.mark.parametrize("half_open", [False, True])
def test_a_late_success_does_not_close(*, half_open: bool) -> None:
    rig = Rig(success_threshold=1)
    late = rig.breaker.acquire()
    rig.half_open()
    if half_open:
        probe = rig.breaker.acquire()
        assert probe.era is not None
    before = rig.breaker.state
    late.success()
    assert rig.breaker.state is before
    assert rig.breaker.snapshot().stale == 1


def test_a_decorated_success_of_an_earlier_era_is_stale() -> None:
    rig = Rig()

    @rig.breaker
    def call() -> None:
        rig.breaker.reset("while it runs")

    call()
    assert (rig.breaker.snapshot().ok, rig.breaker.snapshot().stale) == (0, 1)


def test_a_late_failure_does_not_reopen() -> None:
    rig = Rig(success_threshold=1)
    late = [rig.breaker.acquire() for _ in range(5)]
    rig.half_open()
    rig.breaker.call(fine)
    for permit in late:
        permit.failure(DOWN)
    assert rig.is_in(State.CLOSED)
    assert (rig.breaker.snapshot().stale, rig.breaker.snapshot().streak) == (5, 0)


def test_a_probe_of_an_earlier_half_open_frees_no_place_of_a_later_one() -> None:
    rig = Rig(half_open_permits=2)
    rig.half_open()
    old, failing = rig.breaker.acquire(), rig.breaker.acquire()
    failing.failure(DOWN)
    rig.clock.advance(10)
    probes = [rig.breaker.acquire(), rig.breaker.acquire()]
    old.success()
    with pytest.raises(CircuitOpen):
        rig.breaker.acquire()
    assert rig.breaker.snapshot().probes == len(probes)


@pytest.mark.parametrize(
    ("timeout", "state"), [(None, State.HALF_OPEN), (4.0, State.OPEN)], ids=["no limit", "timed"]
)
def test_a_hung_probe_holds_nobody_longer_than_its_lease(
    timeout: float | None, state: State
) -> None:
    rig = Rig(timeout=timeout)
    rig.half_open()
    hung = rig.breaker.acquire()
    rig.clock.advance(9.999)
    with pytest.raises(CircuitOpen):
        rig.breaker.acquire()
    rig.clock.advance(0.001)
    if timeout is None:
        rig.breaker.acquire().release()
    else:
        with pytest.raises(CircuitOpen):
            rig.breaker.acquire()
    assert rig.breaker.state is state
    hung.failure(DOWN)
    assert rig.breaker.state is state


def test_a_probe_whose_lease_is_shorter_than_its_time_out_did_not_hang() -> None:
    rig = Rig(timeout=100.0, probe_lease=2.0)
    rig.clock.advance(1000)  # so that the moment it began is no duration
    rig.half_open()
    slow = rig.breaker.acquire()
    rig.clock.advance(2)
    rig.breaker.acquire().release()
    assert rig.is_in(State.HALF_OPEN)
    slow.release()


def test_refusals_of_what_lies_inside_return_the_probe() -> None:
    rig = Rig(success_threshold=1)
    rig.half_open()

    def full() -> None:
        raise BulkheadFull("full")

    with pytest.raises(BulkheadFull):
        rig.breaker.call(full)
    assert (rig.breaker.state, rig.breaker.snapshot().probes) == (State.HALF_OPEN, 0)
    rig.breaker.call(fine)
    assert rig.is_in(State.CLOSED)


def test_probes_that_say_nothing_end_only_when_none_is_live() -> None:
    rig = Rig(half_open_permits=2)
    rig.half_open()
    live = rig.breaker.acquire()
    for _ in range(8):
        rig.breaker.acquire().release()
    assert rig.is_in(State.HALF_OPEN)
    live.release()
    assert rig.is_in(State.OPEN)
    assert rig.breaker.retry_after() == 10
