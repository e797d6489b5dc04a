"""One port, one exam, which every transport sits: see :mod:`tests.conformance.transports`."""

from __future__ import annotations

import itertools
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forebay.domain.frames import Context, EpochOpened
from forebay.domain.messages import ControlTold, EventsTold, FrameOrigin, Head, Message, Step
from forebay.errors import CursorBeyondEnd, Transient
from forebay.journal import Position
from tests.conformance.transports import Sitting, candidates
from tests.support.commands import wait_for
from tests.support.frames import LOG, TRADES, Told, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forebay.ports import Received, Subscription, Transport

CANDIDATES = candidates()
SOON_S = 20.0
"""What was acknowledged can be read within such a time."""
MANY = 1000
"""No lane that can be full takes so many messages."""


def message(number: int) -> Message:
    context = Context(venue="v", source="ws", purpose="live", collector="c", epoch="e")
    told = ControlTold(FrameOrigin(context, {}), EpochOpened(), 7, number)
    return Message(Head(Step(LOG, 1, 10), number, told))


def messages(*numbers: int) -> list[Message]:
    return [message(number) for number in numbers]


def message_of_rows(number: int) -> Message:
    context = Context(venue="coinbase", source="ws", purpose="live", collector="c", epoch="e")
    told = EventsTold(FrameOrigin(context, {"trade": TRADES}), "trade", own_sequence=False)
    rows = rows_of(*(Told(number + each) for each in range(3)))
    return Message(Head(Step(LOG, 1, 10), number, told), rows)


@pytest.fixture(params=CANDIDATES)
def exam(request: pytest.FixtureRequest) -> Iterator[Sitting]:
    sit = CANDIDATES[request.param]
    # A socket's path must be short.
    with tempfile.TemporaryDirectory() as folder, sit(Path(folder)) as sitting:
        yield sitting


@pytest.fixture
def transport(exam: Sitting) -> Iterator[Transport]:
    made = exam.connect()
    yield made
    made.close()


@pytest.fixture
def lane(exam: Sitting, transport: Transport) -> str:
    return transport.lanes(exam.topic)[0]


def taken(subscription: Subscription, count: int) -> list[Received]:
    """Read until ``count`` messages have come; nothing that was read may be more."""
    received: list[Received] = []

    def look() -> bool | None:
        received.extend(subscription.read(max_messages=count - len(received)))
        return len(received) >= count or None

    wait_for(look, f"{count} messages", SOON_S)
    assert len(received) == count
    return received


def read(subscription: Subscription, count: int) -> list[int]:
    """Return the numbers of the next ``count`` messages."""
    return numbers(taken(subscription, count))


def numbers(received: Sequence[Received]) -> list[int]:
    return [each.message.head.part for each in received if each.message is not None]


def soon(subscription: Subscription, max_bytes: int) -> list[int]:
    """Return the numbers that the first read gives that gives any."""
    return wait_for(
        lambda: numbers(subscription.read(max_bytes=max_bytes)) or None, "a message", SOON_S
    )


def read_to(subscription: Subscription, count: int) -> Position:
    """Read ``count`` messages and return the position behind them."""
    return subscription.position_at(taken(subscription, count)[-1].resume)


# --------------------------------------------------------------------------- what is told


def test_a_message_comes_as_it_was_told(transport: Transport, lane: str) -> None:
    subscription = transport.subscribe(lane, "g")
    transport.publish(lane, [message(3), message_of_rows(4), message(5)])
    assert [each.message for each in taken(subscription, 3)] == [
        message(3),
        message_of_rows(4),
        message(5),
    ]


def test_messages_come_in_the_order_in_which_they_were_acknowledged(
    transport: Transport, lane: str
) -> None:
    subscription = transport.subscribe(lane, "g")
    transport.publish(lane, messages(0, 1))
    transport.publish(lane, messages(2))
    received = taken(subscription, 3)
    assert numbers(received) == [0, 1, 2]
    offsets = [each.offset for each in received]
    assert offsets == sorted(set(offsets))
    assert all(each.offset < each.resume for each in received), "nothing else is being told"
    transport.publish(lane, messages(3, 4))
    assert read(subscription, 2) == [3, 4]
    assert not subscription.read(), "nothing follows, and nothing comes twice"


def test_what_was_acknowledged_before_anybody_read_is_there(exam: Sitting) -> None:
    writer = exam.connect()
    (lane, *_) = writer.lanes(exam.topic)
    writer.publish(lane, messages(0, 1))
    writer.close()
    reader = exam.connect()
    assert read(reader.subscribe(lane, "g"), 2) == [0, 1]
    reader.close()


def test_topics_and_groups_are_apart(exam: Sitting, transport: Transport, lane: str) -> None:
    one, other = transport.subscribe(lane, "one"), transport.subscribe(lane, "other")
    elsewhere = transport.subscribe(transport.lanes(exam.elsewhere)[0], "one")
    transport.publish(lane, messages(0, 1))
    one.commit(read_to(one, 2))
    assert read(other, 2) == [0, 1]
    assert not elsewhere.read()


def test_a_read_is_bounded_by_messages_and_by_bytes(
    exam: Sitting, transport: Transport, lane: str
) -> None:
    subscription = transport.subscribe(lane, "g")
    transport.publish(lane, messages(*range(6)))
    assert read(subscription, 2) == [0, 1]
    if exam.size is not None:
        two = 2 * exam.size(message(0))
        given = soon(subscription, max_bytes=two)
        assert given in ([2], [2, 3]), "what has come by now, and no more than fits"
        assert soon(subscription, max_bytes=1) == [2 + len(given)], "one at least, however large"


# ------------------------------------------------------------------ lanes and identities


def test_a_topic_that_is_not_there_is_made_once(exam: Sitting, transport: Transport) -> None:
    lanes = transport.lanes(exam.topic)
    assert lanes
    assert len(set(lanes)) == len(lanes)
    identities = [transport.identity(lane) for lane in lanes]
    again = exam.connect()
    assert again.lanes(exam.topic) == lanes
    assert [again.identity(lane) for lane in lanes] == identities
    again.close()
    assert len(set(identities)) == len(lanes)
    assert not set(lanes) & set(transport.lanes(exam.elsewhere))


def test_a_topic_that_is_made_anew_has_another_identity(
    exam: Sitting, transport: Transport, lane: str
) -> None:
    transport.publish(lane, messages(0))
    before = transport.identity(lane)
    exam.delete(exam.topic)
    with pytest.raises(Transient):
        transport.identity(lane)
    assert transport.lanes(exam.topic)[0] == lane
    assert transport.identity(lane) != before
    transport.publish(lane, messages(1))
    assert read(transport.subscribe(lane, "new"), 1) == [1]


def test_who_reads_a_topic_that_is_made_anew_is_told(
    exam: Sitting, transport: Transport, lane: str
) -> None:
    subscription = transport.subscribe(lane, "g")
    transport.publish(lane, messages(0, 1))
    place = read_to(subscription, 1)
    exam.delete(exam.topic)
    transport.lanes(exam.topic)
    transport.publish(lane, messages(5, 6, 7))

    def refused() -> bool | None:
        try:
            assert not subscription.read()
        except Transient:
            return None
        except CursorBeyondEnd:
            return True
        return None

    wait_for(refused, "the reader to be told", SOON_S)
    with pytest.raises(CursorBeyondEnd):
        subscription.seek(place)
    subscription.seek(None)
    assert read(subscription, 3) == [5, 6, 7]


# -------------------------------------------------------------------- pause, seek, commit


def test_what_was_not_committed_comes_again_to_who_reads_next(exam: Sitting) -> None:
    transport = exam.connect()
    (lane, *_) = transport.lanes(exam.topic)
    transport.publish(lane, messages(0, 1, 2))
    first = transport.subscribe(lane, "g")
    first.commit(read_to(first, 1))
    assert read(first, 2) == [1, 2]
    first.close()
    transport.close()
    again = exam.connect()
    assert read(again.subscribe(lane, "g"), 2) == [1, 2]
    again.close()


def test_a_commit_of_what_was_read_moves_nobody_who_reads(transport: Transport, lane: str) -> None:
    subscription = transport.subscribe(lane, "g")
    transport.publish(lane, messages(0, 1, 2))
    place = read_to(subscription, 2)
    subscription.commit(place)
    assert read(subscription, 1) == [2]


def test_nothing_comes_while_paused_and_all_of_it_after(transport: Transport, lane: str) -> None:
    subscription = transport.subscribe(lane, "g")
    transport.publish(lane, messages(0, 1))
    assert read(subscription, 1) == [0]
    subscription.pause()
    transport.publish(lane, messages(2))
    assert not subscription.read()
    subscription.resume()
    assert read(subscription, 2) == [1, 2]


def test_a_seek_goes_back_to_a_position_and_to_the_oldest(transport: Transport, lane: str) -> None:
    subscription = transport.subscribe(lane, "g")
    transport.publish(lane, [message(0), message_of_rows(1), message(2)])
    places = [read_to(subscription, 1) for _ in range(3)]
    for place, following in zip(places, ([1, 2], [2], []), strict=True):
        subscription.seek(place)
        assert read(subscription, len(following)) == following
    subscription.seek(None)
    assert read(subscription, 3) == [0, 1, 2]


def test_a_seek_before_the_oldest_message_gives_that(transport: Transport, lane: str) -> None:
    subscription = transport.subscribe(lane, "g")
    transport.publish(lane, messages(0, 1, 2))
    early, late = read_to(subscription, 1), read_to(subscription, 1)
    subscription.commit(late)
    subscription.seek(early)
    following = read(subscription, 1)
    assert following in ([1], [2]), "what is committed may be gone"
    assert following == [2] or read(subscription, 1) == [2]


def test_a_position_of_another_lane_or_beyond_the_end_is_refused(
    transport: Transport, lane: str
) -> None:
    subscription = transport.subscribe(lane, "g")
    transport.publish(lane, messages(0))
    place = read_to(subscription, 1)
    for wrong in (Position("f" * 32, 0), Position(place.log_id, place.seq + 1)):
        with pytest.raises(CursorBeyondEnd):
            subscription.seek(wrong)
    subscription.seek(place)
    assert not subscription.read()


# ------------------------------------------------------------------------- backpressure


def fill(exam: Sitting, transport: Transport, lane: str) -> int:
    """Publish until the lane takes no more; return how many messages it has taken."""
    if exam.wait is None:
        pytest.skip("a lane of this transport is never full because nobody reads it")
    for number in itertools.islice(itertools.count(), MANY):
        try:
            transport.publish(lane, messages(number))
        except Transient:
            return number
    raise AssertionError("it takes everything")


def test_a_full_lane_refuses_more_and_drops_nothing(
    exam: Sitting, transport: Transport, lane: str
) -> None:
    subscription = transport.subscribe(lane, "g")
    few = fill(exam, transport, lane)
    assert few > 1
    subscription.commit(read_to(subscription, few))
    transport.publish(lane, messages(few))
    assert read(subscription, 1) == [few]


def test_the_slowest_group_decides_what_room_there_is(
    exam: Sitting, transport: Transport, lane: str
) -> None:
    quick, slow = transport.subscribe(lane, "quick"), transport.subscribe(lane, "slow")
    few = fill(exam, transport, lane)
    quick.commit(read_to(quick, few))
    with pytest.raises(Transient):
        transport.publish(lane, messages(few))
    assert read(slow, few) == list(range(few))


def test_a_publisher_waits_for_room(exam: Sitting, transport: Transport, lane: str) -> None:
    writer = exam.connect()
    subscription = transport.subscribe(lane, "g")
    few = fill(exam, writer, lane)
    assert exam.wait is not None
    exam.wait()
    acknowledged = threading.Event()

    def publish(told: Sequence[Message]) -> None:
        writer.publish(lane, told)
        acknowledged.set()

    waiting = threading.Thread(target=publish, args=(messages(few),))
    waiting.start()
    place = read_to(subscription, few)
    assert not acknowledged.is_set(), "nothing has room before it was committed"
    subscription.commit(place)
    waiting.join(20)
    assert acknowledged.is_set()
    assert read(subscription, 1) == [few]
    writer.close()
