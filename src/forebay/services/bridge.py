"""From a transport to a store: PUBLISHED becomes STORED, with the coverage and gaps of the journal.

Several bridges may share the lanes of a transport: each has those that its membership of the group
gives it, and a :class:`~forebay.services.lane_bridge.LaneBridge` for each. Lanes come and go while
it runs; one that cannot be stored waits, and the others go on. Nothing rests on who has a lane:
the store compares the cursor of each commit, so of two that think they have it one is refused.

What is told twice, by the transport or by a publisher that was killed, has the same ids.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebay.clock import SystemClock
from forebay.errors import (
    CursorMoved,
    ForebayError,
    LaneLost,
    RowsRefused,
    TableUnavailable,
    Transient,
)
from forebay.resilience.backoff import Backoff
from forebay.services.deliver import TRIES, Delivered
from forebay.services.journal_reach import JournalReach, logs_in
from forebay.services.lane_bridge import (
    LaneBridge,
    LaneLetters,
    NoLetters,
    lane_of_cursor,
)
from forebay.services.lane_feed import Batching, LaneFeed
from forebay.services.lanes import all_topics, lane_of, topic_of
from forebay.telemetry import LaneElsewhere, LaneGoesOn, LanesMoved, LaneWaits, Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from forebay.clock import Clock
    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.journal import Position
    from forebay.ports import Membership, SharedLanes, Store, StoreState

    Guard = Callable[[Callable[[], Any]], Any]
    """Makes a call of the store, or refuses to."""

CONSUMER = "bridge"
"""Name of the group that reads; with the lane behind it, of the cursor in that."""
OF_A_LANE = (LaneLost, CursorMoved, TableUnavailable, RowsRefused)
"""What a store, or a lane, says of one lane: it is no failure of the store."""
KNOWN_LOSSES = 1_000


@dataclass(slots=True)
class LaneWait:
    """A lane that waits, and for how long."""

    since_ns: int
    until_ns: int
    reason: str
    backoff: Backoff


class Bridge:
    """Moves the topics of one transport into one store. Blocking: run it in a thread of its own."""

    def __init__(
        self,
        transport: SharedLanes,
        store: Store,
        *,
        topics: Iterable[str] | None = None,
        group: str = CONSUMER,
        observer: Observer = ignore,
        clock: Clock | None = None,
        batching: Batching | None = None,
        letters: LaneLetters | None = None,
        tries: int = TRIES,
        rng: random.Random | None = None,
    ) -> None:
        """Nobody is asked before the first step.

        Topics that are not there are made then; left out, they are those of every kind of event.
        """
        self.group = group
        self.observer = observer
        self.letters = letters or NoLetters()
        self.guard: Guard = _called
        """Makes the calls of the store; what is :data:`OF_A_LANE` is no failure of it."""
        self.lanes: dict[str, LaneBridge] = {}
        """Those that are this bridge's now."""
        self.waiting: dict[str, LaneWait] = {}
        """Those of them that wait."""
        self.delivered = Delivered()
        """Totals of all lanes since the process started."""
        self.coverage: dict[StreamKey, Coverage] = {}
        """As it is stored; of lanes in hand up to now, of others since it was last asked for."""
        self.positions: dict[str, Position] = {}
        """Every cursor, likewise."""
        self.begun_with: StoreState | None = None
        """What is stored, while lanes begin with it."""
        self.beginning: set[str] = set()
        """Lanes that may begin with it: what is known of their streams is of the same moment."""
        self.losses: deque[tuple[str, int, int]] = deque(maxlen=KNOWN_LOSSES)
        """Those that were told, by log."""
        self.trouble = ""
        """Why it cannot be known now which lanes are this bridge's."""
        self._transport = transport
        self._store = store
        self.clock = clock or SystemClock()
        self._batching = batching or Batching()
        self._tries = tries
        self._rng = rng or random.Random()
        self._membership: Membership | None = None
        self._topics = all_topics() if topics is None else list(topics)
        self._lanes_of: dict[str, list[str]] = {}
        """Every lane there is, by topic."""
        self._reach = JournalReach(self, store, self._batching.seconds)
        self._turn = 0
        self._began_anew = False

    # ------------------------------------------------------------------------ a step

    def step(self, *, hurry: bool = False) -> int:
        """Store what each lane has; return the number of frames, 0 when there is none.

        With ``hurry``, also what would wait for more. Raises
        :class:`~forebay.errors.Transient` if the transport cannot be asked or the store not be
        reached now: call again, nothing is lost. What concerns one lane alone is told and waited
        out.
        """
        frames = self._round(hurry=hurry)
        if not frames and self._began_anew:  # there may be much behind
            frames = self._round(hurry=hurry)
        self._reach.tell(now=hurry, idle=not frames)
        self.letters.tend()
        return frames

    def _round(self, *, hurry: bool) -> int:
        frames, self._began_anew = 0, False
        try:
            self._tend()
            lanes = [*self.lanes.values()]
            for lane in lanes[self._turn :] + lanes[: self._turn]:  # who fails is the last one then
                self._turn = lanes.index(lane) + 1
                lane.feed.hurry = hurry
                frames += self._step_of(lane)
        finally:
            self.begun_with = None
            self.beginning.clear()
        return frames

    def drain(self) -> int:
        """Step until everything there is has been stored; return the number of frames."""
        total = 0
        while frames := self.step():
            total += frames
        return total

    def close(self) -> None:
        """Leave the group; what is in hand will be read again, by whoever has the lane then."""
        for lane in self.lanes.values():
            lane.close()
        self.lanes.clear()
        self.waiting.clear()
        if self._membership is not None:
            self._membership.close()
            self._membership = None

    def _step_of(self, lane: LaneBridge) -> int:
        wait = self.waiting.get(lane.lane)
        if wait is not None and self.clock.monotonic_ns() < wait.until_ns:
            return 0
        if not lane.begun and lane.lane not in self.beginning:
            return 0
        try:
            if not lane.prepare():
                self._goes_on(lane)
                return 0
        except LaneLost:
            self._let_go([lane.lane])
            return 0
        except Transient as error:
            self._wait(lane, error)
            return 0
        return self._store_of(lane)

    def _store_of(self, lane: LaneBridge) -> int:
        try:
            frames: int = self.guard(lane.store)
        except CursorMoved as error:
            self.observer(LaneElsewhere(lane.lane, str(error)))
            self._began_anew = True
            return 0
        except RowsRefused as error:
            if not lane.leave_out(error, self._tries):
                self._wait(lane, error)
            return 0
        except TableUnavailable as error:
            self._wait(lane, error)
            return 0
        self._goes_on(lane)
        return frames

    # --------------------------------------------------------------- lanes come and go

    def _tend(self) -> None:
        """See which lanes are this bridge's, and learn what is stored of those that are new."""
        if self._membership is None:
            self._membership = self._transport.join(self._topics, self.group)
        try:
            held = self._membership.lanes()
            self.trouble = ""
        except Transient as error:  # those that are lost say so themselves
            self.trouble = str(error)
            if not self.lanes:
                raise
            held = frozenset(self.lanes)
        self._let_go([name for name in self.lanes if name not in held])
        self._take([name for name in sorted(held) if name not in self.lanes], self._membership)
        now_ns = self.clock.monotonic_ns()
        if any(not each.begun and self._is_due(name, now_ns) for name, each in self.lanes.items()):
            self._begin_with(self.guard(self._store.load))

    def _is_due(self, lane: str, now_ns: int) -> bool:
        return lane not in self.waiting or self.waiting[lane].until_ns <= now_ns

    def _take(self, names: list[str], membership: Membership) -> None:
        if not names:
            return
        self.learn_lanes()
        topics = {lane: topic for topic, lanes in self._lanes_of.items() for lane in lanes}
        for name in names:
            feed = LaneFeed(_subscriber(membership, name), self.clock, self._batching)
            self.lanes[name] = LaneBridge(
                self, feed, self._store, topic=topics[name], lane=name, owns=self._owner(name)
            )
        self.observer(LanesMoved(tuple(names), (), len(self.lanes)))

    def _let_go(self, names: list[str]) -> None:
        """Drop lanes with what is in hand of them: it is not stored, and others read it."""
        for name in names:
            self.lanes.pop(name).close()
            self.waiting.pop(name, None)
        if names:
            self.observer(LanesMoved((), tuple(names), len(self.lanes)))

    def learn_lanes(self) -> None:
        """See which lanes there are. Raises as the transport."""
        self._lanes_of = {topic: [*self._transport.lanes(topic)] for topic in self._topics}

    def _owner(self, lane: str) -> Callable[[StreamKey], bool]:
        return lambda key: self._lane_of(key) == lane

    def _lane_of(self, key: StreamKey) -> str:
        """Return the lane that has all of a stream; nothing if it is in none of these."""
        lanes = self._lanes_of.get(topic_of(key.channel))
        return lane_of(lanes, key.venue, key.symbol) if lanes else ""

    def _begin_with(self, state: StoreState) -> None:
        """Take over what is stored, but of lanes in hand: of these it is known.

        One of those that the store has elsewhere begins anew: it may be an older copy.
        """
        for lane in self.lanes.values():
            stored, known = (each.get(lane.cursor) for each in (state.positions, self.positions))
            if lane.begun and not lane.behind and stored != known:
                self.observer(LaneElsewhere(lane.lane, "The store has another cursor."))
                lane.begin_anew()
        begun = {name for name, lane in self.lanes.items() if lane.begun}
        ours = {key: each for key, each in self.coverage.items() if self._lane_of(key) in begun}
        theirs = {k: each for k, each in state.coverage.items() if self._lane_of(k) not in begun}
        self.coverage.clear()
        self.coverage.update(theirs | ours)

        def is_ours(cursor: str) -> bool:
            return lane_of_cursor(cursor) in begun

        kept = {name: where for name, where in self.positions.items() if is_ours(name)}
        new = {name: where for name, where in state.positions.items() if not is_ours(name)}
        self.positions = new | kept
        self._reach.moved |= logs_in(self.positions)
        self.begun_with, self.beginning = state, self.lanes.keys() - begun

    # ---------------------------------------------------------------- lanes that wait

    def _wait(self, lane: LaneBridge, error: ForebayError) -> None:
        now_ns = self.clock.monotonic_ns()
        wait = self.waiting.setdefault(
            lane.lane, LaneWait(now_ns, now_ns, "", Backoff(self._rng, base=1.0))
        )
        delay_s = wait.backoff.next()
        wait.until_ns, wait.reason = now_ns + round(delay_s * 1e9), str(error)
        self.observer(LaneWaits(lane.lane, wait.reason, delay_s))

    def _goes_on(self, lane: LaneBridge) -> None:
        wait = self.waiting.pop(lane.lane, None)
        if wait is not None:
            waited_s = (self.clock.monotonic_ns() - wait.since_ns) / 1e9
            self.observer(LaneGoesOn(lane.lane, waited_s))

    def moved_to(self, positions: Mapping[str, Position]) -> None:
        """A lane has these cursors now."""
        self.positions |= positions
        self._reach.moved |= logs_in(positions)

    def all_lanes(self) -> set[str]:
        """Return every lane there is, whoever reads it."""
        return {lane for lanes in self._lanes_of.values() for lane in lanes}


def _subscriber(membership: Membership, lane: str) -> Callable[[], Any]:
    return lambda: membership.subscribe(lane)


def _called(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it returns
    return call()
