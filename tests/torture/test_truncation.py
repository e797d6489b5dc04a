"""A segment cut off at every byte: an exact prefix, and what is not there is said."""

from __future__ import annotations

import pytest

from forebay.clock import ManualClock
from forebay.journal import ensure_durable, fsck
from tests.support.sim_disk import SimDisk
from tests.support.torture import FOLDER, Got, draft, open_at, template
from tests.unit.journal.helpers import bytes_on_disk, read_all

OPEN, CLOSED = template(closed=False), template(closed=True)
SEGMENTS = sorted(name for name in OPEN.files if name.endswith(".fbj"))
LAST = SEGMENTS[-1]


def cut_at(name: str, size: int, *, watermark: bool) -> SimDisk:
    files = OPEN.files | {name: OPEN.files[name][:size]}
    if not watermark:
        del files["watermark"]
    return SimDisk.of(FOLDER, files)


def ends_of(name: str) -> list[int]:
    """Offset after the header and after each block, as a writer counts them."""
    disk = SimDisk.of(FOLDER, {})
    with open_at(disk, 7) as writer:
        ends = [bytes_on_disk(disk)]
        for index in range(6):
            writer.commit([draft(1 + 2 * index, 2)])
            last = max(each for each in disk.files if each.endswith(".fbj"))
            if last == name:
                ends.append(len(disk.files[name]))
    return ends


def got(disk: SimDisk) -> Got:
    return Got.of(read_all(disk))


def losses(missing: range) -> list[tuple[int, int]]:
    return [(missing[0], missing[-1])] if missing else []


def test_the_last_segment_cut_anywhere_leaves_an_exact_prefix_and_says_how_many_bytes() -> None:
    ends = ends_of(LAST)
    first = int(LAST.removesuffix(".fbj"))
    for size in range(ends[0], len(OPEN.files[LAST]) + 1):
        disk = cut_at(LAST, size, watermark=False)
        whole = sum(end <= size for end in ends) - 1
        end = first + 2 * whole
        with open_at(disk) as writer:
            assert writer.position.seq == end
            assert writer.report.truncated_bytes == size - ends[whole]
            assert (writer.report.tail == "whole") == (size in ends)
            assert len(disk.files[LAST]) == ends[whole], "what was cut is still there"
        assert got(disk) == ([pair for pair in OPEN.acknowledged.items() if pair[0] < end], [])


def test_the_last_segment_cut_in_its_header_is_begun_anew_without_a_loss_of_older_frames() -> None:
    first = int(LAST.removesuffix(".fbj"))
    for size in range(64):
        disk = cut_at(LAST, size, watermark=False)
        with open_at(disk) as writer:
            assert writer.position.seq == first
        assert got(disk).frames == [pair for pair in OPEN.acknowledged.items() if pair[0] < first]


def test_the_last_segment_cut_under_a_watermark_loses_the_acknowledged_rest_aloud() -> None:
    ends = ends_of(LAST)
    first, end = int(LAST.removesuffix(".fbj")), max(OPEN.acknowledged) + 1
    for size in range(len(OPEN.files[LAST])):
        disk = cut_at(LAST, size, watermark=True)
        kept = first + 2 * max(0, sum(each <= size for each in ends) - 1)
        missing = range(kept, end)
        before = got(disk)
        assert before.losses == losses(missing)
        (lost,) = [f for f in fsck(FOLDER, disk=disk).findings if f.first_seq is not None]
        assert (lost.first_seq, lost.last_seq) == (missing[0], missing[-1])
        with open_at(disk) as writer:
            assert writer.position.seq == end
            assert writer.report.losses == ((missing[0], missing[-1]),)
        assert got(disk) == before
        assert before.frames == [p for p in OPEN.acknowledged.items() if p[0] not in missing]


@pytest.mark.parametrize("name", SEGMENTS[:-1])
def test_an_earlier_segment_cut_anywhere_loses_exactly_the_range_that_is_gone(name: str) -> None:
    ends = ends_of(name)
    first = int(name.removesuffix(".fbj"))
    following = int(SEGMENTS[SEGMENTS.index(name) + 1].removesuffix(".fbj"))
    for size in range(len(OPEN.files[name])):
        disk = cut_at(name, size, watermark=True)
        missing = range(first + 2 * max(0, sum(each <= size for each in ends) - 1), following)
        bare = got(disk)
        assert bare.losses == losses(missing)
        assert bare.frames == [p for p in OPEN.acknowledged.items() if p[0] not in missing]
        report = fsck(FOLDER, disk=disk)
        named = [(f.first_seq, f.last_seq) for f in report.findings if f.first_seq is not None]
        assert named == losses(missing)
        assert report.ok == (not missing)
        ensure_durable(FOLDER, ManualClock(), disk=disk)
        assert got(disk) == bare


def test_a_closed_journal_cut_inside_its_proof_loses_nothing() -> None:
    whole = len(OPEN.files[LAST])
    for size in range(whole, len(CLOSED.files[LAST])):
        disk = SimDisk.of(FOLDER, CLOSED.files | {LAST: CLOSED.files[LAST][:size]})
        with open_at(disk) as writer:
            assert writer.report.losses == ()
            assert writer.report.truncated_bytes == size - whole
            assert writer.report.tail in {"whole", "never acknowledged"}
        assert got(disk).frames == list(CLOSED.acknowledged.items())
