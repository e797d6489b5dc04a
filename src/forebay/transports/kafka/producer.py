"""A producer that has acknowledged everything once a call returns, and keeps nothing afterwards."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Producer

from forebay.errors import ForebayError, Permanent, Transient
from forebay.transports.kafka.errors import reason, translated
from forebay.transports.kafka.settings import DELIVERY_S
from forebay.transports.spelling import CONTROL, EVENT_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Message as Delivered

    from forebay.transports.spelling import Record

    Headers = list[tuple[str, str | bytes | None]]

_SLICE_S = 1.0
"""How long it waits before it looks whether it was closed."""
_GRACE_S = 5
"""Beyond the time in which every record must have been reported, one way or the other."""
_ASK_S = 2.0
_CONTROL_HEADERS: Headers = [(CONTROL, b"control")]


class _Reports:
    """What became of the records of one call."""

    def __init__(self) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.failed = 0
        self.first = -1
        """Offset of the first record that was acknowledged."""
        self.last = -1
        self.error: KafkaError | None = None
        """The first one, unless another one is fatal or for good."""

    def take(self, error: KafkaError | None, delivered: Delivered) -> None:
        """Count a report; called by the client, while it is waited for."""
        if error is None:
            self.acknowledged += 1
            offset = delivered.offset()
            if offset is not None:  # of what was sent twice, a broker need not know it any more
                self.last = offset
                if self.first < 0:
                    self.first = offset
            return
        self.failed += 1
        self.note(error)

    def note(self, error: KafkaError) -> None:
        """Remember what is worst."""
        if self.error is None or _gravity(error) > _gravity(self.error):
            self.error = error

    @property
    def open(self) -> int:
        """How many records nothing was heard of."""
        return self.sent - self.acknowledged - self.failed


def _gravity(error: KafkaError) -> int:
    if error.fatal():
        return 2
    return 1 if isinstance(translated(error, ""), Permanent) else 0


class AcknowledgedProducer:
    """Sends records to partitions of one cluster, one call after the other."""

    def __init__(
        self,
        make: Callable[[], Producer],
        replaced: Callable[[str], None],
        went_back: Callable[[str, int], None],
    ) -> None:
        """``make`` makes a client; the others are told.

        ``replaced`` hears why a client was given up, and ``went_back`` of which partition the
        broker has lost what it had acknowledged.
        """
        self._make = make
        self._replaced = replaced
        self._went_back = went_back
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._client: Producer | None = None
        self._doubtful = False
        """Whether the last call failed: the next one asks first, and waits less."""
        self._ends: dict[tuple[str, int], int] = {}
        """Offset of the last record that each partition has acknowledged."""

    def send(self, topic: str, partition: int, records: Iterable[Record]) -> None:
        """Return once all are acknowledged. Raises as :meth:`forebay.ports.Transport.publish`."""
        with self._lock:
            self._refuse_if_closed()
            reports = _Reports()
            try:
                if self._client is None:
                    self._client = self._make()
                if self._doubtful:
                    _ask(self._client, topic, partition)
                self._doubtful = True
                self._enqueue(self._client, topic, partition, records, reports)
                self._wait(self._client, reports)
                self._judge(reports, topic)
            except (KafkaException, SystemError) as error:
                raise self._failed(reason(error), topic) from error
            self._doubtful = False
            self._remember((topic, partition), reports)

    def forget(self, topic: str, partition: int) -> None:
        """Forget up to where a partition has acknowledged: it is another one."""
        self._ends.pop((topic, partition), None)

    def close(self) -> None:
        """End a call that waits, and let go of the client."""
        self._closed.set()
        with self._lock:
            self._give_up()

    def _enqueue(
        self,
        client: Producer,
        topic: str,
        partition: int,
        records: Iterable[Record],
        reports: _Reports,
    ) -> None:
        produce, report = client.produce, reports.take
        for key, value, event_id, about in records:
            headers: Headers = [(EVENT_ID, event_id), *about] if event_id else _CONTROL_HEADERS
            while True:
                try:
                    # By name they would cost a third of the call. The fifth and the sixth are
                    # the client's two names for the report, then comes the time.
                    produce(topic, value, key, partition, report, None, 0, headers)
                except BufferError:
                    self._make_room(client, reports)
                    continue
                except KafkaException as error:  # the rest would leave a hole
                    self._wait(client, reports)
                    reports.note(reason(error))
                    return
                reports.sent += 1
                break
            if reports.failed:
                return

    def _make_room(self, client: Producer, reports: _Reports) -> None:
        for _ in range(DELIVERY_S + _GRACE_S):
            if client.poll(_SLICE_S):
                return
            self._refuse_if_closed()
        self._replace(f"{reports.open} records have neither been acknowledged nor refused")
        raise Transient("Kafka: nothing was heard of what was sent.", hint="It is sent again.")

    def _wait(self, client: Producer, reports: _Reports) -> None:
        """Wait until something was heard of every record: what has failed is not sent later."""
        for _ in range(DELIVERY_S + _GRACE_S):
            if not client.flush(_SLICE_S) and not reports.open:
                return
            self._refuse_if_closed()
        if reports.open:
            self._replace(f"{reports.open} records have neither been acknowledged nor refused")
            raise Transient("Kafka: nothing was heard of what was sent.", hint="It is sent again.")

    def _judge(self, reports: _Reports, topic: str) -> None:
        if reports.error is not None:
            raise self._failed(reports.error, topic)
        if reports.acknowledged != reports.sent:
            raise AssertionError(reports.acknowledged, reports.sent)

    def _failed(self, error: KafkaError, topic: str) -> ForebayError:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._replace(error.str())
        return translated(error, f"publishing to {topic}")

    def _remember(self, where: tuple[str, int], reports: _Reports) -> None:
        if reports.first < 0:
            return
        if reports.first <= self._ends.get(where, -1):
            self._went_back(*where)
        self._ends[where] = reports.last

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise Transient("The connection to Kafka was closed.", hint="What was sent may come.")

    def _replace(self, why: str) -> None:
        self._give_up()
        self._replaced(why)

    def _give_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaException, SystemError):
                client.purge()
                client.flush(_SLICE_S)


def _ask(client: Producer, topic: str, partition: int) -> None:
    """Raise what stands in the way, so that nothing is queued for nobody."""
    about = client.list_topics(topic, timeout=_ASK_S).topics[topic]
    if about.error is not None:
        raise KafkaException(about.error)
    if partition not in about.partitions:
        raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
    if about.partitions[partition].leader < 0:
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
