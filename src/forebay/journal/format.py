"""The journal's bytes, so that a stranger can read them without this package.

A journal is a folder of *segments*, files named ``{first_seq:020d}.fbj``. Integers are
little endian; CRC is CRC-32 (zlib); digest is XXH3-64, seed 0. A segment is a header and
then blocks, one directly after the other.

Segment header, 64 bytes::

    0   8   magic        89 46 42 4a 53 0d 0a 1a
    8   1   version      1
    9   7   zero
    16  16  log id       the same in every segment of one log
    32  16  segment id   unlike that of any other segment
    48  8   first_seq    also in the file's name
    56  4   zero
    60  4   CRC          of bytes 0 to 59

Block header, 88 bytes, then ``body_len`` bytes of body::

    0   8   magic        89 46 42 4a 42 0d 0a 1a
    8   1   version      1
    9   1   kind         255: a loss, see below
    10  1   codec        0: the body is as below; 1: a pack, see :mod:`forebay.journal.packs`
    11  1   zero
    12  16  log id
    28  8   first_seq    sequence number of the first frame
    36  4   count        of frames; 0: the block only says durable_seq
    40  4   context_len
    44  8   body_len
    52  8   durable_seq  everything below it was on stable storage before this was written
    60  8   anchor wall  signed ns since the Unix epoch
    68  8   anchor mono  signed ns of the monotonic clock at the same moment
    76  8   digest       of the body
    84  4   CRC          of bytes 0 to 83

Body: ``context | u32 length[count] | i64 mono_ns[count] | payloads``. Frame i was received
at ``anchor wall + (mono_ns[i] - anchor mono)``. Nothing in a header may be believed before
its CRC is right, nothing in a body before its digest is.

Reading rules: blocks of a segment continue its sequence without a hole; a segment ends
where the next one's ``first_seq`` begins, whatever follows in the file; whoever meets
damage searches the next block magic whose block is sound and whose ``first_seq`` is not
smaller than expected, and what was skipped is lost. The payload of a loss block is
``{"type":"loss","first":F,"last":L}``.
"""

from __future__ import annotations

import zlib
from struct import Struct, pack, unpack_from
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from forebay.errors import Permanent
from forebay.journal.model import Block
from forebay.payloads import Payloads

if TYPE_CHECKING:
    import numpy as np

    from forebay.journal.model import PendingBlock
else:
    from forebay.lazy import numpy as np

VERSION = 1
RAW = 0
PACK = 1
"""Codec of a block whose body is other blocks, compressed."""
MAX_PACK_BYTES = 64 << 20
"""Bytes of the blocks in one pack: no header makes a reader allocate more."""
BLOCK_MAGIC = b"\x89FBJB\r\n\x1a"
SEGMENT_MAGIC = b"\x89FBJS\r\n\x1a"

_SEGMENT = Struct("<8sB7x16s16sQ4x")
_BLOCK = Struct("<8sBBBx16sQIIQQqqQ")
_CRC = Struct("<I")
_BYTES_PER_FRAME = 12
_FEW = 64
"""So many numbers are read without numpy, which is slower for them and need not be imported."""

SEGMENT_HEADER_SIZE = _SEGMENT.size + _CRC.size
BLOCK_HEADER_SIZE = _BLOCK.size + _CRC.size


class SegmentHeader(NamedTuple):
    """The first 64 bytes of a segment."""

    log_id: bytes
    segment_id: bytes
    first_seq: int


class BlockHeader(NamedTuple):
    """The 88 bytes before a block's body; its CRC was right."""

    kind: int
    codec: int
    log_id: bytes
    first_seq: int
    frames: int
    context_len: int
    """Of a pack: bytes of the blocks in it."""
    body_len: int
    durable_seq: int
    anchor_wall: int
    """Of a pack: receipt of its latest frame, wall clock, ns."""
    anchor_mono: int
    """Of a pack: receipt of its earliest frame, wall clock, ns."""
    digest: int

    @property
    def size(self) -> int:
        """Bytes of header and body."""
        return BLOCK_HEADER_SIZE + self.body_len

    @property
    def next_seq(self) -> int:
        """The sequence number after the block's last frame."""
        return self.first_seq + self.frames


def _with_crc(fields: bytes) -> bytes:
    return fields + _CRC.pack(zlib.crc32(fields))


def _crc_is_right(raw: bytes) -> bool:
    return raw[-_CRC.size :] == _CRC.pack(zlib.crc32(raw[: -_CRC.size]))


def _check_version(version: int, codec: int = RAW) -> None:
    if version != VERSION or codec not in {RAW, PACK}:
        message = f"The journal holds format version {version}, codec {codec}."
        hint = "It was written by a newer Forebay: use that one; nothing was changed."
        raise Permanent(message, hint=hint)


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the bytes a segment begins with."""
    fields = _SEGMENT.pack(SEGMENT_MAGIC, VERSION, *header)
    return _with_crc(fields)


def parse_segment_header(raw: bytes) -> SegmentHeader | None:
    """Read a segment's first bytes; None if they are damaged.

    Raises :class:`~forebay.errors.Permanent` if they are sound but of another version.
    """
    if len(raw) != SEGMENT_HEADER_SIZE or not _crc_is_right(raw):
        return None
    magic, version, log_id, segment_id, first_seq = _SEGMENT.unpack_from(raw)
    if magic != SEGMENT_MAGIC:
        return None
    _check_version(version)
    return SegmentHeader(log_id, segment_id, first_seq)


def encode_block_header(header: BlockHeader) -> bytes:
    """Return the 88 bytes that :func:`parse_block_header` reads."""
    return _with_crc(_BLOCK.pack(BLOCK_MAGIC, VERSION, *header))


def encode_block(
    draft: PendingBlock, *, log_id: bytes, first_seq: int, durable_seq: int, anchor: tuple[int, int]
) -> tuple[bytes, bytes]:
    """Return the header and the body of one block; ``anchor`` is ``(wall_ns, mono_ns)``."""
    payloads = draft.payloads
    lengths = pack(f"<{len(payloads)}I", *map(len, payloads))
    times = pack(f"<{len(payloads)}q", *draft.mono_ns)
    body = b"".join((draft.context, lengths, times, *payloads))
    fields = _BLOCK.pack(
        BLOCK_MAGIC,
        VERSION,
        draft.kind,
        RAW,
        log_id,
        first_seq,
        len(payloads),
        len(draft.context),
        len(body),
        durable_seq,
        *anchor,
        xxhash.xxh3_64_intdigest(body),
    )
    return _with_crc(fields), body


def parse_block_header(raw: bytes) -> BlockHeader | None:
    """Read 88 bytes; None if they are no block header.

    Raises :class:`~forebay.errors.Permanent` if they are sound but of another version or
    codec, because skipping them as damage would throw good frames away.
    """
    if len(raw) != BLOCK_HEADER_SIZE or not raw.startswith(BLOCK_MAGIC) or not _crc_is_right(raw):
        return None
    _, version, kind, codec, *rest = _BLOCK.unpack_from(raw)
    _check_version(version, codec)
    header = BlockHeader(kind, codec, *rest)
    if header.codec == PACK:
        adds_up = header.kind == 0 and header.context_len <= MAX_PACK_BYTES
    else:
        adds_up = header.body_len >= header.context_len + header.frames * _BYTES_PER_FRAME
    return header if adds_up else None


def body_is_sound(header: BlockHeader, body: memoryview) -> bool:
    """Return whether the body is what was written, and adds up; of a pack only the former."""
    if len(body) != header.body_len or xxhash.xxh3_64_intdigest(body) != header.digest:
        return False
    if header.codec == PACK:
        return True
    payload_bytes = header.body_len - header.context_len - header.frames * _BYTES_PER_FRAME
    if header.frames <= _FEW:
        lengths: tuple[int, ...] = unpack_from(f"<{header.frames}I", body, header.context_len)
        return sum(lengths) == payload_bytes
    return int(_lengths(header, body).sum(dtype=np.int64)) == payload_bytes


def _lengths(header: BlockHeader, body: memoryview) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.frombuffer(body, dtype="<u4", count=header.frames, offset=header.context_len)


def receipts(header: BlockHeader, body: memoryview) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return when each frame of a block was received: wall clock, UTC nanoseconds."""
    start = header.context_len + 4 * header.frames
    mono_ns = np.frombuffer(body, dtype="<i8", count=header.frames, offset=start)
    return mono_ns + (header.anchor_wall - header.anchor_mono)


def receipt_span(header: BlockHeader, body: memoryview) -> tuple[int, int]:
    """Return when the earliest and the latest frame of a block or a pack that has one came."""
    if header.codec == PACK:
        return header.anchor_mono, header.anchor_wall
    if header.frames <= _FEW:
        start = header.context_len + 4 * header.frames
        times: tuple[int, ...] = unpack_from(f"<{header.frames}q", body, start)
        shift = header.anchor_wall - header.anchor_mono
        return min(times) + shift, max(times) + shift
    received = receipts(header, body)
    return int(received.min()), int(received.max())


def decode_block(header: BlockHeader, body: memoryview) -> Block:
    """Return the frames of a block whose body is sound; the payloads stay in ``body``, uncopied."""
    context_len = header.context_len
    data = body[context_len + _BYTES_PER_FRAME * header.frames :]
    return Block(
        log_id=header.log_id.hex(),
        first_seq=header.first_seq,
        kind=header.kind,
        context=bytes(body[:context_len]),
        received_ns=receipts(header, body),
        payloads=Payloads(data, _lengths(header, body).astype(np.int64).cumsum()),
    )
