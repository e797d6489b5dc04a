"""Opening after a crash: the exact prefix, nothing acknowledged dropped, no start-up refused."""

from __future__ import annotations

import random

import pytest

from forebay.errors import Transient
from forebay.journal import JournalReader, Position, RecoveryReport, fsck
from forebay.journal.recovery import decide
from forebay.journal.scan import Damage, SoundBlock
from tests.support.sim_disk import FailNext, SimDisk
from tests.unit.journal.helpers import (
    FOLDER,
    bytes_on_disk,
    content,
    drain,
    forget_watermark,
    frames_of,
    losses_of,
    numbered,
    open_writer,
    overwrite,
    read_all,
    says_its_seq,
    segment_files,
    sim,
    sound,
)


def journal(blocks: int = 6, *, clean: bool = False) -> tuple[SimDisk, list[int]]:
    """A journal of blocks of three frames, killed or closed, and where each block ends."""
    disk = sim()
    writer = open_writer(disk)
    ends = [bytes_on_disk(disk)]
    for index in range(blocks):
        writer.commit([numbered(1 + 3 * index, 3)])
        ends.append(bytes_on_disk(disk))
    if clean:
        writer.close()
    disk.kill()
    return disk, ends


def hole(offset: int, end: int, first: int, following: int | None) -> Damage:
    return Damage(offset, end, first, following)


@pytest.mark.parametrize(
    ("found", "proved", "expected"),
    [
        ([], 0, (1, 64, (), False)),
        ([sound(64, 90, 1, 5, 1)], 0, (5, 90, (), False)),
        ([sound(64, 90, 1, 5, 1), hole(90, 99, 5, None)], 0, (5, 90, (), False)),
        ([sound(64, 90, 1, 5, 1), hole(90, 99, 5, None)], 5, (5, 90, (), False)),
        ([sound(64, 90, 1, 5, 1), hole(90, 99, 5, None)], 8, (8, 90, ((5, 7),), True)),
        ([sound(64, 90, 1, 5, 1)], 8, (8, 90, ((5, 7),), True)),
        ([], 8, (8, 64, ((1, 7),), True)),
        # a later block proves that the hole before it was acknowledged
        (
            [sound(64, 90, 1, 5, 1), hole(90, 99, 5, 8), sound(99, 120, 8, 9, 8)],
            0,
            (9, 120, ((5, 7),), False),
        ),
        # a power cut kept a later page of a batch that was never acknowledged
        (
            [sound(64, 90, 1, 5, 1), hole(90, 99, 5, 8), sound(99, 120, 8, 9, 5)],
            0,
            (5, 90, (), False),
        ),
        # bytes that are no block, but no frame is missing
        (
            [sound(64, 90, 1, 5, 1), hole(90, 99, 5, 5), sound(99, 120, 5, 9, 5)],
            9,
            (9, 120, (), False),
        ),
    ],
)
def test_damage_is_told_from_a_torn_end(
    found: list[SoundBlock | Damage],
    proved: int,
    expected: tuple[int, int, tuple[tuple[int, int], ...], bool],
) -> None:
    verdict = decide(found, 1, 64, proved)
    judged = (verdict.end_seq, verdict.end_offset, verdict.losses, verdict.abandoned)
    assert judged == expected


def test_a_clean_journal_is_opened_as_it_is() -> None:
    disk, _ = journal(clean=True)
    before = content(disk, segment_files(disk)[0])
    with open_writer(disk) as writer:
        assert writer.report == RecoveryReport()
        assert writer.position.seq == 19
    assert content(disk, segment_files(disk)[0]) == before


def test_cut_at_every_offset_without_a_watermark_an_exact_prefix_is_left() -> None:
    disk, ends = journal()
    path = segment_files(disk)[0]
    raw = content(disk, path)
    forget_watermark(disk)
    for cut in range(ends[0], len(raw) + 1):
        overwrite(disk, path, raw[:cut])
        whole = sum(end <= cut for end in ends) - 1
        with open_writer(disk) as writer:
            assert writer.position.seq == 1 + 3 * whole
            assert writer.report.truncated_bytes == cut - ends[whole]
            assert writer.report.tail == ("whole" if cut in ends else "undecided")
            assert list(frames_of(read_all(disk))) == list(range(1, 1 + 3 * whole))
            writer.commit([numbered(writer.position.seq, 1)])
            found = frames_of(read_all(disk))
            assert len(found) == 3 * whole + 1
            assert all(says_its_seq(*item) for item in found.items())
        for name in segment_files(disk)[1:]:
            disk.unlink(name)
        forget_watermark(disk)


def test_cut_at_every_offset_with_a_watermark_everything_missing_is_declared() -> None:
    disk, ends = journal()
    path = segment_files(disk)[0]
    raw, mark = content(disk, path), content(disk, FOLDER / "watermark")
    for cut in range(len(raw)):
        overwrite(disk, path, raw[:cut])
        overwrite(disk, FOLDER / "watermark", mark)
        whole = max(0, sum(end <= cut for end in ends) - 1)
        with open_writer(disk) as writer:
            assert writer.report.losses == ((1 + 3 * whole, 18),)
            assert writer.report.truncated_bytes == 0
            assert writer.commit([numbered(19, 2)]) == 21
            blocks = read_all(disk)
        assert losses_of(blocks) == [(1 + 3 * whole, 18)]
        assert list(frames_of(blocks)) == [*range(1, 1 + 3 * whole), 19, 20]
        disk.unlink(segment_files(disk)[-1])


def test_an_unfinished_write_after_a_kill_is_known_to_be_unacknowledged() -> None:
    disk, _ = journal()
    path = segment_files(disk)[0]
    raw = content(disk, path)
    overwrite(disk, path, raw + raw[64:120])
    with open_writer(disk) as writer:
        assert (writer.report.truncated_bytes, writer.report.tail) == (56, "never acknowledged")
        assert writer.report.losses == ()
        assert writer.position.seq == 19
    assert content(disk, path) == raw


def test_after_a_clean_close_even_the_last_frames_are_proved() -> None:
    disk, ends = journal(clean=True)
    disk.flip(segment_files(disk)[0], (ends[-1] - 5) * 8)
    forget_watermark(disk)
    with open_writer(disk) as writer:
        assert writer.report.losses == ((16, 18),)
        assert writer.position.seq == 19
    blocks = read_all(disk)
    assert losses_of(blocks) == [(16, 18)]


def test_a_sound_header_proves_what_came_before_it_even_if_its_body_is_damaged() -> None:
    disk, ends = journal()
    path = segment_files(disk)[0]
    disk.flip(path, (ends[-2] - 5) * 8)
    disk.flip(path, (ends[-1] - 5) * 8)
    forget_watermark(disk)
    with open_writer(disk) as writer:
        assert writer.report.losses == ((13, 15),)
        assert writer.position.seq == 16


def test_acknowledged_but_damaged_bytes_are_never_cut_off() -> None:
    disk, ends = journal()
    path = segment_files(disk)[0]
    disk.flip(path, (ends[-1] - 5) * 8)
    raw = content(disk, path)
    with open_writer(disk) as writer:
        assert writer.report.losses == ((16, 18),)
        assert writer.commit([numbered(19, 3)]) == 22
    assert content(disk, path) == raw
    assert losses_of(read_all(disk)) == [(16, 18)]
    assert list(frames_of(read_all(disk))) == [*range(1, 16), 19, 20, 21]


def test_the_recovered_end_is_written_again_and_synced_before_it_is_served() -> None:
    # A page whose sync failed is clean in memory and missing on the disk.
    disk = sim(5)
    writer = open_writer(disk)
    writer.commit([numbered(1, 100)])
    disk.fault = FailNext("fdatasync", times=1)
    disk.fault.skip = 0

    def die_after_failing(operation: str) -> None:
        if operation == "truncate":
            raise RuntimeError("killed")
        fail(operation)

    fail = disk.fault
    disk.fault = die_after_failing
    with pytest.raises(RuntimeError):
        writer.commit([numbered(101, 100)])
    disk.kill()
    disk.fault = lambda _: None
    open_writer(disk)
    served = frames_of(read_all(disk))
    assert len(served) == 200
    disk.lose_power()
    with open_writer(disk) as writer:
        assert writer.report.losses == ()
        assert frames_of(read_all(disk)) == served


def test_a_sync_that_fails_during_recovery_moves_the_end_to_a_new_segment() -> None:
    disk, _ = journal()
    disk.fault = FailNext("fdatasync", times=1)
    with open_writer(disk) as writer:
        assert writer.commit([numbered(19, 1)]) == 20
    assert list(frames_of(read_all(disk))) == list(range(1, 20))
    disk.lose_power()
    open_writer(disk).close()
    assert list(frames_of(read_all(disk))) == list(range(1, 20))


def test_a_disk_that_cannot_sync_at_all_is_transient_and_lets_the_folder_go() -> None:
    disk, _ = journal()
    disk.fault = FailNext("fdatasync", times=9)
    with pytest.raises(Transient):
        open_writer(disk)
    assert not disk.handles
    disk.fault = lambda _: None
    with open_writer(disk) as writer:
        assert writer.position.seq == 19


def test_the_name_of_a_segment_is_synced_before_it_is_served() -> None:
    disk, _ = journal()
    disk.log.clear()
    with open_writer(disk):
        assert disk.log.index("fsync_dir") < len(disk.log) - 1 - disk.log[::-1].index("pwritev")


def test_what_a_crash_left_unnamed_is_removed() -> None:
    disk, _ = journal()
    disk.close(disk.open(FOLDER / f"{'ab' * 16}.tmp", create=True))
    disk.close(disk.open(FOLDER / ".consumer.tmp", create=True))
    open_writer(disk).close()
    assert [path.name for path in disk.names if path.suffix == ".tmp"] == [".consumer.tmp"]


def test_segments_that_are_all_gone_do_not_give_their_numbers_away_again() -> None:
    disk, _ = journal()
    with open_writer(disk) as writer:
        end = writer.position
    disk.unlink(segment_files(disk)[0])
    with open_writer(disk) as writer:
        assert writer.position == end
        assert writer.report.losses == ((1, 18),)
        writer.commit([numbered(19, 1)])
        blocks = read_all(disk, start=Position(end.log_id, 5))
    assert losses_of(blocks) == [(5, 18)]
    assert list(frames_of(blocks)) == [19]


def test_a_last_segment_that_vanished_is_declared_up_to_the_watermark() -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=10) as writer:
        for first in range(1, 40, 10):
            writer.commit([numbered(first, 10)])
        log_id = writer.position.log_id
    disk.unlink(segment_files(disk)[-1])
    with open_writer(disk) as writer:
        assert writer.position == Position(log_id, 41)
        assert writer.report.losses == ((31, 40),)
    assert losses_of(read_all(disk)) == [(31, 40)]


@pytest.mark.parametrize("garbage", [b"", b"\0" * 5000, bytes(range(256)) * 20])
def test_a_last_file_of_garbage_stops_nobody(garbage: bytes) -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=10) as writer:
        writer.commit([numbered(1, 10)])
        writer.commit([numbered(11, 10)])
    forget_watermark(disk)
    overwrite(disk, segment_files(disk)[-1], garbage)
    with open_writer(disk) as writer:
        assert writer.position.seq == 11
        assert writer.commit([numbered(11, 5)]) == 16
    found = frames_of(read_all(disk))
    assert list(found) == list(range(1, 16))


def flipped(seed: int, rng: random.Random, raw: dict[int, bytes], disk: SimDisk) -> None:
    """Flip one bit to forty bits somewhere and open, read, write and check."""
    paths = segment_files(disk)
    flips = rng.choice([1, 1, 1, 2, 40])
    for _ in range(flips):
        path = rng.choice(paths)
        disk.flip(path, rng.randrange(len(content(disk, path)) * 8))
    if seed % 3 == 0:
        forget_watermark(disk)
    with open_writer(disk) as writer:
        end = writer.commit([numbered(writer.position.seq, 2)])
        with JournalReader(FOLDER, disk=disk) as reader:
            blocks = drain(reader)
    found = frames_of(blocks)
    for seq, payload in found.items():
        assert says_its_seq(seq, payload)
        assert seq >= end - 2 or raw[seq] == payload
    lost = {seq for first, last in losses_of(blocks) for seq in range(first, last + 1)}
    assert lost.isdisjoint(found)
    assert lost | found.keys() == set(range(1, end)), "silence"
    assert blocks[-1].next_seq == end
    # Only the last batch was proved by nothing but the watermark.
    if flips == 1 or seed % 3:
        assert end - 2 >= (21 if seed % 3 else 19)
    if lost and seed % 10 == 0:
        assert not fsck(FOLDER, disk=disk).ok


def test_bit_flips_never_deliver_damage_never_loop_and_never_stop_a_start() -> None:
    template = sim()
    writer = open_writer(template, segment_bytes=800)
    for first in range(1, 20, 2):
        writer.commit([numbered(first, 2)])
    raw = frames_of(read_all(template))
    template.kill()
    files = {path: content(template, path) for path in template.names}
    assert len(segment_files(template)) > 2
    for seed in range(2500):
        rng = random.Random(seed)
        disk = sim(seed)
        for path, data in files.items():
            disk.close(disk.open(path, create=True))
            overwrite(disk, path, data)
        flipped(seed, rng, raw, disk)
