"""A producer whose client does what real ones do at their worst."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException

from forebay.errors import Permanent, Transient
from forebay.transports.kafka import producer as under_test
from forebay.transports.kafka.producer import AcknowledgedProducer
from forebay.transports.spelling import Record

if TYPE_CHECKING:
    from collections.abc import Callable

TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
FATAL = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "a hole", True)


class Client:
    """Reports what ``verdict`` says of each record once it is waited for; None: it is stored."""

    def __init__(
        self,
        verdict: Callable[[bytes], KafkaError | None] = lambda _: None,
        *,
        room: int = 1000,
        mute: frozenset[bytes] = frozenset(),
        first: int | None = 0,
        raised: Exception | None = None,
    ) -> None:
        self.raised = raised
        self.verdict = verdict
        self.room = room
        self.mute = mute
        self.stored: list[bytes] = []
        self.queued: deque[tuple[bytes, Callable[[KafkaError | None, Client], None]]] = deque()
        self.most = 0
        self.first = first
        self.purged = False

    def produce(
        self,
        topic: str,
        value: bytes,
        key: bytes,
        partition: int,
        on_delivery: Callable[[KafkaError | None, Client], None],
        *rest: object,
    ) -> None:
        assert (topic, partition, len(rest)) == ("t", 3, 3)
        if value == b"oversized":
            raise KafkaException(TOO_LARGE)
        if len(self.queued) >= self.room:
            raise BufferError
        self.queued.append((value, on_delivery))
        self.most = max(self.most, len(self.queued))

    def poll(self, timeout: float) -> int:
        assert timeout > 0
        return self._report()

    def flush(self, timeout: float) -> int:
        assert timeout > 0
        if self.raised is not None:
            raise self.raised
        while self._report():
            pass
        return 0

    def _report(self) -> int:
        if not self.queued:
            return 0
        value, report = self.queued.popleft()
        if value in self.mute:
            return 0
        error = self.verdict(value)
        if error is None:
            self.stored.append(value)
        report(error, self)
        return 1

    def offset(self) -> int | None:
        return None if self.first is None else self.first + len(self.stored) - 1

    def list_topics(self, topic: str, timeout: float) -> _Answer:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def purge(self) -> None:
        self.purged = True


class Rig:
    """The producer, the clients that it is given in turn, and what it tells."""

    def __init__(self, *clients: Client) -> None:
        self.clients = iter(clients)
        self.replaced: list[str] = []
        self.went_back: list[tuple[str, int]] = []
        self.producer = AcknowledgedProducer(
            lambda: next(self.clients),  # type: ignore[arg-type, return-value]
            self.replaced.append,
            lambda *where: self.went_back.append(where),
        )

    def send(self, *values: bytes) -> None:
        self.producer.send("t", 3, [Record(b"k", value, b"id") for value in values])


VALUES = tuple(b"%d" % number for number in range(10))


def test_a_call_returns_once_everything_is_acknowledged_in_order() -> None:
    client = Client()
    Rig(client).send(*VALUES)
    assert client.stored == list(VALUES)


def test_a_full_queue_is_waited_for_and_never_outgrown() -> None:
    client = Client(room=2)
    Rig(client).send(*VALUES)
    assert client.stored == list(VALUES)
    assert client.most == 2


def test_what_is_not_acknowledged_is_raised_and_nothing_stays_queued() -> None:
    client = Client(lambda value: TIMED_OUT if value == b"5" else None)
    with pytest.raises(Transient, match="_MSG_TIMED_OUT"):
        Rig(client).send(*VALUES)
    assert not client.queued


def test_the_first_failure_ends_a_call_that_has_more_to_send() -> None:
    client = Client(lambda value: TIMED_OUT if value == b"0" else None, room=2)
    with pytest.raises(Transient):
        Rig(client).send(*VALUES)
    assert len(client.stored) < 4


@pytest.mark.parametrize("first", [TIMED_OUT, TOO_LARGE])
def test_what_can_never_be_outweighs_what_may_pass(first: KafkaError) -> None:
    other = TOO_LARGE if first is TIMED_OUT else TIMED_OUT
    client = Client({b"0": first, b"1": other}.get)
    with pytest.raises(Permanent, match="MSG_SIZE_TOO_LARGE"):
        Rig(client).send(b"0", b"1")


def test_a_record_that_the_client_refuses_ends_the_call_where_it_is() -> None:
    client = Client()
    with pytest.raises(Permanent, match=r"max\.message\.bytes"):
        Rig(client).send(b"0", b"oversized", b"2")
    assert client.stored == [b"0"], "what is behind it would leave a hole"


def test_a_fatal_error_makes_a_new_client_and_the_same_call_may_be_made_again() -> None:
    dying, fresh = Client(lambda value: FATAL if value == b"5" else None), Client()
    fresh.list_topics = _healthy  # type: ignore[method-assign]
    rig = Rig(dying, fresh)
    with pytest.raises(Transient, match="A new producer sends it again"):
        rig.send(*VALUES)
    assert (dying.purged, len(rig.replaced)) == (True, 1)
    rig.send(*VALUES)
    assert fresh.stored == list(VALUES)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_fatal_error_that_is_raised_while_it_waits_is_one_too(wrapped: bool) -> None:
    """What the client does: its own exception, or Python's if it was calling back just then."""
    fatal = KafkaException(FATAL)
    raised: Exception = fatal
    if wrapped:
        raised = SystemError()
        raised.__cause__ = fatal
    dying, fresh = Client(raised=raised), Client()
    fresh.list_topics = _healthy  # type: ignore[method-assign]
    rig = Rig(dying, fresh)
    with pytest.raises(Transient, match="OUT_OF_ORDER_SEQUENCE_NUMBER"):
        rig.send(b"0")
    rig.send(b"0")
    assert (fresh.stored, len(rig.replaced)) == ([b"0"], 1)


def test_a_record_that_nothing_is_heard_of_does_not_count_as_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(under_test, "DELIVERY_S", 0)
    silent, fresh = Client(mute=frozenset({b"5"})), Client()
    fresh.list_topics = _healthy  # type: ignore[method-assign]
    rig = Rig(silent, fresh)
    with pytest.raises(Transient, match="nothing was heard"):
        rig.send(*VALUES)
    assert rig.replaced == ["1 records have neither been acknowledged nor refused"]
    rig.send(*VALUES)
    assert fresh.stored == list(VALUES)


def test_after_a_failure_nothing_is_queued_before_somebody_answers() -> None:
    client = Client(lambda _: TIMED_OUT)
    rig = Rig(client)
    with pytest.raises(Transient):
        rig.send(b"0")
    client.verdict = lambda _: None
    with pytest.raises(Transient, match="_TRANSPORT"):
        rig.send(b"0")
    assert not client.queued
    assert not client.stored
    client.list_topics = _healthy  # type: ignore[method-assign]
    rig.send(b"0")
    assert client.stored == [b"0"]


def test_a_partition_that_counts_from_the_beginning_again_is_told() -> None:
    client = Client(first=100)
    rig = Rig(client)
    rig.send(b"0", b"1")
    rig.send(b"2")
    assert rig.went_back == []
    client.first = None
    rig.send(b"sent twice")
    assert rig.went_back == []
    client.first = 50
    rig.send(b"3")
    assert rig.went_back == [("t", 3)]


def test_a_closed_producer_sends_nothing() -> None:
    rig = Rig(Client(), Client(mute=frozenset(VALUES)))
    rig.producer.close()
    with pytest.raises(Transient, match="was closed"):
        rig.send(*VALUES)


class _Answer:
    """Metadata of a topic that is well."""

    error = None
    leader = 1

    @property
    def topics(self) -> dict[str, _Answer]:
        return {"t": self}

    @property
    def partitions(self) -> dict[int, _Answer]:
        return {3: self}


def _healthy(topic: str, timeout: float) -> _Answer:
    assert (topic, timeout > 0) == ("t", True)
    return _Answer()
