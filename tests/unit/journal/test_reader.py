"""Reading: never past the watermark, never the same frame twice, never in silence."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import CursorBeyondEnd, Permanent, Transient
from forebay.journal import (
    LOSS_KIND,
    NO_LOG,
    JournalReader,
    JournalWriter,
    OsDisk,
    PendingBlock,
    Position,
    iter_blocks,
)
from forebay.journal.format import encode_block
from tests.support.sim_disk import FailNext, SimDisk
from tests.unit.journal.helpers import (
    FOLDER,
    bytes_on_disk,
    content,
    draft,
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
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_reader_waits_for_a_journal_that_does_not_exist_yet() -> None:
    disk = sim()
    with JournalReader(FOLDER, disk=disk) as reader:
        assert reader.read() == []
        assert reader.position == Position(NO_LOG, 1)
        with open_writer(disk) as writer:
            assert reader.read() == []
            writer.commit([numbered(1, 3)])
            assert list(frames_of(reader.read())) == [1, 2, 3]
            assert reader.position == writer.position
            assert reader.read() == []


def test_the_position_before_anything_was_read_is_a_start() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 3)])
    assert list(frames_of(read_all(disk, start=Position(NO_LOG, 1)))) == [1, 2, 3]


def test_a_reader_never_sees_what_is_written_but_not_synced() -> None:
    disk = sim()
    with open_writer(disk) as writer, JournalReader(FOLDER, disk=disk) as reader:
        seen: list[int] = []

        def look(operation: str) -> None:
            if operation == "fdatasync":
                disk.fault = lambda _: None
                seen.extend(frames_of(reader.read()))
                disk.fault = look

        disk.fault = look
        writer.commit([numbered(1, 3)])
        assert seen == []
        writer.commit([numbered(4, 3)])
        assert seen == [1, 2, 3]
        disk.fault = lambda _: None
        assert list(frames_of(reader.read())) == [4, 5, 6]


def test_a_watermark_of_another_boot_is_not_trusted() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 3)])
        with JournalReader(FOLDER, disk=disk) as reader:
            disk.boot += 1
            with JournalReader(FOLDER, disk=disk) as after_boot:
                assert after_boot.read() == []
                with pytest.raises(Transient, match="not recovered"):
                    next(iter_blocks(FOLDER, disk=disk))
            assert list(frames_of(reader.read())) == [1, 2, 3]


def test_a_watermark_with_both_slots_damaged_is_not_trusted_and_is_made_anew() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 3)])
    path = FOLDER / "watermark"
    overwrite(disk, path, bytes(len(content(disk, path))))
    with JournalReader(FOLDER, disk=disk) as reader:
        assert reader.read() == []
        open_writer(disk).close()
        assert list(frames_of(drain(reader))) == [1, 2, 3]


def test_one_damaged_watermark_slot_leaves_the_other() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 3)])
        writer.commit([numbered(4, 3)])
    found = []
    for slot in (0, 4096):
        disk.flip(FOLDER / "watermark", slot * 8 + 3)
        found.append(len(frames_of(read_all(disk))))
        disk.flip(FOLDER / "watermark", slot * 8 + 3)
    assert sorted(found) in ([3, 6], [6, 6])


@pytest.mark.parametrize("limits", [{"max_frames": 1}, {"max_frames": 4}, {"max_bytes": 1}, {}])
def test_blocks_are_sliced_and_the_position_is_exact(limits: dict[str, int]) -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=1500) as writer:
        writer.commit([numbered(1, 7), numbered(8, 10)])
        writer.commit([numbered(18, 40)])
    whole = frames_of(read_all(disk))
    position: Position | None = None
    found: dict[int, bytes] = {}
    for _ in range(200):
        with JournalReader(FOLDER, start=position, disk=disk) as reader:
            blocks = reader.read(**limits)
            if not blocks:
                break
            if "max_frames" in limits:
                assert sum(len(block.payloads) for block in blocks) <= limits["max_frames"]
            assert reader.position.seq == blocks[-1].next_seq
            assert all(len(b.payloads) == len(b.received_ns) for b in blocks)
            found |= frames_of(blocks)
            position = reader.position
    assert found == whole
    assert list(found) == list(range(1, 58))


def test_a_slice_keeps_each_frame_with_its_receipt_time() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([draft(b"a", b"b", b"c", b"d")])
    whole = read_all(disk)[0].received_ns.tolist()
    start = Position(read_all(disk)[0].log_id, 3)
    assert read_all(disk, start=start)[0].received_ns.tolist() == whole[2:]


def test_max_bytes_counts_payloads_and_never_starves() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([draft(b"x" * 100, b"y" * 10, b"z" * 10, b"w" * 100)])
    with JournalReader(FOLDER, disk=disk) as reader:
        got = [
            [len(payload) for block in blocks for payload in block.payloads]
            for blocks in iter(lambda: reader.read(max_bytes=20), [])
        ]
    assert got == [[100], [10, 10], [100]]


def test_a_reader_starts_inside_a_block_and_at_the_end() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        log_id = writer.position.log_id
        assert list(frames_of(read_all(disk, start=Position(log_id, 7)))) == [7, 8, 9, 10]
        with JournalReader(FOLDER, start=writer.position, disk=disk) as reader:
            assert reader.read() == []
            writer.commit([numbered(11, 2)])
            assert list(frames_of(reader.read())) == [11, 12]


def test_a_cursor_beyond_the_end_or_of_another_log_is_refused_at_once() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        end = writer.position
    with pytest.raises(CursorBeyondEnd, match="beyond the end"):
        JournalReader(FOLDER, start=Position(end.log_id, end.seq + 1), disk=disk)
    with pytest.raises(CursorBeyondEnd, match="unknown log"):
        JournalReader(FOLDER, start=Position("ab" * 16, 3), disk=disk)


def test_a_cursor_beyond_the_end_is_refused_by_read_if_nobody_knew_before() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        end = writer.position
    disk.lose_power()
    with JournalReader(FOLDER, start=Position(end.log_id, 12), disk=disk) as reader:
        assert reader.read() == []
        open_writer(disk).close()
        for _ in range(2):
            with pytest.raises(CursorBeyondEnd):
                reader.read()


def test_a_cursor_of_a_log_that_was_continued_elsewhere_is_refused() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        old = writer.position.log_id
    with open_writer(disk, floor=[Position(old, 20)]) as writer:
        writer.commit([numbered(21, 10)])
    with pytest.raises(CursorBeyondEnd):
        JournalReader(FOLDER, start=Position(old, 25), disk=disk)


# ------------------------------------------------------------------- damage


def damaged(disk_bytes: int = 1500) -> tuple[list[int], list[tuple[int, int]]]:
    """Read a journal of ten blocks in which one byte of the fifth is damaged."""
    disk = sim()
    with open_writer(disk, segment_bytes=disk_bytes) as writer:
        for first in range(1, 100, 10):
            writer.commit([numbered(first, 10)])
    for path in segment_files(disk):
        at = content(disk, path).find(b"41|xxxx")
        if at >= 0:
            disk.flip(path, at * 8)
    blocks = read_all(disk)
    return list(frames_of(blocks)), losses_of(blocks)


@pytest.mark.parametrize("segment_bytes", [400, 1500, 1 << 20])
def test_a_damaged_block_is_declared_and_the_next_ones_are_read(segment_bytes: int) -> None:
    found, losses = damaged(segment_bytes)
    assert losses == [(41, 50)]
    assert found == [seq for seq in range(1, 101) if not 41 <= seq <= 50]


def test_damage_in_a_header_is_bridged_by_searching() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        for first in range(1, 100, 10):
            writer.commit([numbered(first, 10)])
    path = segment_files(disk)[0]
    magics = [
        at
        for at in range(len(content(disk, path)))
        if content(disk, path)[at:].startswith(b"\x89FBJB")
    ]
    for index in (2, 3, 7):
        disk.flip(path, (magics[index] + 30) * 8)
    blocks = read_all(disk)
    assert losses_of(blocks) == [(21, 40), (71, 80)]
    assert len(frames_of(blocks)) == 70


def test_a_loss_is_one_block_that_stands_for_its_whole_range() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        for first in range(1, 100, 10):
            writer.commit([numbered(first, 10)])
        disk.flip(segment_files(disk)[0], 1000 * 8)
        with JournalReader(FOLDER, disk=disk) as reader:
            blocks = [reader.read(max_frames=1)[0] for _ in range(30)]
            loss = next(block for block in blocks if block.kind == LOSS_KIND)
            assert (loss.context, len(loss.payloads), loss.received_ns.tolist()) == (b"", 1, [0])
            assert [(loss.first_seq, loss.next_seq - 1)] == losses_of(blocks)
            position = reader.position
        rest = read_all(disk, start=position)
        assert losses_of(rest) == []
        middle = Position(loss.log_id, loss.first_seq + 4)
        assert losses_of(read_all(disk, start=middle)) == [(middle.seq, loss.next_seq - 1)]


def test_bytes_cut_out_so_that_blocks_join_are_noticed() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        ends = []
        for first in range(1, 50, 10):
            writer.commit([numbered(first, 10)])
            ends.append(bytes_on_disk(disk))
    path = segment_files(disk)[0]
    overwrite(disk, path, content(disk, path)[: ends[1]] + content(disk, path)[ends[2] :])
    blocks = read_all(disk)
    assert losses_of(blocks) == [(21, 30)]
    assert list(frames_of(blocks)) == [*range(1, 21), *range(31, 51)]


def test_a_block_repeated_in_the_file_is_read_once() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        size = bytes_on_disk(disk)
        writer.commit([numbered(11, 10)])
    path = segment_files(disk)[0]
    raw = content(disk, path)
    overwrite(disk, path, raw[:size] + raw[64:size] + raw[size:])
    forget_watermark(disk)
    open_writer(disk).close()
    blocks = read_all(disk)
    assert list(frames_of(blocks)) == list(range(1, 21))
    assert losses_of(blocks) == []


def journal_in_a_journal() -> tuple[SimDisk, int]:
    """A block whose payloads are sound blocks of the same log; gives where it begins."""
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 10)])
        raw = content(disk, segment_files(disk)[0])
        log_id = bytes.fromhex(writer.position.log_id)
        future = encode_block(
            draft(b"forged"), log_id=log_id, first_seq=14, durable_seq=1, anchor=(0, 0)
        )
        writer.commit([draft(raw, b"\x89FBJB\r\n\x1a" * 50, b"".join(future))])
        writer.commit([numbered(14, 10)])
    return disk, len(raw)


def test_a_damaged_body_is_stepped_over_whatever_it_contains() -> None:
    disk, start = journal_in_a_journal()
    disk.flip(segment_files(disk)[0], (start + 100) * 8)
    blocks = read_all(disk)
    assert losses_of(blocks) == [(11, 13)]
    found = frames_of(blocks)
    assert list(found) == [*range(1, 11), *range(14, 24)]
    assert b"forged" not in found.values()


def test_older_blocks_inside_a_payload_are_never_read_again() -> None:
    disk, start = journal_in_a_journal()
    disk.flip(segment_files(disk)[0], (start + 30) * 8)
    blocks = read_all(disk)
    assert losses_of(blocks)[0] == (11, 13)
    assert list(frames_of(blocks))[:10] == list(range(1, 11))
    assert min(block.first_seq for block in blocks[1:]) == 11


def test_a_missing_segment_is_a_loss_wherever_it_is() -> None:
    for index, loss in ((0, (1, 10)), (1, (11, 20)), (2, (21, 30))):
        disk = sim()
        with open_writer(disk, segment_bytes=10) as writer:
            for first in range(1, 40, 10):
                writer.commit([numbered(first, 10)])
            log_id = writer.position.log_id
        disk.unlink(segment_files(disk)[index])
        blocks = read_all(disk, start=Position(log_id, 1))
        assert losses_of(blocks) == [loss]
        assert len(frames_of(blocks)) == 30


def test_a_missing_old_file_is_no_loss_for_who_starts_at_the_oldest() -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=10) as writer:
        for first in range(1, 40, 10):
            writer.commit([numbered(first, 10)])
    disk.unlink(segment_files(disk)[0])
    blocks = read_all(disk)
    assert losses_of(blocks) == []
    assert list(frames_of(blocks)) == list(range(11, 41))


def test_a_segment_that_vanishes_under_a_live_reader_is_borne() -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=10) as writer:
        writer.commit([numbered(1, 10)])
        with JournalReader(FOLDER, disk=disk) as reader:
            drain(reader)
            writer.commit([numbered(11, 10)])
            writer.commit([numbered(21, 10)])
            disk.unlink(segment_files(disk)[1])
            blocks = drain(reader)
    assert losses_of(blocks) == [(11, 20)]
    assert list(frames_of(blocks)) == list(range(21, 31))


def test_a_damaged_segment_header_costs_no_frame() -> None:
    for index in (0, 1, 2):
        disk = sim()
        with open_writer(disk, segment_bytes=10) as writer:
            for first in range(1, 30, 10):
                writer.commit([numbered(first, 10)])
        disk.flip(segment_files(disk)[index], 20 * 8)
        with open_writer(disk) as writer:
            assert writer.commit([numbered(31, 10)]) == 41
        blocks = read_all(disk)
        assert losses_of(blocks) == []
        assert list(frames_of(blocks)) == list(range(1, 41))


def test_a_page_that_cannot_be_read_is_a_loss_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = sim()
    with open_writer(disk) as writer:
        for first in range(1, 100):
            writer.commit([numbered(first, 1, size=500)])
    real = disk.pread

    def bad_sector(fd: int, size: int, offset: int) -> bytes:
        if offset < 12_288 and offset + size > 8192 and disk.size(fd) > 12_288:
            raise OSError(5, "Input/output error")
        return real(fd, size, offset)

    monkeypatch.setattr(disk, "pread", bad_sector)
    blocks = read_all(disk)
    ((first, last),) = losses_of(blocks)
    assert 5 <= last - first <= 9
    assert set(frames_of(blocks)) == set(range(1, 100)) - set(range(first, last + 1))


def test_a_disk_that_refuses_to_be_read_is_transient() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 3)])
    with JournalReader(FOLDER, disk=disk) as reader:
        disk.fault = FailNext("pread", number=13, times=1)
        with pytest.raises(Exception, match="Cannot read the journal"):
            reader.read()
        assert list(frames_of(reader.read())) == [1, 2, 3]


def test_a_newer_format_stops_the_reader_instead_of_looking_like_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 3)])
    monkeypatch.setattr("forebay.journal.format.VERSION", 2)
    with pytest.raises(Permanent, match="newer Forebay"):
        read_all(disk)
    with pytest.raises(Permanent, match="newer Forebay"):
        open_writer(disk)


def test_all_frames_say_their_own_sequence_number() -> None:
    disk = sim()
    with open_writer(disk, segment_bytes=700) as writer:
        for first in range(1, 300, 3):
            writer.commit([numbered(first, 3)])
    assert all(says_its_seq(*item) for item in frames_of(read_all(disk)).items())


class RunsOutOfDescriptors(OsDisk):
    """Cannot open one file, once."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        if path.name == self.name:
            self.name = ""
            raise OSError(errno.EMFILE, "Too many open files")
        return super().open(path, write=write, create=create)


def test_an_error_in_the_middle_of_a_read_loses_nothing_that_was_taken(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, clock=ManualClock(), segment_bytes=1000) as writer:
        for number in range(40):
            writer.commit([PendingBlock(1, b"c", [b"x" * 100 + bytes([number])], [number])])
    segments = sorted(tmp_path.glob("*.fbj"))
    assert len(segments) > 3
    with JournalReader(tmp_path, disk=RunsOutOfDescriptors(segments[2].name)) as reader:
        seen: list[int] = []
        failures = 0
        while len(seen) < 40 and failures < 5:
            try:
                blocks = reader.read()
            except Transient:
                failures += 1
                continue
            if not blocks:
                break
            seen += [payload[-1] for block in blocks for payload in block.payloads]
    assert seen == list(range(40))
