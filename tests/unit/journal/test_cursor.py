"""Cursors: the one stored last or the one before, whatever happens in between."""

from __future__ import annotations

import errno
import random

import pytest

from forebay.errors import Corrupt, JournalFull, Transient
from forebay.journal import CursorFile, Position
from forebay.journal.two_slot_file import FILE_SIZE, MAX_PAYLOAD, encode_slot, parse_slots
from tests.support.sim_disk import FailNext, SimDisk
from tests.unit.journal.helpers import FOLDER, content, overwrite, sim

PATH = FOLDER / "store.cursor"
LOG = "ab" * 16


def cursor(disk: SimDisk) -> CursorFile:
    return CursorFile(PATH, disk)


def stored(disk: SimDisk, *seqs: int) -> CursorFile:
    file = cursor(disk)
    for seq in seqs:
        file.store(Position(LOG, seq))
    return file


def test_a_torn_slot_leaves_the_cursor_before_it() -> None:
    disk = sim()
    stored(disk, 10)
    before = content(disk, PATH)
    stored(disk, 20)
    after = content(disk, PATH)
    (start, *_) = [at for at in range(FILE_SIZE) if before[at] != after[at]]
    slot = start - start % 4096
    for cut in range(slot, slot + 60):
        overwrite(disk, PATH, after[:cut] + before[cut:])
        found = cursor(disk).load()
        assert found in {Position(LOG, 10), Position(LOG, 20)}
        assert found == Position(LOG, 10) or content(disk, PATH) == after


def test_every_bit_flip_gives_one_of_the_last_two_cursors() -> None:
    disk = sim()
    stored(disk, 10, 20)
    for bit in [*range(60 * 8), *range(4096 * 8, 4156 * 8)]:
        disk.flip(PATH, bit)
        assert cursor(disk).load() in {Position(LOG, 10), Position(LOG, 20)}
        disk.flip(PATH, bit)


def test_a_store_after_a_torn_one_does_not_touch_the_good_slot() -> None:
    disk = sim()
    stored(disk, 10, 20)
    good = parse_slots(content(disk, PATH))
    assert good is not None
    bad_side = 1 - good.side
    disk.flip(PATH, bad_side * 4096 * 8)
    stored(disk, 30)
    newest = parse_slots(content(disk, PATH))
    assert newest is not None
    assert newest.side == bad_side
    assert newest.counter > good.counter
    assert cursor(disk).load() == Position(LOG, 30)


def test_two_damaged_slots_are_said_not_guessed() -> None:
    disk = sim()
    stored(disk, 10, 20)
    disk.flip(PATH, 8)
    disk.flip(PATH, 4096 * 8 + 8)
    with pytest.raises(Corrupt, match="Both slots") as caught:
        cursor(disk).load()
    assert "Move it away" in caught.value.hint


def test_a_file_of_zeros_is_no_cursor() -> None:
    disk = sim()
    stored(disk, 10)
    overwrite(disk, PATH, bytes(FILE_SIZE))
    with pytest.raises(Corrupt):
        cursor(disk).load()


@pytest.mark.parametrize("seed", range(60))
def test_a_stored_cursor_survives_power_cuts(seed: int) -> None:
    disk = sim(seed)
    rng = random.Random(seed)
    last = 0
    for _ in range(15):
        file = cursor(disk)
        for _ in range(rng.randrange(3)):
            last += 1
            file.store(Position(LOG, last))
        torn = last + 1
        disk.fault = FailNext(rng.choice(["fdatasync", "rename", "fsync_dir"]), times=1)
        try:
            file.store(Position(LOG, torn))
        except Transient:
            pass
        else:
            last = torn
        disk.fault = lambda _: None
        disk.lose_power()
        found = cursor(disk).load()
        assert found in {Position(LOG, last) if last else None, Position(LOG, torn)}
        last = found.seq if found else 0


def test_a_full_disk_keeps_the_old_cursor_and_says_so() -> None:
    disk = sim()
    file = stored(disk, 10)
    disk.fault = FailNext("pwritev", errno.ENOSPC, times=1)
    with pytest.raises(JournalFull):
        file.store(Position(LOG, 20))
    assert cursor(disk).load() == Position(LOG, 10)
    file.store(Position(LOG, 30))
    assert cursor(disk).load() == Position(LOG, 30)


def test_a_failed_sync_gives_the_descriptor_up() -> None:
    disk = sim()
    file = stored(disk, 10)
    assert len(disk.handles) == 1
    disk.fault = FailNext("fdatasync", times=1)
    with pytest.raises(Transient):
        file.store(Position(LOG, 20))
    assert not disk.handles
    file.store(Position(LOG, 30))
    disk.lose_power()
    assert cursor(disk).load() == Position(LOG, 30)


def test_a_cursor_may_go_back() -> None:
    disk = sim()
    stored(disk, 10, 20, 5)
    assert cursor(disk).load() == Position(LOG, 5)


def test_a_slot_never_outgrows_its_place() -> None:
    assert len(encode_slot(1, bytes(MAX_PAYLOAD))) == 256
    raw = encode_slot(7, b"x" * MAX_PAYLOAD)
    assert parse_slots(raw.ljust(FILE_SIZE, b"\0")) == (7, 0, b"x" * MAX_PAYLOAD, True)
