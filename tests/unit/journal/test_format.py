"""The bytes: what a stranger would read, and what is refused."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import xxhash

from forebay.domain import frames
from forebay.errors import Permanent
from forebay.journal import LOSS_KIND, PendingBlock
from forebay.journal.format import (
    BLOCK_HEADER_SIZE,
    SEGMENT_HEADER_SIZE,
    SegmentHeader,
    body_is_sound,
    decode_block,
    encode_block,
    encode_segment_header,
    parse_block_header,
    parse_segment_header,
)
from forebay.journal.model import encode_loss

LOG = bytes(range(16))


def encode(draft: PendingBlock, anchor: tuple[int, int] = (1000, 10)) -> tuple[bytes, bytes]:
    return encode_block(draft, log_id=LOG, first_seq=7, durable_seq=5, anchor=anchor)


def reseal(raw: bytes) -> bytes:
    return raw[:-4] + struct.pack("<I", zlib.crc32(raw[:-4]))


def test_a_stranger_can_read_a_block_from_the_description_alone() -> None:
    head, body = encode(PendingBlock(3, b"ctx", [b"ab", b"", b"cde"], [11, 12, 13]))
    assert len(head) == 88
    assert head[:8] == b"\x89FBJB\r\n\x1a"
    assert head[8:12] == bytes([1, 3, 0, 0])
    assert head[12:28] == LOG
    assert struct.unpack_from("<QIIQQqqQ", head, 28) == (
        7,
        3,
        3,
        len(body),
        5,
        1000,
        10,
        xxhash.xxh3_64(body).intdigest(),
    )
    assert struct.unpack_from("<I", head, 84)[0] == zlib.crc32(head[:84])
    assert body == b"ctx" + struct.pack("<3I3q", 2, 0, 3, 11, 12, 13) + b"abcde"


def test_a_stranger_can_read_a_segment_header_from_the_description_alone() -> None:
    raw = encode_segment_header(SegmentHeader(LOG, LOG[::-1], 42))
    assert len(raw) == SEGMENT_HEADER_SIZE == 64
    assert raw[:16] == b"\x89FBJS\r\n\x1a\x01" + bytes(7)
    assert raw[16:48] == LOG + LOG[::-1]
    assert struct.unpack_from("<Q4xI", raw, 48) == (42, zlib.crc32(raw[:60]))
    assert parse_segment_header(raw) == SegmentHeader(LOG, LOG[::-1], 42)


def test_a_block_comes_back_as_it_was() -> None:
    head, body = encode(PendingBlock(3, b"ctx", [b"ab", b"", b"cde"], [11, 12, 9]))
    header = parse_block_header(head)
    assert header is not None
    assert body_is_sound(header, memoryview(body))
    block = decode_block(header, memoryview(body))
    assert (block.log_id, block.first_seq, block.next_seq) == (LOG.hex(), 7, 10)
    assert (block.kind, block.context) == (3, b"ctx")
    assert block.payloads == [b"ab", b"", b"cde"]
    assert block.received_ns.tolist() == [1001, 1002, 999]


def test_every_bit_of_a_header_is_guarded() -> None:
    head, _ = encode(PendingBlock(3, b"ctx", [b"ab"], [1]))
    for bit in range(len(head) * 8):
        damaged = bytearray(head)
        damaged[bit // 8] ^= 1 << bit % 8
        assert parse_block_header(bytes(damaged)) is None, bit


def test_every_bit_of_a_segment_header_is_guarded() -> None:
    raw = encode_segment_header(SegmentHeader(LOG, LOG, 1))
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        assert parse_segment_header(bytes(damaged)) is None, bit


def test_every_bit_of_a_body_is_guarded() -> None:
    head, body = encode(PendingBlock(3, b"ctx", [b"ab", b"cd"], [1, 2]))
    header = parse_block_header(head)
    assert header is not None
    for bit in range(len(body) * 8):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not body_is_sound(header, memoryview(damaged)), bit


def test_lengths_that_do_not_add_up_are_damage_even_with_the_right_digest() -> None:
    head, body = encode(PendingBlock(3, b"", [b"ab"], [1]))
    wrong = struct.pack("<I", 3) + body[4:]
    digest = struct.pack("<Q", xxhash.xxh3_64_intdigest(wrong))
    header = parse_block_header(reseal(head[:76] + digest + head[84:]))
    assert header is not None
    assert not body_is_sound(header, memoryview(wrong))


def test_a_header_whose_frames_cannot_fit_its_body_is_damage() -> None:
    head, _ = encode(PendingBlock(3, b"", [b"ab"], [1]))
    more = head[:36] + struct.pack("<I", 1_000_000) + head[40:]
    assert parse_block_header(reseal(more)) is None


@pytest.mark.parametrize("place", [8, 10])
def test_a_newer_version_or_codec_is_refused_not_taken_for_damage(place: int) -> None:
    head, _ = encode(PendingBlock(3, b"", [b"ab"], [1]))
    newer = bytearray(head)
    newer[place] = 2
    with pytest.raises(Permanent, match="newer Forebay"):
        parse_block_header(reseal(bytes(newer)))


def test_a_newer_segment_is_refused_not_taken_for_damage() -> None:
    newer = bytearray(encode_segment_header(SegmentHeader(LOG, LOG, 1)))
    newer[8] = 2
    with pytest.raises(Permanent, match="newer Forebay"):
        parse_segment_header(reseal(bytes(newer)))


def test_journal_and_domain_mean_the_same_by_loss() -> None:
    assert LOSS_KIND == frames.LOSS_KIND == frames.FrameKind.LOSS
    assert frames.decode_control(encode_loss(3, 9)) == frames.Loss(first=3, last=9)


def test_a_header_is_as_long_as_it_says() -> None:
    head, body = encode(PendingBlock(1, b"c", [b"p"], [0]))
    header = parse_block_header(head)
    assert header is not None
    assert header.size == len(head) + len(body)
    assert len(head) == BLOCK_HEADER_SIZE


def test_payloads_stay_where_they_were_read() -> None:
    head, body = encode(PendingBlock(3, b"ctx", [b"ab", b"", b"cde"], [11, 12, 9]))
    header = parse_block_header(head)
    assert header is not None
    block = decode_block(header, memoryview(body))
    for payloads in (block.payloads, block.part(1, 3).payloads):
        assert isinstance(payloads.data, memoryview)
        assert payloads.data.obj is body
        assert payloads.ends.dtype == np.int64
