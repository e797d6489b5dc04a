"""Checks of bars beside delivery: first, every hour, after an outage, and never in its way."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from forebay.app.checked_bars import watched
from forebay.app.processes import bar_checks
from forebay.app.processes.bar_checks import SETTLED_S, BarChecks, Outages
from forebay.app.processes.maintenance import DeliveryPace
from forebay.app.wiring.config import Config
from forebay.app.wiring.history_config import FillConfig
from forebay.clock import ManualClock
from forebay.domain.coverage import StreamKey
from forebay.domain.coverage.time import TimeCoverage
from forebay.domain.frames import GapAccepted, RangeChecked
from forebay.errors import Unreachable
from forebay.ports import Reader
from forebay.telemetry import ChecksFailed, GapOpened, TelemetryEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import pytest

    from forebay.services.gap_detector import WatchedBars

HOUR_S, MINUTE = 3600, 60 * 10**9
BEGIN = 1_700_000_000 // 60 * MINUTE
KEY = StreamKey("somewhere", "spot", "bar:1m,trade", "BTC-USD")
SERIES = {
    "venue": "somewhere", "market": "spot", "symbol": "BTC-USD", "timeframe": "1m",
    "session": "UTC", "of": "trade", "adjusted": False,
    "first_ns": BEGIN, "end_ns": BEGIN + 60 * MINUTE, "live": False,
}  # fmt: skip


class Rig(Reader):
    """Store, deliverer and capture in one."""

    def __init__(self) -> None:
        self.opens = [BEGIN + at * MINUTE for at in range(60) if at not in (7, 8)]
        self.coverage = TimeCoverage()
        self.seq = 5
        self.asked: list[RangeChecked] = []
        self.away = False
        self.looks = 0
        self.events: list[TelemetryEvent] = []

    @property
    def position(self) -> Rig:
        return self

    def reader(self) -> Rig:
        return self

    def query(self, sql: str, *, timeout_s: float, limit: int | None = None) -> pa.Table:
        if "GROUP BY" in sql:
            self.looks += 1
            return pa.Table.from_pylist([SERIES])
        return pa.table({"open_ns": pa.array(self.opens, pa.int64())})

    def interrupt(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.looks += 0

    def coverage_of(self, key: StreamKey) -> TimeCoverage:
        assert key == KEY
        return self.coverage

    def capture(self, _: Path, request: dict[str, Any]) -> tuple[dict[str, int], bytes]:
        if self.away:
            raise Unreachable("There is no capture.")
        told = msgspec.convert(request["gaps"], list[tuple[str, GapAccepted | RangeChecked]])
        for venue, record in told:
            assert venue == KEY.venue
            assert isinstance(record, RangeChecked)
            self.asked.append(record)
            self.coverage.checked(record.first, record.last, record.missing, record.stored)
        return {"seq": self.seq}, b""


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - of threads, too
            await asyncio.sleep(0.005)


async def idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pace: DeliveryPace
) -> AsyncIterator[tuple[ManualClock, Outages]]:
    monkeypatch.setattr(bar_checks, "ask", rig.capture)
    clock, outages = ManualClock(BEGIN + 600 * MINUTE), Outages(rig.events.append)
    config = Config(data=str(tmp_path), fill=FillConfig(check_s=HOUR_S))
    checks = BarChecks(config, rig, rig, outages, clock)  # type: ignore[arg-type]
    async with checks.beside(pace, lambda: ""):
        await until(lambda: clock.slept[-1:] == [SETTLED_S])
        yield clock, outages


async def test_it_checks_at_the_beginning_and_every_hour_and_says_what_is_new_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    async with running(rig, tmp_path, monkeypatch, DeliveryPace(frames=0)) as (clock, _):
        clock.advance(SETTLED_S)
        await until(lambda: rig.asked)
        assert rig.asked[0].missing == ((BEGIN + 7 * MINUTE, BEGIN + 9 * MINUTE - 1),)
        await until(lambda: clock.slept[-1] == HOUR_S)
        clock.advance(HOUR_S - 1)
        await idle()
        assert rig.looks == 1
        clock.advance(1)
        await until(lambda: rig.looks == 2)
        await until(lambda: clock.slept.count(HOUR_S) == 3)
        assert len(rig.asked) == 1
        rig.opens += [BEGIN + 7 * MINUTE, BEGIN + 8 * MINUTE]
        clock.advance(HOUR_S)
        await until(lambda: len(rig.asked) == 2)
        assert [gap.state for gap in rig.coverage.gaps(KEY)] == ["filled"]


async def test_an_outage_is_looked_behind_once_it_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    async with running(rig, tmp_path, monkeypatch, DeliveryPace(frames=0)) as (clock, outages):
        clock.advance(SETTLED_S)
        await until(lambda: rig.looks == 1 and clock.slept[-1] == HOUR_S)
        named = "somewhere", "trade", "BTC-USD", 1, 2
        await asyncio.to_thread(outages, GapOpened(*named, "in_connection", "spot", "id"))
        clock.advance(2 * SETTLED_S)
        await idle()
        assert rig.looks == 1, "a hole within a connection is no outage"
        await asyncio.to_thread(outages, GapOpened(*named, "between_connections", "spot", "id"))
        await until(lambda: clock.slept[-1] == SETTLED_S)
        clock.advance(SETTLED_S)
        await until(lambda: rig.looks == 2)


async def test_without_a_capture_it_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    rig.away = True
    async with running(rig, tmp_path, monkeypatch, DeliveryPace(frames=0)) as (clock, _):
        clock.advance(SETTLED_S)
        await until(lambda: rig.events)
        assert isinstance(rig.events[0], ChecksFailed)
        await until(lambda: clock.slept[-1] == HOUR_S)
        rig.away = False
        clock.advance(HOUR_S)
        await until(lambda: rig.asked)


async def test_a_series_that_cannot_be_checked_is_told_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, found = Rig(), watched

    def with_a_broken_one(*how: Any) -> list[WatchedBars]:  # noqa: ANN401 - as it takes them
        (whole,) = found(*how)
        return [replace(whole, calendar=None), whole]  # type: ignore[arg-type]

    monkeypatch.setattr(bar_checks, "watched", with_a_broken_one)
    async with running(rig, tmp_path, monkeypatch, DeliveryPace(frames=0)) as (clock, _):
        clock.advance(SETTLED_S)
        await until(lambda: rig.asked)
        assert isinstance(rig.events[0], ChecksFailed)
        await until(lambda: clock.slept[-1] == HOUR_S)
        clock.advance(HOUR_S)
        await until(lambda: rig.looks == 2)


async def test_it_waits_while_delivery_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, pace = Rig(), DeliveryPace()
    async with running(rig, tmp_path, monkeypatch, pace) as (clock, _):
        clock.advance(SETTLED_S)
        await until(lambda: rig.looks == 1 and len(clock.slept) > 2)
        await idle()
        assert not rig.asked
        pace.frames = 0
        clock.advance(SETTLED_S)
        await until(lambda: rig.asked)
