"""The publisher: what is told, what is remembered, and when."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.frames import EpochAccepted, EpochOpened, FrameKind, encode_control
from forebay.domain.messages import ControlTold, EventsTold, KnownTold, LettersTold, Mark, Step
from forebay.errors import Corrupt, CursorMoved, Permanent, Transient
from forebay.journal import CursorFile, JournalWriter, OsDisk, PendingBlock, StateFile
from forebay.services.publisher import ENDS_S, LOOK_S, Publisher
from forebay.services.pump import JournalFeed
from forebay.telemetry import PublishRefused, TelemetryEvent
from tests.support.delivery import PARSERS
from tests.support.frames import LOG, T0, context, heartbeat, match
from tests.support.made_venue import Deal, MadeParser, frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.domain.frames import Context
    from forebay.domain.messages import Message
    from forebay.ports import Parser, Subscription


class Kept:
    """A transport that keeps what is published, and refuses what it is told to."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.errors: list[Exception] = []

        self.of_lane: dict[str, list[Message]] = defaultdict(list)
        self.identities: dict[str, int] = {}
        self.partitions = 1
        self.looks = 0

    def lanes(self, topic: str) -> list[str]:
        self.looks += 1
        lanes = [f"{topic}/{number}" for number in range(self.partitions)]
        for lane in lanes:
            self.identities.setdefault(lane, 1)
        return lanes

    def identity(self, lane: str) -> str:
        return str(self.identities[lane])

    def remake(self, topic: str) -> None:
        for lane in self.lanes(topic):
            self.identities[lane] += 1
            self.of_lane[lane].clear()

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.messages += messages
        self.of_lane[lane] += messages

    def subscribe(self, topic: str, group: str) -> Subscription:
        raise NotImplementedError

    def close(self) -> None: ...


class Full(OsDisk):
    """Has no space as often as it is told to."""

    failures = 0

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        if self.failures:
            self.failures -= 1
            raise OSError(28, "full")
        OsDisk.fdatasync(fd)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    folder = tmp_path / "journal"
    with JournalWriter.open(folder, clock=ManualClock(), random_id=lambda: LOG) as opened:
        yield opened


def put(
    writer: JournalWriter,
    *payloads: bytes,
    origin: Context | None = None,
    kind: FrameKind = FrameKind.TEXT,
) -> None:
    times = [T0 + place for place in range(len(payloads))]
    writer.commit(
        [PendingBlock(kind, (origin or context()).encode(), list(payloads), times, (0, 0))]
    )


def publisher(
    tmp_path: Path,
    transport: Kept,
    parsers: dict[str, Parser] = PARSERS,
    disk: OsDisk | None = None,
    clock: ManualClock | None = None,
) -> Publisher:
    state = StateFile(tmp_path / "cursors" / "p.state", disk or OsDisk())
    cursor = CursorFile(tmp_path / "cursors" / "p.cursor")
    return Publisher(
        tmp_path / "journal", transport, parsers, state, clock=clock or ManualClock(), cursor=cursor
    )


def test_a_step_tells_events_high_waters_records_and_letters_then_its_mark(
    tmp_path: Path, writer: JournalWriter
) -> None:
    controls = [encode_control(EpochOpened()), encode_control(EpochAccepted())]
    put(writer, *controls, kind=FrameKind.CONTROL)
    put(writer, match(1), heartbeat(4), b"junk")
    transport = Kept()
    assert publisher(tmp_path, transport).step() == 3
    heads = [message.head for message in transport.of_lane["trade_archive/0"]]
    kinds = [EventsTold, KnownTold, ControlTold, ControlTold, Mark]
    assert [type(head.told) for head in heads] == kinds
    assert [head.part for head in heads] == list(range(5))
    assert {head.step for head in heads} == {Step(LOG, 1, 6)}
    assert heads[-1].told == Mark(4, {"yielding": 1, "control": 1, "dead": 1}, {})
    letters, mark = (message.head for message in transport.of_lane["market_archive_dlq/0"])
    assert isinstance(letters.told, LettersTold)
    assert (mark.step, mark.told) == (Step(LOG, 1, 6), Mark(1, {}, {})), "frames are told once"


def test_a_message_says_whence_its_frames_are_but_not_what_was_asked(
    tmp_path: Path, writer: JournalWriter
) -> None:
    """An address or a request may hold a secret."""
    asked = context("rest", url="https://x/?signature=1", symbols=("BTC-USD",), partial=True)
    put(writer, heartbeat(4), origin=asked)
    transport = Kept()
    publisher(tmp_path, transport).step()
    told = transport.messages[0].head.told
    assert isinstance(told, KnownTold)
    assert (told.origin.context.url, told.origin.context.request) == ("", "")
    assert (told.origin.context.purpose, told.origin.context.partial) == ("history", True)
    assert told.origin.channels["trade"] == PARSERS["coinbase"].channels["trade"]
    assert (told.first, told.last) == (1, 1)


def test_nothing_is_remembered_before_it_is_acknowledged(
    tmp_path: Path, writer: JournalWriter
) -> None:
    put(writer, match(1))
    transport = Kept()
    transport.errors = [Transient("full")]
    moving = publisher(tmp_path, transport)
    with pytest.raises(Transient):
        moving.step()
    again = publisher(tmp_path, transport)
    assert again.position is None
    assert again.drain() == 1
    assert CursorFile(tmp_path / "cursors" / "p.cursor").load() == writer.position
    assert publisher(tmp_path, transport).drain() == 0


def test_what_is_acknowledged_is_not_told_again_because_the_disk_is_full(
    tmp_path: Path, writer: JournalWriter
) -> None:
    put(writer, match(1))
    transport, disk = Kept(), Full()
    moving = publisher(tmp_path, transport, disk=disk)
    disk.failures = 2
    for _ in range(2):
        with pytest.raises(Transient):
            moving.step()
    assert moving.step() == 1
    assert len(transport.messages) == 2, "the events and the mark, once"


def ids_told(transport: Kept) -> list[str]:
    return [
        str(each)
        for message in transport.messages
        if isinstance(message.head.told, EventsTold) and message.rows is not None
        for each in message.rows["event_id"].to_pylist()
    ]


def test_equal_events_get_the_same_ids_whenever_it_is_killed(
    tmp_path: Path, writer: JournalWriter
) -> None:
    """Ordinals are remembered with the position, also those of a stream that was silent."""
    parsers: dict[str, Parser] = {"made": MadeParser("content")}
    plain, killed, going = Kept(), Kept(), Kept()
    journal = tmp_path / "journal"
    alive = Publisher(journal, going, parsers, StateFile(tmp_path / "a.state"), clock=ManualClock())
    for symbol in ("A-B", "C-D", "A-B", "C-D"):
        deal = Deal(symbol=symbol)
        put(writer, frame(deal), frame(deal), origin=context(venue="made"))
        Publisher(
            journal, killed, parsers, StateFile(tmp_path / "k.state"), clock=ManualClock()
        ).step()
        alive.step()
    Publisher(journal, plain, parsers, StateFile(tmp_path / "p.state"), clock=ManualClock()).drain()
    assert len(set(ids_told(plain))) == 8
    assert ids_told(killed) == ids_told(plain)
    assert ids_told(going) == ids_told(plain)


def test_a_journal_that_began_anew_is_counted_anew(tmp_path: Path) -> None:
    """What it tells again has the ids that were told."""
    parsers: dict[str, Parser] = {"made": MadeParser("content")}
    transport = Kept()
    for log_id in (LOG, "b" * 32):
        folder = tmp_path / log_id
        with JournalWriter.open(folder, clock=ManualClock(), random_id=lambda: log_id) as writer:  # noqa: B023
            put(writer, frame(Deal()), frame(Deal()), origin=context(venue="made"))
            Publisher(
                folder, transport, parsers, StateFile(tmp_path / "p.state"), clock=ManualClock()
            ).drain()
    told = ids_told(transport)
    assert len(told) == 4
    assert told[2:] == told[:2]


def steps_of(transport: Kept, lane: str) -> list[Step]:
    return list(dict.fromkeys(message.head.step for message in transport.of_lane[lane]))


def numbers_of(transport: Kept, lane: str) -> list[int]:
    """Return the ids of the trades that were told to a lane."""
    return [
        int(text)
        for message in transport.of_lane[lane]
        if isinstance(message.head.told, EventsTold) and message.rows is not None
        for text in message.rows["trade_id"].to_pylist()
    ]


def test_a_step_begins_where_the_last_one_ended(tmp_path: Path, writer: JournalWriter) -> None:
    transport = Kept()
    moving = publisher(tmp_path, transport)
    for number in (1, 2, 3):
        put(writer, match(number))
        moving.step()
        moving = publisher(tmp_path, transport) if number == 2 else moving
    assert steps_of(transport, "trade_archive/0") == [
        Step(LOG, 1, 2),
        Step(LOG, 2, 3),
        Step(LOG, 3, 4),
    ]


# -------------------------------------------------------------------------------- lanes


TRADES = "trade_archive/0"
DEAD = "market_archive_dlq/0"


def test_a_lane_of_which_nothing_came_is_told_nothing_and_then_further_back(
    tmp_path: Path, writer: JournalWriter
) -> None:
    transport = Kept()
    moving = publisher(tmp_path, transport)
    for payload in (match(1), b"junk", b"junk", match(2)):
        put(writer, payload)
        moving.step()
    assert steps_of(transport, TRADES) == [Step(LOG, 1, 2), Step(LOG, 2, 5)]
    assert steps_of(transport, DEAD) == [Step(LOG, 2, 3), Step(LOG, 3, 4)]


def test_each_lane_can_be_told_that_it_has_all_there_is(
    tmp_path: Path, writer: JournalWriter
) -> None:
    transport = Kept()
    moving = publisher(tmp_path, transport)
    for payload in (match(1), b"junk"):
        put(writer, payload)
        moving.step()
    moving.tell_ends()
    moving.tell_ends()
    publisher(tmp_path, transport).tell_ends()
    assert steps_of(transport, TRADES) == [Step(LOG, 1, 2), Step(LOG, 2, 3)]
    assert transport.of_lane[TRADES][-1].head.told == Mark(0, {}, {})
    assert len(transport.of_lane[TRADES]) == 3


def test_a_lane_of_which_nothing_comes_is_told_so_now_and_then(
    tmp_path: Path, writer: JournalWriter
) -> None:
    transport, clock = Kept(), ManualClock()
    moving = publisher(tmp_path, transport, clock=clock)
    for payload in (match(1), b"junk", b"junk"):
        put(writer, payload)
        moving.step()
    clock.advance(ENDS_S)
    put(writer, b"junk")
    moving.step()
    assert steps_of(transport, TRADES) == [Step(LOG, 1, 2), Step(LOG, 2, 4)]
    clock.advance(ENDS_S)
    assert moving.step() == 0
    assert steps_of(transport, TRADES)[2:] == [Step(LOG, 4, 5)]
    assert moving.step() == 0
    assert len(steps_of(transport, TRADES)) == 3


def test_what_a_transport_will_not_take_is_waited_out_and_told(
    tmp_path: Path, writer: JournalWriter
) -> None:
    transport, told = Kept(), list[TelemetryEvent]()
    put(writer, match(1))
    state = StateFile(tmp_path / "p.state")
    moving = Publisher(
        tmp_path / "journal",
        transport,
        PARSERS,
        state,
        clock=ManualClock(),
        observer=told.append,
    )
    transport.errors = [Permanent("may not")]
    with pytest.raises(Transient, match="may not"):
        moving.step()
    assert [type(each) for each in told] == [PublishRefused]
    assert moving.drain() == 1


def test_symbols_are_spread_over_lanes_and_each_stays_in_one(
    tmp_path: Path, writer: JournalWriter
) -> None:
    transport = Kept()
    transport.partitions = 3
    moving = publisher(tmp_path, transport)
    products = [f"{name}-USD" for name in "ABCDEFGH"]
    for turn in range(3):
        put(writer, *(match(10 * turn + place, name) for place, name in enumerate(products, 1)))
        moving.step()
    lanes: dict[str, set[str]] = defaultdict(set)
    told: dict[str, list[int]] = defaultdict(list)
    for lane, messages in transport.of_lane.items():
        for message in messages:
            if isinstance(message.head.told, EventsTold) and message.rows is not None:
                for row in message.rows.select(["symbol", "trade_id"]).to_pylist():
                    lanes[row["symbol"]].add(lane)
                    told[row["symbol"]].append(int(row["trade_id"]))
    assert set(lanes) == set(products)
    assert all(len(each) == 1 for each in lanes.values())
    assert len(set.union(*lanes.values())) > 1
    assert all(told[name] == [at, 10 + at, 20 + at] for at, name in enumerate(products, 1))


def test_a_topic_that_was_made_anew_is_told_all_again_and_the_others_nothing(
    tmp_path: Path, writer: JournalWriter
) -> None:
    transport = Kept()
    moving = publisher(tmp_path, transport)
    for payload in (match(1), b"junk", match(2)):
        put(writer, payload)
        moving.step()
    letters = len(transport.of_lane[DEAD])
    transport.remake("trade_archive")
    put(writer, match(3), b"junk")
    moving = publisher(tmp_path, transport)
    with pytest.raises(CursorMoved):
        moving.step()
    moving.drain()
    assert numbers_of(transport, TRADES) == [1, 2, 3]
    first, *_, last = steps_of(transport, TRADES)
    assert (first.begin, last.end) == (1, 6)
    assert len(transport.of_lane[DEAD]) == letters + 2, "the new one and a mark"
    assert publisher(tmp_path, transport).drain() == 0


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_who_dies_while_it_tells_a_topic_again_goes_on_there(
    tmp_path: Path, writer: JournalWriter, frames: int
) -> None:
    transport = Kept()
    put(writer, match(1), b"junk")
    publisher(tmp_path, transport).drain()
    put(writer, match(2), b"junk")
    publisher(tmp_path, transport).drain()
    letters = len(transport.of_lane[DEAD])
    transport.remake("trade_archive")
    moving = publisher(tmp_path, transport)
    with pytest.raises(CursorMoved):
        moving.tend()
    moving.close()
    for _ in range(20):
        moving = publisher(tmp_path, transport)
        bounded(moving, frames)
        moving.step()
    assert numbers_of(transport, TRADES) == [1, 2]
    assert len(transport.of_lane[DEAD]) == letters


def bounded(moving: Publisher, frames: int) -> None:
    """Let a publisher read so few frames at a time."""
    feed = moving._feed
    assert isinstance(feed, JournalFeed)
    assert feed._reader is not None
    feed._reader.read = partial(feed._reader.read, max_frames=frames)  # type: ignore[method-assign]


def test_that_a_topic_was_made_anew_is_noticed_in_time_although_nothing_comes(
    tmp_path: Path, writer: JournalWriter
) -> None:
    put(writer, match(1))
    transport, clock = Kept(), ManualClock()
    moving = publisher(tmp_path, transport, clock=clock)
    moving.drain()
    transport.remake("trade_archive")
    assert moving.step() == 0
    clock.advance(LOOK_S)
    assert moving.drain() == 1
    assert numbers_of(transport, TRADES) == [1]


def test_a_lane_that_failed_is_looked_at_before_it_is_told_again(
    tmp_path: Path, writer: JournalWriter
) -> None:
    transport = Kept()
    moving = publisher(tmp_path, transport)
    put(writer, match(1))
    moving.drain()
    put(writer, match(2))
    transport.errors = [Transient("it is not there")]
    with pytest.raises(Transient):
        moving.step()
    transport.remake("trade_archive")
    with pytest.raises(CursorMoved):
        moving.step()
    moving.drain()
    assert numbers_of(transport, TRADES) == [1, 2]


def test_lanes_that_have_acknowledged_are_not_told_again_because_another_fails(
    tmp_path: Path, writer: JournalWriter
) -> None:
    transport = Kept()
    moving = publisher(tmp_path, transport)
    put(writer, match(1), b"junk")
    original = transport.publish

    def publish(lane: str, messages: Sequence[Message]) -> None:
        if lane == DEAD and transport.errors:
            raise transport.errors.pop()
        original(lane, messages)

    transport.publish = publish  # type: ignore[method-assign]
    transport.errors = [Transient("away")]
    for _ in range(2):
        with contextlib.suppress(Transient):
            moving.step()
    assert numbers_of(transport, TRADES) == [1]
    assert len(transport.of_lane[DEAD]) == 2


def test_a_topic_with_more_lanes_than_before_is_told_what_comes(
    tmp_path: Path, writer: JournalWriter
) -> None:
    transport, clock = Kept(), ManualClock()
    moving = publisher(tmp_path, transport, clock=clock)
    put(writer, match(1))
    moving.drain()
    transport.partitions = 2
    clock.advance(LOOK_S)
    products = [f"{name}-USD" for name in "ABCD"]
    put(writer, *(match(2, name) for name in products))
    moving.drain()
    lanes = [f"trade_archive/{number}" for number in range(2)]
    assert sorted(len(numbers_of(transport, lane)) for lane in lanes) in ([1, 4], [2, 3])
    assert {step.begin for step in steps_of(transport, lanes[1])} == {2}


def test_a_state_of_something_else_is_refused_by_name(
    tmp_path: Path, writer: JournalWriter
) -> None:
    put(writer, match(1))
    StateFile(tmp_path / "cursors" / "p.state").store(b"?")
    with pytest.raises(Corrupt, match="publisher's state"):
        publisher(tmp_path, Kept())
