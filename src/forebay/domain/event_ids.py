"""Columns of event ids: what :mod:`forebay.domain.identity` says, for a whole batch at once.

Ids of class ``content`` get their ordinals afterwards, once it is known which rows are accepted:
see :func:`with_ordinals`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.canonical import cell_texts
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
    from forebay.domain.identity import IdentityClass
    from forebay.domain.parsed import RawEvents

    Halves = npt.NDArray[np.uint64]


def event_ids(
    raw: RawEvents,
    batch: FrameBatch,
    symbols: Sequence[str],
    codes: npt.NDArray[np.int64],
    *,
    natives: npt.NDArray[np.int64] | None,
    content: Sequence[pa.Array],
) -> Halves:
    """Return the ids of the n events of ``raw`` as halves, shape (n, 2).

    ``codes`` are the events' places in ``symbols``. ``natives`` are the venue's own ids, checked,
    where they are integers. ``content`` are the columns that tell an event of class ``content``,
    whose ordinals are all 0 here.
    """
    if not len(codes):
        return np.empty((0, 2), dtype=np.uint64)
    context, identity = batch.context, raw.channel.identity
    streams = [(context.venue, raw.market, raw.channel.kind, symbol) for symbol in symbols]
    if identity == "content":
        return _digests("content", streams, codes, content)
    if identity == "native" and natives is None:
        return _digests("native", streams, codes, [raw.native])
    if identity == "native":
        bases = np.zeros((len(streams), 2), dtype=np.uint64)
        bases[:, 0] = np.array([stream_prefix(*stream) for stream in streams], dtype=np.uint64)
    else:
        told = (context.collector, context.epoch) if identity == "session" else (batch.log_id,)
        bases = halves_of([base_id(identity, *stream, *told) for stream in streams])
    numbers = observed(batch, raw) if identity == "observation" else natives
    if numbers is None:
        message = f"{raw.channel} needs integers of the venue, and it gives none"
        raise TypeError(message)
    return numbered(bases[codes], numbers)


def observed(batch: FrameBatch, raw: RawEvents) -> npt.NDArray[np.int64]:
    """Return the numbers of observations: item ``i`` of a frame of ``batch``; shape (n,)."""
    found: npt.NDArray[np.int64] = batch.seqs[raw.frame] << ITEM_BITS | raw.item
    return found


def _digests(
    identity: IdentityClass,
    streams: Sequence[tuple[str, ...]],
    codes: npt.NDArray[np.int64],
    content: Sequence[pa.Array],
) -> Halves:
    """Hash what tells each event; of a rejected one, whose cells are null, anything."""
    heads = pa.array([base_text(identity, *stream) for stream in streams], pa.string())
    texts = pc.binary_join_element_wise(heads.take(pa.array(codes)), *map(cell_texts, content), "|")
    return digest_ids(texts.to_pylist())


def contents_of(ids: pa.Array) -> list[bytes]:
    """Return the 16 bytes of each id: of class ``content``, what its ordinal is counted by."""
    raw = _bytes_of(ids)
    return [raw[at : at + 16] for at in range(0, len(raw), 16)]


def _bytes_of(ids: pa.Array) -> bytes:
    storage = ids.storage
    first = storage.offset * 16
    return bytes(memoryview(storage.buffers()[1] or b"")[first : first + len(storage) * 16])


def with_ordinals(ids: pa.Array, ordinals: Sequence[int]) -> pa.Array:
    """Add to each id of class ``content`` its ordinal."""
    halves = np.frombuffer(_bytes_of(ids), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return uuids(numbered(halves, np.array(ordinals, dtype=np.int64)))
