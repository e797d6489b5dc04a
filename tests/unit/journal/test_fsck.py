"""fsck, inspect, export and the recovery of a folder whose writer is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError, Transient
from forebay.journal import Position, ensure_durable, fsck, inspect, iter_blocks
from tests.unit.journal.helpers import (
    FOLDER,
    content,
    forget_watermark,
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
    from tests.support.sim_disk import SimDisk


def journal() -> SimDisk:
    disk = sim()
    with open_writer(disk, segment_bytes=800) as writer:
        for first in range(1, 60, 3):
            writer.commit([numbered(first, 3)])
    return disk


def test_a_sound_journal_has_no_findings() -> None:
    report = fsck(FOLDER, disk=journal())
    assert report.ok
    assert report.findings == ()
    assert report.frames == 60
    assert report.segments > 3


def test_damage_is_named_with_file_offset_and_frames() -> None:
    disk = journal()
    path = segment_files(disk)[1]
    first = int(path.stem)
    disk.flip(path, 200 * 8)
    report = fsck(FOLDER, disk=disk)
    assert not report.ok
    (finding,) = report.findings
    assert (finding.segment, finding.offset) == (path.name, 64)
    assert (finding.first_seq, finding.last_seq) == (first, first + 2)
    assert finding.hint
    assert report.frames == 57
    assert losses_of(read_all(disk)) == [(first, first + 2)]


def test_every_flip_that_costs_a_reader_frames_is_a_finding() -> None:
    disk = journal()
    path = segment_files(disk)[1]
    for bit in range(0, len(content(disk, path)) * 8, 37):
        disk.flip(path, bit)
        report = fsck(FOLDER, disk=disk)
        named = [(f.first_seq, f.last_seq) for f in report.findings if f.first_seq is not None]
        assert named == losses_of(read_all(disk))
        assert not report.ok
        disk.flip(path, bit)


def test_a_missing_segment_is_a_finding() -> None:
    disk = journal()
    first, following = (int(path.stem) for path in segment_files(disk)[1:3])
    disk.unlink(segment_files(disk)[1])
    (finding,) = fsck(FOLDER, disk=disk).findings
    assert (finding.first_seq, finding.last_seq) == (first, following - 1)


def test_a_cut_of_acknowledged_frames_is_a_finding_even_at_the_very_end() -> None:
    disk = journal()
    path = segment_files(disk)[-1]
    overwrite(disk, path, content(disk, path)[:-200])
    (finding,) = fsck(FOLDER, disk=disk).findings
    assert finding.last_seq == 60


def test_an_unfinished_write_is_a_finding_but_no_damage() -> None:
    disk = journal()
    path = segment_files(disk)[-1]
    forget_watermark(disk)
    overwrite(disk, path, content(disk, path) + content(disk, path)[64:100])
    report = fsck(FOLDER, disk=disk)
    assert report.ok
    assert [finding.what for finding in report.findings] == ["unfinished write at the end"]
    ensure_durable(FOLDER, ManualClock(), disk=disk)
    assert fsck(FOLDER, disk=disk).findings == ()


def test_fsck_changes_nothing_and_bears_a_live_writer() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([numbered(1, 5)])

        def look(operation: str) -> None:
            if operation == "fdatasync":
                disk.fault = lambda _: None
                log = len(disk.log)
                report = fsck(FOLDER, disk=disk)
                assert (report.findings, report.frames) == ((), 5)
                assert set(disk.log[log:]) == {"pread"}
                disk.fault = look

        disk.fault = look
        writer.commit([numbered(6, 5)])
        disk.fault = lambda _: None
    assert fsck(FOLDER, disk=disk).frames == 10


def test_inspect_gives_a_line_for_each_segment() -> None:
    disk = journal()
    summaries = inspect(FOLDER, disk=disk)
    assert [summary.name for summary in summaries] == [p.name for p in segment_files(disk)]
    assert [s.next_seq for s in summaries] == [*(s.first_seq for s in summaries[1:]), 61]
    assert sum(summary.frames for summary in summaries) == 60
    assert not any(summary.holes for summary in summaries)
    assert len({summary.log_id for summary in summaries}) == 1
    disk.flip(segment_files(disk)[0], 300 * 8)
    assert len(inspect(FOLDER, disk=disk)[0].holes) == 1


@pytest.mark.parametrize("call", [fsck, inspect])
def test_a_folder_without_a_journal_is_a_config_error(call) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    with pytest.raises(ConfigError, match="holds no journal"):
        call(FOLDER, disk=sim())
    with pytest.raises(ConfigError, match="holds no journal"):
        ensure_durable(FOLDER, ManualClock(), disk=sim())


def test_all_blocks_are_exported_from_a_position() -> None:
    disk = journal()
    log_id = inspect(FOLDER, disk=disk)[0].log_id
    assert list(frames_of(list(iter_blocks(FOLDER, disk=disk)))) == list(range(1, 61))
    part = list(iter_blocks(FOLDER, Position(log_id, 44), disk=disk))
    assert list(frames_of(part)) == list(range(44, 61))


def test_a_dead_folder_is_made_readable() -> None:
    disk = journal()
    disk.lose_power()
    assert read_all(disk) == []
    end = ensure_durable(FOLDER, ManualClock(), disk=disk)
    assert end.seq == 61
    assert list(frames_of(read_all(disk))) == list(range(1, 61))
    with open_writer(disk) as writer:
        assert writer.position == end


def test_a_live_writer_answers_for_itself() -> None:
    disk = journal()
    with open_writer(disk) as writer:
        writer.commit([numbered(61, 2)])
        assert ensure_durable(FOLDER, ManualClock(), disk=disk) == writer.position
        forget_watermark(disk)
        with pytest.raises(Transient, match="not ready"):
            ensure_durable(FOLDER, ManualClock(), disk=disk)
