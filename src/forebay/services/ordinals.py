"""Ordinals of the class ``content`` on the way: which of several equal events each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain.coverage import StreamKey
from forebay.domain.event_ids import contents_of, with_ordinals
from forebay.domain.flags import AMBIGUOUS
from forebay.domain.frames import EpochClosed, FrameKind
from forebay.domain.ordinals import StreamOrdinals, count_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from forebay.domain.events import EventColumns
    from forebay.domain.frames import Context, FrameBatch
    from forebay.services.normalise import Normalised

Ordinals = dict[StreamKey, StreamOrdinals]


class OrdinalAssigner:
    """The ordinals of all streams as of the last commit; what changes them is held apart."""

    def __init__(self, stored: Mapping[StreamKey, bytes]) -> None:
        self._stored = {key: StreamOrdinals.decode(raw) for key, raw in stored.items()}
        self._anew = False

    def changed(self) -> Ordinals:
        """Return the change to begin with: none, or that everything is forgotten."""
        return {key: StreamOrdinals() for key in self._stored} if self._anew else {}

    def adopt(self, changed: Ordinals) -> None:
        """Take over what has been stored."""
        self._stored |= changed
        self._anew = False

    def begin_again(self) -> None:
        """Forget everything with the next commit."""
        self._anew = True

    def number(self, batch: FrameBatch, told: Normalised, changed: Ordinals) -> None:
        """Make the ids whole of what ``batch`` was normalised to, and follow its connections."""
        for arrived in told.events:
            if arrived.columns.channel.identity == "content":
                self.assign(batch, arrived.columns, changed)
        for said in told.controls:
            if isinstance(said.control, EpochClosed):
                self.close(told.context, changed)

    def close(self, context: Context, changed: Ordinals) -> None:
        """Forget an epoch that is over."""
        for key in {**self._stored, **changed}:
            if key.venue == context.venue:
                stream = changed.get(key) or self._stored[key]
                if _epoch(context) in stream.epochs:
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
        if key not in changed:
            known = self._stored.get(key)
            changed[key] = known.copy() if known else StreamOrdinals()
        return changed[key]


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
