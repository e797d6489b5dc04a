"""Committing: what goes in comes out, and a disk that fails or fills loses nothing."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError, JournalFull, Permanent, Transient
from forebay.journal import LOSS_KIND, CursorFile, JournalReader, PendingBlock, Position, fsck
from forebay.journal.disk import OsDisk
from tests.support.sim_disk import FailNext, SimDisk
from tests.unit.journal.helpers import (
    FOLDER,
    bytes_on_disk,
    content,
    draft,
    drain,
    frames_of,
    losses_of,
    numbered,
    open_writer,
    read_all,
    says_its_seq,
    segment_files,
    sim,
)

if TYPE_CHECKING:
    from pathlib import Path

BALLAST = FOLDER / "ballast"


def test_what_is_committed_is_read_in_order_with_its_context(tmp_path: Path) -> None:
    disk = OsDisk()
    clock = ManualClock(wall_ns=1_000_000)
    with open_writer(disk, tmp_path / "j", clock=clock) as writer:
        first = PendingBlock(1, b"a", [b"one", b"", b"three"], [-5, 0, 7])
        second = PendingBlock(200, b"b", [b"x" * 100_000], [3])
        assert writer.commit([first, second]) == 5
        assert writer.commit([]) == 5
        assert writer.position.seq == 5
    blocks = read_all(disk, tmp_path / "j")
    assert [(block.first_seq, block.kind, block.context) for block in blocks] == [
        (1, 1, b"a"),
        (4, 200, b"b"),
    ]
    assert [block.payloads for block in blocks] == [first.payloads, second.payloads]
    assert blocks[0].received_ns.tolist() == [999_995, 1_000_000, 1_000_007]


def test_an_empty_draft_takes_no_sequence_number() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        assert writer.commit([draft(), numbered(1, 2), draft()]) == 3
    assert list(frames_of(read_all(disk))) == [1, 2]


def test_a_wall_clock_step_shows_only_at_a_block_border() -> None:
    disk, clock = sim(), ManualClock(wall_ns=10**18)
    with open_writer(disk, clock=clock) as writer:
        writer.commit([PendingBlock(1, b"", [b"a", b"b"], [0, 1])])
        clock.step_wall(-3600)
        writer.commit([PendingBlock(1, b"", [b"c", b"d"], [2, 3])])
    before, after = (block.received_ns.tolist() for block in read_all(disk))
    assert before == [10**18, 10**18 + 1]
    assert after == [10**18 - 3600 * 10**9 + 2, 10**18 - 3600 * 10**9 + 3]


def test_a_replay_brings_its_own_times() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([PendingBlock(1, b"", [b"a"], [1_618_000_000_000_000_000], anchor=(0, 0))])
    assert read_all(disk)[0].received_ns.tolist() == [1_618_000_000_000_000_000]


@pytest.mark.parametrize(
    "bad",
    [
        draft(b"x", kind=0),
        draft(b"x", kind=LOSS_KIND),
        PendingBlock(1, b"", [b"a", b"b"], [1]),
        PendingBlock(1, b"", [b"a"], [1 << 63]),
        PendingBlock(1, b"", [b"a"], [0], anchor=(1 << 63, 0)),
    ],
)
def test_a_draft_that_cannot_be_written_is_refused_whole(bad: PendingBlock) -> None:
    disk = sim()
    with open_writer(disk) as writer:
        with pytest.raises(Permanent):
            writer.commit([numbered(1, 1), bad])
        assert writer.position.seq == 1
        assert writer.commit([numbered(1, 3)]) == 4
    assert list(frames_of(read_all(disk))) == [1, 2, 3]


def test_a_closed_writer_refuses() -> None:
    writer = open_writer(sim())
    writer.close()
    writer.close()
    with pytest.raises(Permanent, match="closed"):
        writer.commit([numbered(1, 1)])


def test_nothing_is_acknowledged_before_it_is_synced() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        disk.log.clear()
        writer.commit([numbered(1, 3)])
        assert disk.log[:2] == ["pwritev", "fdatasync"]
        path = segment_files(disk)[0]
        assert disk.names[path].stable == disk.names[path].data


def test_a_new_segment_has_a_durable_name_before_it_takes_frames() -> None:
    disk = sim()
    with open_writer(disk):
        sync, rename, folder = (disk.log.index(x) for x in ("fdatasync", "rename", "fsync_dir"))
        assert sync < rename < folder
        assert segment_files(disk)[0] in disk.stable_names


def test_the_journal_rolls_and_is_read_across_segments() -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=2000) as writer:
        for first in range(1, 200, 10):
            writer.commit([numbered(first, 10)])
    assert len(segment_files(disk)) == 5
    found = frames_of(read_all(disk))
    assert list(found) == list(range(1, 201))
    assert all(says_its_seq(*item) for item in found.items())
    assert fsck(FOLDER, disk=disk).ok


def test_a_block_larger_than_a_segment_has_one_to_itself() -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=500) as writer:
        for first in (1, 2, 3):
            writer.commit([numbered(first, 1, size=5000)])
    assert len(segment_files(disk)) == 3
    assert list(frames_of(read_all(disk))) == [1, 2, 3]


def test_short_writes_are_finished() -> None:
    disk = sim()
    disk.short_writes = True
    with open_writer(disk) as writer:
        for first in range(1, 100, 3):
            writer.commit([numbered(first, 2), numbered(first + 2, 1, size=3000)])
    assert list(frames_of(read_all(disk))) == list(range(1, 100))


def test_more_blocks_than_one_system_call_takes(tmp_path: Path) -> None:
    with open_writer(OsDisk(), tmp_path) as writer:
        assert writer.commit([numbered(seq, 1) for seq in range(1, 3001)]) == 3001
    assert list(frames_of(read_all(OsDisk(), tmp_path))) == list(range(1, 3001))


# ---------------------------------------------------------------- two writers


def test_a_second_writer_is_told_who_is_first(tmp_path: Path) -> None:
    disk = OsDisk()
    holder = f"process {disk.process_id()}"
    with open_writer(disk, tmp_path), pytest.raises(ConfigError, match=holder):
        open_writer(disk, tmp_path)
    open_writer(disk, tmp_path).close()


def test_a_folder_that_may_not_be_written_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError):
        open_writer(OsDisk(), tmp_path / "file" / "j")


# ------------------------------------------------------------------ full disk


def test_a_full_disk_takes_nothing_and_goes_on_when_there_is_space() -> None:
    disk = sim(capacity=20_000)
    with open_writer(disk) as writer:
        assert writer.commit([numbered(1, 10)]) == 11
        size = bytes_on_disk(disk)
        with pytest.raises(JournalFull) as caught:
            writer.commit([numbered(11, 10), numbered(21, 1000)])
        assert caught.value.hint
        assert bytes_on_disk(disk) == size
        assert writer.commit([numbered(11, 5)]) == 16
        disk.capacity = 1 << 30
        assert writer.commit([numbered(16, 1000)]) == 1016
    found = frames_of(read_all(disk))
    assert list(found) == list(range(1, 1016))
    assert all(says_its_seq(*item) for item in found.items())


def test_the_ballast_makes_room_for_the_last_records_and_comes_back() -> None:
    disk = sim(capacity=40_000)
    with open_writer(disk, ballast_bytes=8000) as writer:
        assert BALLAST in disk.names
        disk.capacity = sum(len(inode.data) for inode in disk.names.values())
        assert writer.commit([numbered(1, 100)]) == 101
        assert BALLAST not in disk.names
        with pytest.raises(JournalFull):
            writer.commit([numbered(101, 1000)])
        assert writer.commit([numbered(101, 1)]) == 102
        disk.capacity += 8000
        assert writer.commit([numbered(102, 1)]) == 103
        assert BALLAST not in disk.names, "it must not take the last space for itself"
        disk.capacity = 1 << 30
        assert writer.commit([numbered(103, 1)]) == 104
        assert BALLAST in disk.names
    assert list(frames_of(read_all(disk))) == list(range(1, 104))


def test_a_ballast_is_found_again() -> None:
    disk = sim()
    open_writer(disk, ballast_bytes=8000).close()
    with open_writer(disk, ballast_bytes=8000) as writer:
        disk.capacity = sum(len(inode.data) for inode in disk.names.values())
        assert writer.commit([numbered(1, 100)]) == 101
        assert BALLAST not in disk.names


def test_a_full_disk_at_a_roll_leaves_no_scratch_file_behind() -> None:
    disk = sim(capacity=1 << 30)
    with open_writer(disk, segment_bytes=1000) as writer:
        writer.commit([numbered(1, 20)])
        disk.capacity = sum(len(inode.data) for inode in disk.names.values()) + 30
        with pytest.raises(JournalFull):
            writer.commit([numbered(21, 5)])
        assert not [path for path in disk.names if path.suffix == ".tmp"]
        disk.capacity = 1 << 30
        assert writer.commit([numbered(21, 5)]) == 26
    assert list(frames_of(read_all(disk))) == list(range(1, 26))


def test_a_journal_opens_on_a_full_disk() -> None:
    disk = sim(capacity=1 << 30)
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 20)])
    disk.capacity = 0
    with open_writer(disk, ballast_bytes=1000) as writer:
        assert writer.position.seq == 21
        assert list(frames_of(read_all(disk))) == list(range(1, 21))


def test_no_space_for_a_first_segment_is_said_at_opening() -> None:
    with pytest.raises(JournalFull):
        open_writer(sim(capacity=30))


# ---------------------------------------------------------------- failed sync


def test_a_failed_sync_gives_the_descriptor_up_and_writes_the_batch_anew() -> None:
    disk = sim()
    fail = disk.fault = FailNext("fdatasync")
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        with JournalReader(FOLDER, disk=disk) as reader:
            drain(reader)
            old = disk.names[segment_files(disk)[0]]
            fail.times = 1
            assert writer.commit([numbered(11, 10)]) == 21
            assert list(frames_of(drain(reader))) == list(range(11, 21))
        assert [path.stem for path in segment_files(disk)] == [f"{1:020d}", f"{11:020d}"]
        assert all(old is not inode for inode, _ in disk.handles.values())
    assert list(frames_of(read_all(disk))) == list(range(1, 21))
    assert not losses_of(read_all(disk))


def test_a_failed_sync_of_the_very_first_batch_replaces_the_segment_for_readers_too() -> None:
    disk = sim(3)
    fail = disk.fault = FailNext("fdatasync")
    with open_writer(disk) as writer:
        reader = JournalReader(FOLDER, disk=disk)
        assert reader.read() == []
        fail.times = 3
        with pytest.raises(Transient):
            writer.commit([draft(b"never acknowledged", b"x")])
        assert reader.read() == []
        fail.times = 1
        assert writer.commit([numbered(1, 1)]) == 2
        assert says_its_seq(1, drain(reader)[0].payloads[0])
        assert len(segment_files(disk)) == 1
        reader.close()


def test_a_disk_that_fails_every_time_is_transient_and_nothing_is_in_the_log() -> None:
    disk = sim()
    fail = disk.fault = FailNext("fdatasync")
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 5)])
        fail.times = 100
        with pytest.raises(Transient) as caught:
            writer.commit([draft(b"lost", b"lost")])
        assert not isinstance(caught.value, JournalFull)
        assert writer.position.seq == 6
        fail.times = 0
        assert writer.commit([numbered(6, 5)]) == 11
    found = frames_of(read_all(disk))
    assert all(says_its_seq(*item) for item in found.items())
    assert list(found) == list(range(1, 11))


@pytest.mark.parametrize("operation", ["pwritev", "fdatasync", "rename", "fsync_dir", "create"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_any_error_anywhere_in_a_commit_loses_and_doubles_nothing(
    operation: str, number: int, times: int
) -> None:
    disk = sim(times)
    fail = disk.fault = FailNext(operation, number)
    with open_writer(disk, segment_bytes=600) as writer:
        seq = 1
        for _ in range(12):
            fail.times, fail.skip = times, disk.rng.randrange(3)
            try:
                seq = writer.commit([numbered(seq, 4)])
            except Transient:
                assert writer.position.seq == seq
        fail.times = 0
        end = writer.commit([numbered(seq, 4)])
    found = frames_of(read_all(disk))
    assert list(found) == list(range(1, end))
    assert all(says_its_seq(*item) for item in found.items())
    disk.lose_power()
    open_writer(disk).close()
    assert frames_of(read_all(disk)) == found


def journal_with_leftovers() -> SimDisk:
    """Its first segment goes on with a batch that could neither be synced nor removed."""
    disk = sim()
    failing = True

    def fault(operation: str) -> None:
        if failing and operation in {"fdatasync", "truncate"}:
            raise OSError(errno.EIO, "failing")

    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        disk.fault = fault
        with pytest.raises(Transient):
            writer.commit([draft(b"stale"), draft(b"stale", b"stale")])
        failing = False
        writer.commit([numbered(11, 1)])
        writer.commit([numbered(12, 9)])
    assert b"stale" in content(disk, segment_files(disk)[0])
    return disk


def test_a_segment_ends_where_the_next_one_begins_whatever_follows_in_it() -> None:
    disk = journal_with_leftovers()
    found = frames_of(read_all(disk))
    assert list(found) == list(range(1, 21))
    assert all(says_its_seq(*item) for item in found.items())
    report = fsck(FOLDER, disk=disk)
    assert report.ok
    assert (report.frames, report.findings) == (20, ())


def test_damage_before_leftovers_is_lost_up_to_the_next_segment_only() -> None:
    disk = journal_with_leftovers()
    path = segment_files(disk)[0]
    magic = content(disk, path).find(b"\x89FBJB", 200)
    disk.flip(path, 70 * 8)
    disk.flip(path, magic * 8)
    blocks = read_all(disk)
    assert losses_of(blocks) == [(1, 10)]
    assert list(frames_of(blocks)) == list(range(11, 21))


def test_a_leftover_that_reaches_into_the_next_segment_is_not_read() -> None:
    disk = journal_with_leftovers()
    old, new = segment_files(disk)
    disk.names[FOLDER / f"{13:020d}.fbj"] = disk.names.pop(new)
    blocks = read_all(disk)
    assert b"stale" in content(disk, old)
    assert (12, 12) in losses_of(blocks)
    assert not {12, 13} & frames_of(blocks).keys()


def test_a_watermark_that_cannot_be_written_does_not_undo_a_commit() -> None:
    disk = sim()
    fail = disk.fault = FailNext("pwritev", skip=1)
    with open_writer(disk) as writer:
        fail.skip, fail.times = 1, 1
        assert writer.commit([numbered(1, 2)]) == 3
        assert fail.times == 0
        assert read_all(disk) == []
        assert writer.commit([]) == 3
        assert list(frames_of(read_all(disk))) == [1, 2]


# --------------------------------------------------------------------- floor


def test_a_consumer_ahead_of_the_log_begins_a_new_one_that_says_what_vanished() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        old = writer.position.log_id
    cursor = Position(old, 15)
    with open_writer(disk, floor=[Position(old, 4), cursor, Position("f" * 32, 99)]) as writer:
        assert writer.report.new_log
        assert writer.report.losses == ((11, 14),)
        new = writer.position
        assert new.log_id != old
        assert new.seq == 16
        writer.commit([numbered(16, 3)])
    for start, seqs in ((cursor, [16, 17, 18]), (Position(old, 9), [9, 10, 16, 17, 18])):
        blocks = read_all(disk, start=start)
        assert list(frames_of(blocks)) == seqs
        assert losses_of(blocks) == [(11, 14)]
        assert blocks[-1].log_id == new.log_id
    with open_writer(disk, floor=[cursor]) as writer:
        assert not writer.report.new_log


def test_a_floor_inside_the_log_changes_nothing() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        end = writer.position
    with open_writer(disk, floor=[end]) as writer:
        assert writer.position == end


# -------------------------------------------------------------------- cursors


def test_a_cursor_is_stored_and_loaded(tmp_path: Path) -> None:
    cursor = CursorFile(tmp_path / "c" / "store.cursor")
    assert cursor.load() is None
    for seq in (1, 2, 2**40):
        cursor.store(Position("ab" * 16, seq))
        assert CursorFile(tmp_path / "c" / "store.cursor").load() == Position("ab" * 16, seq)
    cursor.close()
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["store.cursor"]
