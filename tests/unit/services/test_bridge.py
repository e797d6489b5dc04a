"""The bridge: steps put together, what is lacking told, and where it goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.channels import Channel
from forebay.domain.frames import EpochAccepted, FrameKind, Loss, encode_control
from forebay.domain.messages import EventsTold, FrameOrigin, Head, Mark, Message, Step
from forebay.errors import ConfigError, Transient
from forebay.journal import Position
from forebay.ports import Received
from forebay.services.bridge import Bridge
from forebay.services.lane_bridge import LaneBridge, journal_cursor, listen
from forebay.services.lane_feed import Batching, LaneFeed
from forebay.services.lanes import all_topics, lane_of, parts_of
from forebay.services.normalise import Normalised, normalise
from forebay.services.projection import declared
from forebay.services.publisher import tell
from forebay.services.steps import Steps, WholeStep
from forebay.telemetry import GapOpened, LaneReadAgain, LanesMoved, LossFound, TelemetryEvent
from tests.support.delivery import PARSERS
from tests.support.frames import LOG, batch, context, match, rows_of
from tests.support.frames import Told as Trade
from tests.support.made_venue import Deal, MadeParser, frame
from tests.support.memory_store import MemoryStore, stored_gaps
from tests.support.memory_transport import Broker, MemoryTransport

if TYPE_CHECKING:
    from forebay.ports import Commit, Committed, Parser

OTHER = "b" * 32
LANE = "trade_archive"
CHANNELS = {venue: parser.channels for venue, parser in PARSERS.items()}


def step(begin: int, *ids: int, log_id: str = LOG) -> list[Message]:
    """Return the messages of frames ``begin`` and on, one match each."""
    told = normalise(batch(list(map(match, ids)), first_seq=begin), PARSERS)
    return step_of(Step(log_id, begin, begin + len(ids)), told)


def step_of(where: Step, told: Normalised) -> list[Message]:
    """Return the messages of a step, all of them in one lane."""
    parts = parts_of(told, CHANNELS, lambda _: [LANE])
    return tell(where, parts, told.frames, told.unbuilt)


def put_together(*messages: Message | None) -> list[WholeStep]:
    steps = Steps()
    received = [Received(offset, each, offset + 1) for offset, each in enumerate(messages)]
    return [whole for each in received if (whole := steps.add(each)) is not None]


def ends(wholes: list[WholeStep]) -> list[tuple[int, int, int, bool]]:
    return [(whole.step.begin, whole.step.end, whole.resume, whole.lacking) for whole in wholes]


def stored_ids(store: MemoryStore) -> list[int]:
    return sorted(int(text) for text in store.table("trades")["trade_id"].to_pylist())


# ------------------------------------------------------------------------------- steps


def test_a_step_is_whole_with_its_mark() -> None:
    events, mark = step(1, 1, 2)
    assert put_together(events) == []
    (whole,) = put_together(events, mark)
    assert whole.messages == [events, mark]
    assert ends([whole]) == [(1, 3, 2, False)]


def test_a_step_that_was_told_in_part_comes_again_whole() -> None:
    events, mark = step(1, 1, 2)
    longer, end = step(1, 1, 2, 3)
    assert ends(put_together(events, longer, end)) == [(1, 4, 3, False)]
    assert ends(put_together(events, events, mark)) == [(1, 3, 3, False)]


def test_a_part_that_cannot_be_read_or_did_not_come_is_lacking() -> None:
    _, mark = step(1, 1, 2)
    assert ends(put_together(None, mark)) == [(1, 3, 2, True)]
    assert ends(put_together(mark)) == [(1, 3, 1, True)]


def test_a_part_of_an_earlier_telling_or_of_another_step_stands_in_for_none() -> None:
    events, _ = step(1, 1, 2)
    second = events._replace(head=Head(events.head.step, 1, events.head.told))
    mark = events._replace(head=Head(events.head.step, 2, Mark(2, {}, {})), rows=None)
    assert ends(put_together(events, second, mark)) == [(1, 3, 3, False)]
    assert ends(put_together(events, second, events, None, mark)) == [(1, 3, 5, True)]
    later = Step(LOG, 3, 5)
    theirs = [
        message._replace(head=Head(later, message.head.part, message.head.told))
        for message in (second, mark)
    ]
    assert ends(put_together(events, *theirs)) == [(3, 5, 3, True)]


def test_steps_of_two_publishers_are_apart_and_an_open_one_is_read_again() -> None:
    mine, my_mark = step(1, 1)
    theirs, their_mark = step(1, 2, log_id=OTHER)
    wholes = put_together(mine, theirs, their_mark, my_mark)
    assert [whole.step.log_id for whole in wholes] == [OTHER, LOG]
    assert [whole.resume for whole in wholes] == [0, 4]


def test_what_counts_other_numbers_than_its_ids_is_said_to_on_the_far_side() -> None:
    for texts in (True, False):
        parsers: dict[str, Parser] = {"made": MadeParser("native", "seq", texts=texts)}
        told = normalise(batch([frame(Deal(number=3))], context(venue="made")), parsers)
        parts = parts_of(told, declared(parsers), lambda _: [LANE])
        messages = tell(Step(LOG, 1, 2), parts, told.frames, told.unbuilt)
        heard = next(listen(messages))
        assert heard.events[0].own_sequence is told.events[0].own_sequence is texts


# ------------------------------------------------------------------------------ storing


class Rig:
    """A broker, a bridge and a store."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.broker = Broker()
        self.broker.lanes(LANE)
        self.transport = MemoryTransport(self.broker)
        self.told: list[TelemetryEvent] = []
        self.bridge = self.started()

    def started(self) -> Bridge:
        return Bridge(self.transport, self.store, topics=[LANE], observer=self.heard)

    def heard(self, event: TelemetryEvent) -> None:
        if not isinstance(event, LanesMoved):
            self.told.append(event)

    def restarted(self) -> Bridge:
        self.bridge.close()
        self.bridge = self.started()
        return self.bridge

    @property
    def lane(self) -> LaneBridge:
        return self.bridge.lanes[LANE]

    def publish(self, *messages: Message) -> None:
        self.transport.publish(LANE, messages)


def test_rows_coverage_and_both_cursors_are_stored_together() -> None:
    rig = Rig()
    rig.publish(*step(1, 1, 2), *step(3, 5))
    assert rig.bridge.drain() == 3
    assert stored_ids(rig.store) == [1, 2, 5]
    assert [(gap.first, gap.last) for gap in stored_gaps(rig.store)] == [(3, 4)]
    positions = rig.store.load().positions
    assert positions[journal_cursor(LOG)] == Position(LOG, 4)
    assert positions[f"bridge/{LANE}"] == rig.lane.position
    assert rig.lane.delivered.outcomes == {"yielding": 3, "control": 0, "dead": 0}
    assert [type(each) for each in rig.told] == [GapOpened]


def test_half_a_step_is_not_stored_and_not_skipped() -> None:
    rig = Rig()
    events, mark = step(1, 1)
    rig.publish(events)
    assert rig.bridge.step() == 0
    rig.publish(mark)
    assert rig.restarted().drain() == 1
    assert stored_ids(rig.store) == [1]


def test_what_comes_again_is_stored_once_and_moves_nothing_back() -> None:
    rig = Rig()
    for messages in (step(1, 1, 2), step(3, 3), step(1, 1, 2, 3), step(1, 1)):
        rig.publish(*messages)
        rig.bridge.drain()
    assert stored_ids(rig.store) == [1, 2, 3]
    assert rig.store.load().positions[journal_cursor(LOG)] == Position(LOG, 4)
    assert rig.told == []


def test_what_the_transport_lost_between_steps_is_told() -> None:
    rig = Rig()
    rig.publish(*step(1, 1), *step(5, 5))
    rig.bridge.drain()
    assert LossFound(LOG, 2, 4) in rig.told


def test_what_the_transport_lost_of_a_step_is_told_and_the_rest_stored() -> None:
    rig = Rig()
    first, second = step(1, 1), step(2, 2)
    mark = first[-1]._replace(head=Head(first[-1].head.step, 2, Mark(2, {}, {})))
    rig.publish(first[0], mark, *second)
    rig.bridge.drain()
    assert LossFound(LOG, 1, 1) in rig.told
    assert stored_ids(rig.store) == [1, 2]


def test_bytes_that_are_no_message_stop_nothing() -> None:
    rig = Rig()
    rig.broker.append(LANE, [b"poison"])
    rig.publish(*step(1, 1))
    assert rig.bridge.drain() == 1


def test_what_is_stored_is_let_go_by_the_broker() -> None:
    rig = Rig()
    rig.publish(*step(1, 1))
    rig.bridge.drain()
    assert not rig.broker._lanes[LANE].messages


def test_the_stores_cursor_counts_and_not_the_transports() -> None:
    rig = Rig()
    rig.broker.join(LANE, "somebody slow")
    rig.publish(*step(1, 1), *step(2, 2))
    rig.bridge.drain()
    rig.bridge.close()
    fresh = Rig(MemoryStore())
    fresh.transport = rig.transport
    assert fresh.restarted().drain() == 2
    assert stored_ids(fresh.store) == [1, 2]


def test_a_topic_that_was_made_anew_is_read_from_its_beginning() -> None:
    rig = Rig()
    rig.publish(*step(1, 1, 2))
    rig.bridge.drain()
    rig.broker.delete(LANE)
    rig.broker.lanes(LANE)
    rig.publish(*step(2, 2), *step(3, 3))
    assert rig.bridge.drain() == 2
    assert stored_ids(rig.store) == [1, 2, 3]
    assert rig.told == [LaneReadAgain(LANE)], "nothing of the journal is lacking"


def test_a_store_that_is_away_pauses_the_topic_and_nothing_is_dropped() -> None:
    class Away(MemoryStore):
        away = 2

        def commit(self, commit: Commit) -> Committed:
            if self.away:
                self.away -= 1
                raise Transient("away")
            return super().commit(commit)

    rig = Rig(Away())
    rig.publish(*step(1, 1))
    for _ in range(2):
        with pytest.raises(Transient):
            rig.bridge.step()
        rig.publish(*step(2, 2))
        assert rig.lane.feed._subscribed().read() == [], "paused"
    rig.bridge.drain()
    assert stored_ids(rig.store) == [1, 2]


def test_a_seek_forgets_what_was_read_ahead() -> None:
    rig = Rig()
    rig.publish(*step(1, 1), *step(1, 3, log_id=OTHER))
    feed = LaneFeed(lambda: rig.transport.subscribe(LANE, "g"), ManualClock(), Batching())
    for _ in range(2):
        feed.seek(None)
        piece = feed.read()
        assert piece is not None
        assert [whole.step.log_id for whole in piece.steps] == [LOG]


def test_steps_are_committed_together_but_those_of_two_journals_apart() -> None:
    rig = Rig()
    rig.publish(*step(1, 1), *step(2, 2), *step(1, 3, log_id=OTHER))
    assert [rig.bridge.step() for _ in range(3)] == [2, 1, 0]
    positions = rig.store.load().positions
    assert positions[journal_cursor(OTHER)] == Position(OTHER, 2)


def test_a_venue_that_is_counted_otherwise_than_before_is_refused() -> None:
    rig = Rig()
    rig.publish(*step(1, 1))
    rig.bridge.drain()
    channel = replace(CHANNELS["coinbase"]["trade"], unit="time")
    origin = FrameOrigin(context(), {"trade": channel})
    told = EventsTold(origin, "trade", own_sequence=False)
    where = Step(LOG, 2, 3)
    rig.publish(
        Message(Head(where, 0, told), rows_of(Trade(2))), Message(Head(where, 1, Mark(1, {}, {})))
    )
    for _ in range(2):
        with pytest.raises(ConfigError, match="counted by id and declared to be by time"):
            rig.bridge.step()


def test_a_venue_that_nobody_here_knows_brings_its_declaration_along() -> None:
    channel = Channel("trade", "native", "id")
    told = EventsTold(FrameOrigin(context(venue="coinbase"), {"trade": channel}), "trade", False)
    rig = Rig()
    where = Step(LOG, 1, 3)
    rows = rows_of(Trade(1), Trade(4))
    rig.publish(Message(Head(where, 0, told), rows), Message(Head(where, 1, Mark(1, {}, {}))))
    rig.bridge.drain()
    assert [(gap.first, gap.last) for gap in stored_gaps(rig.store)] == [(2, 3)]


# -------------------------------------------------------------------------------- lanes


def test_a_journal_is_stored_up_to_where_all_lanes_are() -> None:
    rig = Rig()
    topics = [LANE, "quote_archive"]
    quotes = rig.broker.lanes("quote_archive")[0]
    rig.bridge = Bridge(rig.transport, rig.store, topics=topics)

    def reached() -> Position | None:
        return rig.store.load().positions.get(journal_cursor(LOG))

    rig.publish(*step(1, 1, 2))
    rig.bridge.drain()
    assert reached() == Position(LOG, 3), "there is nothing of the journal in the other lane"
    rig.transport.publish(quotes, [Message(Head(Step(LOG, 1, 2), 0, Mark(0, {}, {})))])
    rig.bridge.drain()
    rig.publish(*step(3, 3, 4))
    rig.bridge.drain()
    assert reached() == Position(LOG, 3), "it waits for the other lane, and does not go back"
    rig.transport.publish(quotes, [Message(Head(Step(LOG, 2, 5), 0, Mark(0, {}, {})))])
    rig.bridge.drain()
    assert reached() == Position(LOG, 5)


def test_records_of_a_connection_change_the_streams_of_their_lane_alone() -> None:
    """In another lane, what comes of a stream before the record may not have been read yet."""
    symbols = [f"{name}-USD" for name in "ABCDEFGH"]
    parsers: dict[str, Parser] = {"made": MadeParser("content", "time")}
    origin = context(venue="made", symbols=tuple(symbols), channels=("trade",))
    accepted = batch([encode_control(EpochAccepted())], origin, kind=FrameKind.CONTROL)
    store, broker = MemoryStore(), Broker(partitions=2)
    transport = MemoryTransport(broker)
    bridge = Bridge(transport, store)
    lanes = broker.lanes(LANE)
    for part in parts_of(normalise(accepted, parsers), declared(parsers), broker.lanes):
        if part.lane == lanes[0]:
            transport.publish(part.lane, tell(Step(LOG, 1, 2), [part], {}, {}))
    bridge.drain()
    opened = {key.symbol for key in store.load().coverage}
    assert opened == {name for name in symbols if lane_of(lanes, "made", name) == lanes[0]}
    assert 0 < len(opened) < len(symbols)


def test_a_loss_that_every_lane_tells_is_told_once() -> None:
    told: list[TelemetryEvent] = []
    broker = Broker(partitions=2)
    transport = MemoryTransport(broker)
    bridge = Bridge(transport, MemoryStore(), observer=told.append)
    lost = batch([encode_control(Loss(1, 3))], context(), kind=FrameKind.LOSS)
    for part in parts_of(normalise(lost, PARSERS), CHANNELS, broker.lanes):
        transport.publish(part.lane, tell(Step(LOG, 1, 4), [part], {}, {}))
    bridge.drain()
    assert [each for each in told if isinstance(each, LossFound)] == [LossFound(LOG, 1, 3)]


def test_topics_of_every_kind_are_read_and_those_of_dead_letters() -> None:
    topics = all_topics()
    assert {"trade_archive", "market_archive", "aggregate_archive_dlq"} < set(topics)
    assert len(topics) == len(set(topics)) == 12
