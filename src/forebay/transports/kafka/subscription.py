"""What one group reads of one partition, in order, with positions that know their topic."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, cast

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from forebay.errors import CursorBeyondEnd, Transient
from forebay.journal import Position
from forebay.ports import Extent
from forebay.transports.kafka.errors import translated
from forebay.transports.spelling import EVENT_ID, MessageAssembler

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message as Consumed

    from forebay.clock import Clock
    from forebay.ports import Received

ASK_S = 5.0
CHUNK = 5_000
"""Records taken from the client at once."""
IDLE_NS = 5_000_000_000
"""So often an idle reader looks whether its topic is still the one that it was."""
_OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})


class KafkaSubscription:
    """The :class:`~forebay.ports.Subscription` of a partition.

    No member of a group: the partition is assigned, and the group only keeps its offset. Who may
    read which partition is asked elsewhere, in :mod:`~.membership`.
    """

    def __init__(
        self,
        consume: Callable[[], Consumer],
        topic: str,
        partition: int,
        identity: Callable[[], str],
        clock: Clock,
    ) -> None:
        """``identity`` asks which partition of this name it is now."""
        self._make = consume
        self._topic = topic
        self._partition = partition
        self._ask_identity = identity
        self._clock = clock
        self._paused = False
        self._next = 0
        """Offset of the next record."""
        self._assembler = MessageAssembler()
        self._ready: deque[tuple[Received, int]] = deque()
        """Messages with their bytes."""
        self._taken: deque[Consumed] = deque()
        self._weight = 0
        """Bytes of the records since the last whole message."""
        self._looked_ns = clock.monotonic_ns()
        self._identity = identity()
        self._consumer = consume()
        try:
            self._begin_as_committed()
        except BaseException:
            self._consumer.close()
            raise

    def read(self, *, max_messages: int = 1024, max_bytes: int = 8 << 20) -> list[Received]:
        """See :class:`~forebay.ports.Subscription`."""
        given: list[tuple[Received, int]] = []
        size = 0
        try:
            while not self._paused and len(given) < max_messages and self._gather():
                size += self._ready[0][1]
                if given and size > max_bytes:
                    break
                given.append(self._ready.popleft())
            if given:
                self._check()  # whatever it is of is there now, or was before
        except Transient:
            self._ready.extendleft(reversed(given))  # it is given later
            raise
        return [received for received, _ in given]

    def extent(self) -> Extent:
        """See :class:`~forebay.ports.Subscription`."""
        oldest, end = self._edges()
        return Extent(trimmed=oldest > 0, left=bool(self._ready) or self._next < end)

    def position_at(self, offset: int) -> Position:
        """See :class:`~forebay.ports.Subscription`."""
        return Position(self._identity, offset)

    def pause(self) -> None:
        """See :class:`~forebay.ports.Subscription`; the client fetches until its queue is full."""
        self._paused = True

    def resume(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._paused = False

    def seek(self, position: Position | None) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        now = self._ask_identity()
        if position is not None and position.log_id != now:
            self._refuse()
        if now != self._identity:  # a client remembers the topic that it knew
            self._consumer.close()
            self._consumer = self._make()
            self._identity = now
        self._begin(None if position is None else position.seq)

    def commit(self, position: Position) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        commit_place(self._consumer, self.place_of(position))

    def place_of(self, position: Position) -> TopicPartition:
        """Return what is committed of a position; raises as :meth:`read`."""
        if position.log_id != self._identity:
            self._refuse()
        return TopicPartition(self._topic, self._partition, position.seq, position.log_id)

    def close(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        with contextlib.suppress(KafkaException, RuntimeError):  # closed already
            self._consumer.close()

    # ----------------------------------------------------------------------------- reading

    def _gather(self) -> bool:
        """Take what the client has until a message is whole; return whether one is ready."""
        while not self._ready:
            if not self._taken:
                self._taken.extend(self._consumed())
            if not self._taken:
                if self._clock.monotonic_ns() - self._looked_ns > IDLE_NS:
                    self._check()
                return False
            while self._taken:  # one by one: what is behind an error is read after it
                self._add(self._taken.popleft())
        return True

    def _consumed(self) -> list[Consumed]:
        try:
            return self._consumer.consume(CHUNK, 0)
        except KafkaException as error:
            raise translated(error, f"reading {self._topic}") from error

    def _add(self, record: Consumed) -> None:
        error = record.error()
        if error is not None:
            self._met(error)
            return
        key, value, offset = record.key(), record.value() or b"", record.offset() or 0
        is_event = True
        if key:
            self._weight += len(key)
        else:  # of a control record, or of a dead letter of no venue
            headers: list[tuple[str, bytes]] = record.headers() or []  # type: ignore[assignment]
            is_event = EVENT_ID in dict(headers)
        self._weight += len(value)
        self._next = offset + 1
        if received := self._assembler.add(offset, value, is_event=is_event):
            self._ready.append((received, self._weight))
            self._weight = 0

    def _met(self, error: KafkaError) -> None:
        if error.code() in _OUT_OF_RANGE:
            whole = [*self._ready]
            self._begin(self._next)  # what is past the retention is gone, and the rest follows
            self._ready.extend(whole)
        elif error.code() != KafkaError._PARTITION_EOF:
            raise translated(error, f"reading {self._topic}")

    def _check(self) -> None:
        """Refuse if the topic was made anew."""
        if self._ask_identity() != self._identity:
            self._refuse()
        self._looked_ns = self._clock.monotonic_ns()

    def _refuse(self) -> None:
        message = f"The topic {self._topic} of Kafka was made anew."
        raise CursorBeyondEnd(message, hint="It is read from its oldest record.")

    # -------------------------------------------------------------------------- beginning

    def _begin(self, offset: int | None) -> None:
        """Read on from ``offset``, or the oldest record if that is newer."""
        oldest, end = self._edges()
        if offset is not None and offset > end:
            message = f"{offset} is beyond the end of {self._topic}/{self._partition}, {end}."
            raise CursorBeyondEnd(message, hint="Its broker has lost records.")
        self._next = max(oldest, offset or 0)
        try:
            self._consumer.assign([TopicPartition(self._topic, self._partition, self._next)])
        except KafkaException as error:
            raise translated(error, f"reading {self._topic}") from error
        self._assembler = MessageAssembler()
        self._ready.clear()
        self._taken.clear()
        self._weight = 0
        self._looked_ns = self._clock.monotonic_ns()

    def _begin_as_committed(self) -> None:
        try:
            self._begin(self._committed())
        except CursorBeyondEnd:  # whoever knows better seeks
            self._begin(None)

    def _edges(self) -> tuple[int, int]:
        """Return the offset of the oldest record, and that behind the newest."""
        place = TopicPartition(self._topic, self._partition)
        what = f"asking for the end of {self._topic}"
        try:
            asked = self._consumer.get_watermark_offsets(place, timeout=ASK_S, cached=False)
        except KafkaException as error:
            raise translated(error, what) from error
        edges = cast("tuple[int, int] | None", asked)
        if edges is None:
            raise translated(KafkaError(KafkaError._TIMED_OUT), what)
        return edges

    def _committed(self) -> int | None:
        """Return what the group has committed in this very partition."""
        place = TopicPartition(self._topic, self._partition)
        try:
            (found,) = self._consumer.committed([place], timeout=ASK_S)
        except KafkaException as error:
            raise translated(error, f"asking for the offset of {self._topic}") from error
        if found.error is not None:
            raise translated(found.error, f"asking for the offset of {self._topic}")
        is_ours = found.metadata == self._identity
        return found.offset if is_ours and found.offset != OFFSET_INVALID else None


def commit_place(consumer: Consumer, place: TopicPartition) -> None:
    """Return once the broker has it."""
    what = f"committing in {place.topic}"
    try:
        committed = consumer.commit(offsets=[place], asynchronous=False)
    except KafkaException as error:
        raise translated(error, what) from error
    for each in committed or ():
        if each.error is not None:
            raise translated(each.error, what)
