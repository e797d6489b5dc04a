"""From the journal to a transport: CAPTURED becomes PUBLISHED, in order.

A :class:`~forebay.services.pump.Pump` whose sink is a transport: what is read is normalised and
numbered, its messages are published, and once they are acknowledged ordinals and position are
stored together in one file. A kill between the two tells the same events again, with the same
ids; whoever reads them recognises that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.coverage import StreamKey
from forebay.domain.messages import (
    ControlTold,
    EventsTold,
    FrameOrigin,
    Head,
    HighWater,
    KnownTold,
    LettersTold,
    Mark,
    Message,
    Step,
    Told,
)
from forebay.errors import Corrupt
from forebay.journal import OS_DISK, CursorFile, Disk, Position, StateFile
from forebay.services.normalise import Normalised, OrdinalAssigner, Ordinals, batches_of
from forebay.services.projection import Declared, declared
from forebay.services.pump import JournalFeed, JournalPiece, Pump
from forebay.telemetry import Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from forebay.ports import Parser, Transport

TOPIC = "events"
"""Where events go, with all that belongs to them."""


class _State(msgspec.Struct, array_like=True):
    """What a publisher remembers: MessagePack in its state file."""

    log_id: str
    seq: int
    ordinals: list[tuple[StreamKey, bytes]]


@dataclass(slots=True)
class Telling:
    """What is to be published of some blocks."""

    end: Position
    messages: list[Message]
    ordinals: Ordinals
    frames: int
    acknowledged: bool = False


class Publisher(Pump[JournalPiece, Telling]):
    """Moves one journal to one transport. Blocking: run it in a thread of its own."""

    _stored: dict[StreamKey, bytes]
    _ordinals: OrdinalAssigner

    def __init__(
        self,
        journal: Path,
        transport: Transport,
        parsers: Mapping[str, Parser],
        state: StateFile,
        *,
        topic: str = TOPIC,
        cursor: CursorFile | None = None,
        observer: Observer = ignore,
        disk: Disk = OS_DISK,
    ) -> None:
        self._transport = transport
        self._parsers = parsers
        self._state = state
        self._topic = topic
        super().__init__(JournalFeed(journal, cursor, observer, disk), observer)

    def load(self) -> Position | None:
        raw = self._state.load()
        try:
            state = msgspec.msgpack.decode(raw, type=_State) if raw else None
        except msgspec.DecodeError as error:
            hint = "Move it away: what is in the journal is published again."
            raise Corrupt(f"A publisher's state cannot be read: {error}.", hint=hint) from error
        self._stored = dict(state.ordinals) if state else {}
        self._ordinals = OrdinalAssigner(self._stored)
        return Position(state.log_id, state.seq) if state else None

    def begin_again(self) -> None:
        super().begin_again()
        self._ordinals.begin_again()

    def plan(self, piece: JournalPiece) -> Telling:
        changed = self._ordinals.changed()
        items = [*self._ordinals.normalised(batches_of(piece.blocks), self._parsers, changed)]
        step = Step(piece.end.log_id, piece.begin, piece.end.seq)
        frames = sum(item.frames.total() for item in items)
        return Telling(piece.end, tell(step, items, declared(self._parsers)), changed, frames)

    def commit(self, plan: Telling) -> int:
        if not plan.acknowledged:
            self._transport.publish(self._topic, plan.messages)
            plan.acknowledged = True
        stored = self._stored | {key: each.encode() for key, each in plan.ordinals.items()}
        state = _State(plan.end.log_id, plan.end.seq, list(stored.items()))
        self._state.store(msgspec.msgpack.encode(state))
        self._stored = stored
        self._ordinals.adopt(plan.ordinals)
        return plan.frames


def tell(step: Step, items: Iterable[Normalised], channels: Declared) -> list[Message]:
    """Return the messages of a step; ids of its events are whole."""
    frames: Counter[str] = Counter()
    unbuilt: Counter[str] = Counter()
    parts: list[tuple[Told, pa.Table | None]] = []
    for item in items:
        parts += _parts(item, channels)
        frames.update(item.frames)
        unbuilt.update(item.unbuilt)
    parts.append((Mark(len(parts), dict(frames), dict(unbuilt)), None))
    return [Message(Head(step, part, told), rows) for part, (told, rows) in enumerate(parts)]


def _parts(item: Normalised, channels: Declared) -> Iterator[tuple[Told, pa.Table | None]]:
    # What was asked of a venue, and where, may hold a secret and matters to nobody behind.
    context = msgspec.structs.replace(item.context, url="", request="")
    origin = FrameOrigin(context, dict(channels.get(context.venue, {})))
    for columns in item.events:
        kind = columns.kind.channel
        yield EventsTold(origin, kind, columns.own_sequence), columns.finish()
    if item.known:
        streams = [HighWater(*name, *near) for name, known in item.known.items() for near in known]
        yield KnownTold(origin, *item.seqs, streams), None
    for said in item.controls:
        yield ControlTold(origin, *said), None
    if item.letters is not None:
        yield LettersTold(), item.letters
