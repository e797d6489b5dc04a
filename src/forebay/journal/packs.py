"""Packs: whole blocks of a sealed segment, compressed together.

A pack is a block of codec 1. Its body is one zstd frame; decompressed it is blocks of codec 0,
header and body, byte for byte as the writer wrote them and one directly after the other. So a
sealed segment can be unsealed bit for bit, and every block in it still has its own CRC and
digest. In a pack's header (see :mod:`forebay.journal.format`)::

    kind          0
    first_seq     of the first block in it
    count         frames of all blocks in it
    context_len   bytes of the body when decompressed, at most 64 MiB
    durable_seq   the highest of the blocks in it
    anchor wall   receipt of its latest frame, wall clock, signed ns; 0 without frames
    anchor mono   receipt of its earliest frame, likewise
    digest        of the body as it is, compressed

zstd comes with pyarrow, which is imported only where a pack is made or opened: a capture does
neither.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import xxhash

from forebay.journal.format import (
    BLOCK_HEADER_SIZE,
    PACK,
    RAW,
    BlockHeader,
    body_is_sound,
    encode_block_header,
    parse_block_header,
    receipts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 3
"""zstd's own default."""


@cache
def _codec() -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa  # noqa: PLC0415 - 50 MB that a capture has no use for

    return pa.Codec("zstd", compression_level=LEVEL)


def encode_pack(blocks: Sequence[tuple[BlockHeader, memoryview]]) -> bytes:
    """Return one pack, header and body, of consecutive blocks: each with all its bytes."""
    first = blocks[0][0]
    raw = b"".join(block for _, block in blocks)
    body: bytes = _codec().compress(raw, asbytes=True)
    spans = [
        (int(times.min()), int(times.max()))
        for header, block in blocks
        if len(times := receipts(header, block[BLOCK_HEADER_SIZE:]))
    ]
    header = BlockHeader(
        kind=0,
        codec=PACK,
        log_id=first.log_id,
        first_seq=first.first_seq,
        frames=sum(header.frames for header, _ in blocks),
        context_len=len(raw),
        body_len=len(body),
        durable_seq=max(header.durable_seq for header, _ in blocks),
        anchor_wall=max((latest for _, latest in spans), default=0),
        anchor_mono=min((earliest for earliest, _ in spans), default=0),
        digest=xxhash.xxh3_64_intdigest(body),
    )
    return encode_block_header(header) + body


def unpacked(header: BlockHeader, body: memoryview) -> memoryview | None:
    """Return the blocks of a pack whose digest is right; None if that is not what it holds.

    Never allocates more than the header says, and that was checked when it was parsed.
    """
    try:
        return memoryview(_codec().decompress(body, header.context_len)).cast("B")
    except (OSError, ValueError):  # what pyarrow raises for bytes that are no zstd of this size
        return None


def split(header: BlockHeader, raw: memoryview) -> list[tuple[int, BlockHeader, memoryview]] | None:
    """Offset, header and body of each block of a pack; None if they are not what it says."""
    found = []
    offset, expected = 0, header.first_seq
    while offset < len(raw):
        inner = parse_block_header(bytes(raw[offset : offset + BLOCK_HEADER_SIZE]))
        if inner is None or (inner.codec, inner.log_id) != (RAW, header.log_id):
            return None
        body = raw[offset + BLOCK_HEADER_SIZE : offset + inner.size]
        if inner.first_seq != expected or not body_is_sound(inner, body):
            return None
        found.append((offset, inner, body))
        offset, expected = offset + inner.size, inner.next_seq
    return found if expected == header.next_seq else None
