"""From frames to entries: projected, counted and digested, a piece at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import Digest, digests_by_hour, hours_of, id_halves
from forebay.domain.frames import Loss, decode_control
from forebay.domain.identity import NATIVE_ID_LIMIT
from forebay.domain.ledger import Covered, Entry, Hour, Lost, StreamEntry
from forebay.journal import LOSS_KIND, NO_LOG
from forebay.services.projection import Projection, batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy.typing as npt

    from forebay.domain.coverage import StreamCoverage
    from forebay.domain.digest import Bucket
    from forebay.domain.intervals import IntervalSet
    from forebay.domain.ledger import Record
    from forebay.journal import Block, Position
    from forebay.ports import Parser

PIECE_FRAMES = 65536
"""Frames projected at once, which bounds the memory that an entry takes to make."""
OUTCOMES = ("yielding", "control", "dead")
"""How a frame ends; see :class:`~forebay.services.projection.Projected`."""


@dataclass(slots=True)
class _Sums:
    """What becomes an entry."""

    log_id: str = NO_LOG
    first: int = 0
    end: int = 0
    received: tuple[int, int, int] | None = None
    frames: Counter[str] = field(default_factory=Counter)
    letters: set[str] = field(default_factory=set)
    lost: list[Lost] = field(default_factory=list)
    hours: dict[StreamKey, dict[int, Digest]] = field(default_factory=dict)
    changed: set[StreamKey] = field(default_factory=set)
    ordinals: dict[StreamKey, bytes] = field(default_factory=dict)

    def see(self, block: Block) -> None:
        """Note where a block is, when it was received, and whether it says that frames are lost."""
        if not self.first:
            self.first = self.end = block.first_seq
        if block.kind == LOSS_KIND:
            self.lose(*_loss(block))
        else:
            self.lose(self.end, block.first_seq - 1)
            self._receive(block.received_ns)
        self.log_id, self.end = block.log_id, block.next_seq

    def lose(self, first: int, last: int) -> None:
        """Note that ``first`` to ``last`` cannot be read; nothing if that is no range."""
        if first <= last:
            self.lost.append(Lost(first, last, self.received[1] if self.received else None))

    def _receive(self, times: npt.NDArray[np.int64]) -> None:
        if not len(times):
            return
        first, last, earliest = int(times[0]), int(times[-1]), int(times.min())
        self.lost = [
            msgspec.structs.replace(lost, before_ns=first) if lost.before_ns is None else lost
            for lost in self.lost
        ]
        begun, _, least = self.received or (first, last, earliest)
        self.received = (begun, last, min(least, earliest))

    def add(self, hours: Mapping[Bucket, Digest]) -> None:
        """Add digests of new events, or empty ones of repeated events."""
        for (venue, symbol, hour), digest in hours.items():
            sums = self.hours.setdefault(StreamKey(venue, "trade", symbol), {})
            sums[hour] = sums.get(hour, Digest()) + digest

    def entry(self, coverage: Mapping[StreamKey, StreamCoverage]) -> Entry:
        """Write down the account; ``coverage`` is that after it."""
        streams = [
            StreamEntry(
                *key,
                [Hour.of(*each) for each in sorted(self.hours.get(key, {}).items())],
                Covered.of(coverage[key]) if key in self.changed else None,
                self.ordinals[key].hex() if key in self.ordinals else None,
            )
            for key in sorted(self.hours.keys() | self.changed | self.ordinals.keys())
        ]
        return Entry(
            log_id=self.log_id,
            first=self.first,
            end=self.end,
            received=self.received,
            frames={kind: self.frames[kind] for kind in OUTCOMES},
            letters=sorted(self.letters),
            lost=self.lost,
            streams=streams,
        )


class Accountant:
    """Makes entries from frames, each on top of the coverage after the one before."""

    def __init__(self, parsers: Mapping[str, Parser], record: Record) -> None:
        """Go on after ``record``, which stays as it is."""
        self._projection = Projection(parsers, record.coverage, record.ordinals)

    @property
    def coverage(self) -> Mapping[StreamKey, StreamCoverage]:
        """Coverage after the last entry."""
        return self._projection.coverage

    def account(
        self,
        blocks: Iterable[Block],
        end: Position | None = None,
        keep: Callable[[pa.Table], None] | None = None,
    ) -> Entry:
        """Answer the entry of consecutive frames; there must be some, or an ``end``.

        What is lacking up to ``end`` is lost. ``keep`` is given the rows piece by piece.
        """
        sums = _Sums()
        for piece in _pieces(blocks):
            for block in piece:
                sums.see(block)
            rows = self._project(piece, sums)
            if rows is not None and keep is not None:
                keep(rows)
        if end is not None:
            sums.first = sums.first or end.seq
            sums.lose(sums.end or end.seq, end.seq - 1)
            sums.log_id, sums.end = end.log_id, end.seq
        return sums.entry(self.coverage)

    def _project(self, piece: list[Block], sums: _Sums) -> pa.Table | None:
        projected = self._projection.project(batches_of(piece))
        if (rows := projected.trade_rows()) is not None:
            fresh = fresh_rows(rows, self.coverage)
            sums.add(digests_by_hour(rows.filter(pa.array(fresh))))
            if not fresh.all():
                repeated = rows.filter(pa.array(~fresh))
                sums.add(dict.fromkeys(hours_of(repeated), Digest()))
        if (letters := projected.letter_rows()) is not None:
            sums.letters.update(letter.hex for letter in letters.column("letter_id").to_pylist())
        sums.frames.update(projected.frames)
        sums.changed.update(projected.coverage)
        sums.ordinals |= {key: each.encode() for key, each in projected.ordinals.items()}
        self._projection.adopt(projected)
        return rows


def fresh_rows(
    rows: pa.Table, coverage: Mapping[StreamKey, StreamCoverage]
) -> npt.NDArray[np.bool_]:
    """Answer which of ``rows`` are the first to tell their event, after ``coverage``.

    Shape (n,). Only of events with native ids, whose coverage is of the unit ``id``.
    """
    halves = id_halves(rows)
    fresh = np.zeros(len(rows), dtype=np.bool_)
    prefixes, streams = np.unique(halves[:, 0], return_inverse=True)
    for number in range(len(prefixes)):
        where = np.flatnonzero(streams == number)
        natives = (halves[where, 1] & np.uint64(NATIVE_ID_LIMIT - 1)).astype(np.int64)
        at = int(where[0])
        venue, symbol = (rows.column(name)[at].as_py() for name in ("venue", "symbol"))
        known = np.zeros(len(where), dtype=np.bool_)
        if (covered := coverage.get(StreamKey(venue, "trade", symbol))) is not None:
            known = _inside(covered.live, natives) | _inside(covered.fill, natives)
        _, firsts = np.unique(natives, return_index=True)
        first = np.zeros(len(where), dtype=np.bool_)
        first[firsts] = True
        fresh[where] = first & ~known
    return fresh


def _inside(ids: IntervalSet, natives: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    near = np.array(list(ids.within(int(natives.min()), int(natives.max()))), dtype=np.int64)
    if not len(near):
        return np.zeros(len(natives), dtype=np.bool_)
    at = np.searchsorted(near[:, 1], natives)
    inside: npt.NDArray[np.bool_] = near[np.minimum(at, len(near) - 1), 0] <= natives
    return inside & (at < len(near))


def _loss(block: Block) -> tuple[int, int]:
    """The range that a loss block speaks of."""
    try:
        control = decode_control(block.payloads[0])
    except msgspec.DecodeError:
        control = None
    if isinstance(control, Loss):
        return control.first, control.last
    return block.first_seq, block.next_seq - 1


def _pieces(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Blocks in groups of at most :data:`PIECE_FRAMES`, unless one alone has more."""
    piece: list[Block] = []
    frames = 0
    for block in blocks:
        if piece and frames + len(block.payloads) > PIECE_FRAMES:
            yield piece
            piece, frames = [], 0
        piece.append(block)
        frames += len(block.payloads)
    if piece:
        yield piece
