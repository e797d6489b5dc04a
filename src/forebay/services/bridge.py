"""From a transport to a store: PUBLISHED becomes STORED, with the coverage and gaps of the journal.

A :class:`~forebay.services.pump.Pump` whose feed is a topic. Steps of a journal are put together
from their messages, coverage is kept on what they tell, and rows, coverage and two cursors are
committed together: how far the topic has been read, and up to where the journal is stored. What
is told twice, by the transport or by a publisher that was killed, has the same ids.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain.events import EventColumns
from forebay.domain.frames import Context, Loss
from forebay.domain.intervals import FAR, IntervalSet
from forebay.domain.messages import (
    ControlTold,
    EventsTold,
    KnownTold,
    LettersTold,
    Mark,
    Message,
    Step,
)
from forebay.errors import ForebayError
from forebay.journal import Position
from forebay.services.deliver import Planned, StoreWriter, refuse_other_units
from forebay.services.normalise import Normalised, Said
from forebay.services.projection import CoverageBook, Declared
from forebay.services.publisher import TOPIC
from forebay.telemetry import Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forebay.domain.parsed import StreamName
    from forebay.ports import Received, Store, StoreState, Subscription, Transport

CONSUMER = "bridge"
"""Name of the cursor in the topic, and of the group that reads it."""
_NOWHERE = Context(venue="", source="file", purpose="recording", collector="", epoch="")
ENOUGH = 16384
"""Rows and messages of the steps that are committed together: one step may have few."""


def journal_cursor(log_id: str) -> str:
    """Return the name of the cursor that says up to where a journal is stored."""
    return f"journal/{log_id}"


@dataclass(slots=True)
class WholeStep:
    """A step whose mark has come."""

    step: Step
    messages: list[Message]
    """All that came of its parts in order, then the mark."""
    resume: int
    """Offset from which on nothing is lost once this step is stored."""
    lacking: bool
    """Whether a part did not come."""

    @property
    def weight(self) -> int:
        """How many rows and messages it has."""
        rows = (message.rows for message in self.messages)
        return sum(1 if each is None else len(each) for each in rows)


@dataclass(slots=True)
class _Open:
    begin: int
    offset: int
    """Of its first message."""
    parts: dict[int, Message] = field(default_factory=dict)


class Steps:
    """Puts the steps of every publisher of a topic together. Pure."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def add(self, received: Received) -> WholeStep | None:
        """Take the next message of the topic; return the step that it completes.

        A step that begins anew was told in part by a publisher that was killed: all of it comes
        again. A message that cannot be read is lacking when the mark comes.
        """
        if received.message is None:
            return None
        head = received.message.head
        log_id, begin = head.step.log_id, head.step.begin
        held = self._open.get(log_id)
        if held is None or held.begin != begin or head.part == 0:
            held = self._open[log_id] = _Open(begin, received.offset)
        held.parts[head.part] = received.message
        if not isinstance(head.told, Mark):
            return None
        del self._open[log_id]
        came = [held.parts[part] for part in range(head.told.parts) if part in held.parts]
        resume = min([received.offset + 1, *(each.offset for each in self._open.values())])
        lacking = len(came) < head.told.parts
        return WholeStep(head.step, [*came, received.message], resume, lacking)


@dataclass(frozen=True, slots=True)
class TopicPiece:
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


class TopicFeed:
    """What whole steps a topic has; see :class:`~forebay.services.pump.PositionedFeed`."""

    def __init__(self, transport: Transport, topic: str, group: str) -> None:
        self._transport = transport
        self._topic = topic, group
        self._subscription: Subscription | None = None
        self._held = False
        self._begin()

    def _begin(self) -> None:
        self._steps = Steps()
        self._received: deque[Received] = deque()
        self._ready: deque[WholeStep] = deque()

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            self._subscription = self._transport.subscribe(*self._topic)
        return self._subscription

    def seek(self, position: Position | None) -> None:
        self._begin()
        self._subscribed().seek(position)

    def read(self) -> TopicPiece | None:
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
        return TopicPiece(steps, subscription.position_after(steps[-1].resume - 1))

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


class Bridge(StoreWriter[TopicPiece, CoverageBook]):
    """Moves one topic into one store. Blocking: run it in a thread of its own."""

    def __init__(
        self,
        transport: Transport,
        store: Store,
        *,
        topic: str = TOPIC,
        consumer: str = CONSUMER,
        observer: Observer = ignore,
    ) -> None:
        feed = TopicFeed(transport, topic, consumer)
        super().__init__(feed, store, {}, consumer, observer)

    def _book_of(self, state: StoreState) -> CoverageBook:
        return CoverageBook(self._channels, state.coverage)

    def begin_again(self) -> None:
        """Nothing: what is stored is recognised by its ids, and no journal has lost anything."""

    def plan(self, piece: TopicPiece) -> Planned[TopicPiece]:
        self._learn(declared_in(piece.messages))
        projected = self._book.enter(listen(piece.messages))
        log_id = piece.steps[0].step.log_id
        cursor = journal_cursor(log_id)
        known = self._positions.get(cursor)
        end = known.seq if known else piece.steps[0].step.begin
        for whole in piece.steps:
            step = whole.step
            if step.begin > end:  # it was in the topic, and is not any more
                projected.losses.append(Loss(end, step.begin - 1))
            if whole.lacking:
                projected.losses.append(Loss(step.begin, step.end - 1))
            end = max(end, step.end)
        positions = {self._consumer: piece.end, cursor: Position(log_id, end)}
        return self._planned(piece, projected, positions, positions[cursor])

    def _learn(self, channels: Declared) -> None:
        """Take over what venues declare; coverage must be in the units that they do."""
        if any(self._channels.get(venue) != theirs for venue, theirs in channels.items()):
            refuse_other_units(self._book.coverage, channels)
            self._channels |= channels


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
            yield Normalised(_NOWHERE, log_id, letters=rows, reasons=reasons)
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
