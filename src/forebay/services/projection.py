"""Frames to rows and coverage: a pure projection that can be repeated over any journal part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from forebay.domain.coverage import StreamCoverage, StreamKey
from forebay.domain.flags import FLAGS
from forebay.domain.frames import (
    Context,
    EpochClosed,
    FillFinished,
    FrameBatch,
    FrameKind,
    Loss,
    decode_control,
)
from forebay.domain.letters import letter_rows
from forebay.domain.parsed import DeadLetter, Parsed, Reason
from forebay.domain.trades import OUT_OF_ORDER, TradeColumns, build_trades
from forebay.errors import Corrupt
from forebay.payloads import Payloads
from forebay.services.numbering import Numbering, by_symbol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from forebay.domain.identity import IdentityClass
    from forebay.domain.intervals import IntervalSet
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


_NOWHERE = Context(venue="", source="file", collector="journal", epoch="")
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

    trades: list[pa.Table] = field(default_factory=list)
    covered: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    """Of each trade, whether coverage had its id before."""
    places: list[tuple[str, npt.NDArray[np.int64]]] = field(default_factory=list)
    """Until they are in the journal's order: of each table of ``trades``, the log and the
    sequence numbers of its rows' frames."""
    letters: list[pa.Table] = field(default_factory=list)
    coverage: dict[StreamKey, StreamCoverage] = field(default_factory=dict)
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

    def trade_rows(self) -> pa.Table | None:
        """All trades in the order of the journal, None when there is none."""
        return pa.concat_tables(self.trades) if self.trades else None

    def letter_rows(self) -> pa.Table | None:
        """All dead letters, None when there is none."""
        return pa.concat_tables(self.letters) if self.letters else None


class Projection:
    """Projects frames on top of the coverage so far; nothing changes until :meth:`adopt`."""

    def __init__(
        self,
        parsers: Mapping[str, Parser],
        coverage: Mapping[StreamKey, StreamCoverage],
        ordinals: Mapping[StreamKey, bytes] = MappingProxyType({}),
    ) -> None:
        self._parsers = parsers
        self.coverage = dict(coverage)
        self._numbering = Numbering(ordinals)

    def project(self, batches: Iterable[FrameBatch]) -> Projected:
        """Answer rows, dead letters and new coverage of ``batches``."""
        out = Projected(ordinals=self._numbering.changed())
        for batch in batches:
            if batch.kind is FrameKind.LOSS or batch.kind is FrameKind.CONTROL:
                self._control(batch, out)
            else:
                self._frames(batch, out)
        _in_journal_order(out)
        return out

    def adopt(self, projected: Projected) -> None:
        """Take over the coverage and ordinals of what has been stored."""
        self.coverage.update(projected.coverage)
        self._numbering.adopt(projected.ordinals)

    def begin_again(self) -> None:
        """Count ordinals from 0: frames that were counted will be read once more."""
        self._numbering.begin_again()

    def _stream(self, key: StreamKey, out: Projected) -> StreamCoverage:
        if (changed := out.coverage.get(key)) is not None:
            return changed
        known = self.coverage.get(key)
        out.coverage[key] = copy = known.copy() if known else StreamCoverage()
        return copy

    def _control(self, batch: FrameBatch, out: Projected) -> None:
        letters = []
        for index, payload in enumerate(batch.payloads):
            try:
                control = decode_control(payload)
            except msgspec.DecodeError as error:
                letters.append(DeadLetter(index, 0, "unknown_control", str(error)))
                continue
            if isinstance(control, FillFinished):
                key = StreamKey(batch.context.venue, control.channel, control.symbol)
                for first, last in control.absent:
                    self._stream(key, out).miss(first, last)
            elif isinstance(control, EpochClosed):
                self._numbering.close(batch.context, out.ordinals)
            elif isinstance(control, Loss):
                out.losses.append(control)
        _bury(batch, letters, _NO_PARSER, out)

    def _frames(self, batch: FrameBatch, out: Projected) -> None:
        parser = self._parsers.get(batch.context.venue)
        if batch.kind in _UNREADABLE:
            parsed = _all_dead(batch, *_UNREADABLE[batch.kind])
        elif parser is None:
            parsed = _all_dead(batch, "unknown_venue", f"no parser for {batch.context.venue!r}")
        else:
            parsed = parser.parse(batch)
        yielding: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        if len(parsed.trades):
            columns, refused = build_trades(parsed.trades, batch)
            parsed.dead.extend(refused)
            self._trades(batch, parsed.trades.identity, columns, out)
            yielding = columns.frames[_begins(columns.frames)]
        self._know(batch, parsed, out)
        _bury(batch, parsed.dead, parser.name if parser else _NO_PARSER, out)
        dead = {letter.frame for letter in parsed.dead}
        if dead:
            dead.difference_update(yielding.tolist())
        out.unbuilt.update(parsed.unbuilt)
        out.frames.update(yielding=len(yielding), control=parsed.control, dead=len(dead))

    def _trades(
        self, batch: FrameBatch, identity: IdentityClass, columns: TradeColumns, out: Projected
    ) -> None:
        """Number or cover what arrived, and take its rows."""
        covered = np.zeros(len(columns.ids), dtype=np.bool_)
        if identity == "content":
            self._numbering.number(batch, columns, out.ordinals)
        elif identity == "native":
            for symbol, rows in by_symbol(columns):
                key = StreamKey(batch.context.venue, "trade", symbol)
                self._cover(self._stream(key, out), batch.context, columns, rows, covered)
        if len(columns.ids):
            out.trades.append(columns.finish())
            out.covered.append(covered)
            _count_flags(columns.flags[~covered], out)
            out.places.append((batch.log_id, batch.seqs[columns.frames]))

    def _cover(
        self,
        coverage: StreamCoverage,
        context: Context,
        columns: TradeColumns,
        rows: npt.NDArray[np.int64],
        covered: npt.NDArray[np.bool_],
    ) -> None:
        ids = columns.ids[rows]
        rising = bool((ids[1:] >= ids[:-1]).all())
        runs = _runs(ids if rising else np.sort(ids))
        for origin in (coverage.live, coverage.fill):
            if known := origin.within(runs[0][0], runs[-1][1]):
                covered[rows] |= _held(known, ids)
        if context.source == "rest" or context.partial:
            for first, last in runs:
                coverage.cover("fill", first, last)
            return
        reached = _reached(coverage, context.epoch, ids)
        if not rising or reached > ids[0]:
            before = np.maximum.accumulate(np.concatenate(([reached], ids)))[:-1]
            columns.flags[rows[ids < before]] |= np.uint8(OUT_OF_ORDER)
        for first, last in runs:
            coverage.cover("live", first, last)
        coverage.span(context.epoch, runs[0][0], runs[-1][1])

    def _know(self, batch: FrameBatch, parsed: Parsed, out: Projected) -> None:
        if batch.context.partial:
            return
        for symbol, (least, greatest) in parsed.latest.items():
            coverage = self._stream(StreamKey(batch.context.venue, "trade", symbol), out)
            coverage.know(least)
            coverage.know(greatest)
            coverage.span(batch.context.epoch, least, greatest)


def _in_journal_order(out: Projected) -> None:
    """Undo what grouping frames by context did to the order of trades.

    Of two versions of one event, the one that was received first is then stored.
    """
    if len(out.trades) < 2:  # noqa: PLR2004
        return
    logs = list(dict.fromkeys(log_id for log_id, _ in out.places))
    log = np.concatenate([np.full(len(seqs), logs.index(log_id)) for log_id, seqs in out.places])
    seqs = np.concatenate([seqs for _, seqs in out.places])
    order = np.lexsort((seqs, log))  # stable: items of a frame stay in order
    out.trades = [pa.concat_tables(out.trades).take(pa.array(order))]
    out.covered = [np.concatenate(out.covered)[order]]
    out.places = []


def _reached(coverage: StreamCoverage, epoch: str, ids: npt.NDArray[np.int64]) -> int:
    """Answer the greatest id before ``ids`` that can make one of them out of order.

    Only trades count: a heartbeat may run ahead of them and moves what it reached.
    """
    if (reached := coverage.epochs.get(epoch)) is not None:
        earlier = coverage.live.within(int(ids.min()), reached)
        if earlier:
            return earlier.last
    return int(ids[0])


def _begins(values: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which of rising values, none below 0, is not the same as the one before it."""
    begins: npt.NDArray[np.bool_] = np.diff(values, prepend=-1) != 0
    return begins


def _held(known: IntervalSet, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which of ``ids`` are members of ``known``, which has some."""
    firsts, lasts = np.array(list(known), dtype=np.int64).T
    place = np.searchsorted(lasts, ids)
    inside = place < len(lasts)
    held: npt.NDArray[np.bool_] = inside & (firsts[np.where(inside, place, 0)] <= ids)
    return held


def _runs(ids: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Maximal runs of consecutive ids among rising ones, in order."""
    breaks = np.flatnonzero(ids[1:] > ids[:-1] + 1)
    firsts = [int(ids[0]), *ids[breaks + 1].tolist()]
    lasts = [*ids[breaks].tolist(), int(ids[-1])]
    return list(zip(firsts, lasts, strict=True))


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
