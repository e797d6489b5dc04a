"""Frames to rows and coverage: a pure projection that can be repeated over any journal part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from forebay.domain.coverage import StreamCoverage, StreamKey
from forebay.domain.frames import (
    Context,
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

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
            payloads=[payload for block in group for payload in block.payloads],
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
    letters: list[pa.Table] = field(default_factory=list)
    coverage: dict[StreamKey, StreamCoverage] = field(default_factory=dict)
    """Whole new coverage of each stream that changed."""
    frames: Counter[str] = field(default_factory=Counter)
    """Frames by outcome: ``yielding``, ``control``, ``dead``; they add up to all frames."""
    unbuilt: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""
    flagged: int = 0
    losses: list[Loss] = field(default_factory=list)

    def trade_rows(self) -> pa.Table | None:
        """All trades in the order of their frames' batches, None when there is none."""
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
    ) -> None:
        self._parsers = parsers
        self.coverage = dict(coverage)

    def project(self, batches: Iterable[FrameBatch]) -> Projected:
        """Answer rows, dead letters and new coverage of ``batches``."""
        out = Projected()
        for batch in batches:
            if batch.kind is FrameKind.LOSS or batch.kind is FrameKind.CONTROL:
                self._control(batch, out)
            else:
                self._frames(batch, out)
        return out

    def adopt(self, projected: Projected) -> None:
        """Take over the coverage of what has been stored."""
        self.coverage.update(projected.coverage)

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
            yielding = self._trades(batch, parsed, columns, out)
        self._know(batch, parsed, out)
        _bury(batch, parsed.dead, parser.name if parser else _NO_PARSER, out)
        dead = {letter.frame for letter in parsed.dead}.difference(yielding.tolist())
        out.unbuilt.update(parsed.unbuilt)
        out.frames.update(yielding=len(yielding), control=parsed.control, dead=len(dead))

    def _trades(
        self, batch: FrameBatch, parsed: Parsed, columns: TradeColumns, out: Projected
    ) -> npt.NDArray[np.int64]:
        """Cover what arrived; answer the indices of the frames that yielded something."""
        covered = np.zeros(len(columns.ids), dtype=np.bool_)
        for symbol, rows in _by_symbol(columns):
            key = StreamKey(batch.context.venue, "trade", symbol)
            self._cover(self._stream(key, out), batch.context, columns, rows, covered)
        if len(columns.ids):
            out.trades.append(columns.finish())
            out.covered.append(covered)
            out.flagged += int(np.count_nonzero(columns.flags[~covered]))
        refused = {(letter.frame, letter.item) for letter in parsed.dead}
        if not refused:
            return np.unique(np.array(parsed.trades.frame, dtype=np.int64))
        trades = parsed.trades
        kept = {
            frame
            for frame, item in zip(trades.frame, trades.item, strict=True)
            if (frame, item) not in refused
        }
        return np.array(sorted(kept), dtype=np.int64)

    def _cover(
        self,
        coverage: StreamCoverage,
        context: Context,
        columns: TradeColumns,
        rows: npt.NDArray[np.int64],
        covered: npt.NDArray[np.bool_],
    ) -> None:
        ids = columns.ids[rows]
        runs = _runs(ids)
        for known in (coverage.live, coverage.fill):
            for first, last in known.within(runs[0][0], runs[-1][1]):
                covered[rows[(ids >= first) & (ids <= last)]] = True
        if context.source == "rest" or context.partial:
            for first, last in runs:
                coverage.cover("fill", first, last)
            return
        reached = _reached(coverage, context.epoch, ids)
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


def _reached(coverage: StreamCoverage, epoch: str, ids: npt.NDArray[np.int64]) -> int:
    """Answer the greatest id before ``ids`` that can make one of them out of order.

    Only trades count: a heartbeat may run ahead of them and moves ``epoch_last``.
    """
    if coverage.epoch == epoch:
        earlier = coverage.live.within(int(ids.min()), coverage.epoch_last)
        if earlier:
            return earlier.last
    return int(ids[0])


def _by_symbol(columns: TradeColumns) -> Iterable[tuple[str, npt.NDArray[np.int64]]]:
    """Rows of each symbol, in arrival order."""
    order = np.argsort(columns.codes, kind="stable")
    codes = columns.codes[order]
    starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
    if not len(codes):
        return
    for rows in np.split(order, starts[1:]):
        yield columns.symbols[columns.codes[rows[0]]], rows


def _runs(ids: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Maximal runs of consecutive ids, in order."""
    ordered = ids if bool((ids[1:] >= ids[:-1]).all()) else np.sort(ids)
    breaks = np.flatnonzero(ordered[1:] > ordered[:-1] + 1)
    firsts = ordered[np.concatenate(([0], breaks + 1))]
    lasts = ordered[np.concatenate((breaks, [len(ordered) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _all_dead(batch: FrameBatch, reason: Reason, error: str) -> Parsed:
    return Parsed(dead=[DeadLetter(index, 0, reason, error) for index in range(len(batch))])


def _bury(batch: FrameBatch, letters: Sequence[DeadLetter], parser: str, out: Projected) -> None:
    if letters:
        out.letters.append(letter_rows(batch, letters, parser))
        out.reasons.update(letter.reason for letter in letters)
