"""From one lane of a transport to a store: rows, coverage and how far the lane has been read.

All of a stream is in one lane, so each goes on by itself, whatever keeps another one back.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

import msgspec

from forebay.domain.events import EventColumns
from forebay.domain.frames import Context, Loss
from forebay.domain.intervals import FAR, IntervalSet
from forebay.domain.letters import RecordPlace
from forebay.domain.messages import ControlTold, EventsTold, KnownTold, LettersTold
from forebay.journal import Position
from forebay.ports import Commit, StoreState
from forebay.services.deliver import Planned, StoreWriter, refuse_other_units
from forebay.services.lane_feed import LaneFeed, LanePiece
from forebay.services.normalise import Normalised, Said
from forebay.services.projection import CoverageBook, Declared, Projected
from forebay.telemetry import LaneReadAgain, LossFound, RecordsUnreadable, RowsLeftOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.domain.messages import Message
    from forebay.domain.parsed import StreamName
    from forebay.errors import RowsRefused
    from forebay.ports import Committed, Events, Refused, Store
    from forebay.services.bridge import Bridge

    Owns = Callable[[StreamKey], bool]
    """Returns whether all of a stream is in a lane."""

CURSOR = "bridge"
"""What the cursor of a lane is called, with the lane behind it. Whatever group reads it, a store
keeps one: so of two groups by mistake, each finds that the other has gone on."""
_NOWHERE = Context(venue="", source="file", purpose="recording", collector="", epoch="")


def journal_cursor(log_id: str, lane: str = "") -> str:
    """Return the cursor that says up to where a journal is stored: from one lane, or from all.

    That of a lane is at 0 if it was read to its end and had nothing of the journal.
    """
    return f"journal/{log_id}/{lane}".rstrip("/")


class LaneLetters(Protocol):
    """What becomes of that which will never be stored as it is. Methods may raise Transient.

    Then they are called again; what they are told more than once is the same.
    """

    def failed(self, lane: str, begin: Position | None, error: RowsRefused) -> int:
        """Count that the batch which begins there was refused; return how often it was."""
        ...

    def settled(self, lane: str, begin: Position | None) -> None:
        """Forget that count: the batch is stored."""
        ...

    def refused(
        self, topic: str, place: RecordPlace, table: str, events: Events, refused: Sequence[Refused]
    ) -> None:
        """Take rows of a batch that was read up to ``place``, which the store has left out."""
        ...

    def unreadable(self, topic: str, records: Sequence[tuple[RecordPlace, bytes]]) -> None:
        """Take records that are no message, before their lane goes on behind them."""
        ...

    def tend(self) -> None:
        """Try again what could not be told; called now and then, and raises nothing."""
        ...


class NoLetters(LaneLetters):
    """Keeps nothing but the counts, and these as long as it lives."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Position | None]] = Counter()

    def failed(self, lane: str, begin: Position | None, error: RowsRefused) -> int:  # noqa: ARG002
        self._counts[lane, begin] += 1
        return self._counts[lane, begin]

    def settled(self, lane: str, begin: Position | None) -> None:
        self._counts.pop((lane, begin), None)

    def refused(
        self, topic: str, place: RecordPlace, table: str, events: Events, refused: Sequence[Refused]
    ) -> None:
        """The store has them among its dead letters."""

    def unreadable(self, topic: str, records: Sequence[tuple[RecordPlace, bytes]]) -> None:
        """The transport has them until they are too old."""

    def tend(self) -> None:
        """There is nothing to tell."""


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
    """Moves one lane into one store. It begins with what :class:`~.bridge.Bridge` has asked for."""

    def __init__(
        self, whole: Bridge, feed: LaneFeed, store: Store, *, topic: str, lane: str, owns: Owns
    ) -> None:
        self._whole = whole
        self.feed = feed
        self._topic = topic
        self.lane = lane
        self.cursor = f"{CURSOR}/{lane}"
        self._owns = owns
        self._owed: list[Callable[[], None]] = []
        """What is still to be told of what is stored."""
        self._failed = False
        self.taken_ns = whole.clock.monotonic_ns()
        """When it became this bridge's."""
        self.caught_up = False
        """Whether it was read to its end once."""
        super().__init__(feed, store, {}, self.cursor, whole.observer)
        self.delivered = whole.delivered

    def begin(self) -> None:
        """See :class:`~forebay.services.pump.Pump`; not before the whole has asked the store."""
        if self.lane in self._whole.beginning:
            super().begin()
            self._whole.beginning.discard(self.lane)

    def _look(self) -> StoreState:
        """Return what is stored of this lane."""
        state = self._whole.begun_with or StoreState({}, {})
        positions = {
            name: where
            for name, where in state.positions.items()
            if lane_of_cursor(name) == self.lane
        }
        coverage = {key: stream for key, stream in state.coverage.items() if self._owns(key)}
        return StoreState(positions, coverage)

    def _book_of(self, state: StoreState) -> CoverageBook:  # noqa: ARG002 - it is in the shared one
        return LaneBook(self._channels, self._whole.coverage, self._owns)

    def begin_again(self) -> None:
        """What is stored is recognised by its ids, and no journal has lost anything."""
        self._observe(LaneReadAgain(self.lane))

    def prepare(self) -> bool:
        """See :class:`~forebay.services.pump.Pump`."""
        while self._owed:
            self._owed[0]()
            del self._owed[0]
        prepared = super().prepare()
        self.caught_up |= self.feed.ended_ns is not None
        return prepared

    def plan(self, piece: LanePiece) -> Planned[LanePiece]:
        if piece.unreadable:
            found = [
                (RecordPlace(self.lane, piece.end.log_id, each.offset), each.raw)
                for each in piece.unreadable
            ]
            self._whole.letters.unreadable(self._topic, found)
            self._observe(RecordsUnreadable(self.lane, len(piece.unreadable)))
        self._learn(declared_in(piece.messages))
        projected = self._book.enter(listen(piece.messages))
        positions = {self.cursor: piece.end}
        if not piece.steps:
            return self._planned(piece, projected, positions, piece.end)
        log_id = piece.steps[0].step.log_id
        known = self._positions.get(cursor := journal_cursor(log_id, self.lane))
        ordinary = [whole for whole in piece.steps if not whole.messages[-1].head.repair]
        end = known.seq if known and known.seq else (ordinary or piece.steps)[0].step.begin
        for whole in ordinary:  # repairs are of what was told before, and behind it
            step = whole.step
            if step.begin > end:  # it was in the lane, and is not any more
                projected.losses.append(Loss(end, step.begin - 1))
            if whole.lacking:
                projected.losses.append(Loss(step.begin, step.end - 1))
            end = max(end, step.end)
        positions[cursor] = Position(log_id, end)
        return self._planned(piece, projected, positions, positions[cursor])

    def commit(self, plan: Planned[LanePiece]) -> int:
        begin = self.position
        frames = super().commit(plan)
        self._whole.moved_to(plan.commit.positions)
        if self._failed:
            self._failed = False
            self._whole.letters.settled(self.lane, begin)
        return frames

    def leave_out(self, error: RowsRefused, tries: int) -> bool:
        """Count that rows were refused; return whether they are to be left out at once.

        They are after ``tries`` of them. A store that refuses even then is waited for.
        """
        self._failed = True
        held = self._in_hand
        if held is None or held.plan.commit.without_refused:
            return False
        if self._whole.letters.failed(self.lane, self.position, error) < tries:
            return False
        self._without_refused()
        return True

    def _stored(self, plan: Planned[LanePiece], done: Committed) -> None:
        letters, lane, topic = self._whole.letters, self.lane, self._topic
        end = plan.piece.end
        place = RecordPlace(lane, end.log_id, end.seq)
        for table, refused in done.refused.items():
            self._observe(RowsLeftOut(lane, table, len(refused), refused[0].error))
            events = plan.commit.events[table]
            self._owed.append(
                lambda table=table, events=events, refused=refused: letters.refused(  # type: ignore[misc]
                    topic, place, table, events, refused
                )
            )

    def _tell(self, projected: Projected, log_id: str) -> None:
        """A loss that is recorded is told in every lane, and here once."""
        known = self._whole.losses
        new = [loss for loss in projected.losses if (log_id, loss.first, loss.last) not in known]
        known.extend((log_id, loss.first, loss.last) for loss in new)
        for loss in new:
            self._observe(LossFound(log_id, loss.first, loss.last))
        for key, stream in projected.coverage.items():
            self._tell_gaps(key, stream)

    @property
    def weight(self) -> int:
        """Rows and messages that are read and not stored."""
        held = self._in_hand
        steps = held.piece.steps if held else ()
        return self.feed.weight + sum(whole.weight for whole in steps)

    # --------------------------------------------------------------- what it has nothing of

    def without(self, log_id: str) -> bool:
        """Return whether it was read to its end once, and nothing of a journal is in hand.

        One that is nowhere yet must hold nothing at all: its cursor would be set behind that.
        """
        nowhere = self.position is None and self.feed.holds
        return (
            self.caught_up and self._in_hand is None and not nowhere and not self.feed.has(log_id)
        )

    def say_without(self, log_ids: Iterable[str]) -> None:
        """Store that it was read to its end, with nothing of some journals. Raises as a commit."""
        where = self.position or self.feed.place()
        marks = {journal_cursor(log_id, self.lane): Position(log_id, 0) for log_id in log_ids}
        positions = {self.cursor: where, **marks}
        expected = {name: self._positions.get(name) for name in positions}
        self._store.commit(Commit(positions, expected=expected))
        self._positions |= positions
        self._whole.positions |= positions
        self.position = where

    def _learn(self, channels: Declared) -> None:
        """Take over what venues declare; coverage must be in the units that they do."""
        if any(self._channels.get(venue) != theirs for venue, theirs in channels.items()):
            refuse_other_units(self._book.coverage, channels)
            self._channels |= channels


def lane_of_cursor(name: str) -> str:
    """Return the lane that a cursor is of; nothing if it is of none."""
    if name.startswith(f"{CURSOR}/"):
        return name.removeprefix(f"{CURSOR}/")
    return name.split("/", 2)[2] if name.startswith("journal/") and name.count("/") > 1 else ""


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
