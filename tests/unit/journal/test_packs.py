"""Packs: what goes in comes out, and nothing else does."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
import zlib

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.errors import Permanent
from forebay.journal import PendingBlock
from forebay.journal.format import (
    BLOCK_HEADER_SIZE,
    MAX_PACK_BYTES,
    PACK,
    BlockHeader,
    encode_block,
    encode_block_header,
    parse_block_header,
)
from forebay.journal.packs import encode_pack, split, unpacked

LOG = bytes(range(16))


def blocks(*counts: int, size: int = 30, first: int = 5) -> list[tuple[BlockHeader, memoryview]]:
    """Blocks of so many frames, consecutive from ``first``."""
    rng, made = random.Random(1), []
    for count in counts:
        payloads = [rng.randbytes(size) for _ in range(count)]
        draft = PendingBlock(
            1 if count else 0, b"ctx", payloads, [100 + first + n for n in range(count)]
        )
        head, body = encode_block(
            draft, log_id=LOG, first_seq=first, durable_seq=first, anchor=(1000, 100)
        )
        header = parse_block_header(head)
        assert header is not None
        made.append((header, memoryview(head + body)))
        first += count
    return made


def opened(pack: bytes) -> tuple[BlockHeader, memoryview]:
    header = parse_block_header(pack[:BLOCK_HEADER_SIZE])
    assert header is not None
    return header, memoryview(pack)[BLOCK_HEADER_SIZE:]


def test_the_blocks_come_back_bit_for_bit() -> None:
    made = blocks(3, 0, 2)
    header, body = opened(encode_pack(made))
    raw = unpacked(header, body)
    assert raw is not None
    assert raw == b"".join(block for _, block in made)
    inner = split(header, raw)
    assert inner is not None
    assert [each for _, each, _ in inner] == [each for each, _ in made]
    for (offset, each, data), (_, whole) in zip(inner, made, strict=True):
        assert raw[offset : offset + each.size] == whole
        assert data == whole[BLOCK_HEADER_SIZE:]


def test_the_header_says_what_is_in_it() -> None:
    header, body = opened(encode_pack(blocks(3, 0, 2)))
    assert (header.kind, header.codec, header.log_id) == (0, PACK, LOG)
    assert (header.first_seq, header.frames, header.next_seq) == (5, 5, 10)
    assert header.durable_seq == 8
    assert (header.anchor_mono, header.anchor_wall) == (1005, 1009)
    assert header.digest == xxhash.xxh3_64_intdigest(body)
    assert header.size == BLOCK_HEADER_SIZE + len(body)


def test_a_pack_without_frames_has_no_times() -> None:
    header, body = opened(encode_pack(blocks(0)))
    assert (header.frames, header.anchor_wall, header.anchor_mono) == (0, 0, 0)
    raw = unpacked(header, body)
    assert raw is not None
    assert len(split(header, raw) or []) == 1


@settings(max_examples=300)
@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=5), bit=st.integers(0, 10**6))
def test_a_flipped_bit_anywhere_is_seen(counts: list[int], bit: int) -> None:
    """By the header's CRC, by the digest; and if that is made right again, by zstd or inside."""
    pack = bytearray(encode_pack(blocks(*counts)))
    bit %= 8 * len(pack)
    pack[bit // 8] ^= 1 << bit % 8
    header = parse_block_header(bytes(pack[:BLOCK_HEADER_SIZE]))
    if bit // 8 < BLOCK_HEADER_SIZE:
        assert header is None
        return
    assert header is not None
    body = memoryview(pack)[BLOCK_HEADER_SIZE:]
    assert xxhash.xxh3_64_intdigest(body) != header.digest
    raw = unpacked(header, body)
    if raw is not None and (inner := split(header, raw)) is not None:
        right = blocks(*counts)
        assert [each for _, each, _ in inner] == [each for each, _ in right]
        assert raw == b"".join(block for _, block in right)


@pytest.mark.parametrize(("first_seq", "frames"), [(4, 5), (6, 5), (5, 4), (5, 6)])
def test_a_header_that_says_other_frames_is_not_believed(first_seq: int, frames: int) -> None:
    header, body = opened(encode_pack(blocks(3, 2)))
    raw = unpacked(header, body)
    assert raw is not None
    assert split(header._replace(first_seq=first_seq, frames=frames), raw) is None


@pytest.mark.parametrize("more", [-1, 1, 1 << 20])
def test_another_size_than_the_header_says_is_refused(more: int) -> None:
    header, body = opened(encode_pack(blocks(3)))
    assert unpacked(header._replace(context_len=header.context_len + more), body) is None


def test_blocks_of_another_log_are_not_taken() -> None:
    header, body = opened(encode_pack(blocks(3)))
    raw = unpacked(header, body)
    assert raw is not None
    assert split(header._replace(log_id=bytes(16)), raw) is None


def test_a_pack_in_a_pack_is_not_opened() -> None:
    pack = memoryview(encode_pack(blocks(3)))
    header, _ = opened(bytes(pack))
    assert split(header, pack) is None


def test_blocks_that_do_not_continue_one_another_are_not_taken() -> None:
    """Not even if the header's numbers add up."""
    header, body = opened(encode_pack(blocks(3) + blocks(2, first=9)))
    raw = unpacked(header, body)
    assert raw is not None
    assert split(header._replace(frames=6), raw) is None


def test_cut_blocks_are_not_taken() -> None:
    header, body = opened(encode_pack(blocks(3, 2)))
    raw = unpacked(header, body)
    assert raw is not None
    for end in range(len(raw)):
        assert split(header, raw[:end]) is None, end


def test_no_header_makes_a_reader_allocate_more_than_the_limit() -> None:
    header, body = opened(encode_pack(blocks(3)))
    hostile = header._replace(context_len=MAX_PACK_BYTES + 1)
    assert parse_block_header(encode_block_header(hostile)) is None
    largest = header._replace(context_len=MAX_PACK_BYTES)
    assert parse_block_header(encode_block_header(largest)) == largest
    tracemalloc.start()
    try:
        assert unpacked(largest, body) is None
        assert tracemalloc.get_traced_memory()[1] < MAX_PACK_BYTES + (1 << 20)
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused() -> None:
    """A few kilobytes of zstd that would become a gigabyte."""
    import pyarrow as pa

    bomb = pa.Codec("zstd").compress(bytes(1 << 28), asbytes=True)
    header, _ = opened(encode_pack(blocks(3)))
    assert len(bomb) < 1 << 16
    assert unpacked(header, memoryview(bomb)) is None


def test_a_pack_of_a_kind_is_no_header() -> None:
    header, _ = opened(encode_pack(blocks(3)))
    assert parse_block_header(encode_block_header(header._replace(kind=1))) is None


def test_a_later_codec_is_refused_not_taken_for_damage() -> None:
    header, _ = opened(encode_pack(blocks(3)))
    with pytest.raises(Permanent, match="codec 2"):
        parse_block_header(encode_block_header(header._replace(codec=2)))


def test_a_short_header_is_none_even_if_its_last_bytes_are_a_right_crc() -> None:
    fields = encode_block_header(blocks(1)[0][0])[:40]
    assert parse_block_header(fields + zlib.crc32(fields).to_bytes(4, "little")) is None


def test_a_capture_does_not_load_what_packs_are_made_with() -> None:
    code = "import sys, forebay.app.processes.capture_process; print('pyarrow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"
