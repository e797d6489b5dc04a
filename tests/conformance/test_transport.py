"""One port, one exam: every transport sits it."""

from __future__ import annotations

import itertools
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forebay.domain.frames import Context, EpochOpened
from forebay.domain.messages import ControlTold, FrameOrigin, Head, Message, Step, encode_message
from forebay.errors import CursorBeyondEnd, Transient
from forebay.journal import Position
from tests.support.frames import LOG
from tests.support.memory_socket import RemoteBroker, serving
from tests.support.memory_transport import Broker, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from forebay.ports import Subscription, Transport

TOPIC = "events"
FEW = 8
"""So many messages fill a topic of the exam."""


def message(number: int) -> Message:
    origin = FrameOrigin(
        Context(venue="v", source="ws", purpose="live", collector="c", epoch="e"), {}
    )
    return Message(Head(Step(LOG, 1, 10), number, ControlTold(origin, EpochOpened(), 7, number)))


def messages(*numbers: int) -> list[Message]:
    return [message(number) for number in numbers]


@dataclass
class Exam:
    """A transport under test, as a process sees it that comes and goes."""

    connect: Callable[[], Transport]
    wait: Callable[[], None]
    """Make it wait for room as long as a test may take, instead of not at all."""


def brokers(path: Path, kind: str) -> Iterator[Exam]:
    size = sum(len(raw) for raw in map(_bytes, range(FEW)))
    broker = Broker(capacity=size, wait_s=0)

    def wait() -> None:
        broker._wait_s = 60

    if kind == "memory":
        yield Exam(lambda: MemoryTransport(broker), wait)
        return
    with serving(broker, path):
        yield Exam(lambda: MemoryTransport(RemoteBroker(path)), wait)


def _bytes(number: int) -> bytes:
    return encode_message(message(number))


@pytest.fixture(params=["memory", "memory over a socket"])
def exam(request: pytest.FixtureRequest) -> Iterator[Exam]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        yield from brokers(Path(folder) / "broker.sock", request.param)


@pytest.fixture
def transport(exam: Exam) -> Iterator[Transport]:
    made = exam.connect()
    yield made
    made.close()


def read(subscription: Subscription, **limits: int) -> list[int]:
    """Return the numbers of what follows."""
    received = subscription.read(**limits)
    return [each.message.head.part for each in received if each.message is not None]


def read_to(subscription: Subscription, count: int) -> Position:
    """Read ``count`` messages and return the position behind them."""
    received = list(itertools.islice(subscription.read(max_messages=count), count))
    assert len(received) == count
    return subscription.position_after(received[-1].offset)


# --------------------------------------------------------------------------- what is told


def test_a_message_comes_as_it_was_told(transport: Transport) -> None:
    subscription = transport.subscribe(TOPIC, "g")
    transport.publish(TOPIC, [message(3)])
    (received,) = subscription.read()
    assert received.message == message(3)


def test_messages_come_in_the_order_in_which_they_were_acknowledged(transport: Transport) -> None:
    subscription = transport.subscribe(TOPIC, "g")
    transport.publish(TOPIC, messages(0, 1))
    transport.publish(TOPIC, messages(2))
    offsets = [each.offset for each in subscription.read()]
    assert offsets == sorted(offsets)
    transport.publish(TOPIC, messages(3, 4))
    assert read(subscription) == [3, 4]
    assert read(subscription) == [], "nothing follows, and nothing comes twice"


def test_what_was_acknowledged_before_anybody_read_is_there(exam: Exam) -> None:
    writer = exam.connect()
    writer.publish(TOPIC, messages(0, 1))
    writer.close()
    reader = exam.connect()
    assert read(reader.subscribe(TOPIC, "g")) == [0, 1]
    reader.close()


def test_topics_and_groups_are_apart(transport: Transport) -> None:
    one, other = transport.subscribe(TOPIC, "one"), transport.subscribe(TOPIC, "other")
    elsewhere = transport.subscribe("elsewhere", "one")
    transport.publish(TOPIC, messages(0, 1))
    one.commit(read_to(one, 2))
    assert read(other) == [0, 1]
    assert read(elsewhere) == []


def test_a_read_is_bounded_by_messages_and_by_bytes(transport: Transport) -> None:
    subscription = transport.subscribe(TOPIC, "g")
    transport.publish(TOPIC, messages(*range(6)))
    size = len(_bytes(0))
    assert read(subscription, max_messages=2) == [0, 1]
    assert read(subscription, max_bytes=2 * size) == [2, 3]
    assert read(subscription, max_bytes=1) == [4], "one at least, however large"


# -------------------------------------------------------------------- pause, seek, commit


def test_what_was_not_committed_comes_again_to_who_reads_next(exam: Exam) -> None:
    transport = exam.connect()
    transport.publish(TOPIC, messages(0, 1, 2))
    first = transport.subscribe(TOPIC, "g")
    first.commit(read_to(first, 1))
    assert read(first) == [1, 2]
    first.close()
    transport.close()
    again = exam.connect()
    assert read(again.subscribe(TOPIC, "g")) == [1, 2]
    again.close()


def test_a_commit_of_what_was_read_moves_nobody_who_reads(transport: Transport) -> None:
    subscription = transport.subscribe(TOPIC, "g")
    transport.publish(TOPIC, messages(0, 1, 2))
    place = read_to(subscription, 2)
    subscription.commit(place)
    assert read(subscription) == [2]


def test_nothing_comes_while_paused_and_all_of_it_after(transport: Transport) -> None:
    subscription = transport.subscribe(TOPIC, "g")
    transport.publish(TOPIC, messages(0, 1))
    assert read(subscription, max_messages=1) == [0]
    subscription.pause()
    transport.publish(TOPIC, messages(2))
    assert read(subscription) == []
    subscription.resume()
    assert read(subscription) == [1, 2]


def test_a_seek_goes_back_to_a_position_and_to_the_oldest(transport: Transport) -> None:
    subscription = transport.subscribe(TOPIC, "g")
    transport.publish(TOPIC, messages(0, 1, 2))
    place = read_to(subscription, 1)
    assert read(subscription) == [1, 2]
    subscription.seek(place)
    assert read(subscription) == [1, 2]
    subscription.seek(None)
    assert read(subscription) == [0, 1, 2]


def test_a_seek_before_the_oldest_message_gives_that(transport: Transport) -> None:
    subscription = transport.subscribe(TOPIC, "g")
    transport.publish(TOPIC, messages(0, 1, 2))
    early, late = read_to(subscription, 1), read_to(subscription, 1)
    subscription.commit(late)
    subscription.seek(early)
    assert read(subscription)[-1] == 2


def test_a_position_of_another_topic_or_beyond_the_end_is_refused(transport: Transport) -> None:
    subscription = transport.subscribe(TOPIC, "g")
    transport.publish(TOPIC, messages(0))
    place = read_to(subscription, 1)
    for wrong in (Position("f" * 32, 0), Position(place.log_id, place.seq + 1)):
        with pytest.raises(CursorBeyondEnd):
            subscription.seek(wrong)
    subscription.seek(place)
    assert read(subscription) == []


# ------------------------------------------------------------------------- backpressure


def test_a_full_topic_refuses_more_and_drops_nothing(transport: Transport) -> None:
    subscription = transport.subscribe(TOPIC, "g")
    transport.publish(TOPIC, messages(*range(FEW)))
    with pytest.raises(Transient):
        transport.publish(TOPIC, messages(FEW))
    subscription.commit(read_to(subscription, FEW))
    transport.publish(TOPIC, messages(FEW))
    assert read(subscription) == [FEW]


def test_the_slowest_group_decides_what_room_there_is(transport: Transport) -> None:
    quick, slow = transport.subscribe(TOPIC, "quick"), transport.subscribe(TOPIC, "slow")
    transport.publish(TOPIC, messages(*range(FEW)))
    quick.commit(read_to(quick, FEW))
    with pytest.raises(Transient):
        transport.publish(TOPIC, messages(FEW))
    assert read(slow) == list(range(FEW))


def test_a_publisher_waits_for_room(exam: Exam) -> None:
    exam.wait()
    writer, reader = exam.connect(), exam.connect()
    subscription = reader.subscribe(TOPIC, "g")
    writer.publish(TOPIC, messages(*range(FEW)))
    acknowledged = threading.Event()

    def publish(told: Sequence[Message]) -> None:
        writer.publish(TOPIC, told)
        acknowledged.set()

    waiting = threading.Thread(target=publish, args=(messages(FEW),))
    waiting.start()
    place = read_to(subscription, FEW)
    assert not acknowledged.is_set(), "nothing has room before it was committed"
    subscription.commit(place)
    waiting.join(20)
    assert acknowledged.is_set()
    assert read(subscription) == [FEW]
    writer.close()
    reader.close()
