"""Frames to rows and coverage: a pure projection that can be repeated over any journal part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from forebay.domain.coverage import COVERAGES, Arrival, StreamKey
from forebay.domain.events import EventColumns, build_events
from forebay.domain.flags import FLAGS, OUT_OF_ORDER
from forebay.domain.frames import (
    Context,
    EpochAccepted,
    EpochClosed,
    FillFinished,
    FrameBatch,
    FrameKind,
    Loss,
    decode_control,
)
from forebay.domain.letters import letter_rows
from forebay.domain.parsed import DeadLetter, Parsed, Reason
from forebay.errors import Corrupt
from forebay.payloads import Payloads
from forebay.ports import Events
from forebay.services.ordinals import OrdinalAssigner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from forebay.domain.channels import Channel, Unit
    from forebay.domain.coverage import Coverage
    from forebay.domain.frames import Control
    from forebay.domain.ordinals import StreamOrdinals
    from forebay.journal import Block
    from forebay.ports import Parser

_UNREADABLE: dict[FrameKind, tuple[Reason, str]] = {
    FrameKind.BINARY: ("binary", "a binary message where text was expected"),
    FrameKind.COMPRESSED: ("compressed", "a compressed message though none was negotiated"),
}
_NO_PARSER = "none"


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


_NOWHERE = Context(venue="", source="file", purpose="recording", collector="journal", epoch="")
_KINDS = frozenset(FrameKind)


def _context(raw: bytes, kind: int) -> Context:
    """Whence frames are; one that cannot be read must not stop what comes behind it."""
    if kind == FrameKind.LOSS:
        return _NOWHERE
    try:
        return Context.decode(raw)
    except Corrupt:
        return _NOWHERE


@dataclass(slots=True)
class Projected:
    """What a run of frames amounts to."""

    events: dict[str, list[Events]] = field(default_factory=dict)
    """By table, in the order of the journal."""
    letters: list[pa.Table] = field(default_factory=list)
    coverage: dict[StreamKey, Coverage] = field(default_factory=dict)
    """Whole new coverage of each stream that changed."""
    ordinals: dict[StreamKey, StreamOrdinals] = field(default_factory=dict)
    """Whole new ordinals of each stream that changed."""
    frames: Counter[str] = field(default_factory=Counter)
    """Frames by outcome: ``yielding``, ``control``, ``dead``; they add up to all frames."""
    unbuilt: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""
    flagged: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    """How many new events have each flag."""
    losses: list[Loss] = field(default_factory=list)

    def tables(self) -> dict[str, Events]:
        """Return the events of each table that has some."""
        return {
            table: parts[0]
            if len(parts) == 1
            else Events(
                pa.concat_tables([part.rows for part in parts]),
                np.concatenate([part.seen_before for part in parts]),
                np.concatenate([part.vouched_new for part in parts]),
            )
            for table, parts in self.events.items()
        }

    def letter_rows(self) -> pa.Table | None:
        """Return all dead letters, None when there is none."""
        return pa.concat_tables(self.letters) if self.letters else None


class Projection:
    """Projects frames on top of the coverage so far; nothing changes until :meth:`adopt`."""

    def __init__(
        self,
        parsers: Mapping[str, Parser],
        coverage: Mapping[StreamKey, Coverage],
        ordinals: Mapping[StreamKey, bytes] = MappingProxyType({}),
    ) -> None:
        self._parsers = parsers
        self.coverage = dict(coverage)
        self._ordinals = OrdinalAssigner(ordinals)

    def project(self, batches: Iterable[FrameBatch]) -> Projected:
        """Return rows, dead letters and new coverage of ``batches``."""
        out = Projected(ordinals=self._ordinals.changed())
        for batch in batches:
            if batch.kind is FrameKind.LOSS or batch.kind is FrameKind.CONTROL:
                self._controls(batch, out)
            else:
                self._frames(batch, out)
        _in_journal_order(out)
        return out

    def adopt(self, projected: Projected) -> None:
        """Take over the coverage and ordinals of what has been stored."""
        self.coverage.update(projected.coverage)
        self._ordinals.adopt(projected.ordinals)

    def begin_again(self) -> None:
        """Count ordinals from 0: frames that were counted will be read once more."""
        self._ordinals.begin_again()

    def _stream(self, key: StreamKey, unit: Unit, out: Projected) -> Coverage:
        if (changed := out.coverage.get(key)) is not None:
            return changed
        known = self.coverage.get(key)
        # A venue whose declaration has changed counts anew.
        if known is None or known.unit != unit:
            out.coverage[key] = fresh = COVERAGES[unit]()
            return fresh
        out.coverage[key] = copy = known.copy()
        return copy

    # ---------------------------------------------------------------- controls

    def _controls(self, batch: FrameBatch, out: Projected) -> None:
        letters = []
        for index, payload in enumerate(batch.payloads):
            try:
                control = decode_control(payload)
            except msgspec.DecodeError as error:
                letters.append(DeadLetter(index, 0, "unknown_control", str(error)))
                continue
            self._control(batch.context, control, int(batch.received_ns[index]), out)
        _bury(batch, letters, _NO_PARSER, out)

    def _control(self, context: Context, control: Control, now_ns: int, out: Projected) -> None:
        if isinstance(control, FillFinished):
            key = StreamKey(context.venue, control.market, control.channel, control.symbol)
            unit = self._declared(context.venue, control.channel)
            in_ids = control.unit == "id"
            if (unit == "id") is in_ids and (control.absent or not in_ids):
                ends = control.first, control.last
                self._stream(key, unit, out).finished(*ends, control.absent)
        elif isinstance(control, EpochAccepted):
            for key, unit in self._carried(context):
                if not control.streams or (key.channel, key.symbol) in control.streams:
                    self._stream(key, unit, out).opened(context.epoch, now_ns)
        elif isinstance(control, EpochClosed):
            self._ordinals.close(context, out.ordinals)
            silent_ns = control.silent_ns
            last_ns = None if silent_ns is None else now_ns - silent_ns
            spoke = [
                (key, held.unit)
                for key, held in {**self.coverage, **out.coverage}.items()
                if key.venue == context.venue
                and held.unit in _HEARD
                and context.epoch in held.epochs
            ]
            for key, unit in {*self._carried(context), *spoke}:
                self._stream(key, unit, out).closed(context.epoch, last_ns)
        elif isinstance(control, Loss):
            out.losses.append(control)

    def _carried(self, context: Context) -> Iterator[tuple[StreamKey, Unit]]:
        """Return the streams of a live connection that count when it was heard."""
        parser = self._parsers.get(context.venue)
        if parser is None or context.purpose != "live" or context.partial:
            return
        for name, channel in parser.channels.items():
            if channel.unit in _HEARD and name in (context.channels or parser.channels):
                for symbol in context.symbols:
                    yield StreamKey(context.venue, context.market, name, symbol), channel.unit

    def _declared(self, venue: str, channel: str) -> Unit:
        parser = self._parsers.get(venue)
        declared = parser.channels.get(channel) if parser else None
        return declared.unit if declared else "none"

    # ------------------------------------------------------------------ frames

    def _frames(self, batch: FrameBatch, out: Projected) -> None:
        parser = self._parsers.get(batch.context.venue)
        if batch.kind in _UNREADABLE:
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
                self._events(batch, columns, out, own_sequence=raw.sequence is not None)
                yielding[columns.frames] = True
        self._know(batch, parsed, out)
        _bury(batch, parsed.dead, parser.name if parser else _NO_PARSER, out)
        dead = {letter.frame for letter in parsed.dead}
        if dead:
            dead.difference_update(np.flatnonzero(yielding).tolist())
        out.unbuilt.update(parsed.unbuilt)
        out.frames.update(yielding=int(yielding.sum()), control=parsed.control, dead=len(dead))

    def _events(
        self, batch: FrameBatch, columns: EventColumns, out: Projected, *, own_sequence: bool
    ) -> None:
        """Number and cover what arrived, and take its rows.

        ``own_sequence``: coverage counts other numbers than those in the events' ids.
        """
        channel, context = columns.channel, batch.context
        if channel.identity == "content":
            self._ordinals.assign(batch, columns, out.ordinals)
        seen_before = np.zeros(len(columns.numbers), dtype=np.bool_)
        live = context.purpose != "history" and not context.partial
        for symbol, rows in columns.by_symbol():
            key = StreamKey(context.venue, columns.market, columns.kind.channel, symbol)
            arrival = Arrival(context.epoch, live, columns.numbers[rows], columns.received_ns[rows])
            seen = self._stream(key, channel.unit, out).see(arrival)
            seen_before[rows] = seen.before
            if seen.out_of_order.any():
                columns.flags[rows[seen.out_of_order]] |= np.uint8(OUT_OF_ORDER)
        knows = channel.unit == "id" or _counts_ids(channel, context, own_sequence=own_sequence)
        if not knows:  # that a number was seen does not say that the event was
            seen_before[:] = False
        events = Events(columns.finish(), seen_before, ~seen_before & knows)
        out.events.setdefault(columns.kind.table, []).append(events)
        _count_flags(columns.flags[~seen_before], out)

    def _know(self, batch: FrameBatch, parsed: Parsed, out: Projected) -> None:
        if batch.context.partial:
            return
        for (market, channel, symbol), known in parsed.known.items():
            key = StreamKey(batch.context.venue, market, channel, symbol)
            unit = self._declared(batch.context.venue, channel)
            self._stream(key, unit, out).know(batch.context.epoch, *known)


_HEARD = ("time", "seq")
"""Units that count when a connection was heard, even if it said nothing."""


def _counts_ids(channel: Channel, context: Context, *, own_sequence: bool) -> bool:
    """Return whether coverage by numbers of a connection knows which of its events are new.

    A recording may have been told before without its numbers, when it was filtered.
    """
    counts = channel.unit == "seq" and channel.identity == "session" and not own_sequence
    return counts and context.purpose == "live" and not context.partial


def _in_journal_order(out: Projected) -> None:
    """Undo what grouping frames by context did to the order of events.

    Of two versions of one event, the one that was received first is then stored.
    """
    for table, whole in out.tables().items():
        if len(out.events[table]) > 1:
            logs = whole.rows["log_id"].unify_dictionaries().combine_chunks()
            logs = logs.chunk(0) if isinstance(logs, pa.ChunkedArray) else logs
            keys = whole.rows["seq"].to_numpy(), logs.indices.to_numpy()
            order = np.lexsort(keys)  # stable: items of a frame stay in order
            masks = (mask[order] for mask in whole[1:])
            out.events[table] = [Events(whole.rows.take(pa.array(order)), *masks)]


def _all_dead(batch: FrameBatch, reason: Reason, error: str) -> Parsed:
    return Parsed(dead=[DeadLetter(index, 0, reason, error) for index in range(len(batch))])


def _bury(batch: FrameBatch, letters: Sequence[DeadLetter], parser: str, out: Projected) -> None:
    if letters:
        out.letters.append(letter_rows(batch, letters, parser))
        out.reasons.update(letter.reason for letter in letters)


def _count_flags(flags: npt.NDArray[np.uint8], out: Projected) -> None:
    """Count the bits of new events; shape (n,)."""
    flagged = flags[flags != 0]
    out.flagged += len(flagged)
    if len(flagged):
        bits = np.unpackbits(flagged[:, None], axis=1, bitorder="little").sum(axis=0)
        out.flags.update({name: int(n) for name, n in zip(FLAGS, bits, strict=False) if n})
