"""What was normalised as messages, and back: the two ends of a transport."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.events import EventColumns
from forebay.domain.frames import Context
from forebay.domain.intervals import FAR, IntervalSet
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
)
from forebay.services.normalise import Arrived, Normalised, Said

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from forebay.domain.messages import Step, Told
    from forebay.domain.parsed import StreamName
    from forebay.services.coverage_book import Declared

_NOWHERE = Context(venue="", source="file", purpose="recording", collector="", epoch="")


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
    for columns, own_sequence in item.events:
        kind = columns.kind.channel
        yield EventsTold(origin, kind, own_sequence), columns.finish()
    if item.known:
        streams = [HighWater(*name, *near) for name, known in item.known.items() for near in known]
        yield KnownTold(origin, *item.seqs, streams), None
    for said in item.controls:
        yield ControlTold(origin, *said), None
    if item.letters is not None:
        yield LettersTold(), item.letters


def listen(messages: Iterable[Message]) -> Iterator[Normalised]:
    """Return what the messages of a step amount to, in their order."""
    for head, rows in messages:
        told, log_id = head.told, head.step.log_id
        if isinstance(told, EventsTold):
            columns = EventColumns.of_rows(told.origin.channels[told.kind], rows)
            events = [Arrived(columns, told.own_sequence)]
            yield Normalised(told.origin.context, log_id, events=events)
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
