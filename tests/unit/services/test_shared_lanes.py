"""A bridge of several: lanes come and go, and one that cannot be stored holds up no other."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.messages import Head, Mark, Message, Step
from forebay.errors import RowsRefused, TableUnavailable, Transient
from forebay.journal import Position, StateFile
from forebay.ports import Committed, Refused
from forebay.resilience import CircuitBreaker, State, presets
from forebay.services.bridge import CONSUMER, Bridge
from forebay.services.bridge_letters import BridgeLetters
from forebay.services.guarded_bridge import IDLE_S, GuardedBridge
from forebay.services.journal_reach import LOOK_S
from forebay.services.lane_bridge import journal_cursor
from forebay.services.lane_feed import Batching
from forebay.services.letters import Attempts, LetterBox, LetterSpool
from forebay.telemetry import (
    LaneElsewhere,
    LaneGoesOn,
    LaneReadAgain,
    LanesMoved,
    LaneWaits,
    LossFound,
    RecordsUnreadable,
    RowsLeftOut,
    TelemetryEvent,
)
from tests.support.frames import LOG
from tests.support.memory_store import MemoryStore, stored_gaps
from tests.support.memory_transport import Broker, MemoryMembership, MemoryTransport
from tests.unit.services.test_bridge import step, stored_ids

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.errors import ForebayError
    from forebay.ports import Commit

LANE, QUOTES = "trade_archive", "quote_archive"
TOPICS = [LANE, QUOTES]


class PickyStore(MemoryStore):
    """A store that answers commits of some lanes with errors."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, ForebayError] = {}
        """By the cursor that a commit is of; an empty name: of every commit."""
        self.asked: Counter[str] = Counter()
        self.stubborn = False
        """Whether it refuses rows that it may leave out."""

    def commit(self, commit: Commit) -> Committed:
        cursor = next(iter(commit.positions))
        self.asked[cursor] += 1
        error = self.errors.get(cursor, self.errors.get(""))
        if isinstance(error, RowsRefused) and commit.without_refused and not self.stubborn:
            done = super().commit(commit)
            return Committed(done.first, refused={"trades": [Refused(0, "CHECK price < 1")]})
        if error is not None:
            raise error
        return super().commit(commit)


class Shared:
    """One broker, one store, and bridges that share them."""

    def __init__(self, batching: Batching | None = None) -> None:
        self.store = PickyStore()
        self.broker = Broker()
        self.transport = MemoryTransport(self.broker)
        self.clock = ManualClock()
        self.told: list[TelemetryEvent] = []
        self.batching = batching
        for topic in TOPICS:
            self.broker.lanes(topic)
            self.broker.join(topic, "somebody slow")  # what is read is kept for others
        self.bridge = self.another()

    def another(self, group: str = CONSUMER) -> Bridge:
        return Bridge(
            self.transport,
            self.store,
            topics=TOPICS,
            group=group,
            observer=self.told.append,
            clock=self.clock,
            batching=self.batching,
            rng=random.Random(1),
        )

    def publish(self, *messages: Message, lane: str = LANE) -> None:
        self.transport.publish(lane, messages)

    def kinds(self) -> list[type[TelemetryEvent]]:
        return [type(each) for each in self.told if not isinstance(each, LanesMoved)]

    def member(self, bridge: Bridge) -> str:
        membership = bridge._membership
        assert isinstance(membership, MemoryMembership)
        return membership.member

    def freeze(self, bridge: Bridge) -> None:
        self.broker.expel(CONSUMER, self.member(bridge))

    def committed(self, lane: str = LANE) -> int:
        return self.broker.join(lane, CONSUMER)[1]

    def reached(self) -> int:
        position = self.store.load().positions.get(journal_cursor(LOG))
        return position.seq if position else 0


def told_up_to(end: int, begin: int = 1) -> Message:
    """Return an empty step."""
    return Message(Head(Step(LOG, begin, end), 0, Mark(0, {}, {})))


# --------------------------------------------------------------------------- batches


def test_few_rows_wait_for_more_and_many_do_not() -> None:
    rig = Shared(Batching(rows=8, seconds=10.0))
    rig.publish(*step(1, 1, 2))
    assert rig.bridge.step() == 0
    rig.clock.advance(9.9)
    assert rig.bridge.step() == 0
    assert rig.store.asked.total() == 0
    rig.clock.advance(0.1)
    assert rig.bridge.step() == 2
    rig.publish(*step(3, 3))
    assert rig.bridge.step() == 0, "the time counts anew"
    rig.publish(*step(4, 4, 5, 6, 7, 8, 9))
    assert rig.bridge.step() == 7
    rig.publish(*step(10, 10))
    assert rig.bridge.step(hurry=True) == 1
    assert rig.reached() == 11


def test_a_backlog_is_stored_in_larger_batches_that_have_a_bound() -> None:
    rig = Shared(Batching(rows=2, seconds=10.0, most=60))
    for number in range(100):
        rig.publish(*step(1 + number, 1 + number))
    sizes = [rig.bridge.step() for _ in range(4)]
    assert sizes == [30, 30, 30, 10], "a row and a mark each"


# --------------------------------------------------------------- lanes come and go


def test_lanes_are_shared_and_each_is_read_by_one() -> None:
    rig = Shared()
    other = rig.another()
    for bridge in (rig.bridge, other, rig.bridge, other):
        bridge.step()
    assert {*rig.bridge.lanes} | {*other.lanes} == {*TOPICS}
    assert len(rig.bridge.lanes) == len(other.lanes) == 1
    rig.bridge.close()
    other.step()
    assert {*other.lanes} == {*TOPICS}


def test_a_lane_that_went_to_another_takes_along_nothing_of_what_was_in_hand() -> None:
    rig = Shared()
    rig.publish(*step(1, 1))
    rig.store.errors[""] = Transient("away")
    with pytest.raises(Transient):
        rig.bridge.step()
    rig.store.errors.clear()
    rig.freeze(rig.bridge)
    other = rig.another()
    assert other.drain() == 1
    rig.publish(*step(2, 2))
    assert other.drain() == 1
    offset = rig.committed()
    for _ in range(3):
        assert rig.bridge.step() == 0
        assert rig.committed() == offset
    assert stored_ids(rig.store) == [1, 2]
    assert LossFound not in rig.kinds()


def test_who_wakes_in_the_middle_of_a_commit_stores_nothing_and_lets_go_of_nothing() -> None:
    rig = Shared()
    rig.bridge.step()
    rig.publish(*step(1, 1))
    other = rig.another()

    def late(commit: Commit) -> Committed:
        rig.store.commit = plain  # type: ignore[method-assign]
        rig.freeze(rig.bridge)
        other.drain()
        rig.publish(*step(2, 2))
        other.drain()
        return plain(commit)

    plain, rig.store.commit = rig.store.commit, late  # type: ignore[method-assign]
    assert rig.bridge.step() == 0
    assert rig.kinds() == [LaneElsewhere]
    assert stored_ids(rig.store) == [1, 2]
    assert rig.committed() == 4
    positions = rig.store.load().positions
    assert positions[journal_cursor(LOG, LANE)] == Position(LOG, 3)


def test_of_two_groups_by_mistake_each_finds_that_the_other_has_gone_on() -> None:
    rig = Shared()
    other = rig.another("others")
    rig.publish(*step(1, 1, 2))
    assert rig.bridge.step() == 2
    assert other.step() == 0
    rig.publish(*step(3, 3))
    assert other.step() == 1
    rig.publish(*step(4, 4))
    rig.bridge.step()  # what it planned is not what was stored
    assert LaneElsewhere in rig.kinds()
    rig.bridge.drain()
    assert stored_ids(rig.store) == [1, 2, 3, 4]
    assert {f"{CONSUMER}/{LANE}"} == {
        name for name in rig.store.load().positions if not name.startswith("journal/")
    }


def test_that_lanes_move_is_told() -> None:
    rig = Shared()
    rig.bridge.step()
    other = rig.another()
    other.step()
    rig.bridge.step()
    moves = [each for each in rig.told if isinstance(each, LanesMoved)]
    assert [(len(each.came), len(each.went), each.held) for each in moves] == [
        (2, 0, 2),
        (1, 0, 1),
        (0, 1, 1),
    ]


# ------------------------------------------------------------ what concerns one lane


def test_a_table_that_is_missing_holds_up_its_lane_alone() -> None:
    rig = Shared()
    cursor = f"{CONSUMER}/{QUOTES}"
    rig.store.errors[cursor] = TableUnavailable("There is no table quotes.")
    rig.publish(told_up_to(2), lane=QUOTES)
    for number in range(1, 6):
        rig.publish(*step(number, number))
        rig.bridge.step()
        rig.clock.advance(40.0)
    assert stored_ids(rig.store) == [1, 2, 3, 4, 5]
    assert rig.reached() == 0, "the other lane has something, and it is not stored"
    assert rig.bridge.waiting[QUOTES].reason == "There is no table quotes."
    rig.store.errors.clear()
    rig.bridge.drain()
    assert not rig.bridge.waiting
    assert rig.store.load().positions[journal_cursor(LOG, QUOTES)] == Position(LOG, 2)
    assert LaneGoesOn in rig.kinds()


def test_a_lane_that_waits_is_not_tried_at_every_turn() -> None:
    rig = Shared()
    rig.store.errors[f"{CONSUMER}/{LANE}"] = TableUnavailable("There is no table trades.")
    rig.publish(*step(1, 1))
    for _ in range(50):
        rig.bridge.step()
    assert rig.store.asked[f"{CONSUMER}/{LANE}"] == 1
    delays = [each.delay_s for each in rig.told if isinstance(each, LaneWaits)]
    for _ in range(6):
        rig.clock.advance(40.0)
        rig.bridge.step()
    delays = [each.delay_s for each in rig.told if isinstance(each, LaneWaits)]
    assert len(delays) == 7
    assert max(delays) > 4 * delays[0]


def letters_of(folder: Path, rig_transport: MemoryTransport, clock: ManualClock) -> BridgeLetters:
    box = LetterBox(rig_transport, LetterSpool(folder), clock=clock)
    return BridgeLetters(Attempts(StateFile(folder / "attempts")), box, clock, 3)


def dead(rig: Shared) -> list[tuple[str, str]]:
    """Return what of dead letters is in their topic, as reason and error."""
    rig.broker.lanes(f"{LANE}_dlq")
    found = rig.transport.subscribe(f"{LANE}_dlq", "test").read()
    rows = [each.message.rows for each in found if each.message and each.message.rows]
    return [(row["reason"], row["error"]) for table in rows for row in table.to_pylist()]


def test_rows_that_are_refused_over_and_over_are_left_out_and_the_rest_is_stored(
    tmp_path: Path,
) -> None:
    rig = Shared()
    rig.bridge.letters = letters_of(tmp_path, rig.transport, rig.clock)
    cursor = f"{CONSUMER}/{LANE}"
    rig.store.errors[cursor] = RowsRefused("Row 0 breaks a rule.")
    rig.publish(*step(1, 1, 2))
    for tries in (1, 2):
        rig.bridge.step()
        assert (rig.store.asked[cursor], stored_ids(rig.store)) == (tries, [])
        rig.clock.advance(40.0)
    rig.bridge.close()
    rig.bridge = rig.another()  # as one that was killed: the count goes on
    rig.bridge.letters = letters_of(tmp_path, rig.transport, rig.clock)
    assert rig.bridge.step() == 0
    assert rig.bridge.step() == 2
    assert rig.store.asked[cursor] == 4
    assert [each for each in rig.told if isinstance(each, RowsLeftOut)] == [
        RowsLeftOut(LANE, "trades", 1, "CHECK price < 1")
    ]
    rig.store.errors.clear()
    rig.bridge.step()
    assert dead(rig) == [("refused_by_store", "trades: CHECK price < 1")]
    assert not rig.bridge.waiting


def test_a_store_that_refuses_what_it_may_leave_out_is_not_asked_at_every_turn() -> None:
    rig = Shared()
    cursor = f"{CONSUMER}/{LANE}"
    rig.store.errors[cursor], rig.store.stubborn = RowsRefused("A query is refused."), True
    rig.publish(*step(1, 1))
    for _ in range(4):
        rig.bridge.step()
        rig.clock.advance(40.0)
    asked = rig.store.asked[cursor]
    for _ in range(50):
        rig.bridge.step()
    assert rig.store.asked[cursor] <= asked + 1
    assert LANE in rig.bridge.waiting


def test_a_store_that_is_away_however_long_makes_no_letters(tmp_path: Path) -> None:
    rig = Shared()
    rig.bridge.letters = letters_of(tmp_path, rig.transport, rig.clock)
    rig.publish(*step(1, 1))
    rig.store.errors[""] = Transient("away")
    for _ in range(20):
        with pytest.raises(Transient):
            rig.bridge.step()
        rig.clock.advance(60.0)
    rig.store.errors.clear()
    assert rig.bridge.drain() == 1
    assert stored_ids(rig.store) == [1]
    assert dead(rig) == []


def test_what_cannot_be_read_is_a_letter_and_the_lane_goes_on_behind_it(tmp_path: Path) -> None:
    rig = Shared()
    rig.bridge.letters = letters_of(tmp_path, rig.transport, rig.clock)
    rig.broker.append(LANE, [b"poison", b"more"])
    rig.bridge.drain()
    assert rig.committed() == 2, "nothing follows it, and it is passed all the same"
    assert [reason for reason, _ in dead(rig)] == ["unreadable_record"] * 2
    assert RecordsUnreadable(LANE, 2) in rig.told
    rig.publish(*step(1, 1))
    assert rig.bridge.drain() == 1


def test_half_a_step_stays_behind_the_offset_whatever_is_around_it() -> None:
    rig = Shared()
    events, mark = step(1, 1)
    rig.publish(events)
    rig.broker.append(LANE, [b"poison"])
    rig.bridge.drain()
    assert rig.committed() == 0
    rig.bridge.close()
    rig.publish(mark)
    rig.bridge = rig.another()
    assert rig.bridge.drain() == 1
    assert (stored_ids(rig.store), rig.committed()) == ([1], 3)


# ------------------------------------------------------- offsets and cursors that are wrong


@pytest.mark.parametrize("offset", [0, 1, 4, 1_000_000, None])
def test_the_stores_cursor_counts_whatever_the_group_has_committed(offset: int | None) -> None:
    rig = Shared()
    rig.publish(*step(1, 1), *step(2, 2))
    rig.bridge.drain()
    rig.publish(*step(3, 3))
    rig.bridge.close()
    committed = rig.broker._lanes[LANE].committed
    if offset is None:
        del committed[CONSUMER]
    else:
        committed[CONSUMER] = offset
    rig.bridge = rig.another()
    assert rig.bridge.drain() == 1, "what is stored is not read again"
    assert stored_ids(rig.store) == [1, 2, 3]
    assert rig.committed() == 6
    assert LossFound not in rig.kinds()


def test_a_lane_that_ends_before_the_stores_cursor_is_read_from_its_oldest_record() -> None:
    rig = Shared()
    rig.publish(*step(1, 1), *step(2, 2))
    rig.bridge.drain()
    rig.bridge.close()
    held = rig.broker._lanes[LANE].messages
    while len(held) > 2:  # its broker is back from an older copy
        held.pop()
    rig.bridge = rig.another()
    rig.bridge.drain()
    rig.publish(*step(2, 2), *step(3, 3))
    rig.bridge.drain()
    assert stored_ids(rig.store) == [1, 2, 3]
    assert rig.kinds() == [LaneReadAgain]


# --------------------------------------------------------- how far all lanes together are


def test_bridges_say_together_how_far_a_journal_is_stored() -> None:
    rig = Shared()
    other = rig.another()
    for bridge in (rig.bridge, other, rig.bridge, other):
        bridge.step()
    rig.publish(*step(1, 1, 2, 3))
    for _ in range(3):
        rig.clock.advance(LOOK_S)
        for bridge in (rig.bridge, other):
            bridge.step()
    assert rig.reached() == 4, "the lane of the other one has nothing of it, and that is said"
    rig.publish(told_up_to(3), lane=QUOTES)
    rig.publish(*step(4, 4, 5))
    for _ in range(2):
        rig.clock.advance(LOOK_S)
        for bridge in (rig.bridge, other):
            bridge.step()
    assert rig.reached() == 4, "it does not go back, and not beyond that lane"
    rig.publish(told_up_to(6, 3), lane=QUOTES)
    for _ in range(2):
        rig.clock.advance(LOOK_S)
        for bridge in (rig.bridge, other):
            bridge.step()
    assert rig.reached() == 6


def test_what_waits_to_be_enough_is_not_passed_over_when_a_lane_is_said_to_lack_a_journal() -> None:
    rig = Shared(Batching(rows=8, seconds=10.0))
    other = rig.another()
    for bridge in (rig.bridge, other, rig.bridge, other):
        bridge.step()
    rig.publish(*step(1, 1, 2, 3))
    for bridge in (rig.bridge, other):
        bridge.step(hurry=True)
    rig.clock.advance(LOOK_S)
    rig.publish(*step(1, 4, log_id="another"), lane=QUOTES)
    for bridge in (rig.bridge, other):
        bridge.step()
    assert stored_ids(rig.store) == [1, 2, 3]
    for bridge in (rig.bridge, other):
        rig.freeze(bridge)
    third = rig.another()
    for _ in range(2):
        third.step(hurry=True)
    assert stored_ids(rig.store) == [1, 2, 3, 4]


def test_that_it_cannot_be_said_is_no_matter_of_the_lanes() -> None:
    rig = Shared()
    rig.store.errors[journal_cursor(LOG)] = Transient("away")
    rig.publish(*step(1, 1), *step(2, 2))
    assert rig.bridge.drain() == 2
    assert (rig.reached(), rig.kinds()) == (0, [])
    rig.store.errors.clear()
    rig.bridge.step()
    assert rig.reached() == 3


# ------------------------------------------------------------------------ the breaker


class Guarded(Shared):
    """One bridge behind its breaker."""

    def __init__(self, batching: Batching | None = None) -> None:
        super().__init__(batching)
        self.breaker = CircuitBreaker(
            "b", presets.CLICKHOUSE_BRIDGE, clock=self.clock, rng=random.Random(1)
        )
        self.guarded = GuardedBridge(
            self.bridge,
            name="kafka",
            clock=self.clock,
            rng=random.Random(1),
            breaker=self.breaker,
            observer=self.told.append,
        )

    @property
    def state(self) -> str:
        return str(self.breaker.state)

    async def turns(self, count: int) -> None:
        for _ in range(count):
            wait_s, _ = await self.guarded.turn()
            self.clock.advance(wait_s)


async def test_a_store_that_is_away_opens_the_breaker_and_lanes_are_tended_meanwhile() -> None:
    rig = Guarded()
    rig.publish(*step(1, 1))
    rig.store.errors[""] = Transient("away")
    await rig.turns(presets.CLICKHOUSE_BRIDGE.failure_threshold or 0)
    assert rig.state == State.OPEN
    asked = rig.store.asked.total()
    other = rig.another()
    other._tend()
    await rig.turns(3)
    assert rig.store.asked.total() == asked
    assert len(rig.bridge.lanes) == 1, "the other one has its share"
    assert rig.guarded.trouble == ""
    other.close()
    rig.store.errors.clear()
    rig.clock.advance(120.0)
    await rig.turns(4)
    assert rig.state == State.CLOSED
    assert stored_ids(rig.store) == [1]


@pytest.mark.parametrize(
    "error", [TableUnavailable("There is no table."), RowsRefused("A rule.")], ids=["table", "rows"]
)
async def test_what_concerns_a_lane_is_no_failure_of_the_store(error: ForebayError) -> None:
    rig = Guarded()
    rig.publish(*step(1, 1))
    rig.store.errors[f"{CONSUMER}/{LANE}"] = error
    for _ in range(12):
        await rig.turns(1)
        rig.clock.advance(40.0)
    assert rig.state == State.CLOSED
    assert rig.breaker.snapshot().failed == 0
    assert rig.guarded.failed > 2
    (seen,) = [each for each in rig.guarded.lanes() if each.lane == LANE]
    if isinstance(error, TableUnavailable):
        assert seen.waits_s > 400
        assert seen.reason == "There is no table."
        assert rig.guarded.in_hand() == 2


async def test_a_transport_that_cannot_be_asked_is_told_and_no_failure_of_the_store() -> None:
    rig = Guarded()

    def away(*_: object) -> None:
        raise Transient("No broker.")

    join, rig.transport.join = rig.transport.join, away  # type: ignore[assignment, method-assign]
    await rig.turns(3)
    assert rig.guarded.trouble == "No broker."
    assert not rig.guarded.begun
    assert rig.breaker.snapshot().failed == 0
    rig.transport.join = join  # type: ignore[method-assign]
    await rig.turns(1)
    assert (rig.guarded.trouble, rig.guarded.begun) == ("", True)


async def test_how_far_a_lane_is_behind_is_the_age_of_what_it_has_or_of_the_last_look() -> None:
    rig = Guarded()
    await rig.turns(1)
    await rig.turns(1)
    assert max(each.lag_s for each in rig.guarded.lanes()) <= 2 * IDLE_S
    rig.publish(*step(1, 1))
    rig.store.errors[""] = Transient("away")
    await rig.turns(1)
    rig.clock.advance(100.0)
    lags = {each.lane: each.lag_s for each in rig.guarded.lanes()}
    assert lags[LANE] >= 100
    assert lags[QUOTES] >= 100, "nobody has looked"


class Life:
    """Is stopped by the test."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.orphaned = False


async def test_what_is_in_hand_when_it_is_stopped_is_stored_and_its_lanes_are_others() -> None:
    rig = Guarded(Batching(rows=1000, seconds=3600.0))
    life = Life()
    rig.publish(*step(1, 1))
    await rig.turns(2)
    assert stored_ids(rig.store) == []
    life.stop.set()
    await rig.guarded.run(life)
    assert stored_ids(rig.store) == [1]
    assert rig.broker.members(CONSUMER) == []


def test_a_lane_that_comes_disturbs_no_other_in_hand() -> None:
    rig = Shared()
    other = rig.another()
    for bridge in (rig.bridge, other, rig.bridge, other):
        bridge.step()
    mine, theirs = (rig.bridge, other) if LANE in rig.bridge.lanes else (other, rig.bridge)
    rig.publish(*step(1, 1, 2))
    mine.drain()
    theirs.close()
    mine.step()
    assert {*mine.lanes} == {*TOPICS}
    rig.publish(*step(3, 5, 6))
    mine.drain()
    assert [(gap.first, gap.last) for gap in stored_gaps(rig.store)] == [(3, 4)]
    assert LaneElsewhere not in rig.kinds()
