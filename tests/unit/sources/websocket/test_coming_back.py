"""A venue that was away for an hour: 150 connections come back by themselves, and not together."""

from __future__ import annotations

import asyncio
import bisect

import pytest

from forebay.domain.frames import EpochAccepted, EpochClosed
from forebay.resilience import State
from forebay.sources.venue import Limits, per_second
from forebay.sources.websocket.turnstile import MANY
from tests.support.changing_venue import ChangingRig, in_virtual_time
from tests.support.sinks import RecordingSink

HOUR = 3600.0
COUNT = 150
MOST = COUNT // 10
LIMITS = [Limits(), Limits(connects=(per_second(5, burst=5),))]


def busiest(moments: list[float]) -> int:
    """Return how many of rising moments are in one second at most, wherever it begins."""
    ends = (bisect.bisect_left(moments, moment + 1.0) for moment in moments)
    return max((end - at for at, end in enumerate(ends)), default=0)


@pytest.mark.parametrize("way", ["refused", "silent"])
@pytest.mark.parametrize("limits", LIMITS, ids=["free", "paced"])
def test_after_an_hour_all_reconnect(way: str, limits: Limits) -> None:
    async def script() -> None:
        names = [f"M{number:04}" for number in range(2 * COUNT)]
        rig, sink = ChangingRig(names, connections=COUNT, limits=limits), RecordingSink()
        async with rig.running(sink):
            await asyncio.sleep(60)
            assert rig.venue.carried == names
            rig.venue.go(way)
            await asyncio.sleep(HOUR)
            assert not rig.venue.lines
            states = [moved.now for moved in rig.breaker.snapshot().history]
            assert State.OPEN in states
            tried = rig.venue.dialled[COUNT:]
            assert len(tried) < HOUR / 10, "an hour of knocking at a closed door"
            rig.venue.dialled.clear()
            rig.venue.connected.clear()
            rig.venue.come_back()
            await asyncio.sleep(180)
            assert rig.venue.carried == names
            assert rig.breaker.state is State.CLOSED
        assert busiest(tried) <= MOST
        assert 0 < busiest(rig.venue.dialled) <= MOST
        assert 0 < busiest(rig.venue.connected) <= MOST
        said = [each for epoch in sink.epochs for each in epoch.controls]
        assert sum(isinstance(each, EpochClosed) for each in said) == 2 * COUNT
        accepted = [each for each in said if isinstance(each, EpochAccepted)]
        assert len(accepted) == 2 * len(names), "from the one to the other is a hole"

    in_virtual_time(script)


def test_a_link_of_all_that_breaks_at_once_is_not_dialled_at_once() -> None:
    async def script() -> None:
        rig = ChangingRig([f"M{number:04}" for number in range(COUNT)], connections=COUNT)
        async with rig.running(RecordingSink()):
            await asyncio.sleep(60)
            assert busiest(rig.venue.dialled) <= MOST, "the start is one too"
            rig.venue.dialled.clear()
            rig.venue.go("up")
            await asyncio.sleep(60)
            assert len(rig.venue.lines) == COUNT
        assert busiest(rig.venue.dialled) <= MOST

    in_virtual_time(script)


def test_a_few_connections_wait_for_nobody() -> None:
    async def script() -> None:
        few = MANY - 1
        rig = ChangingRig([f"M{number:04}" for number in range(few)], connections=few)
        async with rig.running(RecordingSink()):
            await asyncio.sleep(0.5)
            assert len(rig.venue.lines) == few

    in_virtual_time(script)
