"""A transport in memory: for tests, and as the plainest statement of what a transport does.

A :class:`Broker` has topics as ordered lists of bytes. A process may serve its own over a Unix
socket, and others then reach it as :class:`RemoteBroker`. What is acknowledged lives as long as
the broker's process.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from forebay.domain.messages import Message, decode_message, encode_message
from forebay.errors import Corrupt, CursorBeyondEnd, Transient
from forebay.journal import Position, new_id
from forebay.ports import Received

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CAPACITY = 256 << 20
"""Bytes of messages that a topic holds until every group is past them."""
WAIT_S = 5.0
"""How long a publisher waits for room before it is told to come again."""


@dataclass(slots=True)
class _Topic:
    topic_id: str
    first: int = 0
    """Offset of the oldest message that is kept."""
    size: int = 0
    messages: deque[bytes] = field(default_factory=deque)
    committed: dict[str, int] = field(default_factory=dict)
    """By group, the offset that it reads next."""

    @property
    def end(self) -> int:
        return self.first + len(self.messages)


class Brokered(Protocol):
    """A broker, wherever it is; offsets are counted from 0 in each topic."""

    def append(self, topic: str, messages: Sequence[bytes]) -> None:
        """Take all of ``messages``; raises :class:`~forebay.errors.Transient` if none."""
        ...

    def join(self, topic: str, group: str) -> tuple[str, int]:
        """Return a topic's identity, and the offset that ``group`` has committed."""
        ...

    def place(self, topic: str, topic_id: str, offset: int) -> int:
        """Return the oldest offset that is kept from ``offset`` on."""
        ...

    def fetch(
        self, topic: str, topic_id: str, offset: int, max_messages: int, max_bytes: int
    ) -> tuple[int, list[bytes]]:
        """Return messages from ``offset`` on, and the offset of the first of them."""
        ...

    def commit(self, topic: str, topic_id: str, group: str, offset: int) -> None:
        """Note that ``group`` needs nothing before ``offset``."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class Broker:
    """Topics in this process; may be used by many threads."""

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        wait_s: float = WAIT_S,
        random_id: Callable[[], str] = new_id,
    ) -> None:
        self._capacity = capacity
        self._wait_s = wait_s
        self._random_id = random_id
        self._topics: dict[str, _Topic] = {}
        self._changed = threading.Condition()

    def append(self, topic: str, messages: Sequence[bytes]) -> None:
        """See :class:`Brokered`."""
        size = sum(map(len, messages))
        with self._changed:
            held = self._named(topic)

            def has_room() -> bool:
                return not held.size or held.size + size <= self._capacity

            if not self._changed.wait_for(has_room, self._wait_s):
                hint = "It is tried again; is somebody reading it?"
                raise Transient(f"The topic {topic} is full.", hint=hint)
            held.messages.extend(messages)
            held.size += size

    def join(self, topic: str, group: str) -> tuple[str, int]:
        """See :class:`Brokered`; from here on the topic keeps what ``group`` has not read."""
        with self._changed:
            held = self._named(topic)
            return held.topic_id, held.committed.setdefault(group, held.first)

    def place(self, topic: str, topic_id: str, offset: int) -> int:
        """See :class:`Brokered`; raises :class:`~forebay.errors.CursorBeyondEnd`."""
        with self._changed:
            held = self._known(topic, topic_id)
            if offset > held.end:
                raise CursorBeyondEnd(f"{offset} is beyond the end of the topic {topic}.")
            return max(offset, held.first)

    def fetch(
        self, topic: str, topic_id: str, offset: int, max_messages: int, max_bytes: int
    ) -> tuple[int, list[bytes]]:
        """See :class:`Brokered`; raises as :meth:`place`."""
        with self._changed:
            held = self._known(topic, topic_id)
            offset = max(offset, held.first)
            taken: list[bytes] = []
            for index in range(offset - held.first, len(held.messages)):
                max_bytes -= len(held.messages[index])
                if len(taken) == max_messages or (taken and max_bytes < 0):
                    break
                taken.append(held.messages[index])
            return offset, taken

    def commit(self, topic: str, topic_id: str, group: str, offset: int) -> None:
        """See :class:`Brokered`; what every group is past is let go."""
        with self._changed:
            held = self._known(topic, topic_id)
            held.committed[group] = offset
            while held.messages and held.first < min(held.committed.values()):
                held.size -= len(held.messages.popleft())
                held.first += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing to let go of."""

    def _named(self, topic: str) -> _Topic:
        if topic not in self._topics:
            self._topics[topic] = _Topic(self._random_id())
        return self._topics[topic]

    def _known(self, topic: str, topic_id: str) -> _Topic:
        held = self._named(topic)
        if held.topic_id != topic_id:
            raise CursorBeyondEnd(f"The topic {topic} was made anew.")
        return held


class MemoryTransport:
    """The :class:`~forebay.ports.Transport` of a broker in memory, of this process or another."""

    def __init__(self, broker: Brokered) -> None:
        self._broker = broker

    def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """See :class:`~forebay.ports.Transport`."""
        self._broker.append(topic, [encode_message(message) for message in messages])

    def subscribe(self, topic: str, group: str) -> MemorySubscription:
        """See :class:`~forebay.ports.Transport`."""
        return MemorySubscription(self._broker, topic, group)

    def close(self) -> None:
        """See :class:`~forebay.ports.Transport`."""
        self._broker.close()


class MemorySubscription:
    """The :class:`~forebay.ports.Subscription` of a broker in memory."""

    def __init__(self, broker: Brokered, topic: str, group: str) -> None:
        self._broker = broker
        self._topic = topic
        self._group = group
        self._topic_id, self._offset = broker.join(topic, group)
        self._paused = False

    def read(self, *, max_messages: int = 1024, max_bytes: int = 8 << 20) -> list[Received]:
        """See :class:`~forebay.ports.Subscription`."""
        if self._paused:
            return []
        where = self._topic, self._topic_id, self._offset
        first, raw = self._broker.fetch(*where, max_messages, max_bytes)
        self._offset = first + len(raw)
        return [Received(first + place, _readable(each)) for place, each in enumerate(raw)]

    def position_after(self, offset: int) -> Position:
        """See :class:`~forebay.ports.Subscription`."""
        return Position(self._topic_id, offset + 1)

    def pause(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._paused = True

    def resume(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._paused = False

    def seek(self, position: Position | None) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        if position is None:
            self._topic_id, _ = self._broker.join(self._topic, self._group)
            self._offset = 0
        else:
            where = position.log_id, position.seq
            self._offset = self._broker.place(self._topic, *where)
            self._topic_id = position.log_id

    def commit(self, position: Position) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._broker.commit(self._topic, position.log_id, self._group, position.seq)

    def close(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""


def _readable(raw: bytes) -> Message | None:
    try:
        return decode_message(raw)
    except Corrupt:
        return None
