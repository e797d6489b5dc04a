"""Processes on one machine: what a dead one can still do, and what it leaves."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from forebay.clock import ManualClock
from forebay.errors import Transient, Unreachable
from forebay.journal import JournalReader, JournalWriter, PendingBlock, Position
from forebay.ports import Commit
from tests.simulation.machine import Machine
from tests.simulation.store import SimStore
from tests.simulation.weather import Weather, forecast
from tests.support.memory_store import MemoryStore
from tests.support.sim_disk import FailNext, Killed, SimDisk

FOLDER = Path("journal")
NAME = FOLDER / "a"


def machine() -> tuple[Machine, list[str]]:
    told: list[str] = []
    return Machine(SimDisk(random.Random(1)), told.append), told


def test_a_killed_process_does_nothing_more_and_leaves_locks_and_handles() -> None:
    made, _ = machine()
    life, other = made.start("capture"), made.start("deliver")
    lock = life.disk.lock(NAME, b"1")
    kept = other.disk.open(NAME)
    with pytest.raises(BlockingIOError):
        other.disk.lock(NAME, b"2")
    assert made.kill("capture")
    assert not made.kill("capture")
    assert not made.kill("nobody")
    for act in (
        lambda: life.disk.pwritev(lock, [b"x"], 0),
        lambda: life.disk.listdir(FOLDER),
        lambda: life.disk.close(lock),
        lambda: life.disk.fsync_dir(FOLDER),
    ):
        with pytest.raises(Killed):
            act()
    assert other.disk.pread(kept, 9, 0) == b"1"
    other.disk.lock(NAME, b"2")


def test_a_fuse_counts_disk_operations_and_says_where_it_burnt_down() -> None:
    made, told = machine()
    life = made.start("capture")
    life.fuse = 2
    fd = life.disk.open(NAME, create=True)
    life.disk.pwritev(fd, [b"one"], 0)
    with pytest.raises(Killed):
        life.disk.pwritev(fd, [b"two"], 3)
    assert not life.alive
    assert told == ["fuse_capture_pwritev"]
    assert bytes(made.disk.names[NAME].data) == b"one"


def test_a_power_cut_ends_everybody_and_only_what_was_synced_stays() -> None:
    made, told = machine()
    life, other = made.start("capture"), made.start("deliver")
    fd = life.disk.open(NAME, create=True)
    life.disk.pwritev(fd, [b"synced"], 0)
    life.disk.fdatasync(fd)
    life.disk.fsync_dir(FOLDER)
    life.disk.pwritev(fd, [bytes(5000)], 6)
    life.fuse, life.fuse_cuts_power, life.recovering = 0, True, True
    with pytest.raises(Killed):
        life.disk.fdatasync(fd)
    assert told == ["fuse_capture_recovery"]
    assert not other.alive
    assert made.disk.boot == 2
    assert bytes(made.disk.names[NAME].data).startswith(b"synced")


def weather() -> Weather:
    made = forecast(random.Random(1), lambda _: None, ["bit_rot"])
    made.rates, made.until, made.calm = {}, {}, False
    return made


def commit(seq: int) -> Commit:
    return Commit({"store": Position("0" * 32, seq)})


def positions(store: SimStore) -> int:
    return store.load().positions["store"].seq


def test_a_store_refuses_is_away_or_loses_its_answer_and_keeps_what_it_has() -> None:
    made, _ = machine()
    sky = weather()
    store = SimStore(MemoryStore(), made.start("deliver"), sky, lambda: 5.0)
    store.commit(commit(1))
    sky.rates = {"store_refuses": 1.0}
    with pytest.raises(Transient):
        store.commit(commit(2))
    sky.rates = {"answer_lost": 1.0}
    assert positions(store) == 1
    with pytest.raises(Unreachable):
        store.commit(commit(3))
    assert positions(store) == 3
    sky.until["store_down"] = 6.0
    with pytest.raises(Unreachable):
        store.load()
    sky.clear()
    assert positions(store) == 3


@pytest.mark.parametrize(("fuse", "stored"), [(0, False), (1, True)])
def test_deliver_dies_just_before_or_just_after_a_commit(fuse: int, stored: bool) -> None:
    made, told = machine()
    inner, life = MemoryStore(), made.start("deliver")
    life.fuse = fuse
    with pytest.raises(Killed):
        SimStore(inner, life, weather(), lambda: 0.0).commit(commit(7))
    assert ("store" in inner.load().positions) is stored
    assert told == ["fuse_deliver_committed" if stored else "fuse_deliver_commit"]


def test_worlds_differ_in_kind_and_the_same_dice_give_the_same_weather() -> None:
    kinds = [f"kind{number}" for number in range(8)]
    skies = [forecast(random.Random(seed), lambda _: None, kinds) for seed in range(40)]
    again = forecast(random.Random(3), lambda _: None, kinds)
    assert (skies[3].rates, skies[3].moments) == (again.rates, again.moments)
    assert len({frozenset(sky.rates) for sky in skies}) > 30
    assert {kind for sky in skies for _, kind in sky.moments} == set(kinds)
    for sky in skies:
        assert sky.moments == sorted(sky.moments)


def test_eio_comes_as_often_as_it_was_ordered_and_never_in_calm_weather() -> None:
    sky = weather()
    sky.failing = {"fdatasync": 1}
    sky.disk_fault("pwritev")
    with pytest.raises(OSError, match="Input/output"):
        sky.disk_fault("fdatasync")
    sky.disk_fault("fdatasync")
    sky.failing = {"fdatasync": 1}
    sky.clear()
    sky.disk_fault("fdatasync")
    assert sky.failing == {"fdatasync": 1}


# ------------------------------------------------------------------ what it has found


def opened(disk: SimDisk, segment_bytes: int) -> JournalWriter:
    dice = random.Random(2)
    return JournalWriter.open(
        FOLDER,
        clock=ManualClock(),
        random_id=lambda: f"{dice.getrandbits(128):032x}",
        disk=disk,
        segment_bytes=segment_bytes,
        ballast_bytes=0,
    )


def test_a_reader_in_a_segment_that_was_begun_anew_follows_it_into_later_ones() -> None:
    """Found by seed 19: acknowledged frames were declared lost, and delivery skipped them."""
    disk = SimDisk(random.Random(1))
    with opened(disk, 200) as writer, JournalReader(FOLDER, disk=disk) as reader:
        assert reader.read() == []
        disk.fault = fail = FailNext("fdatasync", times=1)
        for number in range(4):
            writer.commit([PendingBlock(1, b"c", [b"%d" % number * 90], [0])])
        assert fail.times == 0
        assert len([path for path in disk.names if path.suffix == ".fbj"]) > 1
        blocks = reader.read()
    assert [block.kind for block in blocks] == [1] * 4
    assert [block.first_seq for block in blocks] == [1, 2, 3, 4]


def test_a_reader_in_a_segment_with_a_damaged_header_follows_the_one_that_replaces_it() -> None:
    """Found by seed 1284: whatever came into the new file was declared lost."""
    disk = SimDisk(random.Random(1))
    opened(disk, 1 << 20).close()
    (segment,) = [path for path in disk.names if path.suffix == ".fbj"]
    disk.flip(segment, 40 * 8)
    with JournalReader(FOLDER, disk=disk) as reader:
        assert reader.read() == []
        with opened(disk, 1 << 20) as writer:
            writer.commit([PendingBlock(1, b"c", [b"one", b"two"], [0, 0])])
            blocks = reader.read()
    assert [(block.kind, block.first_seq) for block in blocks] == [(1, 1)]
    assert list(blocks[0].payloads) == [b"one", b"two"]
