"""Sealing: the journal reads the same before, while and after, whatever happens."""

from __future__ import annotations

import errno
import itertools
import random
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
import xxhash

from forebay.errors import JournalFull, Transient
from forebay.journal import JournalReader, Position, ensure_durable, fsck, inspect, iter_blocks
from forebay.journal import seal as sealing
from forebay.journal.format import SEGMENT_HEADER_SIZE, encode_block_header
from forebay.journal.scan import FileWindow, SoundBlock, walk
from forebay.journal.seal import Unsealable, seal, unsealed
from forebay.journal.segments import list_segments, open_segment, remove_sealing
from tests.support.sim_disk import FailNext, SimDisk
from tests.unit.journal.helpers import (
    FOLDER,
    content,
    draft,
    drain,
    frames_of,
    losses_of,
    numbered,
    open_writer,
    overwrite,
    random_ids,
    read_all,
    says_its_seq,
    segment_files,
    sim,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.journal import Disk


class KilledError(BaseException):
    """The process is gone in the middle of an operation; nothing tidies up behind it."""


def journal(disk: SimDisk, *, frames: int = 240, segment_bytes: int = 6000) -> Position:
    """Frames that say their number, 4 in a block; a closed writer; gives the end."""
    with open_writer(disk, segment_bytes=segment_bytes) as writer:
        for first in range(1, frames, 4):
            writer.commit([numbered(first, 4, size=40)])
        end = writer.position
    ensure(disk)
    return end


def ensure(disk: SimDisk) -> None:
    from forebay.clock import ManualClock

    ensure_durable(FOLDER, ManualClock(), disk=disk)


def seal_at(disk: Disk, index: int) -> None:
    firsts = list_segments(disk, FOLDER)
    seal(disk, FOLDER, firsts[index], firsts[index + 1], random_id=random_ids(index))


def seal_all(disk: Disk) -> None:
    for index in range(len(list_segments(disk, FOLDER)) - 1):
        seal_at(disk, index)


def raw_bytes(disk: SimDisk, index: int) -> bytes:
    firsts = list_segments(disk, FOLDER)
    segment = open_segment(disk, FOLDER, firsts[index])
    try:
        return b"".join(unsealed(disk, segment, firsts[index + 1]))
    finally:
        disk.close(segment.fd)


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several packs in a small segment."""
    monkeypatch.setattr(sealing, "PACK_BYTES", 1500)


pytestmark = pytest.mark.usefixtures("small_packs")


def packs_of(disk: Disk, path_seq: int) -> list[SoundBlock]:
    segment = open_segment(disk, FOLDER, path_seq)
    try:
        window = FileWindow(disk, segment.fd, segment.size)
        found = list(walk(window, SEGMENT_HEADER_SIZE, path_seq, segment.log_id))
    finally:
        disk.close(segment.fd)
    assert all(isinstance(item, SoundBlock) for item in found)
    return [item for item in found if isinstance(item, SoundBlock)]


def test_everything_reads_the_same_and_takes_less_space() -> None:
    disk = sim()
    end = journal(disk)
    before = read_all(disk)
    size = sum(len(content(disk, path)) for path in segment_files(disk))
    seal_all(disk)
    after = read_all(disk)
    assert [(b.first_seq, b.kind, b.context, b.payloads) for b in after] == [
        (b.first_seq, b.kind, b.context, b.payloads) for b in before
    ]
    assert [b.received_ns.tolist() for b in after] == [b.received_ns.tolist() for b in before]
    assert sum(len(content(disk, path)) for path in segment_files(disk)) < size
    assert fsck(FOLDER, disk=disk).ok
    assert len(packs_of(disk, 1)) > 2
    with open_writer(disk) as writer:
        assert writer.position == end


def test_a_sealed_segment_is_unsealed_bit_for_bit() -> None:
    disk = sim()
    journal(disk)
    before = [content(disk, path) for path in segment_files(disk)[:-1]]
    seal_all(disk)
    assert [raw_bytes(disk, index) for index in range(len(before))] == before


def test_the_header_and_the_name_stay() -> None:
    disk = sim()
    journal(disk)
    names, path = segment_files(disk), segment_files(disk)[0]
    head = content(disk, path)[:SEGMENT_HEADER_SIZE]
    seal_at(disk, 0)
    assert segment_files(disk) == names
    assert content(disk, path)[:SEGMENT_HEADER_SIZE] == head


def test_reading_may_begin_and_stop_anywhere() -> None:
    disk = sim()
    end = journal(disk, frames=80)
    seal_all(disk)
    for seq in range(1, end.seq + 1):
        blocks = read_all(disk, start=Position(end.log_id, seq))
        assert list(frames_of(blocks)) == list(range(seq, end.seq))
        assert losses_of(blocks) == []
    for limit in (1, 3, 7):
        with JournalReader(FOLDER, disk=disk) as reader:
            found = frames_of(drain(reader, max_frames=limit))
        assert all(says_its_seq(*pair) for pair in found.items())
        assert list(found) == list(range(1, end.seq))


def test_a_reader_that_holds_the_old_file_goes_on_undisturbed() -> None:
    for taken in (1, 10, 60, 100):
        disk = sim()
        end = journal(disk)
        with JournalReader(FOLDER, disk=disk) as reader:
            first = reader.read(max_frames=taken)
            seal_all(disk)
            found = frames_of(first + drain(reader))
        assert list(found) == list(range(1, end.seq))


def test_blocks_without_frames_at_the_end_are_kept_and_what_was_given_up_is_not() -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=700) as writer:
        writer.commit([numbered(1, 4, size=40)])
    with open_writer(disk, segment_bytes=700) as writer:
        writer.commit([numbered(5, 8, size=40)])
        writer.commit([numbered(13, 8, size=40)])
    path = segment_files(disk)[0]
    whole = content(disk, path)
    assert len(packs_of(disk, 1)) == 2, "the second is what closing wrote"
    overwrite(disk, path, whole + b"\x01" * 100)
    seal_at(disk, 0)
    assert raw_bytes(disk, 0) == whole
    assert [len(pack.blocks) for pack in packs_of(disk, 1)] == [2]


def test_a_large_block_makes_a_pack_by_itself() -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=20_000) as writer:
        for payload in (b"a", b"b" * 5000, b"c", b"d", b"e" * 20_000):
            writer.commit([draft(payload)])
    seal_at(disk, 0)
    assert [len(pack.blocks) for pack in packs_of(disk, 1)] == [1, 1, 2]


def test_a_block_that_fits_no_pack_leaves_the_segment_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealing, "MAX_PACK_BYTES", 100)
    disk = sim()
    journal(disk)
    before = dict(disk.names)
    with pytest.raises(Unsealable, match="its block 1 fits no pack"):
        seal_at(disk, 0)
    assert disk.names == before


def test_nothing_is_sealed_twice() -> None:
    disk = sim()
    journal(disk)
    seal_at(disk, 0)
    with pytest.raises(Unsealable, match="sealed already"):
        seal_at(disk, 0)


@pytest.mark.parametrize(
    ("offset", "why"), [(40, "its header is damaged"), (900, "it has a hole at 5")]
)
def test_damage_is_kept_as_evidence(offset: int, why: str) -> None:
    disk = sim()
    journal(disk)
    path = segment_files(disk)[0]
    at = offset if offset < SEGMENT_HEADER_SIZE else SEGMENT_HEADER_SIZE + 400
    disk.flip(path, 8 * at)
    before, names = content(disk, path), set(disk.names)
    with pytest.raises(Unsealable, match=why) as raised:
        seal_at(disk, 0)
    assert "fsck" in raised.value.hint
    assert (content(disk, path), set(disk.names)) == (before, names)


def test_a_segment_that_ends_too_early_is_kept_as_evidence() -> None:
    disk = sim()
    journal(disk)
    path = segment_files(disk)[0]
    overwrite(disk, path, content(disk, path)[:-100])
    with pytest.raises(Unsealable, match="it has a hole at"):
        seal_at(disk, 0)


@pytest.mark.parametrize("inside", ["head", "body"])
def test_a_damaged_pack_is_a_loss_of_exactly_its_range(inside: str) -> None:
    disk = sim()
    end = journal(disk)
    seal_all(disk)
    for pack in packs_of(disk, 1):
        path = segment_files(disk)[0]
        whole = content(disk, path)
        disk.flip(path, 8 * (pack.offset + (30 if inside == "head" else 100)))
        lost = (pack.header.first_seq, pack.header.next_seq - 1)
        blocks = read_all(disk)
        assert losses_of(blocks) == [lost]
        assert [*frames_of(blocks)] == [n for n in range(1, end.seq) if not lost[0] <= n <= lost[1]]
        report = fsck(FOLDER, disk=disk)
        assert not report.ok
        assert [(f.first_seq, f.last_seq) for f in report.findings] == [lost]
        overwrite(disk, path, whole)
    assert fsck(FOLDER, disk=disk).ok


def test_a_pack_that_is_written_wrong_is_a_loss_although_its_digest_is_right() -> None:
    disk = sim()
    end = journal(disk)
    seal_all(disk)
    path, pack = segment_files(disk)[0], packs_of(disk, 1)[0]
    whole = content(disk, path)
    body = whole[pack.offset + 88 : pack.end]
    for wrong in (body[:-1] + bytes([body[-1] ^ 1]), recompressed(bytes(pack.body[:-1]) + b"?")):
        header = pack.header._replace(body_len=len(wrong), digest=xxhash.xxh3_64_intdigest(wrong))
        made = encode_block_header(header) + wrong
        overwrite(disk, path, whole[: pack.offset] + made + whole[pack.end :])
        blocks = read_all(disk)
        assert losses_of(blocks) == [(1, pack.header.next_seq - 1)]
        assert list(frames_of(blocks)) == list(range(pack.header.next_seq, end.seq))
        assert not fsck(FOLDER, disk=disk).ok


def recompressed(raw: bytes) -> bytes:
    compressed: bytes = pa.Codec("zstd").compress(raw, asbytes=True)
    return compressed


def test_every_truncation_of_a_sealed_segment_keeps_a_prefix() -> None:
    disk = sim()
    end = journal(disk, frames=80)
    seal_all(disk)
    path = segment_files(disk)[0]
    whole, following = content(disk, path), list_segments(disk, FOLDER)[1]
    packs = packs_of(disk, 1)
    for size in range(SEGMENT_HEADER_SIZE, len(whole)):
        overwrite(disk, path, whole[:size])
        kept = max((p.header.next_seq for p in packs if p.end <= size), default=1)
        blocks = read_all(disk)
        assert losses_of(blocks) == [(kept, following - 1)]
        assert list(frames_of(blocks)) == [*range(1, kept), *range(following, end.seq)]


def operations(disk: SimDisk, act: Callable[[], object]) -> int:
    before = len(disk.log)
    act()
    return len(disk.log) - before


def killed_at(disk: SimDisk, number: int) -> bool:
    """Seal the first segment and die at the operation of this number; whether it got there."""
    left = itertools.count(number, -1)

    def fault(_: str) -> None:
        if next(left) == 0:
            raise KilledError

    disk.fault = fault
    try:
        seal_at(disk, 0)
    except KilledError:
        return True
    finally:
        disk.fault = lambda _: None
    return False


@pytest.mark.parametrize("power", [False, True])
def test_a_crash_at_any_operation_changes_nothing_that_is_read(power: bool) -> None:
    sealed, number, reached = set(), 0, True
    while reached:
        for seed in range(3):
            disk = sim(seed)
            disk.short_writes = bool(seed % 2)
            end = journal(disk, frames=80)
            raw = raw_bytes(disk, 0)
            reached = killed_at(disk, number)
            if power:
                disk.lose_power()
            else:
                disk.kill()
            ensure(disk)
            found = frames_of(read_all(disk))
            assert list(found) == list(range(1, end.seq))
            assert all(says_its_seq(*pair) for pair in found.items())
            assert fsck(FOLDER, disk=disk).ok
            assert raw_bytes(disk, 0) == raw
            remove_sealing(disk, FOLDER)
            assert not [name for name in disk.names if name.suffix == ".seal"]
            sealed.add(inspect(FOLDER, disk=disk)[0].sealed)
        number += 1
    assert sealed == {False, True}
    assert number > 8


@pytest.mark.parametrize("operation", ["create", "pwritev", "fdatasync", "rename", "fsync_dir"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_refusal_leaves_the_segment_and_no_rubbish_and_may_be_tried_again(
    operation: str, number: int
) -> None:
    disk = sim()
    end = journal(disk)
    disk.fault = FailNext(operation, number, times=1)
    with pytest.raises(JournalFull if number == errno.ENOSPC else Transient):
        seal_at(disk, 0)
    assert not [name for name in disk.names if name.suffix == ".seal"]
    assert list(frames_of(read_all(disk))) == list(range(1, end.seq))
    if operation != "fsync_dir":
        seal_at(disk, 0)
    assert inspect(FOLDER, disk=disk)[0].sealed


class Forgetful(SimDisk):
    """A disk that keeps something else than it was given."""

    def pwritev(self, fd: int, buffers: object, offset: int) -> int:
        data = bytearray(b"".join(bytes(each) for each in buffers))  # type: ignore[attr-defined]
        if offset > SEGMENT_HEADER_SIZE:
            data[len(data) // 2] ^= 1
        return super().pwritev(fd, [bytes(data)], offset)


def test_what_does_not_read_back_never_gets_the_name() -> None:
    honest = sim()
    journal(honest)
    disk = Forgetful(random.Random(1))
    disk.names, disk.stable_names, disk.boot = honest.names, honest.stable_names, honest.boot
    path = segment_files(disk)[0]
    before = content(disk, path)
    with pytest.raises(Transient, match="does not read back"):
        seal_at(disk, 0)
    assert content(disk, path) == before
    assert not [name for name in disk.names if name.suffix == ".seal"]


def test_a_writer_goes_on_behind_a_sealed_last_segment() -> None:
    """Somebody removed the segments after it by hand."""
    disk = sim()
    journal(disk)
    seal_at(disk, 0)
    following = list_segments(disk, FOLDER)[1]
    for path in segment_files(disk)[1:]:
        disk.unlink(path)
    disk.unlink(FOLDER / "watermark")
    with open_writer(disk) as writer:
        assert writer.position.seq == following
        writer.commit([numbered(following, 4)])
        found = frames_of(read_all(disk))
    assert list(found) == list(range(1, following + 4))
    assert all(says_its_seq(*pair) for pair in found.items())


def test_a_writer_that_starts_removes_its_own_scratch_and_not_the_sealers() -> None:
    disk = sim()
    journal(disk)
    mine = FOLDER / ("a" * 32 + ".seal")
    disk.close(disk.open(mine, create=True))
    open_writer(disk).close()
    assert mine in disk.names
    remove_sealing(disk, FOLDER)
    assert mine not in disk.names


def test_inspect_tells_sealed_from_raw() -> None:
    disk = sim()
    journal(disk)
    before = inspect(FOLDER, disk=disk)
    seal_at(disk, 0)
    after = inspect(FOLDER, disk=disk)
    assert [each.sealed for each in before] == [False] * len(before)
    assert [each.sealed for each in after] == [True] + [False] * (len(after) - 1)
    assert [each.raw_bytes for each in after] == [each.raw_bytes for each in before]
    assert [each.raw_bytes for each in before[:-1]] == [each.bytes for each in before[:-1]]
    assert after[0].bytes < before[0].bytes
    assert [(e.blocks, e.frames, e.next_seq) for e in after] == [
        (e.blocks, e.frames, e.next_seq) for e in before
    ]


def test_export_reads_packs() -> None:
    disk = sim()
    end = journal(disk)
    seal_all(disk)
    assert list(frames_of(list(iter_blocks(FOLDER, disk=disk)))) == list(range(1, end.seq))
