"""A transport in memory: for tests, and as the plainest statement of what a transport does.

A :class:`Broker` has lanes as ordered lists of bytes, one of each topic or several. A process may
serve its own over a Unix socket, and others then reach it as :class:`RemoteBroker`. What is
acknowledged lives as long as the broker's process.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from forebay.domain.messages import Message, decode_message, encode_message
from forebay.errors import Corrupt, CursorBeyondEnd, LaneLost, Transient
from forebay.journal import Position, new_id
from forebay.ports import Extent, Received
from forebay.transports.sharing import share_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CAPACITY = 256 << 20
"""Bytes of messages that a lane holds until every group is past them."""
WAIT_S = 5.0
"""How long a publisher waits for room before it is told to come again."""


@dataclass(slots=True)
class _Lane:
    identity: str
    first: int = 0
    """Offset of the oldest message that is kept."""
    size: int = 0
    messages: deque[bytes] = field(default_factory=deque)
    committed: dict[str, int] = field(default_factory=dict)
    """By group, the offset that it reads next."""

    @property
    def end(self) -> int:
        return self.first + len(self.messages)


@dataclass(slots=True)
class _Group:
    topics: dict[str, list[str]] = field(default_factory=dict)
    """By member."""
    claims: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By lane, whose it is, and a number that is another one each time that this changes."""


class Brokered(Protocol):
    """A broker, wherever it is; offsets are counted from 0 in each lane.

    Every call raises :class:`~forebay.errors.Transient` for a lane that is not there.
    """

    def lanes(self, topic: str) -> list[str]:
        """Return the lanes of a topic, which is made if it is not there."""
        ...

    def identity(self, lane: str) -> str:
        """Return which lane of this name it is."""
        ...

    def append(self, lane: str, messages: Sequence[bytes]) -> None:
        """Take all of ``messages``; raises :class:`~forebay.errors.Transient` if none."""
        ...

    def join(self, lane: str, group: str) -> tuple[str, int]:
        """Return a lane's identity, and the offset that ``group`` has committed."""
        ...

    def place(self, lane: str, identity: str, offset: int) -> int:
        """Return the oldest offset that is kept from ``offset`` on."""
        ...

    def fetch(
        self, lane: str, identity: str, offset: int, max_messages: int, max_bytes: int
    ) -> tuple[int, list[bytes]]:
        """Return messages from ``offset`` on, and the offset of the first of them."""
        ...

    def edges(self, lane: str) -> tuple[int, int]:
        """Return the oldest offset that is kept, and the one behind the newest."""
        ...

    def commit(self, lane: str, identity: str, group: str, offset: int, claim: int = 0) -> None:
        """Note that ``group`` needs nothing before ``offset``; raises as :meth:`hold`."""
        ...

    def enrol(self, topics: Sequence[str], group: str) -> str:
        """Have one more member; return its name."""
        ...

    def claimed(self, group: str, member: str) -> dict[str, int]:
        """Return the claims of a member by its lanes.

        Raises :class:`~forebay.errors.LaneLost` if it is none any more.
        """
        ...

    def hold(self, lane: str, group: str, claim: int) -> None:
        """Raise :class:`~forebay.errors.LaneLost` if a claim is not the lane's any more."""
        ...

    def expel(self, group: str, member: str) -> None:
        """Have one member less, as one that left, was killed or froze."""
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
        partitions: int = 1,
        random_id: Callable[[], str] = new_id,
    ) -> None:
        """``partitions`` is how many lanes a topic has."""
        self._capacity = capacity
        self._wait_s = wait_s
        self._partitions = partitions
        self._random_id = random_id
        self._lanes: dict[str, _Lane] = {}
        self._groups: dict[str, _Group] = {}
        self._claims = itertools.count(1)
        self._changed = threading.Condition()  # of a lock that may be taken again

    def ping(self) -> None:
        """Answer."""

    def lanes(self, topic: str) -> list[str]:
        """See :class:`Brokered`."""
        several = self._partitions > 1
        lanes = [f"{topic}/{number}" if several else topic for number in range(self._partitions)]
        with self._changed:
            for lane in lanes:
                if lane not in self._lanes:
                    self._lanes[lane] = _Lane(self._random_id())
        return lanes

    def delete(self, topic: str) -> None:
        """Forget a topic and all that is in it."""
        with self._changed:
            for lane in [name for name in self._lanes if name.partition("/")[0] == topic]:
                del self._lanes[lane]
            self._changed.notify_all()

    def identity(self, lane: str) -> str:
        """See :class:`Brokered`."""
        with self._changed:
            return self._named(lane).identity

    def append(self, lane: str, messages: Sequence[bytes]) -> None:
        """See :class:`Brokered`."""
        size = sum(map(len, messages))
        with self._changed:

            def has_room() -> bool:
                held = self._named(lane)
                return not held.size or held.size + size <= self._capacity

            if not self._changed.wait_for(has_room, self._wait_s):
                hint = "It is tried again; is somebody reading it?"
                raise Transient(f"The lane {lane} is full.", hint=hint)
            held = self._named(lane)
            held.messages.extend(messages)
            held.size += size

    def join(self, lane: str, group: str) -> tuple[str, int]:
        """See :class:`Brokered`; from here on the lane keeps what ``group`` has not read."""
        with self._changed:
            held = self._named(lane)
            return held.identity, held.committed.setdefault(group, held.first)

    def place(self, lane: str, identity: str, offset: int) -> int:
        """See :class:`Brokered`; raises :class:`~forebay.errors.CursorBeyondEnd`."""
        with self._changed:
            held = self._known(lane, identity)
            if offset > held.end:
                raise CursorBeyondEnd(f"{offset} is beyond the end of the lane {lane}.")
            return max(offset, held.first)

    def fetch(
        self, lane: str, identity: str, offset: int, max_messages: int, max_bytes: int
    ) -> tuple[int, list[bytes]]:
        """See :class:`Brokered`; raises as :meth:`place`."""
        with self._changed:
            held = self._known(lane, identity)
            offset = max(offset, held.first)
            taken: list[bytes] = []
            for index in range(offset - held.first, len(held.messages)):
                max_bytes -= len(held.messages[index])
                if len(taken) == max_messages or (taken and max_bytes < 0):
                    break
                taken.append(held.messages[index])
            return offset, taken

    def edges(self, lane: str) -> tuple[int, int]:
        """See :class:`Brokered`."""
        with self._changed:
            held = self._named(lane)
            return held.first, held.end

    def commit(self, lane: str, identity: str, group: str, offset: int, claim: int = 0) -> None:
        """See :class:`Brokered`; what every group is past is let go."""
        with self._changed:
            held = self._known(lane, identity)
            if claim:
                self.hold(lane, group, claim)
            held.committed[group] = offset
            while held.messages and held.first < min(held.committed.values()):
                held.size -= len(held.messages.popleft())
                held.first += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing to let go of."""

    # --------------------------------------------------------------------------- members

    def enrol(self, topics: Sequence[str], group: str) -> str:
        """See :class:`Brokered`."""
        for topic in topics:
            self.lanes(topic)
        with self._changed:
            member = self._random_id()
            self._groups.setdefault(group, _Group()).topics[member] = [*topics]
            return member

    def members(self, group: str) -> list[str]:
        """Return who they are, the first one first."""
        with self._changed:
            return [*self._groups.get(group, _Group()).topics]

    def claimed(self, group: str, member: str) -> dict[str, int]:
        """See :class:`Brokered`."""
        with self._changed:
            self._share(group)
            kept = self._groups.get(group, _Group())
            if member not in kept.topics:
                raise LaneLost(f"{group} goes on without {member}.")
            return {lane: claim for lane, (whose, claim) in kept.claims.items() if whose == member}

    def hold(self, lane: str, group: str, claim: int) -> None:
        """See :class:`Brokered`."""
        with self._changed:
            self._share(group)
            if self._groups.get(group, _Group()).claims.get(lane, ("", 0))[1] != claim:
                raise LaneLost(f"{lane} is read by another member of {group}.")

    def expel(self, group: str, member: str) -> None:
        """See :class:`Brokered`; a test says so of one that is frozen."""
        with self._changed:
            self._groups.get(group, _Group()).topics.pop(member, None)

    def _share(self, group: str) -> None:
        kept = self._groups.get(group, _Group())
        readers = {
            member: [lane for lane in self._lanes if lane.partition("/")[0] in topics]
            for member, topics in kept.topics.items()
        }
        owners = {lane: member for lane, (member, _) in kept.claims.items()}
        for lane, member in share_out(readers, owners).items():
            if owners.get(lane) != member:
                kept.claims[lane] = member, next(self._claims)
        for lane in kept.claims.keys() - {*itertools.chain.from_iterable(readers.values())}:
            del kept.claims[lane]

    def _named(self, lane: str) -> _Lane:
        if lane not in self._lanes:
            raise Transient(f"There is no lane {lane}.")
        return self._lanes[lane]

    def _known(self, lane: str, identity: str) -> _Lane:
        held = self._named(lane)
        if held.identity != identity:
            raise CursorBeyondEnd(f"The lane {lane} was made anew.")
        return held


class MemoryTransport:
    """The :class:`~forebay.ports.Transport` of a broker in memory, of this process or another."""

    def __init__(self, broker: Brokered) -> None:
        self._broker = broker

    def lanes(self, topic: str) -> list[str]:
        """See :class:`~forebay.ports.Transport`."""
        return self._broker.lanes(topic)

    def identity(self, lane: str) -> str:
        """See :class:`~forebay.ports.Transport`."""
        return self._broker.identity(lane)

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        """See :class:`~forebay.ports.Transport`."""
        self._broker.append(lane, [encode_message(message) for message in messages])

    def subscribe(self, lane: str, group: str) -> MemorySubscription:
        """See :class:`~forebay.ports.Transport`."""
        return MemorySubscription(self._broker, lane, group)

    def join(self, topics: Sequence[str], group: str) -> MemoryMembership:
        """See :class:`~forebay.ports.SharedLanes`."""
        return MemoryMembership(self._broker, topics, group)

    def close(self) -> None:
        """See :class:`~forebay.ports.Transport`."""
        self._broker.close()


class MemoryMembership:
    """The :class:`~forebay.ports.Membership` of a broker in memory."""

    def __init__(self, broker: Brokered, topics: Sequence[str], group: str) -> None:
        self._broker = broker
        self._topics = topics
        self._group = group
        self.member = broker.enrol(topics, group)
        """Its name, which is another one once the group has gone on without it."""

    def lanes(self) -> frozenset[str]:
        """See :class:`~forebay.ports.Membership`."""
        return frozenset(self._claimed())

    def subscribe(self, lane: str) -> MemorySubscription:
        """See :class:`~forebay.ports.Membership`."""
        claim = self._claimed().get(lane)
        if claim is None:
            raise LaneLost(f"{lane} is read by another member of {self._group}.")
        return MemorySubscription(self._broker, lane, self._group, claim)

    def close(self) -> None:
        """See :class:`~forebay.ports.Membership`."""
        self._broker.expel(self._group, self.member)

    def _claimed(self) -> dict[str, int]:
        try:
            return self._broker.claimed(self._group, self.member)
        except LaneLost:
            self.member = self._broker.enrol(self._topics, self._group)
            return self._broker.claimed(self._group, self.member)


class MemorySubscription:
    """The :class:`~forebay.ports.Subscription` of a broker in memory."""

    def __init__(self, broker: Brokered, lane: str, group: str, claim: int = 0) -> None:
        """``claim`` is that of a member of the group; 0 for whoever reads beside them."""
        self._broker = broker
        self._lane = lane
        self._group = group
        self._claim = claim
        self._identity, self._offset = broker.join(lane, group)
        self._paused = False

    def read(self, *, max_messages: int = 1024, max_bytes: int = 8 << 20) -> list[Received]:
        """See :class:`~forebay.ports.Subscription`."""
        self._hold()
        if self._paused:
            return []
        where = self._lane, self._identity, self._offset
        first, raw = self._broker.fetch(*where, max_messages, max_bytes)
        self._offset = first + len(raw)
        return [_received(at, each) for at, each in enumerate(raw, first)]

    def extent(self) -> Extent:
        """See :class:`~forebay.ports.Subscription`."""
        self._hold()
        first, end = self._broker.edges(self._lane)
        return Extent(trimmed=first > 0, left=self._offset < end)

    def position_at(self, offset: int) -> Position:
        """See :class:`~forebay.ports.Subscription`."""
        return Position(self._identity, offset)

    def pause(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._paused = True

    def resume(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._paused = False

    def seek(self, position: Position | None) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._hold()
        if position is None:
            self._identity, _ = self._broker.join(self._lane, self._group)
            self._offset = 0
        else:
            where = position.log_id, position.seq
            self._offset = self._broker.place(self._lane, *where)
            self._identity = position.log_id

    def commit(self, position: Position) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        where = self._lane, position.log_id
        self._broker.commit(*where, self._group, position.seq, self._claim)

    def close(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""

    def _hold(self) -> None:
        if self._claim:
            self._broker.hold(self._lane, self._group, self._claim)


def _received(at: int, raw: bytes) -> Received:
    try:
        return Received(at, decode_message(raw), at + 1)
    except Corrupt:
        return Received(at, None, at + 1, raw)
