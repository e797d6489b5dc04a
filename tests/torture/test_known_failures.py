"""What others learned the hard way; each test is named after what it teaches.

The numbers are those of the projects' own reports and fixes: Vector #17644, #18336, #19759 and
pull requests #25570 and #25766; Fluent Bit #10952, #5265 and #11847; persist-queue #180, #56 and
#142; Kafka pull request #8812.
"""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.journal import CursorFile, JournalReader, JournalWriter, ensure_durable, fsck
from tests.support.sim_disk import Killed, Patience, SimDisk
from tests.support.torture import CURSOR, FOLDER, Got, open_at, template
from tests.unit.journal.helpers import (
    drain,
    frames_of,
    losses_of,
    numbered,
    open_writer,
    overwrite,
    read_all,
    segment_files,
    sim,
)

if TYPE_CHECKING:
    from pathlib import Path

OPEN = template(closed=False)
SEGMENTS = sorted(name for name in OPEN.files if name.endswith(".fbj"))


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("garbage", [b"", b"\0" * 5000, b"\x89FBJB\r\n\x1a" * 300, bytes(10)])
def test_corruption_makes_no_reader_go_in_circles(name: str, garbage: bytes) -> None:
    """Vector #17644: a damaged record was met, skipped, and met again for ever."""
    disk = SimDisk.of(FOLDER, OPEN.files | {name: garbage})
    disk.fault = Patience(200)
    before = Got.of(read_all(disk))
    assert before.losses, "nothing was damaged"
    fsck(FOLDER, disk=disk)
    with open_at(disk) as writer:
        assert writer.commit([numbered(writer.position.seq, 1)]) == 14
    assert Got.of(read_all(disk)).frames[-1][0] == 13


def test_nobody_has_to_delete_the_journal_to_get_on() -> None:
    """Vector #18336 and #19759: after a crash the buffer stayed stuck until it was deleted."""
    for seed in range(40):
        rng = random.Random(seed)
        disk = SimDisk.of(FOLDER, OPEN.files)
        for name in disk.files:  # everything is damaged at once
            for _ in range(rng.randint(1, 20)):
                disk.flip(FOLDER / name, rng.randrange(len(disk.files[name]) * 8))
        with open_at(disk, seed) as writer:
            first = writer.position.seq
            writer.commit([numbered(first, 3)])
            assert {first, first + 1, first + 2} <= frames_of(read_all(disk)).keys()


def test_a_cursor_is_durable_before_anything_is_removed_that_it_has_passed() -> None:
    """Vector PR #25570: the file was unlinked before the ledger that said so was synced."""
    for seed in range(60):
        disk = SimDisk(random.Random(seed))
        with open_writer(disk, segment_bytes=300) as writer:
            for first in range(1, 20, 2):
                writer.commit([numbered(first, 2)])
            with JournalReader(FOLDER, disk=disk) as reader:
                drain(reader, max_frames=7)
                passed = reader.position
        cursor = CursorFile(CURSOR, disk)
        cursor.store(passed)
        for path in segment_files(disk)[:-1]:
            disk.unlink(path)
        disk.lose_power()
        assert CursorFile(CURSOR, disk).load() == passed
        ensure_durable(FOLDER, ManualClock(), disk=disk, floor=[passed])
        with JournalReader(FOLDER, start=passed, disk=disk) as reader:
            assert drain(reader) == []
            assert reader.position == passed


def test_the_folder_is_synced_before_a_name_in_it_is_relied_upon() -> None:
    """Vector PR #25766: the directory was never synced, and whole files were gone."""
    for seed in range(100):
        disk = SimDisk(random.Random(seed))
        writer = open_writer(disk, segment_bytes=300)
        cursor = CursorFile(CURSOR, disk)
        for first in range(1, 12, 2):
            writer.commit([numbered(first, 2)])
        cursor.store(writer.position)
        stored = writer.position
        disk.lose_power()
        assert CursorFile(CURSOR, disk).load() == stored
        with open_writer(disk, floor=[stored]) as writer:
            assert writer.position == stored
        assert list(frames_of(read_all(disk))) == list(range(1, 13))


def test_a_sigkill_right_after_the_acknowledgement_loses_nothing() -> None:
    """Fluent Bit #10952: data was acknowledged and lay in memory when SIGKILL came.

    With a real process: ``test_kill_9.py``.
    """
    disk = sim()
    writer = open_writer(disk)
    (path,) = segment_files(disk)
    stable_at_ack = []
    for first in range(1, 30, 3):
        end = writer.commit([numbered(first, 3)])
        stable_at_ack.append((end, bytes(disk.names[path].stable)))
    for end, stable in stable_at_ack:
        fresh = sim()
        fresh.close(fresh.open(path, create=True))
        overwrite(fresh, path, stable)
        with open_writer(fresh) as writer:
            assert writer.position.seq == end


@pytest.mark.parametrize("index", range(3))
def test_one_bad_segment_keeps_nobody_from_starting(index: int) -> None:
    """Fluent Bit #5265 and #11847: one chunk of garbage, and the program did not start."""
    for size in (0, 1, 63, 64, 100, 5000):
        junk = random.Random(size).randbytes(size)
        disk = SimDisk.of(FOLDER, OPEN.files | {SEGMENTS[index]: junk})
        with open_at(disk) as writer:
            assert writer.position.seq == 13
            first = 1 + 4 * index
            assert losses_of(read_all(disk)) == [(first, first + 3)]
            assert len(frames_of(read_all(disk))) == 8


def test_a_power_cut_leaves_everything_readable() -> None:
    """persist-queue #180, #56 and #142: after a power cut the files could not be opened."""
    for seed in range(150):
        disk = SimDisk(random.Random(seed))
        writer = open_writer(disk, segment_bytes=random.Random(seed).choice([300, 5000]))
        cursor = CursorFile(CURSOR, disk)
        for first in range(1, 8, 2):
            writer.commit([numbered(first, 2)])
            cursor.store(writer.position)

        def half_way(operation: str) -> None:
            if operation == "fdatasync":
                raise Killed

        disk.fault = half_way
        with pytest.raises(Killed):
            writer.commit([numbered(9, 2, size=2000)])
        disk.fault = lambda _: None
        disk.lose_power()
        position = CursorFile(CURSOR, disk).load()
        assert position is not None
        with open_writer(disk, floor=[position]) as writer:
            assert writer.report.losses == ()
            assert writer.position.seq in {9, 11}
            assert not writer.report.new_log


@pytest.mark.parametrize("refused", [False, True])
def test_the_recovered_tail_is_on_the_disk_before_it_is_served(*, refused: bool) -> None:
    """Kafka PR #8812: what recovery kept was served, and the next power cut took it back.

    If the sync was not only cut short but refused, the pages are clean in memory: then it takes
    more than a sync to bring them to the disk.
    """
    for seed in range(80):
        disk = SimDisk(random.Random(seed))
        writer = open_writer(disk)
        writer.commit([numbered(1, 2)])

        def die(operation: str) -> None:
            if operation == "fdatasync" and refused:
                raise OSError(errno.EIO, "refused")
            if operation in {"fdatasync", "truncate"}:
                raise Killed

        disk.fault = die
        with pytest.raises(Killed):
            writer.commit([numbered(3, 2, size=3000)])
        disk.fault = lambda _: None
        disk.kill()  # the pages are in memory: recovery finds all of the commit
        open_writer(disk).close()
        served = frames_of(read_all(disk))
        assert len(served) == 4
        disk.lose_power()
        open_writer(disk).close()
        assert frames_of(read_all(disk)) == served


def test_a_closing_block_whose_sync_was_refused_is_on_the_disk_before_it_is_relied_upon() -> None:
    """No frame is lost otherwise, but ``fsck`` finds bytes that are no block in a sound journal."""

    def die(operation: str) -> None:
        if operation == "fdatasync":
            raise OSError(errno.EIO, "refused")
        if operation == "truncate":
            raise Killed

    for size in range(0, 512, 16):  # somewhere the closing block ends on another page
        disk = SimDisk(random.Random(size))
        writer = open_writer(disk)
        writer.commit([numbered(1, 1, size=size)])
        disk.fault = die
        with pytest.raises(Killed):
            writer.close()
        disk.fault = lambda _: None
        disk.kill()
        with open_writer(disk) as writer:
            writer.commit([numbered(2, 1)])
        disk.lose_power()
        open_writer(disk).close()
        assert frames_of(read_all(disk)).keys() == {1, 2}
        assert fsck(FOLDER, disk=disk).findings == ()


def test_a_journal_on_a_real_disk_is_opened_whatever_lies_beside_it(tmp_path: Path) -> None:
    """Names that are not the journal's are left alone, and are nobody's reason not to start."""
    for name in ("lost+found", "00000000000000000001.fbj.bak", "x.fbj", ".nfs0001", "a.tmp"):
        (tmp_path / name).write_bytes(b"junk")
    disk_files = {path.name for path in tmp_path.iterdir()}
    with JournalWriter.open(tmp_path, clock=ManualClock(), ballast_bytes=0) as writer:
        writer.commit([numbered(1, 2)])
    assert disk_files <= {path.name for path in tmp_path.iterdir()}
    assert fsck(tmp_path).findings == ()
