"""Ordinals of the class ``content`` on the way: which of several equal trades each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain.coverage import StreamKey
from forebay.domain.event_ids import contents_of, with_ordinals
from forebay.domain.ordinals import StreamOrdinals, count_page
from forebay.domain.trades import AMBIGUOUS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from forebay.domain.frames import Context, FrameBatch
    from forebay.domain.trades import TradeColumns

Ordinals = dict[StreamKey, StreamOrdinals]


class Numbering:
    """The ordinals of all streams as of the last commit; what changes them is held apart."""

    def __init__(self, stored: Mapping[StreamKey, bytes]) -> None:
        self._stored = {key: StreamOrdinals.decode(raw) for key, raw in stored.items()}
        self._anew = False

    def changed(self) -> Ordinals:
        """Answer the change to begin with: none, or that everything is forgotten."""
        return {key: StreamOrdinals() for key in self._stored} if self._anew else {}

    def adopt(self, changed: Ordinals) -> None:
        """Take over what has been stored."""
        self._stored |= changed
        self._anew = False

    def begin_again(self) -> None:
        """Forget everything with the next commit."""
        self._anew = True

    def close(self, context: Context, changed: Ordinals) -> None:
        """Forget an epoch that is over."""
        for key in {**self._stored, **changed}:
            if key.venue == context.venue:
                stream = changed.get(key) or self._stored[key]
                if _epoch(context) in stream.epochs:
                    self._stream(key, changed).close(_epoch(context))

    def number(self, batch: FrameBatch, columns: TradeColumns, changed: Ordinals) -> None:
        """Add to the ids of ``columns`` their ordinals, and the flag of those at an edge."""
        table = columns.table
        ids = table["event_id"].combine_chunks()
        contents = np.array(contents_of(ids), dtype=object)
        event_ns = table["event_ts"].cast(pa.int64()).to_numpy()
        ordinals = np.zeros(len(table), dtype=np.int64)
        for symbol, rows in by_symbol(columns):
            if batch.context.source == "rest":
                for page in _pages(rows, columns.frames):
                    told = count_page(contents[page].tolist(), event_ns[page].tolist())
                    _note(columns, ordinals, page, *told)
                continue
            stream = self._stream(StreamKey(batch.context.venue, "trade", symbol), changed)
            moments = event_ns[rows].tolist()
            told = stream.count(_epoch(batch.context), contents[rows].tolist(), moments)
            _note(columns, ordinals, rows, *told)
        columns.table = table.set_column(0, table.field(0), with_ordinals(ids, ordinals.tolist()))

    def _stream(self, key: StreamKey, changed: Ordinals) -> StreamOrdinals:
        if key not in changed:
            known = self._stored.get(key)
            changed[key] = known.copy() if known else StreamOrdinals()
        return changed[key]


def _epoch(context: Context) -> str:
    """Name what is counted together: one connection of one collector, as told by one replay."""
    return f"{context.collector}|{context.epoch}|{context.run}"


def _note(
    columns: TradeColumns,
    ordinals: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    told: Sequence[int],
    at_edge: Sequence[bool],
) -> None:
    ordinals[rows] = told
    columns.flags[rows[np.array(at_edge, dtype=np.bool_)]] |= np.uint8(AMBIGUOUS)


def _pages(
    rows: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]
) -> Iterable[npt.NDArray[np.int64]]:
    """Rows of each answer, in arrival order: an answer is one frame."""
    theirs = frames[rows]
    return np.split(rows, np.flatnonzero(theirs[1:] != theirs[:-1]) + 1)


def by_symbol(columns: TradeColumns) -> Iterable[tuple[str, npt.NDArray[np.int64]]]:
    """Answer the rows of each symbol, in arrival order."""
    order = np.argsort(columns.codes, kind="stable")
    codes = columns.codes[order]
    if not len(codes):
        return
    for rows in np.split(order, np.flatnonzero(codes[1:] != codes[:-1]) + 1):
        yield columns.symbols[columns.codes[rows[0]]], rows
