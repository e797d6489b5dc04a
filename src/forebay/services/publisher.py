"""From the journal to a transport: CAPTURED becomes PUBLISHED, in order.

A :class:`~forebay.services.pump.Pump` whose sink is a transport: what is read is normalised and
numbered, its messages are published, and once they are acknowledged ordinals and position are
stored together in one file. A kill between the two tells the same events again, with the same
ids; whoever reads them recognises that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.coverage import StreamKey
from forebay.domain.messages import Step
from forebay.errors import Corrupt
from forebay.journal import OS_DISK, Position
from forebay.services.coverage_book import declared
from forebay.services.deliver import save_cursor
from forebay.services.normalise import batches_of, normalise
from forebay.services.ordinals import OrdinalAssigner
from forebay.services.pump import JournalFeed, JournalPiece, Pump
from forebay.services.telling import tell
from forebay.telemetry import Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from forebay.domain.frames import FrameBatch
    from forebay.domain.messages import Message
    from forebay.domain.ordinals import StreamOrdinals
    from forebay.journal import CursorFile, Disk, StateFile
    from forebay.ports import Parser, Transport
    from forebay.services.normalise import Normalised

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

    piece: JournalPiece
    messages: list[Message]
    ordinals: dict[StreamKey, StreamOrdinals]
    frames: int
    acknowledged: bool = False


class TransportSink:
    """A transport as it takes a journal; see :class:`~forebay.services.pump.Sink`."""

    def __init__(
        self,
        transport: Transport,
        parsers: Mapping[str, Parser],
        state: StateFile,
        *,
        topic: str,
        cursor: CursorFile | None,
        observer: Observer,
    ) -> None:
        self._transport = transport
        self._parsers = parsers
        self._channels = declared(parsers)
        self._state = state
        self._topic = topic
        self._cursor = cursor
        self._observe = observer
        self._stored: dict[StreamKey, bytes] = {}
        self._ordinals = OrdinalAssigner({})

    def load(self) -> Position | None:
        """See :class:`~forebay.services.pump.Sink`."""
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
        """See :class:`~forebay.services.pump.Sink`."""
        self._ordinals.begin_again()

    def plan(self, piece: JournalPiece) -> Telling:
        """See :class:`~forebay.services.pump.Sink`."""
        changed = self._ordinals.changed()
        batches = batches_of(piece.blocks)
        items = list(self._numbered(batches, changed))
        step = Step(piece.end.log_id, piece.begin, piece.end.seq)
        frames = sum(item.frames.total() for item in items)
        return Telling(piece, tell(step, items, self._channels), changed, frames)

    def _numbered(
        self, batches: list[FrameBatch], changed: dict[StreamKey, StreamOrdinals]
    ) -> Iterator[Normalised]:
        for batch in batches:
            told = normalise(batch, self._parsers)
            self._ordinals.number(batch, told, changed)
            yield told

    def commit(self, plan: Telling) -> int:
        """See :class:`~forebay.services.pump.Sink`."""
        if not plan.acknowledged:
            self._transport.publish(self._topic, plan.messages)
            plan.acknowledged = True
        stored = self._stored | {key: each.encode() for key, each in plan.ordinals.items()}
        end = plan.piece.end
        state = _State(end.log_id, end.seq, list(stored.items()))
        self._state.store(msgspec.msgpack.encode(state))
        self._stored = stored
        self._ordinals.adopt(plan.ordinals)
        save_cursor(self._cursor, end, self._observe)
        return plan.frames


class Publisher(Pump[JournalPiece, Telling]):
    """Moves one journal to one transport. Blocking: run it in a thread of its own."""

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
        """Go on where ``state`` says that the transport has got to."""
        sink = TransportSink(
            transport, parsers, state, topic=topic, cursor=cursor, observer=observer
        )
        super().__init__(JournalFeed(journal, disk=disk), sink, observer=observer)
