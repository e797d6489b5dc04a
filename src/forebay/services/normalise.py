"""Frames to events with ids, dead letters, control records and high waters: pure, no coverage.

What a frame says does not depend on what was told before it, but for what :class:`OrdinalAssigner`
adds: the ordinals of the class ``content``, which of several equal events each is, and what is
missing of the numbers of a connection. What is made of it by whoever keeps coverage is in
:mod:`forebay.services.projection`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.coverage import StreamKey
from forebay.domain.events import EventColumns, build_events, contents_of, with_ordinals
from forebay.domain.flags import AMBIGUOUS, CLOSED_HOURS
from forebay.domain.frames import (
    EVERY_SYMBOL,
    Context,
    EpochClosed,
    FrameBatch,
    FrameKind,
    decode_control,
)
from forebay.domain.identity import digest_id
from forebay.domain.lines import ConnectionLines
from forebay.domain.ordinals import StreamOrdinals, count_page
from forebay.domain.parsed import DeadLetter, Parsed, Reason, StreamName, UnreadLine
from forebay.ports import KnowsHours
from forebay.services.batches import OUR_OWN
from forebay.services.line_numbers import LineFollower

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    import numpy.typing as npt

    from forebay.domain.frames import Control
    from forebay.domain.intervals import IntervalSet
    from forebay.domain.parsed import CountedMessages
    from forebay.ports import Parser

_UNREADABLE: dict[FrameKind, tuple[Reason, str]] = {
    FrameKind.BINARY: ("binary", "a binary message where text was expected"),
    FrameKind.COMPRESSED: ("compressed", "a compressed message though none was negotiated"),
}
_OF_OTHERS: frozenset[Reason] = frozenset({"unknown_symbol"})
"""Why a frame is dead that is missing of nothing that is wanted."""
_NO_PARSER = "none"
_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

Ordinals = dict[StreamKey, StreamOrdinals | ConnectionLines]
"""By stream its ordinals; of every symbol together, the lines of connections."""
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


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
    events: list[EventColumns] = field(default_factory=list)
    """Their flags are not final yet."""
    known: dict[StreamName, IntervalSet] = field(default_factory=dict)
    """What a venue said exists (heartbeats), by stream."""
    controls: list[Said] = field(default_factory=list)
    letters: pa.Table | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""
    frames: Counter[str] = field(default_factory=Counter)
    """Frames by outcome: ``yielding``, ``control``, ``dead``; control records are not counted."""
    unbuilt: Counter[str] = field(default_factory=Counter)
    counted: list[CountedMessages] = field(default_factory=list)
    """Numbers of the connection."""
    lost: set[int] = field(default_factory=set)
    """Which frames of the batch nothing could be made of, though they may be of what is wanted."""


def normalise(batch: FrameBatch, parsers: Mapping[str, Parser]) -> Normalised:
    """Account for every frame of ``batch``; ids of class ``content`` have no ordinals yet."""
    ends = (int(batch.seqs[0]), int(batch.seqs[-1])) if len(batch) else (0, 0)
    told = Normalised(batch.context, batch.log_id, ends)
    if batch.kind in OUR_OWN:
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
            told.events.append(columns)
            yielding[columns.frames] = True
    told.known = parsed.known
    _bury(batch, parsed.dead, parser.name if parser else _NO_PARSER, told)
    dead = {letter.frame for letter in parsed.dead}
    if dead:
        dead.difference_update(np.flatnonzero(yielding).tolist())
    told.unbuilt, told.counted = parsed.unbuilt, parsed.counted
    told.lost = dead.intersection(
        letter.frame for letter in parsed.dead if letter.reason not in _OF_OTHERS
    )
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


class OrdinalAssigner:
    """The ordinals of all streams as of the last commit; what changes them is held apart.

    So are the numbers of connections, :mod:`forebay.services.line_numbers`.
    """

    def __init__(self, stored: Mapping[StreamKey, bytes]) -> None:
        self._stored: dict[StreamKey, StreamOrdinals] = {}
        self._lines: dict[StreamKey, ConnectionLines] = {}
        self.adopt({key: _remembered(key).decode(raw) for key, raw in stored.items()})

    def changed(self) -> Ordinals:
        """Return the change to begin with: none, or that everything is forgotten."""
        return {key: _remembered(key)() for key in (*self._stored, *self._lines) if self._anew}

    def adopt(self, changed: Ordinals) -> None:
        for key, held in changed.items():
            if isinstance(held, ConnectionLines):
                self._lines[key] = held
            else:
                self._stored[key] = held
        self._anew = False

    def begin_again(self) -> None:
        """Forget everything with the next commit."""
        self._anew = True

    def normalised(
        self, batches: Iterable[FrameBatch], parsers: Mapping[str, Parser], changed: Ordinals
    ) -> Iterator[Normalised]:
        """Return what each of ``batches`` amounts to; its ids are whole."""
        lines = LineFollower(self._lines, changed)
        for batch in batches:
            told = normalise(batch, parsers)
            self._number(batch, told, changed)
            for counted in told.counted:
                lines.add(batch, counted, told.lost)
            for said in told.controls:
                lines.hear(told.context, said.control)
            yield told
        for by, missed in lines.found():
            said = Said(missed, by.received_ns, by.seq)
            yield Normalised(by.context, by.log_id, (by.seq, by.seq), controls=[said])

    def _number(self, batch: FrameBatch, told: Normalised, changed: Ordinals) -> None:
        """Make the ids whole of what ``batch`` was normalised to, and follow its connections."""
        for columns in told.events:
            if columns.channel.identity == "content":
                self.assign(batch, columns, changed)
        for said in told.controls:
            if isinstance(said.control, EpochClosed):
                self.close(told.context, changed)

    def close(self, context: Context, changed: Ordinals) -> None:
        held = {**self._stored, **changed}.items()
        ours = [(k, each) for k, each in held if k.venue == context.venue]
        for key, stream in ours:
            if isinstance(stream, StreamOrdinals) and _epoch(context) in stream.epochs:
                self._stream(key, changed).close(_epoch(context))

    def assign(self, batch: FrameBatch, columns: EventColumns, changed: Ordinals) -> None:
        """Add to the ids of ``columns`` their ordinals, and the flag of those at an edge.

        An answer by REST is an epoch of its own, whatever it was asked for.
        """
        table = columns.table
        ids = table["event_id"].combine_chunks()
        contents = np.array(contents_of(ids), dtype=object)
        event_ns = table["event_ts"].cast(pa.int64()).to_numpy()
        ordinals = np.zeros(len(table), dtype=np.int64)
        for symbol, rows in columns.by_symbol():
            if batch.kind is FrameKind.REST:
                for page in _pages(rows, columns.frames):
                    told = count_page(contents[page].tolist(), event_ns[page].tolist())
                    _note(columns, ordinals, page, *told)
                continue
            key = StreamKey(batch.context.venue, columns.market, columns.kind.channel, symbol)
            moments = event_ns[rows].tolist()
            stream = self._stream(key, changed)
            told = stream.count(_epoch(batch.context), contents[rows].tolist(), moments)
            _note(columns, ordinals, rows, *told)
        columns.table = table.set_column(0, table.field(0), with_ordinals(ids, ordinals.tolist()))

    def _stream(self, key: StreamKey, changed: Ordinals) -> StreamOrdinals:
        held = changed.get(key)
        if not isinstance(held, StreamOrdinals):
            known = self._stored.get(key)
            held = changed[key] = known.copy() if known else StreamOrdinals()
        return held


def _remembered(key: StreamKey) -> type[StreamOrdinals | ConnectionLines]:
    return ConnectionLines if key.symbol == EVERY_SYMBOL else StreamOrdinals


def _epoch(context: Context) -> str:
    """Return what is counted together: one connection of a collector, as told by one replay."""
    return f"{context.collector}|{context.epoch}|{context.run}"


def _note(
    columns: EventColumns,
    ordinals: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    told: Sequence[int],
    at_edge: Sequence[bool],
) -> None:
    ordinals[rows] = told
    if not columns.kind.idempotent:
        columns.flags[rows[np.array(at_edge, dtype=np.bool_)]] |= np.uint8(AMBIGUOUS)


def _pages(
    rows: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]
) -> Iterable[npt.NDArray[np.int64]]:
    """Return the rows of each answer, in arrival order: an answer is one frame."""
    theirs = frames[rows]
    return np.split(rows, np.flatnonzero(theirs[1:] != theirs[:-1]) + 1)


def letter_id(venue: str, received_ns: int, item: int, payload: bytes) -> UUID:
    """Return the same id whenever the same frame of the same moment is projected again."""
    head = f"{venue}|{received_ns}|{item}|".encode()
    return digest_id(hashlib.sha256(head + payload).digest())


def page_rows(page: bytes) -> list[msgspec.Raw]:
    """Return the rows of an answer: of the array that it is, or that it has as a field."""
    with contextlib.suppress(*_NO_JSON):
        return _rows(page)
    with contextlib.suppress(*_NO_JSON):
        for field in _fields(page).values():
            if bytes(field)[:1] == b"[":
                return _rows(field)
    return []


def row_id(
    context: Context, item: int, page: bytes, rows: Sequence[msgspec.Raw] | None = None
) -> UUID:
    """Return the same id whenever the same row of an answer is told, on whatever page and when.

    History is asked for again and again, and so are polls that overlap. Where a page has no such
    row it is the page that cannot be read.
    """
    about = context.venue, context.market, *context.channels, *context.symbols
    rows = page_rows(page) if rows is None else rows
    row = bytes(rows[item]) if item < len(rows) else page
    head = "|".join(about).encode() + b"|row|"
    return digest_id(hashlib.sha256(head + row).digest())


def letter_rows(batch: FrameBatch, letters: Iterable[DeadLetter], parser: str) -> pa.Table:
    """Return rows of :data:`~forebay.domain.schema.DEAD_LETTERS` with the frames' bytes."""
    context = batch.context
    rows = []
    told: dict[int, list[msgspec.Raw]] = {}
    for letter in letters:
        payload, received = batch.payloads[letter.frame], int(batch.received_ns[letter.frame])
        if batch.kind is FrameKind.REST:
            if letter.frame not in told:
                told[letter.frame] = page_rows(payload)
            identity = row_id(context, letter.item, payload, told[letter.frame])
        else:
            identity = letter_id(context.venue, received, letter.item, payload)
        rows.append(
            {
                "letter_id": identity.bytes,
                "venue": context.venue,
                "source": context.source,
                "epoch": context.epoch,
                "log_id": batch.log_id,
                "seq": int(batch.seqs[letter.frame]),
                "item": letter.item,
                "received_ts": received,
                "reason": letter.reason,
                "error": letter.error,
                "parser": parser,
                "attempts": 1,
                "payload": payload,
            }
        )
    return pa.Table.from_pylist(rows, schema=schema.DEAD_LETTERS)
