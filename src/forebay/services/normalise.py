"""Frames to events with ids, dead letters, control records and high waters: pure, no coverage.

What a frame says does not depend on what was told before it, but for the ordinals of the class
``content``, which :class:`~forebay.services.ordinals.OrdinalAssigner` adds. What is made of it
by whoever keeps coverage is in :mod:`forebay.services.coverage_book`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from forebay.domain.dead_letters import letter_rows
from forebay.domain.events import EventColumns, build_events
from forebay.domain.flags import CLOSED_HOURS
from forebay.domain.frames import Context, FrameBatch, FrameKind, decode_control
from forebay.domain.parsed import DeadLetter, Parsed, Reason, UnreadLine
from forebay.errors import Corrupt
from forebay.payloads import Payloads
from forebay.ports import KnowsHours

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from forebay.domain.frames import Control
    from forebay.domain.intervals import IntervalSet
    from forebay.domain.parsed import StreamName
    from forebay.journal import Block
    from forebay.ports import Parser

_UNREADABLE: dict[FrameKind, tuple[Reason, str]] = {
    FrameKind.BINARY: ("binary", "a binary message where text was expected"),
    FrameKind.COMPRESSED: ("compressed", "a compressed message though none was negotiated"),
}
_NO_PARSER = "none"
_NOWHERE = Context(venue="", source="file", purpose="recording", collector="journal", epoch="")
_KINDS = frozenset(FrameKind)
_OUR_OWN = (FrameKind.CONTROL, FrameKind.LOSS)


class Arrived(NamedTuple):
    """Events of one channel and market, whose flags are not final yet."""

    columns: EventColumns
    own_sequence: bool
    """Whether coverage counts other numbers than those in the events' ids."""


class Said(NamedTuple):
    """A control record, and where it is."""

    control: Control
    received_ns: int
    seq: int


@dataclass(slots=True)
class Normalised:
    """What the frames of one context and kind amount to, whatever was told before."""

    context: Context
    log_id: str
    seqs: tuple[int, int] = (0, 0)
    """First and last journal sequence number of the frames."""
    events: list[Arrived] = field(default_factory=list)
    known: dict[StreamName, IntervalSet] = field(default_factory=dict)
    """What a venue said exists (heartbeats), by stream."""
    controls: list[Said] = field(default_factory=list)
    letters: pa.Table | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""
    frames: Counter[str] = field(default_factory=Counter)
    """Frames by outcome: ``yielding``, ``control``, ``dead``; control records are not counted."""
    unbuilt: Counter[str] = field(default_factory=Counter)


def batches_of(blocks: Iterable[Block]) -> list[FrameBatch]:
    """Join blocks of the same context and kind; control records come after what they follow."""
    groups: dict[tuple[bytes, int, str], list[Block]] = {}
    for block in blocks:
        groups.setdefault((block.context, block.kind, block.log_id), []).append(block)
    batches = [
        FrameBatch(
            context=_context(context, kind),
            kind=FrameKind(kind) if kind in _KINDS else FrameKind.BINARY,
            payloads=Payloads.joined([block.payloads for block in group]),
            received_ns=np.concatenate([block.received_ns for block in group]),
            log_id=log_id,
            seqs=np.concatenate(
                [block.first_seq + np.arange(len(block.payloads)) for block in group]
            ),
        )
        for (context, kind, log_id), group in groups.items()
    ]
    return sorted(batches, key=lambda batch: batch.kind >= FrameKind.CONTROL)


def _context(raw: bytes, kind: int) -> Context:
    """Whence frames are; one that cannot be read must not stop what comes behind it."""
    if kind == FrameKind.LOSS:
        return _NOWHERE
    try:
        return Context.decode(raw)
    except Corrupt:
        return _NOWHERE


def normalise(batch: FrameBatch, parsers: Mapping[str, Parser]) -> Normalised:
    """Account for every frame of ``batch``; ids of class ``content`` have no ordinals yet."""
    ends = (int(batch.seqs[0]), int(batch.seqs[-1])) if len(batch) else (0, 0)
    told = Normalised(batch.context, batch.log_id, ends)
    if batch.kind in _OUR_OWN:
        _controls(batch, told)
    else:
        _frames(batch, parsers.get(batch.context.venue), told)
    return told


def _controls(batch: FrameBatch, told: Normalised) -> None:
    letters = []
    for index, payload in enumerate(batch.payloads):
        try:
            control = decode_control(payload)
        except msgspec.DecodeError as error:
            letters.append(DeadLetter(index, 0, "unknown_control", str(error)))
            continue
        place = int(batch.received_ns[index]), int(batch.seqs[index])
        told.controls.append(Said(control, *place))
    _bury(batch, letters, _NO_PARSER, told)


def _frames(batch: FrameBatch, parser: Parser | None, told: Normalised) -> None:
    if batch.kind is FrameKind.UNREAD:
        read = [UnreadLine.letter(*each) for each in enumerate(batch.payloads)]
        batch = replace(batch, payloads=[line for _, line in read])
        parsed, parser = Parsed(dead=[letter for letter, _ in read]), None
    elif batch.kind in _UNREADABLE:
        parsed = _all_dead(batch, *_UNREADABLE[batch.kind])
    elif parser is None:
        parsed = _all_dead(batch, "unknown_venue", f"no parser for {batch.context.venue!r}")
    else:
        parsed = parser.parse(batch)
    yielding = np.zeros(len(batch), dtype=np.bool_)
    for raw in parsed.events:
        columns, refused = build_events(raw, batch)
        parsed.dead.extend(refused)
        if len(columns.numbers):
            _flag_closed_hours(columns, parser)
            told.events.append(Arrived(columns, raw.sequence is not None))
            yielding[columns.frames] = True
    told.known = parsed.known
    _bury(batch, parsed.dead, parser.name if parser else _NO_PARSER, told)
    dead = {letter.frame for letter in parsed.dead}
    if dead:
        dead.difference_update(np.flatnonzero(yielding).tolist())
    told.unbuilt = parsed.unbuilt
    told.frames.update(yielding=int(yielding.sum()), control=parsed.control, dead=len(dead))


def _flag_closed_hours(columns: EventColumns, parser: object) -> None:
    fills = columns.kind.fills_closed_hours
    if fills is not None and isinstance(parser, KnowsHours):
        calendar = parser.calendars.get(columns.market)
        if calendar is not None:
            columns.flags |= fills(columns.table, calendar) * np.uint8(CLOSED_HOURS)


def _all_dead(batch: FrameBatch, reason: Reason, error: str) -> Parsed:
    return Parsed(dead=[DeadLetter(index, 0, reason, error) for index in range(len(batch))])


def _bury(batch: FrameBatch, letters: list[DeadLetter], parser: str, told: Normalised) -> None:
    if letters:
        told.letters = letter_rows(batch, letters, parser)
        told.reasons.update(letter.reason for letter in letters)
