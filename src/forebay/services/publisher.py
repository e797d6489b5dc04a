"""From the journal to a transport: CAPTURED becomes PUBLISHED, in order.

A :class:`~forebay.services.pump.Pump` whose sink is a transport: what is read is normalised and
numbered, each lane is told its part, and once all is acknowledged ordinals, position and how far
each lane was told are stored together in one file. A kill in between tells the same events again,
with the same ids; whoever reads them recognises that.

A lane that is made anew under its name has lost what was in it. So lanes are remembered by their
identity, and one that has another is told everything from the oldest frame of the journal, while
the others are not told twice.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from forebay.domain.coverage import StreamKey
from forebay.domain.messages import EventsTold, Head, Mark, Message, Step
from forebay.errors import Corrupt, CursorMoved, ForebayError, Permanent, Transient
from forebay.journal import OS_DISK, CursorFile, Disk, Position, StateFile
from forebay.services.batches import batches_of
from forebay.services.lanes import parts_of
from forebay.services.normalise import Normalised, OrdinalAssigner, Ordinals
from forebay.services.projection import declared
from forebay.services.pump import JournalFeed, JournalPiece, Pump
from forebay.telemetry import Observer, PublishRefused, TopicMadeAnew, ignore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal import Block
    from forebay.ports import Parser, Transport
    from forebay.services.lanes import Part

BITE = 2 << 20
"""Bytes of the journal that are told at once: as records they are ten times as much memory."""
LOOK_S = 15.0
"""How often the lanes are looked at: whether they are still those that were told."""
ENDS_S = 60.0
"""How often lanes of which nothing came are told that they have all there is."""


class LaneTold(msgspec.Struct, array_like=True, frozen=True):
    """How far a lane was told."""

    topic: str
    identity: str
    end: int
    """Its last step ended here; 0: it has had none, and its first begins at the oldest frame."""
    all_before: int
    """It has all of its own before this frame: more than ``end`` says if nothing was its own."""


class _State(msgspec.Struct, array_like=True, frozen=True):
    """What a publisher remembers: MessagePack in its state file."""

    log_id: str
    seq: int
    """Everything before it is told to every lane; 0: begin at the oldest frame."""
    ordinals: list[tuple[StreamKey, bytes]]
    lanes: dict[str, LaneTold] = {}


class Stretch(NamedTuple):
    """What a run of frames amounts to, for the lanes that have all before it."""

    begin: int
    end: int
    items: list[Normalised]


@dataclass(slots=True)
class Telling:
    """What is to be published of some blocks."""

    begin: int
    end: Position
    stretches: list[Stretch]
    ordinals: Ordinals
    frames: int
    messages: dict[str, list[Message]] | None = None
    """What is left to publish, by lane; None before the lanes are known."""
    lanes: dict[str, LaneTold] = field(default_factory=dict)
    """How far lanes are told with it."""


class Publisher(Pump[JournalPiece, Telling]):
    """Moves one journal to one transport. Blocking: run it in a thread of its own."""

    _state: _State
    _stored: dict[StreamKey, bytes]
    _ordinals: OrdinalAssigner

    def __init__(
        self,
        journal: Path,
        transport: Transport,
        parsers: Mapping[str, Parser],
        state: StateFile,
        *,
        clock: Clock,
        cursor: CursorFile | None = None,
        observer: Observer = ignore,
        disk: Disk = OS_DISK,
    ) -> None:
        """Nothing is asked of the transport before there is something to tell."""
        self._transport = transport
        self._parsers = parsers
        self._channels = declared(parsers)
        self._file = state
        self._clock = clock
        self._looked_ns: int | None = None
        self._ended_ns = clock.monotonic_ns()
        self._seen: dict[str, dict[str, str]] = {}
        """Of each topic its lanes with their identities, as they were last seen."""
        self.published: Counter[str] = Counter()
        """Events that were acknowledged since the process started, by kind."""
        super().__init__(JournalFeed(journal, cursor, observer, disk, BITE), observer)

    def load(self) -> Position | None:
        self._state = state = _remembered(self._file)
        self._stored = dict(state.ordinals)
        self._ordinals = OrdinalAssigner(self._stored)
        return Position(state.log_id, state.seq) if state.seq else None

    def begin_again(self) -> None:
        super().begin_again()
        self._ordinals.begin_again()

    def step(self) -> int:
        """See :meth:`forebay.services.pump.Pump.step`; lanes are tended when nothing comes."""
        frames = super().step()
        if not frames:
            with contextlib.suppress(CursorMoved):
                self.tend()
            frames = super().step()
        return frames

    @property
    def tending_due(self) -> bool:
        """Whether :meth:`tend` would do something."""
        looked_ns = self._looked_ns
        return looked_ns is None or self._clock.monotonic_ns() - looked_ns >= LOOK_S * 1e9

    def tend(self) -> None:
        """Look at the lanes and tell their ends, although nothing comes; not oftener than needed.

        Raises as :meth:`~forebay.services.pump.Pump.store`. After
        :class:`~forebay.errors.CursorMoved`, for a lane that was made anew, there is.
        """
        try:
            with _waited_out(self._observe):
                self._look()
                self._end_lanes()
        except CursorMoved:
            self.begin_anew()
            raise

    def _end_lanes(self) -> None:
        if self._clock.monotonic_ns() - self._ended_ns >= ENDS_S * 1e9:
            self.tell_ends()

    def plan(self, piece: JournalPiece) -> Telling:
        """Normalise the blocks, apart where a lane that was told them already is to join again."""
        changed = self._ordinals.changed()
        joins = {lane.all_before for lane in self._told(piece.end.log_id).values()}
        joins = {seq for seq in joins if piece.begin < seq < piece.end.seq}
        stretches, begin = [], piece.begin
        for end in [*sorted(joins), piece.end.seq]:
            batches = batches_of(_between(piece.blocks, begin, end))
            items = [*self._ordinals.normalised(batches, self._parsers, changed)]
            stretches.append(Stretch(begin, end, items))
            begin = end
        frames = sum(item.frames.total() for each in stretches for item in each.items)
        return Telling(piece.begin, piece.end, stretches, changed, frames)

    def commit(self, plan: Telling) -> int:
        try:
            with _waited_out(self._observe):
                self._publish(plan)
        except ForebayError:
            self._looked_ns = None
            raise
        stored = self._stored | {key: each.encode() for key, each in plan.ordinals.items()}
        end = plan.end.seq
        lanes = {
            name: LaneTold(
                lane.topic, lane.identity, lane.end or plan.begin, max(lane.all_before, end)
            )
            for name, lane in plan.lanes.items()
        }
        self._remember(_State(plan.end.log_id, end, list(stored.items()), lanes))
        self._stored = stored
        self._ordinals.adopt(plan.ordinals)
        return plan.frames

    def tell_ends(self) -> int:
        """Tell each lane that it has all there is, if its last step ended earlier; return how many.

        Raises as :meth:`~forebay.services.pump.Pump.store`; nothing may be in hand.
        """
        log_id, end = self._state.log_id, self._state.seq
        told: dict[str, LaneTold] = {}
        for name, lane in self._state.lanes.items():
            if 0 < lane.end < end == lane.all_before:
                head = Head(Step(log_id, lane.end, end), 0, Mark(0, {}, {}))
                self._transport.publish(name, [Message(head)])
                told[name] = msgspec.structs.replace(lane, end=end)
        self._ended_ns = self._clock.monotonic_ns()
        if told:
            self._remember(msgspec.structs.replace(self._state, lanes=self._state.lanes | told))
        return len(told)

    # ----------------------------------------------------------------------- lanes

    def _publish(self, plan: Telling) -> None:
        """Tell every lane what it was not told before; raises CursorMoved if one was made anew."""
        self._look()
        if plan.messages is None:
            self._end_lanes()
            plan.messages = self._messages(plan)
            plan.stretches.clear()
        for lane in [*plan.messages]:
            self._transport.publish(lane, plan.messages[lane])
            for head, rows in plan.messages.pop(lane):
                if isinstance(head.told, EventsTold) and rows is not None:
                    self.published[head.told.kind] += len(rows)

    def _messages(self, plan: Telling) -> dict[str, list[Message]]:
        """Return by lane the steps of a plan, and note in it how far they reach."""
        log_id, before = plan.end.log_id, self._told(plan.end.log_id)
        messages: dict[str, list[Message]] = defaultdict(list)
        for begin, end, items in plan.stretches:
            parts: dict[str, list[Part]] = defaultdict(list)
            for item in items:
                for part in parts_of(item, self._channels, self._lanes_of):
                    parts[part.lane].append(part)
            for topic, lanes in self._seen.items():
                for name, identity in lanes.items():
                    if name not in before:
                        before[name] = LaneTold(topic, identity, plan.begin, plan.begin)
            frames = _frames_of(items)
            for name, mine in parts.items():
                lane = plan.lanes.get(name, before[name])
                if lane.all_before > begin:
                    continue
                messages[name] += tell(Step(log_id, lane.end or plan.begin, end), mine, *frames)
                plan.lanes[name] = msgspec.structs.replace(lane, end=end)
                frames = Counter(), Counter()
        plan.lanes = before | plan.lanes
        return messages

    def _told(self, log_id: str) -> dict[str, LaneTold]:
        """Return how far each known lane was told a log."""
        if self._state.log_id == log_id:
            return dict(self._state.lanes)
        lanes = self._state.lanes.items()
        return {name: msgspec.structs.replace(lane, end=0, all_before=0) for name, lane in lanes}

    def _lanes_of(self, topic: str) -> Sequence[str]:
        if topic not in self._seen:
            self._seen[topic] = self._see(topic)
        return list(self._seen[topic])

    def _see(self, topic: str) -> dict[str, str]:
        lanes = self._transport.lanes(topic)
        return {lane: self._transport.identity(lane) for lane in lanes}

    def _look(self) -> None:
        """See whether lanes were made anew, now and then and after every failure.

        Raises :class:`~forebay.errors.CursorMoved` once it is remembered that those have nothing.
        """
        if not self.tending_due:
            return
        told = self._state.lanes
        topics = {lane.topic for lane in told.values()} | self._seen.keys()
        self._seen = {topic: self._see(topic) for topic in sorted(topics)}
        self._looked_ns = self._clock.monotonic_ns()
        anew = {
            topic
            for topic, lanes in self._seen.items()
            if any(lane in told and told[lane].identity != each for lane, each in lanes.items())
        }
        if not anew:
            return
        lanes = {name: lane for name, lane in told.items() if lane.topic not in anew}
        for topic in sorted(anew):
            lanes |= {lane: LaneTold(topic, each, 0, 0) for lane, each in self._seen[topic].items()}
        self._remember(_State(self._state.log_id, 0, [], lanes))
        for topic in sorted(anew):
            self._observe(TopicMadeAnew(topic))
        message = f"Topics were made anew: {', '.join(sorted(anew))}."
        raise CursorMoved(message, hint="What is in the journal is told to them again.")

    def _remember(self, state: _State) -> None:
        self._file.store(msgspec.msgpack.encode(state))
        self._state = state


def _remembered(file: StateFile) -> _State:
    raw = file.load()
    try:
        return msgspec.msgpack.decode(raw, type=_State) if raw else _State("", 0, [])
    except msgspec.DecodeError as error:
        hint = "Move it away: what is in the journal is published again."
        raise Corrupt(f"A publisher's state cannot be read: {error}.", hint=hint) from error


def lanes_told(file: StateFile) -> tuple[str, dict[str, LaneTold]]:
    """Return which log a publisher tells, and how far each lane has been told it.

    Raises as :meth:`Publisher.load`; an empty log if it has told nothing.
    """
    state = _remembered(file)
    return state.log_id, dict(state.lanes)


def tell(
    step: Step, parts: Iterable[Part], frames: Mapping[str, int], unbuilt: Mapping[str, int]
) -> list[Message]:
    """Return the messages of a step of one lane; its last one has the account of the frames."""
    told = [(part.told, part.rows) for part in parts]
    told.append((Mark(len(told), dict(frames), dict(unbuilt)), None))
    return [Message(Head(step, place, each), rows) for place, (each, rows) in enumerate(told)]


@contextlib.contextmanager
def _waited_out(observer: Observer) -> Iterator[None]:
    """Make what a transport refuses something to wait out: somebody may come to allow it."""
    try:
        yield
    except Permanent as error:
        observer(PublishRefused(str(error)))
        raise Transient(error.message, hint=error.hint) from error


def _frames_of(items: Iterable[Normalised]) -> tuple[Counter[str], Counter[str]]:
    """Return how frames ended, and those of message types that are not built yet."""
    frames, unbuilt = Counter[str](), Counter[str]()
    for item in items:
        frames.update(item.frames)
        unbuilt.update(item.unbuilt)
    return frames, unbuilt


def _between(blocks: Iterable[Block], begin: int, end: int) -> Iterator[Block]:
    """Return what of some blocks is from ``begin`` up to ``end``, which is not included."""
    for block in blocks:
        first = max(0, begin - block.first_seq)
        part = block.part(first, max(first, end - block.first_seq))
        if len(part.payloads):
            yield part
