"""The window over a file, and walks that always get further."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from forebay.journal.format import BLOCK_MAGIC
from forebay.journal.scan import Damage, FileWindow, SoundBlock, step, walk
from tests.unit.journal.helpers import FOLDER, content, numbered, open_writer, segment_files, sim

if TYPE_CHECKING:
    from tests.support.sim_disk import SimDisk


def opened(data: bytes, limit: int, chunk: int) -> FileWindow:
    disk = sim()
    fd = disk.open(FOLDER / "file", create=True)
    if data:
        disk.pwritev(fd, [data], 0)
    return FileWindow(disk, fd, limit, chunk)


@pytest.mark.parametrize("chunk", [8, 9, 13, 64, 4096])
def test_a_needle_is_found_wherever_chunks_end(chunk: int) -> None:
    for at in range(60):
        window = opened(b"." * at + BLOCK_MAGIC + b"." * 30, at + 38, chunk)
        assert window.find(BLOCK_MAGIC, 0) == at
        assert window.find(BLOCK_MAGIC, at) == at
        assert window.find(BLOCK_MAGIC, at + 1) == -1


def test_nothing_exists_at_or_after_the_limit() -> None:
    window = opened(b"0123456789", 6, 4096)
    assert bytes(window.view(2, 4) or b"") == b"2345"
    assert window.view(2, 5) is None
    assert window.find(b"67", 0) == -1
    assert window.find(b"56", 0) == -1
    window.limit = 8
    assert bytes(window.view(2, 6) or b"") == b"234567"


def test_a_file_shorter_than_the_limit_ends_where_it_ends() -> None:
    window = opened(b"0123", 100, 4096)
    assert window.view(0, 5) is None
    assert window.find(b"x", 0) == -1
    assert step(window, 0, 1, None) == Damage(0, 100, 1, None)


def journal() -> tuple[SimDisk, bytes]:
    disk = sim()
    with open_writer(disk) as writer:
        for first in range(1, 40, 4):
            writer.commit([numbered(first, 4)])
    return disk, content(disk, segment_files(disk)[0])


@pytest.mark.parametrize("chunk", [90, 200, 1000, 1 << 20])
def test_a_walk_is_the_same_for_every_chunk_size(chunk: int) -> None:
    _, raw = journal()
    items = list(walk(opened(raw, len(raw), chunk), 64, 1, None))
    assert all(isinstance(item, SoundBlock) for item in items)
    assert [item.end for item in items][:-1] == [item.offset for item in items][1:]
    assert items[-1].end == len(raw)
    assert len(items) == 11


def test_a_walk_over_any_damage_gets_to_the_end_in_order() -> None:
    _, raw = journal()
    for seed in range(300):
        rng = random.Random(seed)
        data = bytearray(raw)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(64, len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del data[at : at + rng.randint(1, 300)]
            elif kind == 2:
                data[at:at] = raw[rng.randrange(len(raw)) :][: rng.randint(1, 300)]
            else:
                data[at : at + 50] = BLOCK_MAGIC * 6
        offset, seq = 64, 1
        for item in walk(opened(bytes(data), len(data), 500), 64, 1, None):
            assert item.offset == offset
            following = item.header.next_seq if isinstance(item, SoundBlock) else (item.next or seq)
            assert (item.end, following) > (offset, seq)
            assert following >= seq
            offset, seq = item.end, following
        assert offset == len(data)
