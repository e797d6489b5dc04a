"""The files of a journal: their names, how they are made, whose they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.journal.disk import create_file, read_all
from forebay.journal.format import (
    SEGMENT_HEADER_SIZE,
    SegmentHeader,
    encode_segment_header,
    parse_segment_header,
)
from forebay.journal.scan import FileWindow, search

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk

_NAME = re.compile(r"(\d{20})\.fbj")
_SEALING = re.compile(r"[0-9a-f]{32}\.seal")
_SCRATCH = re.compile(r"[0-9a-f]{32}\.tmp")


@dataclass(slots=True)
class Segment:
    """An open segment file."""

    path: Path
    fd: int
    first_seq: int
    log_id: bytes | None
    """None if neither its header nor any block is sound."""
    segment_id: bytes | None
    """None if its header is damaged."""
    size: int


def segment_name(first_seq: int) -> str:
    """Return the name of the file whose first frame is ``first_seq``."""
    return f"{first_seq:020d}.fbj"


def segment_path(folder: Path, first_seq: int) -> Path:
    """Return the file whose first frame is ``first_seq``."""
    return folder / segment_name(first_seq)


def scratch_path(folder: Path, random_id: str) -> Path:
    """Return a file of the writer that has no name yet."""
    return folder / f"{random_id}.tmp"


def sealing_path(folder: Path, random_id: str) -> Path:
    """Return a file that is going to be a sealed segment; not the writer's to remove."""
    return folder / f"{random_id}.seal"


def list_segments(disk: Disk, folder: Path) -> list[int]:
    """Return the first sequence numbers of all segments of a folder, ascending."""
    matches = (_NAME.fullmatch(name) for name in disk.listdir(folder))
    return sorted(int(match[1]) for match in matches if match)


def create_segment(disk: Disk, folder: Path, header: SegmentHeader, blocks: bytes = b"") -> Segment:
    """Make a segment, durably, with ``blocks`` in it.

    It gets its name only when it is whole, so no segment ever lacks a header. One that is
    already there under this name is replaced: since both begin with the same sequence
    number and the old one was left for the new one, nothing in the old one was durable.
    """
    path = segment_path(folder, header.first_seq)
    scratch = scratch_path(folder, header.segment_id.hex())
    fd = create_file(disk, path, scratch, [encode_segment_header(header), blocks])
    size = SEGMENT_HEADER_SIZE + len(blocks)
    return Segment(path, fd, header.first_seq, header.log_id, header.segment_id, size)


def open_segment(disk: Disk, folder: Path, first_seq: int, *, write: bool = False) -> Segment:
    """Open an existing segment; its log is told by its blocks if its header is damaged."""
    path = segment_path(folder, first_seq)
    fd = disk.open(path, write=write)
    try:
        size = disk.size(fd)
        header = parse_segment_header(read_all(disk, fd, SEGMENT_HEADER_SIZE, 0))
        if header is not None and header.first_seq == first_seq:
            return Segment(path, fd, first_seq, header.log_id, header.segment_id, size)
        block, _ = search(FileWindow(disk, fd, size), 0, first_seq, None)
        return Segment(path, fd, first_seq, block.header.log_id if block else None, None, size)
    except BaseException:
        disk.close(fd)
        raise


def remove_scratch(disk: Disk, folder: Path) -> None:
    """Remove what a crash left of files that never got their name."""
    for name in disk.listdir(folder):
        if _SCRATCH.fullmatch(name):
            disk.unlink(folder / name)


def remove_sealing(disk: Disk, folder: Path) -> None:
    """Remove what a crash left of segments that were being sealed."""
    for name in disk.listdir(folder):
        if _SEALING.fullmatch(name):
            disk.unlink(folder / name)


def remove_segment(disk: Disk, folder: Path, first_seq: int) -> None:
    """Remove the oldest segment, for good.

    The folder is synced before as well: whatever a power cut brings back, the segments that
    are there follow one another.
    """
    disk.fsync_dir(folder)
    disk.unlink(segment_path(folder, first_seq))
    disk.fsync_dir(folder)
