"""Delivery behind a breaker: nothing is lost, whatever the store and the system do."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.frames import FrameKind
from forebay.errors import Corrupt, Permanent, RowsRefused, Transient, Unreachable
from forebay.journal import JournalWriter, PendingBlock, Position
from forebay.ports import Committed, Refused
from forebay.resilience import CircuitBreaker, State, SystemState, presets
from forebay.services.deliver import (
    BACKLOG_FRAMES,
    CONSUMER,
    ENOUGH_FRAMES,
    PACE_S,
    REST_S,
    TRIES,
    Deliverer,
    gathering_s,
)
from forebay.services.guarded_delivery import DRAIN_S, LOOK_S, GuardedDelivery
from forebay.sources.coinbase.protocol import CoinbaseParser
from forebay.telemetry import (
    BreakerMoved,
    RowsLeftOut,
    StoreUnavailable,
    StoreWriteRefused,
    TelemetryEvent,
)
from tests.support.frames import context, match
from tests.support.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.ports import Commit, StoreState

WELL, EMERGENCY = SystemState.HEALTHY, SystemState.EMERGENCY


class Instant(ManualClock):
    """Sleeps take no time and are written down."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)


class Store(MemoryStore):
    """Fails as it is told, and counts how often it was touched."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.fails: Exception | None = None
        self.is_picky = False
        """Whether a rule of it refuses the first row of any commit."""
        self.lost_answers = 0
        self.lost_an_answer = False
        self.touched = 0

    def load(self) -> StoreState:
        self.touched += 1
        if self.away:
            raise Unreachable("Nobody answers.")
        return super().load()

    def commit(self, commit: Commit) -> Committed:
        self.touched += 1
        if self.fails is not None:
            raise self.fails
        if self.is_picky and not commit.without_refused:
            raise RowsRefused("CHECK price < 1")
        done = super().commit(commit)
        if self.is_picky:
            return Committed(done.first, refused={"trades": [Refused(0, "CHECK price < 1")]})
        if self.lost_answers:
            self.lost_answers -= 1
            self.lost_an_answer = True
            raise Transient("The answer was lost.")
        return done


class Held(ManualClock):
    """Stands still, and tells who asks to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: asyncio.Queue[float] = asyncio.Queue()

    async def sleep(self, seconds: float) -> None:
        self.asked.put_nowait(seconds)
        await super().sleep(seconds)


@dataclass
class Life:
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    orphaned: bool = False


@dataclass
class Pace:
    frames: int = -1
    stopping: bool = False


class Rig:
    """A journal with a writer, a store, and the delivery between them."""

    def __init__(self, folder: Path, *, rest_s: float = PACE_S, away: bool = False) -> None:
        self.clock = Instant()
        self.writer = JournalWriter.open(folder / "journal", clock=self.clock)
        self.store = Store()
        self.store.away = away
        self.said: list[TelemetryEvent] = []
        self.state = WELL
        rng = random.Random(5)
        self.breaker = CircuitBreaker(
            "store",
            presets.CLICKHOUSE_BRIDGE,
            clock=self.clock,
            rng=rng,
            listener=self.said.append,
        )
        self.deliverer = Deliverer(
            folder / "journal", self.store, {"coinbase": CoinbaseParser()}, observer=self.tell
        )
        self.delivery = GuardedDelivery(
            self.deliverer,
            folder / "journal",
            clock=self.clock,
            rng=rng,
            breaker=self.breaker,
            system=lambda: self.state,
            observer=self.tell,
            rest_s=rest_s,
            known=Position(self.writer.position.log_id, 3),
        )
        self.put = 0

    def tell(self, event: TelemetryEvent) -> None:
        self.said.append(event)

    def capture(self, frames: int) -> None:
        """Write so many trades to the journal, received now."""
        payloads = [match(self.put + 1 + index) for index in range(frames)]
        self.put += frames
        received = [self.clock.wall_ns()] * frames
        self.writer.commit(
            [PendingBlock(FrameKind.TEXT, context().encode(), payloads, received, (0, 0))]
        )

    async def steps(self, times: int) -> list[float]:
        """Step so often and wait as told; answer the waits."""
        waits = []
        for _ in range(times):
            step = await self.delivery.step()
            waits.append(min(step.wait_s, step.look_s))
            self.clock.advance(waits[-1])
            await self.conserved()
        return waits

    async def conserved(self) -> None:
        """Frames in = rows stored + pending, at any moment."""
        measured = await self.delivery.measure()
        known = self.deliverer.position.seq - 1 if self.deliverer.position else 0
        assert self.put == known + measured.backlog
        assert known <= self.stored <= self.put
        assert self.stored == known or self.store.lost_an_answer
        assert 0 <= measured.waited - measured.flushed <= measured.backlog
        assert (measured.lag_s == 0) or measured.backlog

    @property
    def stored(self) -> int:
        return len(self.store.table("trades"))

    def heard(self, kind: type[TelemetryEvent]) -> list[TelemetryEvent]:
        return [event for event in self.said if isinstance(event, kind)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.writer.close()


async def fail_until_open(rig: Rig) -> None:
    rig.store.fails = Transient("The disk is full.")
    await rig.steps(5)
    assert rig.breaker.state is State.OPEN


async def test_what_is_captured_is_stored_and_counts_as_one_call(rig: Rig) -> None:
    rig.capture(3)
    assert await rig.steps(1) == [PACE_S]
    assert rig.stored == 3
    assert rig.breaker.snapshot().ok == 1
    measured = await rig.delivery.measure()
    assert (measured.backlog, measured.lag_s, measured.waited, measured.flushed) == (0, 0, 0, 0)


async def test_rows_that_are_refused_over_and_over_are_left_out_and_delivery_goes_on(
    rig: Rig,
) -> None:
    rig.store.is_picky = True
    rig.capture(3)
    await rig.steps(TRIES)
    assert (rig.stored, rig.heard(RowsLeftOut)) == (0, [])
    await rig.steps(1)
    assert rig.heard(RowsLeftOut) == [RowsLeftOut(CONSUMER, "trades", 1, "CHECK price < 1")]
    assert (rig.deliverer.position, rig.breaker.state) == (rig.writer.position, State.CLOSED)
    rig.store.is_picky = False
    rig.capture(1)
    await rig.steps(1)
    assert rig.stored == 4


async def test_a_long_backlog_is_not_waited_for(rig: Rig) -> None:
    rig.capture(BACKLOG_FRAMES)
    assert await rig.steps(2) == [0, PACE_S]


@pytest.mark.parametrize(
    ("rate", "least", "most"), [(200, 0.7, 1.2), (1000, 1.2, 2.5), (6000, 7, 11)]
)
async def test_commits_a_second_follow_the_rate(
    tmp_path: Path, rate: int, least: float, most: float
) -> None:
    rig, seconds, lag_s = Rig(tmp_path, rest_s=REST_S), 4.0, 0.0
    await rig.steps(5)
    commits, began = rig.store.touched, rig.clock.monotonic_ns()
    while (passed_s := (rig.clock.monotonic_ns() - began) / 1e9) < seconds:
        if due := round(passed_s * rate) - rig.put:
            rig.capture(due)
        (waited_s,) = await rig.steps(1)
        lag_s = max(lag_s, waited_s)
    rig.writer.close()
    assert least <= (rig.store.touched - commits) / seconds <= most
    assert PACE_S <= lag_s <= REST_S


@pytest.mark.parametrize("passed_s", [0.0, 0.1, 1.0, 3600.0])
@pytest.mark.parametrize("frames", [0, 1, ENOUGH_FRAMES, BACKLOG_FRAMES - 1])
def test_no_frame_gathers_for_longer_than_it_may(frames: int, passed_s: float) -> None:
    assert PACE_S <= gathering_s(frames, passed_s, REST_S) <= REST_S
    assert gathering_s(frames, passed_s, PACE_S) == PACE_S


async def test_failures_trip_it_with_growing_waits_and_then_the_store_is_left_alone(
    rig: Rig,
) -> None:
    rig.capture(2)
    rig.store.fails = Transient("The disk is full.")
    waits = await rig.steps(5)
    assert all(wait <= most for wait, most in zip(waits, (0.5, 1, 2, 4, LOOK_S), strict=True))
    assert sum(waits[:4]) > 1
    assert rig.breaker.state is State.OPEN
    *told, last = [said.delay_s for said in rig.said if isinstance(said, StoreUnavailable)]
    assert told == waits[:4]
    assert 54 <= last <= 66, "the breaker says when to come again"
    touched = rig.store.touched
    rig.capture(3)
    opened = rig.clock.monotonic_ns()
    looks = 0
    while rig.store.touched == touched:
        assert max(await rig.steps(1)) <= LOOK_S
        looks += 1
    assert (rig.clock.monotonic_ns() - opened) / 1e9 > 54 - sum(waits)
    assert looks > 40, "an operator's reset would be noticed late"
    assert (await rig.delivery.measure()).database_errors == 6


async def test_it_closes_by_itself_and_everything_is_stored(rig: Rig) -> None:
    rig.capture(2)
    await fail_until_open(rig)
    rig.capture(5)
    await rig.steps(3)
    rig.store.fails = None
    while rig.stored < 7:
        await rig.steps(1)
    assert rig.breaker.state is State.CLOSED
    moved = [said.now for said in rig.said if isinstance(said, BreakerMoved)]
    assert moved == ["open", "half_open", "closed"]
    assert (await rig.delivery.measure()).flushed == 7


async def test_backing_off_begins_anew_after_somebody_has_closed_the_breaker(rig: Rig) -> None:
    rig.capture(2)
    await fail_until_open(rig)
    rig.breaker.reset("a probe succeeded")
    assert await rig.steps(1) <= [0.5]
    assert rig.breaker.state is State.CLOSED


async def test_backing_off_begins_anew_after_a_success(rig: Rig) -> None:
    for _ in range(6):
        rig.capture(1)
        rig.store.fails = Transient("x")
        assert max(await rig.steps(4)) <= 4
        rig.store.fails = None
        await rig.steps(1)
        assert rig.breaker.state is State.CLOSED, "a stored batch did not heal it"
    assert rig.stored == rig.put


async def test_a_step_with_nothing_to_store_neither_heals_nor_probes(rig: Rig) -> None:
    rig.capture(1)
    rig.store.fails = Transient("x")
    await rig.steps(4)
    rig.store.fails = None
    await rig.steps(1)
    for _ in range(4):
        rig.breaker.acquire().failure(OSError())
    await rig.steps(10)
    assert rig.breaker.snapshot().streak == 4, "an idle step healed it"
    rig.breaker.acquire().failure(OSError())
    rig.clock.advance(67)
    touched = rig.store.touched
    await rig.steps(10)
    assert (rig.breaker.state, rig.store.touched) == (State.OPEN, touched)
    rig.capture(1)
    await rig.steps(1)
    assert rig.breaker.state is State.CLOSED


@pytest.mark.parametrize("error", [Permanent("No such column."), Corrupt("A page is bad.")])
async def test_a_refused_batch_is_raised_kept_and_says_nothing_of_the_store(
    rig: Rig, error: Exception
) -> None:
    rig.capture(4)
    rig.store.fails = error
    for _ in range(6):
        with pytest.raises(type(error)):
            await rig.delivery.step()
        await rig.conserved()
    seen = rig.breaker.snapshot()
    assert (seen.failed, seen.neutral, seen.state) == (0, 6, State.CLOSED)
    assert (await rig.delivery.measure()).database_errors == 0
    rig.store.fails = None
    await rig.steps(1)
    assert rig.stored == 4


async def test_an_answer_that_was_lost_is_found_and_not_stored_twice(rig: Rig) -> None:
    rig.capture(3)
    rig.store.lost_answers = 1
    step = await rig.delivery.step()
    assert not step.taken
    rig.capture(2)
    await rig.steps(2)
    assert rig.stored == 5
    assert rig.deliverer.delivered.duplicates == 0
    assert rig.deliverer.delivered.rows == 5


# ------------------------------------------------------------------ EMERGENCY


async def test_in_emergency_nothing_is_written_and_that_is_told_once(rig: Rig) -> None:
    rig.capture(2)
    rig.state = EMERGENCY
    touched = rig.store.touched
    assert await rig.steps(5) == [LOOK_S] * 5
    rig.capture(3)
    await rig.steps(5)
    assert rig.store.touched == touched
    assert rig.heard(StoreWriteRefused) == [StoreWriteRefused("store", 2)]
    measured = await rig.delivery.measure()
    assert (measured.writes_refused, measured.waited, measured.backlog) == (10, 5, 5)
    assert rig.breaker.snapshot().not_permitted == 0
    rig.state = SystemState.CRITICAL
    await rig.steps(2)
    assert rig.stored == 5
    measured = await rig.delivery.measure()
    assert (measured.flushed, measured.waited) == (5, 5)
    rig.state = EMERGENCY
    rig.capture(1)
    await rig.steps(2)
    assert len(rig.heard(StoreWriteRefused)) == 2, "another episode was not told"


async def test_in_emergency_the_breakers_probe_is_written(rig: Rig) -> None:
    rig.capture(2)
    await fail_until_open(rig)
    rig.state = EMERGENCY
    rig.store.fails = None
    touched = rig.store.touched
    while rig.breaker.state is State.OPEN:
        assert rig.store.touched == touched, "written before the probe was due"
        await rig.steps(1)
    assert (rig.breaker.state, rig.stored) == (State.CLOSED, 2)
    rig.capture(1)
    await rig.steps(3)
    assert rig.stored == 2, "written although nobody has to find anything out"


async def test_in_emergency_a_breaker_that_an_operator_opened_gets_no_probe(rig: Rig) -> None:
    rig.capture(1)
    rig.breaker.force_open("maintenance")
    rig.state = EMERGENCY
    rig.clock.advance(1000)
    touched = rig.store.touched
    await rig.steps(3)
    assert rig.store.touched == touched
    assert (await rig.delivery.measure()).writes_refused == 3


async def test_an_operator_who_opens_it_stops_writes_and_reset_lets_them_go_on(rig: Rig) -> None:
    rig.capture(1)
    rig.breaker.force_open("maintenance")
    assert await rig.steps(3) == [LOOK_S] * 3
    assert rig.stored == 0
    rig.breaker.reset("done")
    await rig.steps(1)
    assert rig.stored == 1


# ------------------------------------------------------------------- measured


async def test_lag_is_how_long_the_oldest_frame_in_hand_waits(rig: Rig) -> None:
    rig.clock.advance(7200)  # a quiet market
    rig.capture(1)
    rig.store.fails = Transient("x")
    await rig.delivery.step()
    rig.clock.advance(30)
    rig.capture(1)
    measured = await rig.delivery.measure()
    assert (measured.lag_s, measured.backlog) == (30.0, 2)
    rig.store.fails = None
    await rig.steps(2)
    assert (await rig.delivery.measure()).lag_s == 0


async def test_frames_captured_during_an_outage_wait_and_those_after_it_do_not(rig: Rig) -> None:
    rig.capture(2)
    await rig.steps(1)
    rig.store.fails = Transient("x")
    rig.capture(3)
    await rig.steps(1)
    rig.capture(4)  # in the journal before the next success: they waited as well
    rig.store.fails = None
    await rig.steps(1)
    measured = await rig.delivery.measure()
    assert (measured.waited, measured.flushed) == (7, 3)
    rig.capture(5)
    await rig.steps(3)
    measured = await rig.delivery.measure()
    assert (measured.waited, measured.flushed) == (7, 7)
    assert rig.stored == 14


async def test_measuring_does_not_need_a_journal(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.writer.close()
    (tmp_path / "journal" / "watermark").unlink()
    assert (await rig.delivery.measure()).backlog == 0


async def test_a_position_of_another_log_means_that_all_of_this_one_waits(rig: Rig) -> None:
    rig.capture(3)
    rig.deliverer.position = Position("f" * 32, 50)
    assert (await rig.delivery.measure()).backlog == 3


# ------------------------------------------------------------------------ run


async def test_a_stop_drains_what_is_captured(rig: Rig) -> None:
    life, pace = Life(), Pace()
    rig.capture(3)
    life.stop.set()
    await rig.delivery.run(life, pace)
    assert rig.stored == 3
    assert (pace.frames, pace.stopping) == (0, True)


async def test_a_stop_ends_a_wait_early(rig: Rig) -> None:
    life, pace = Life(), Pace()
    clock = rig.delivery._clock = Held()
    running = asyncio.create_task(rig.delivery.run(life, pace))
    async with asyncio.timeout(20):
        await clock.asked.get()
        rig.capture(2)
        life.stop.set()
        await clock.asked.get()
        clock.advance(PACE_S)
        await running
    assert rig.stored == 2


async def test_a_stop_lets_nothing_gather(tmp_path: Path) -> None:
    rig, life = Rig(tmp_path, rest_s=REST_S), Life()
    rig.capture(3)
    rig.clock.advance(REST_S)
    life.stop.set()
    await rig.delivery.run(life, Pace())
    rig.writer.close()
    assert rig.clock.slept == [PACE_S]


async def test_a_stop_waits_for_a_failing_store_no_longer_than_it_may(rig: Rig) -> None:
    life, pace = Life(), Pace()
    rig.capture(3)
    rig.store.fails = Transient("x")
    life.stop.set()
    began = rig.clock.monotonic_ns()
    await rig.delivery.run(life, pace)
    assert rig.clock.monotonic_ns() - began <= DRAIN_S * 1e9
    assert (await rig.delivery.measure()).database_errors >= 2
    await rig.conserved()


@pytest.mark.parametrize("why", ["open", "forced", "emergency"])
async def test_a_stop_does_not_wait_for_what_is_known_not_to_come(rig: Rig, why: str) -> None:
    rig.capture(3)
    if why == "open":
        for _ in range(5):
            rig.breaker.acquire().failure(OSError())
    elif why == "forced":
        rig.breaker.force_open("maintenance")
    else:
        rig.state = EMERGENCY
    life = Life()
    life.stop.set()
    await rig.delivery.run(life, Pace())
    assert rig.clock.slept == []
    await rig.conserved()


async def test_an_orphan_leaves_at_once(rig: Rig) -> None:
    rig.capture(3)
    await rig.delivery.run(Life(orphaned=True), Pace())
    assert rig.stored == 0


async def test_others_hear_how_far_behind_it_is_and_a_failure_changes_nothing(rig: Rig) -> None:
    life, pace = Life(), Pace()
    rig.capture(BACKLOG_FRAMES)
    seen: list[int] = []

    async def sleep(seconds: float) -> None:
        seen.append(pace.frames)
        if len(seen) == 1:
            rig.capture(1)
        rig.store.fails = Transient("x") if len(seen) == 1 else None
        if len(seen) == 3:
            life.stop.set()
        rig.clock.advance(seconds)

    rig.clock.sleep = sleep  # type: ignore[method-assign]
    await rig.delivery.run(life, pace)
    assert seen[0] == BACKLOG_FRAMES
    assert seen[1] == BACKLOG_FRAMES, "a failed step is no sign that there is nothing to do"
    assert seen[2] == 1
    assert rig.stored == BACKLOG_FRAMES + 1


async def test_random_weather_loses_nothing(rig: Rig) -> None:
    """Outages, emergencies and lost answers in any order; at the end everything is stored once."""
    dice = random.Random(11)
    for _ in range(150):
        if dice.random() < 0.5:
            rig.capture(dice.randint(1, 5))
        if dice.random() < 0.1:  # then it lasts
            rig.store.fails = dice.choice([Transient("x"), None])
        rig.clock.advance(dice.uniform(0, 10))
        rig.store.lost_answers = dice.random() < 0.2
        rig.state = dice.choice([WELL, WELL, SystemState.CRITICAL, EMERGENCY])
        await rig.steps(1)
    rig.store.fails, rig.store.lost_answers, rig.state = None, 0, WELL
    await rig.steps(80)
    measured = await rig.delivery.measure()
    assert rig.stored == rig.put
    assert measured.waited == measured.flushed > 0
    assert (measured.backlog, measured.lag_s) == (0, 0)
    assert rig.deliverer.delivered.duplicates == 0
    trips = [said for said in rig.said if isinstance(said, BreakerMoved) and said.now == "open"]
    assert len(trips) > 1, "the weather was fine"


async def test_a_store_that_is_away_at_the_start_is_waited_for_behind_the_breaker(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, away=True)
    with rig.writer, contextlib.closing(rig.deliverer):
        rig.capture(5)
        waited = [(await rig.delivery.step()).wait_s for _ in range(5)]
        assert max(waited[:4]) < 30
        assert rig.breaker.state is State.OPEN
        found = await rig.delivery.measure()
        assert (found.backlog, found.database_errors) == (3, 5), "as far as it was known to be"
        asked = rig.store.touched
        assert not (await rig.delivery.step()).taken
        assert rig.store.touched == asked, "an open breaker leaves it alone"

        rig.store.away = False
        rig.clock.advance(70)
        assert (await rig.delivery.step()).frames == 5
        assert (rig.stored, rig.breaker.state) == (5, State.CLOSED)
