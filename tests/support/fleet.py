"""Several bridges of one group: each may be killed, frozen or not answered at any operation.

Who is frozen is out of its group, and the others go on, before it wakes in the middle of what it
was doing. After each operation it is seen to that no cursor falls, and that the group has let go of
nothing that is not stored.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from forebay.clock import ManualClock
from forebay.errors import Transient
from forebay.services.bridge import CONSUMER, Bridge
from forebay.services.journal_reach import LOOK_S
from forebay.services.lane_feed import Batching
from forebay.services.lanes import all_topics
from tests.support.crossing import Crossing, Fuse, FusedBroker, Killed
from tests.support.memory_store import MemoryStore
from tests.support.memory_transport import Broker, MemoryMembership, MemoryTransport

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from forebay.journal import Position
    from forebay.ports import Commit, Committed, Parser, Store, StoreState
    from tests.support.crossing import Chunk

DEEP = 2
"""So many may be frozen at a time."""
TROUBLES = ("killed", "frozen", "not answered")


class HalfBroker(FusedBroker):
    """A broker that takes a part of what is published now and then, and then does not answer."""

    def __init__(self, dice: random.Random, partitions: int) -> None:
        super().__init__(Fuse(), partitions)
        self._dice = dice
        self.half = 0.0
        """How often."""

    def append(self, lane: str, messages: Sequence[bytes]) -> None:
        if self._dice.random() < self.half:
            super().append(lane, messages[: self._dice.randrange(len(messages))])
            raise Transient("Nobody answers.")
        super().append(lane, messages)


class HookedBroker(Broker):
    """A broker as one member sees it: ``moment`` may stop it at every call."""

    def __init__(self, broker: Broker, moment: Callable[[], None]) -> None:
        vars(self).update(vars(broker))
        self._moment = moment

    def fetch(
        self, lane: str, identity: str, offset: int, max_messages: int, max_bytes: int
    ) -> tuple[int, list[bytes]]:
        first, found = super().fetch(lane, identity, offset, min(max_messages, 3), max_bytes)
        if found:
            self._moment()
        return first, found

    def commit(self, lane: str, identity: str, group: str, offset: int, claim: int = 0) -> None:
        self._moment()
        super().commit(lane, identity, group, offset, claim)
        self._moment()


class HookedStore:
    """A store as one bridge sees it, likewise."""

    def __init__(self, store: Store, moment: Callable[[], None]) -> None:
        self._store = store
        self._moment = moment

    def load(self) -> StoreState:
        state = self._store.load()
        self._moment()
        return state

    def commit(self, commit: Commit) -> Committed:
        self._moment()
        done = self._store.commit(commit)
        self._moment()
        return done


class Fleet(Crossing):
    """A crossing with several bridges; whoever dies comes back."""

    store: MemoryStore

    def __init__(
        self,
        folder: Path,
        parsers: Mapping[str, Parser],
        dice: random.Random,
        *,
        bridges: int = 3,
        partitions: int = 2,
        troubles: Sequence[str] = TROUBLES,
        trouble: float = 0.2,
    ) -> None:
        """``trouble`` is how likely one of ``troubles`` is at each operation."""
        super().__init__(folder, parsers, MemoryStore(), partitions=partitions)
        self._half = self.broker = HalfBroker(dice, partitions)
        self._half.half = trouble / 2
        self.transport = MemoryTransport(self.broker)
        self.clock = ManualClock()
        self.happened: Counter[str] = Counter()
        """How often each trouble was."""
        self._dice = dice
        self._troubles = troubles
        self._trouble = trouble
        self._chunks: deque[Chunk] = deque()
        self._asleep: list[int] = []
        self._bridges: list[Bridge | None] = [None] * bridges
        self._seen: Mapping[str, Position] = {}
        self._let_go: dict[str, int] = {}
        self._told_now = False

    def run(self, chunks: Sequence[Chunk]) -> None:
        """Write chunk by chunk, also while somebody is frozen."""
        self._chunks.extend(chunks)
        while self._chunks:
            self._more()
            for _ in range(self._dice.randrange(4)):
                self.store_step()
        self.drain()

    def _more(self) -> None:
        if self._chunks and not self._told_now:
            self._told_now = True
            self.writer.commit(self._chunks.popleft())
            self.publish()
            self._told_now = False

    def publish(self) -> int:
        """Let the publisher make a step; what was told in part is told again."""
        while True:
            try:
                return super().publish()
            except Transient:
                for _ in self._bridges:
                    self.store_step()

    def store_step(self) -> int:
        """Let time pass, and somebody make a step."""
        self.clock.advance(self._dice.choice((0.0, 1.0, 10.0)))
        return self._step(self._dice.randrange(len(self._bridges)))

    def drain(self) -> None:
        """Let all go on until nothing is left, and nobody is killed any more."""
        self._trouble = self._half.half = 0.0
        while self.publish():
            pass
        self._alive(lambda: self._publishing().tell_ends())
        idle = 0
        while idle < 3:  # what one has said, others go by
            self.clock.advance(LOOK_S + 1)
            stored = [self._step(number) for number in range(len(self._bridges))]
            idle = 0 if any(stored) else idle + 1

    def restart(self) -> None:
        super().restart()
        for number, bridge in enumerate(getattr(self, "_bridges", [])):
            if bridge is not None:
                self._kill(number)

    def _step(self, number: int) -> int:
        if number in self._asleep:
            return 0
        try:
            return self._bridge(number).step()
        except Killed:
            self._kill(number)
        except Transient:
            return 0
        return 1

    def _bridge(self, number: int) -> Bridge:
        bridge = self._bridges[number]
        if bridge is None:

            def moment() -> None:
                self._moment(number)

            transport = MemoryTransport(HookedBroker(self.broker, moment))
            store = HookedStore(self.store, moment)
            bridge = self._bridges[number] = Bridge(
                transport,
                store,  # type: ignore[arg-type]  # of a store it asks nothing else
                clock=self.clock,
                batching=Batching(self._dice.randrange(1, 60), self._dice.choice((0.0, 5.0))),
                observer=self.told.append,
            )
        return bridge

    def _moment(self, number: int) -> None:
        """Something may happen to one of them, here and now."""
        self.check()
        if self._dice.random() >= self._trouble:
            return
        trouble = self._dice.choice(self._troubles)
        self.happened[trouble] += 1
        if trouble == "killed":
            raise Killed
        if trouble == "frozen":
            self._freeze(number)
        else:  # whether it was done or not
            raise Transient("Nobody answers.")

    def _freeze(self, number: int) -> None:
        """Let the group go on without one; then it goes on as if nothing had been."""
        if len(self._asleep) >= DEEP:
            return
        self._asleep.append(number)
        self._leave(number)
        for _ in range(self._dice.randrange(1, 12)):
            self._more()
            self._step(self._dice.randrange(len(self._bridges)))
        self._asleep.remove(number)

    def _kill(self, number: int) -> None:
        self._leave(number)
        self._bridges[number] = None

    def _leave(self, number: int) -> None:
        bridge = self._bridges[number]
        membership = bridge._membership if bridge is not None else None
        if isinstance(membership, MemoryMembership):
            self.broker.expel(CONSUMER, membership.member)

    def check(self) -> None:
        """No cursor has fallen, and what the group has let go of is stored."""
        positions = self.store.load().positions
        for name, before in self._seen.items():
            now = positions[name]
            assert now.log_id != before.log_id or now.seq >= before.seq, f"{name} fell"
            if name.count("/") == 1 and name.startswith("journal/") and now != before:
                theirs = (positions[lane].seq for lane in positions if lane.startswith(f"{name}/"))
                assert now.seq <= min(filter(None, theirs)), f"{name} is beyond a lane"
        self._seen = positions
        for lane in self._lanes():
            offset = self.broker._lanes[lane].committed.get(CONSUMER, 0)
            assert offset >= self._let_go.get(lane, 0), f"the offset of {lane} fell"
            stored = positions.get(f"{CONSUMER}/{lane}")
            assert offset <= (stored.seq if stored else 0), f"{lane} was let go of"
            self._let_go[lane] = offset

    def _lanes(self) -> Sequence[str]:
        topics = [topic for topic in all_topics() if f"{topic}/0" in self.broker._lanes]
        return [lane for topic in topics for lane in self.broker.lanes(topic)]
