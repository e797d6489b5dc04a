"""From a transport to a store: PUBLISHED becomes STORED, with the coverage and gaps of the journal.

Of each lane a :class:`~forebay.services.pump.Pump` whose feed it is. Steps of a journal are put
together from their messages, coverage is kept on what they tell, and rows, coverage and cursors
are committed together: how far the lane has been read, up to where the journal is stored from it,
and from all lanes. What is told twice, by the transport or by a publisher that was killed, has
the same ids.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from forebay.domain.events import EventColumns
from forebay.domain.frames import Context, Loss
from forebay.domain.intervals import FAR, IntervalSet
from forebay.domain.messages import (
    ControlTold,
    EventsTold,
    KnownTold,
    LettersTold,
    Message,
)
from forebay.errors import CursorMoved, ForebayError
from forebay.journal import Position
from forebay.services.deliver import Planned, StoreWriter, refuse_other_units
from forebay.services.lanes import all_topics, lane_of, topic_of
from forebay.services.normalise import Normalised, Said
from forebay.services.projection import CoverageBook, Declared
from forebay.services.steps import Steps, WholeStep
from forebay.telemetry import Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.domain.parsed import StreamName
    from forebay.ports import Received, Store, StoreState, Subscription, Transport

    Owns = Callable[[StreamKey], bool]
    """Returns whether all of a stream is in a lane."""

CONSUMER = "bridge"
"""Name of the group that reads; with the lane behind it, of the cursor in that."""
_NOWHERE = Context(venue="", source="file", purpose="recording", collector="", epoch="")
ENOUGH = 16384
"""Rows and messages of the steps that are committed together: one step may have few."""


def journal_cursor(log_id: str, lane: str = "") -> str:
    """Return the cursor that says up to where a journal is stored: from one lane, or from all."""
    return f"journal/{log_id}/{lane}".rstrip("/")


@dataclass(frozen=True, slots=True)
class LanePiece:
    """Consecutive steps of one journal."""

    steps: list[WholeStep]
    end: Position

    @property
    def messages(self) -> Iterator[Message]:
        """All that they tell, in order."""
        return (message for whole in self.steps for message in whole.messages)

    @property
    def oldest_ns(self) -> int:
        for message in self.messages:
            if message.rows is not None:
                first = message.rows["received_ts"].slice(0, 1).cast(pa.int64())
                return int(first.to_numpy()[0])
        return 0


class LaneFeed:
    """What whole steps a lane has; see :class:`~forebay.services.pump.PositionedFeed`."""

    def __init__(self, transport: Transport, lane: str, group: str) -> None:
        self._transport = transport
        self._lane = lane, group
        self._subscription: Subscription | None = None
        self._held = False
        self._begin()

    def _begin(self) -> None:
        self._steps = Steps()
        self._received: deque[Received] = deque()
        self._ready: deque[WholeStep] = deque()

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            self._subscription = self._transport.subscribe(*self._lane)
        return self._subscription

    def seek(self, position: Position | None) -> None:
        self._begin()
        self._subscribed().seek(position)

    def read(self) -> LanePiece | None:
        subscription = self._subscribed()
        if self._held:
            subscription.resume()
            self._held = False
        self._gather(subscription)
        if not self._ready:
            return None
        steps = [self._ready.popleft()]
        while self._ready and self._ready[0].step.log_id == steps[0].step.log_id:
            steps.append(self._ready.popleft())
        return LanePiece(steps, subscription.position_at(steps[-1].resume))

    def _gather(self, subscription: Subscription) -> None:
        """Put steps together until they are enough, or nothing follows yet."""
        weight = sum(whole.weight for whole in self._ready)
        while weight < ENOUGH:
            if not self._received:
                self._received.extend(subscription.read())
            if not self._received:
                return
            whole = self._steps.add(self._received.popleft())
            if whole is not None:
                self._ready.append(whole)
                weight += whole.weight

    def hold(self) -> None:
        with contextlib.suppress(ForebayError):  # reading will meet it
            if not self._held:
                self._subscribed().pause()
                self._held = True
            self._subscribed().read()

    def done(self, position: Position) -> None:
        """Let the transport forget what is stored; the store's cursor is what counts."""
        with contextlib.suppress(ForebayError):  # the next one says more
            self._subscribed().commit(position)

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None


class LaneBook(CoverageBook):
    """Coverage of every stream, of which records of connections change those of one lane alone."""

    def __init__(self, channels: Declared, coverage: dict[StreamKey, Coverage], owns: Owns) -> None:
        """``coverage`` is shared with the books of other lanes."""
        super().__init__(channels, coverage)
        self.coverage = coverage
        self._owns = owns

    def follows(self, key: StreamKey) -> bool:
        return self._owns(key)


class LaneBridge(StoreWriter[LanePiece, CoverageBook]):
    """Moves one lane into one store."""

    def __init__(self, whole: Bridge, feed: LaneFeed, store: Store, lane: str, owns: Owns) -> None:
        self._whole = whole
        self._lane = lane
        self._owns = owns
        self.caught_up = False
        """Whether it was read to its end once."""
        super().__init__(feed, store, {}, f"{whole.consumer}/{lane}", whole.observer)

    def _look(self) -> StoreState:
        return self._whole.begun_with or super()._look()

    def _book_of(self, state: StoreState) -> CoverageBook:
        self._whole.stored(state)
        return LaneBook(self._channels, self._whole.coverage, self._owns)

    def begin_again(self) -> None:
        """Nothing: what is stored is recognised by its ids, and no journal has lost anything."""

    def prepare(self) -> bool:
        """See :class:`~forebay.services.pump.Pump`."""
        prepared = super().prepare()
        self.caught_up |= not prepared
        return prepared

    def plan(self, piece: LanePiece) -> Planned[LanePiece]:
        self._learn(declared_in(piece.messages))
        projected = self._book.enter(listen(piece.messages))
        if not self._whole.is_first(self):  # a loss that is recorded is told in every lane
            projected.losses.clear()
        log_id = piece.steps[0].step.log_id
        known = self._positions.get(cursor := journal_cursor(log_id, self._lane))
        ordinary = [whole for whole in piece.steps if not whole.messages[-1].head.repair]
        end = known.seq if known else (ordinary or piece.steps)[0].step.begin
        for whole in ordinary:  # repairs are of what was told before, and behind it
            step = whole.step
            if step.begin > end:  # it was in the lane, and is not any more
                projected.losses.append(Loss(end, step.begin - 1))
            if whole.lacking:
                projected.losses.append(Loss(step.begin, step.end - 1))
            end = max(end, step.end)
        positions = {self._consumer: piece.end, cursor: Position(log_id, end)}
        return self._planned(piece, projected, positions, positions[cursor])

    def commit(self, plan: Planned[LanePiece]) -> int:
        more = self._whole.positions_with(self._lane, plan.end)
        positions = {**plan.commit.positions, **more}
        expected = {name: self._whole.positions.get(name) for name in positions}
        commit = replace(plan.commit, positions=positions, expected=expected)
        frames = super().commit(replace(plan, commit=commit))
        self._whole.positions |= positions
        return frames

    def _learn(self, channels: Declared) -> None:
        """Take over what venues declare; coverage must be in the units that they do."""
        if any(self._channels.get(venue) != theirs for venue, theirs in channels.items()):
            refuse_other_units(self._book.coverage, channels)
            self._channels |= channels


class Bridge:
    """Moves the topics of one transport into one store. Blocking: run it in a thread of its own."""

    def __init__(
        self,
        transport: Transport,
        store: Store,
        *,
        topics: Iterable[str] | None = None,
        consumer: str = CONSUMER,
        observer: Observer = ignore,
    ) -> None:
        """Topics that are not there are made; left out, they are those of every kind of event."""
        self.consumer = consumer
        self.observer = observer
        self.coverage: dict[StreamKey, Coverage] = {}
        """Of all lanes, as it is stored."""
        self.positions: dict[str, Position] = {}
        """Every cursor, as it is stored."""
        self.begun_with: StoreState | None = store.load()
        """What is stored, while lanes are made: there are many, and it is the same for all."""
        topics = all_topics() if topics is None else list(topics)
        lanes = {topic: transport.lanes(topic) for topic in topics}

        def owner(topic: str, lane: str) -> Owns:
            return lambda key: (
                topic_of(key.channel) == topic
                and lane_of(lanes[topic], key.venue, key.symbol) == lane
            )

        self.lanes = {
            lane: LaneBridge(
                self, LaneFeed(transport, lane, consumer), store, lane, owner(topic, lane)
            )
            for topic, theirs in lanes.items()
            for lane in theirs
        }
        self.begun_with = None

    def stored(self, state: StoreState) -> None:
        """Take over what a store has."""
        self.coverage.clear()
        self.coverage.update(state.coverage)
        self.positions = dict(state.positions)

    def is_first(self, lane: LaneBridge) -> bool:
        return lane is next(iter(self.lanes.values()))

    def positions_with(self, lane: str, reached: Position) -> dict[str, Position]:
        """Return the cursor up to which a journal is stored from all lanes, if it moves on.

        A lane that was read to its end and has nothing of the journal is taken to be without it,
        until its first step comes.
        """
        ends = [reached.seq]
        for name, other in self.lanes.items():
            known = self.positions.get(journal_cursor(reached.log_id, name))
            if name != lane and known is not None:
                ends.append(known.seq)
            elif name != lane and not other.caught_up:
                return {}
        cursor, end = journal_cursor(reached.log_id), min(ends)
        known = self.positions.get(cursor)
        if known is not None and known.seq >= end:
            return {}
        return {cursor: Position(reached.log_id, end)}

    def step(self) -> int:
        """Store what each lane has; return the number of frames, 0 when there is none.

        Raises as :meth:`~forebay.services.pump.Pump.store`; if the store is elsewhere than it was
        left, every lane goes on from there.
        """
        try:
            ready = [lane for lane in self.lanes.values() if lane.prepare()]
            return sum(lane.store() for lane in ready)
        except CursorMoved:
            for lane in self.lanes.values():
                lane.begin_anew()
            raise

    def drain(self) -> int:
        """Step until everything there is has been stored; return the number of frames."""
        total = 0
        while frames := self.step():
            total += frames
        return total

    def close(self) -> None:
        """Let go of the lanes; what is in hand will be read again."""
        for lane in self.lanes.values():
            lane.close()


def listen(messages: Iterable[Message]) -> Iterator[Normalised]:
    """Return what the messages of a step amount to, in their order."""
    for head, rows in messages:
        told, log_id = head.told, head.step.log_id
        if isinstance(told, EventsTold):
            channel, own = told.origin.channels[told.kind], told.own_sequence
            columns = EventColumns.of_rows(channel, rows, own_sequence=own)
            yield Normalised(told.origin.context, log_id, events=[columns])
        elif isinstance(told, KnownTold):
            known: dict[StreamName, IntervalSet] = {}
            for water in told.streams:
                near = known.setdefault((water.market, water.channel, water.symbol), IntervalSet())
                near.add(water.least, water.greatest, reach=FAR - 1)
            yield Normalised(told.origin.context, log_id, (told.first, told.last), known=known)
        elif isinstance(told, ControlTold):
            said = [Said(told.control, told.received_ns, told.seq)]
            yield Normalised(told.origin.context, log_id, (told.seq, told.seq), controls=said)
        elif isinstance(told, LettersTold):
            reasons: Counter[str] = Counter(rows["reason"].to_pylist() if rows else ())
            where = msgspec.structs.replace(_NOWHERE, run=told.run)
            yield Normalised(where, log_id, letters=rows, reasons=reasons)
        else:
            frames, unbuilt = Counter(told.frames), Counter(told.unbuilt)
            yield Normalised(_NOWHERE, log_id, frames=frames, unbuilt=unbuilt)


def declared_in(messages: Iterable[Message]) -> Declared:
    """Return what the venues of some messages declare."""
    return {
        head.told.origin.context.venue: head.told.origin.channels
        for head, _ in messages
        if isinstance(head.told, EventsTold | KnownTold | ControlTold)
    }
