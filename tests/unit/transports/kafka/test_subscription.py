"""A reader whose client meets what real ones seldom do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, TopicPartition

from forebay.clock import ManualClock
from forebay.domain.frames import Context, EpochOpened
from forebay.domain.messages import ControlTold, FrameOrigin, Head, Message, Step
from forebay.errors import CursorBeyondEnd, Transient, Unreachable
from forebay.transports.kafka.subscription import IDLE_NS, KafkaSubscription
from forebay.transports.spelling import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.ports import Received

CONTEXT = Context(venue="v", source="ws", purpose="live", collector="c", epoch="e")


def value(number: int) -> bytes:
    told = ControlTold(FrameOrigin(CONTEXT, {}), EpochOpened(), 7, number)
    return records(Message(Head(Step("a" * 32, 1, 10), number, told)))[0].value


class Item:
    """What a client gives: a record, or an error."""

    def __init__(self, offset: int, code: int | None = None) -> None:
        self._offset = offset
        self._code = code

    def error(self) -> KafkaError | None:
        return None if self._code is None else KafkaError(self._code)

    def value(self) -> bytes:
        return value(self._offset)

    def key(self) -> bytes:
        return b""

    def offset(self) -> int:
        return self._offset

    def headers(self) -> list[tuple[str, bytes]]:
        return [("forebay", b"control")]


class Client:
    """A consumer of a partition that keeps ``oldest`` to ``end``, and gives what it is told to."""

    def __init__(self, *, committed: TopicPartition | None = None) -> None:
        self.oldest, self.end = 0, 10
        self.given: list[list[Item]] = []
        self.assigned: list[int] = []
        self._committed = committed or TopicPartition("t", 0)

    def consume(self, most: int, timeout: float) -> list[Item]:
        assert (most > 0, timeout) == (True, 0), "it waits for nothing"
        return self.given.pop(0) if self.given else []

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        return [self._committed for _ in places]

    def get_watermark_offsets(
        self, place: TopicPartition, timeout: float, *, cached: bool
    ) -> tuple[int, int]:
        assert (place.partition, timeout > 0, cached) == (0, True, False)
        return self.oldest, self.end

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned += [place.offset for place in places]

    def close(self) -> None:
        pass


class Rig:
    """A subscription, its client, and what is said of the topic's identity."""

    def __init__(self, client: Client | None = None) -> None:
        self.client = client or Client()
        self.identity: str | None = "id/0"
        self.clock = ManualClock()
        self.subscription = KafkaSubscription(
            lambda: self.client,  # type: ignore[arg-type, return-value]
            "t",
            0,
            self._identity,
            self.clock,
        )

    def _identity(self) -> str:
        if self.identity is None:
            raise Unreachable("away")
        return self.identity

    def read(self, *items: Item) -> list[int]:
        if items:
            self.client.given.append([*items])
        return numbers(self.subscription.read())


def numbers(received: Sequence[Received]) -> list[int]:
    return [each.message.head.part for each in received if each.message is not None]


def test_it_begins_where_the_group_has_committed_in_this_very_partition() -> None:
    for metadata, offset, begins in (
        *(("id/0", 4, 4), ("other/0", 4, 0), ("", 4, 0)),
        ("id/0", 11, 0),  # beyond the end: somebody has set it
    ):
        rig = Rig(Client(committed=TopicPartition("t", 0, offset, metadata)))
        assert rig.client.assigned == [begins], metadata


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE])
def test_what_retention_took_while_it_read_is_passed_over(code: int) -> None:
    rig = Rig()
    rig.client.oldest = 5
    assert rig.read(Item(0), Item(1), Item(-1, code)) == [0, 1]
    assert rig.client.assigned == [0, 5]
    assert rig.read(Item(5)) == [5]


def test_an_end_that_lies_before_what_was_read_is_told() -> None:
    rig = Rig()
    assert rig.read(Item(0), Item(1), Item(2)) == [0, 1, 2]
    rig.client.end = 2
    with pytest.raises(CursorBeyondEnd):
        rig.read(Item(-1, KafkaError._AUTO_OFFSET_RESET))


def test_an_error_of_the_broker_is_raised_and_costs_nothing() -> None:
    rig = Rig()
    with pytest.raises(Transient, match="_ALL_BROKERS_DOWN"):
        rig.read(Item(0), Item(-1, KafkaError._ALL_BROKERS_DOWN), Item(1))
    assert rig.read(Item(2)) == [0, 1, 2]
    rig.client.given.append([Item(3)])
    with pytest.raises(Transient):
        rig.read(Item(-1, KafkaError._ALL_BROKERS_DOWN))
    assert rig.read() == [3]


def test_what_nobody_can_vouch_for_is_given_later() -> None:
    rig = Rig()
    rig.identity = None
    with pytest.raises(Unreachable):
        rig.read(Item(0), Item(1))
    rig.identity = "id/0"
    assert rig.read(Item(2)) == [0, 1, 2]


def test_what_may_be_of_another_topic_is_never_given() -> None:
    rig = Rig()
    rig.identity = "new/0"
    with pytest.raises(CursorBeyondEnd):
        rig.read(Item(0))


def test_an_idle_reader_notices_as_well() -> None:
    rig = Rig()
    rig.identity = "new/0"
    assert rig.read() == []
    rig.clock.advance(IDLE_NS / 1e9 + 1)
    with pytest.raises(CursorBeyondEnd):
        rig.read()
    rig.subscription.seek(None)
    assert rig.subscription.position_at(0).log_id == "new/0"
