"""Columns of event ids: what :mod:`forebay.domain.identity` says, for a whole batch at once.

Ids of class ``content`` get their ordinals afterwards, once it is known which rows are accepted:
see :func:`with_ordinals`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.identity import (
    ITEM_BITS,
    base_id,
    base_text,
    digest_ids,
    halves_of,
    numbered,
    stream_prefix,
    uuids,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import RawTrades

CHANNEL = "trade"
_UNITS = pa.decimal128(38, 0)


def event_ids(
    raw: RawTrades,
    batch: FrameBatch,
    symbols: Sequence[str],
    codes: npt.NDArray[np.int64],
    *,
    numbers: npt.NDArray[np.int64],
    content: Sequence[pa.Array],
) -> npt.NDArray[np.uint64]:
    """Answer the ids of the n events of ``raw`` as halves, shape (n, 2).

    ``codes`` are the events' places in ``symbols``. ``numbers`` are the venue's own, or what
    :func:`observed` says. ``content`` are the columns that tell an event of class ``content``,
    whose ordinals are all 0 here.
    """
    if not len(codes):
        return np.empty((0, 2), dtype=np.uint64)
    context = batch.context
    streams = [(context.venue, raw.market_type, CHANNEL, symbol) for symbol in symbols]
    if raw.identity == "content":
        return _content_bases(streams, codes, content)
    if raw.identity == "native":
        prefixes = np.array([stream_prefix(*stream) for stream in streams], dtype=np.uint64)
        bases = np.zeros((len(streams), 2), dtype=np.uint64)
        bases[:, 0] = prefixes
    else:
        session = raw.identity == "session"
        told = (context.collector, context.epoch) if session else (batch.log_id,)
        bases = halves_of([base_id(raw.identity, *stream, *told) for stream in streams])
    return numbered(bases[codes], numbers)


def observed(
    batch: FrameBatch, frames: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Answer the numbers of observations: item ``items[i]`` of frame ``frames[i]`` of ``batch``."""
    return batch.seqs[frames] << ITEM_BITS | items


def _content_bases(
    streams: Sequence[tuple[str, ...]],
    codes: npt.NDArray[np.int64],
    content: Sequence[pa.Array],
) -> npt.NDArray[np.uint64]:
    """Hash the canonical content of each event; of a rejected one, whose cells are null, anything.

    Decimals are told in units of their last place, as integers: they have one spelling.
    """
    heads = pa.array([base_text("content", *stream) for stream in streams], pa.string())
    texts = pc.binary_join_element_wise(
        heads.take(pa.array(codes)),
        *map(_told, content),
        "|",
        null_handling="replace",
        null_replacement="",
    )
    return digest_ids(texts.to_pylist())


def _told(column: pa.Array) -> pa.Array:
    if not pa.types.is_decimal(column.type):
        return column.cast(pa.string())
    units = pa.Array.from_buffers(
        _UNITS, len(column), column.buffers(), column.null_count, column.offset
    )
    return units.cast(pa.string())


def contents_of(ids: pa.Array) -> list[bytes]:
    """Answer the 16 bytes of each id: of class ``content``, what its ordinal is counted by."""
    contents: list[bytes] = ids.storage.to_pylist()
    return contents


def with_ordinals(ids: pa.Array, ordinals: Sequence[int]) -> pa.Array:
    """Add to each id of class ``content`` its ordinal."""
    raw = b"".join(contents_of(ids))
    halves = np.frombuffer(raw, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return uuids(numbered(halves, np.array(ordinals, dtype=np.int64)))
