"""One walk through a segment, and what is known of it then: every look at a journal reads this."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from forebay.journal.format import BLOCK_HEADER_SIZE, PACK, SEGMENT_HEADER_SIZE, receipt_span
from forebay.journal.scan import Damage, FileWindow, SoundBlock, header_at, walk
from forebay.journal.segments import open_segment, segment_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from forebay.journal.disk import Disk
    from forebay.journal.watermark import Watermark

GLANCE = SEGMENT_HEADER_SIZE + BLOCK_HEADER_SIZE
"""The ``limit`` of a survey that only tells a segment's log, its size and whether it is sealed."""


@dataclass(slots=True)
class Survey:
    """What is known of one segment; nothing of what stands behind the survey's limit."""

    first_seq: int
    log_id: str
    """Empty if neither the header nor any block is sound."""
    bytes: int
    """Size of the file."""
    sealed: bool = False
    header_sound: bool = True
    next_seq: int = 0
    """Number after the last sound block, or after the last hole that has an end."""
    durable: int = 0
    """Highest number below which everything is proved to have been acknowledged."""
    blocks: int = 0
    holes: list[Damage] = field(default_factory=list)
    stored_bytes: int = 0
    """Size of the sound blocks in the file."""
    block_bytes: int = 0
    """Size of the same blocks before they were packed."""
    first_ns: int | None = None
    """Receipt of the earliest frame, UTC ns; None without frames, or if times are not read."""
    last_ns: int | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        return segment_name(self.first_seq)

    @property
    def frames(self) -> int:
        """Number of frames that can be read."""
        missing = sum((hole.next or hole.first) - hole.first for hole in self.holes)
        return self.next_seq - self.first_seq - missing

    @property
    def raw_bytes(self) -> int:
        """Size of the file before it was sealed; as it is if it is not."""
        return self.bytes - self.stored_bytes + self.block_bytes

    def add(self, item: SoundBlock | Damage, *, times: bool) -> None:
        """Take in what a walk came to next."""
        if isinstance(item, Damage):
            self.holes.append(item)
            self.durable = max(self.durable, item.durable)
            self.next_seq = item.next or self.next_seq
            return
        head = item.header
        self.blocks += len(item.blocks)
        self.stored_bytes += head.size
        self.block_bytes += item.raw_size
        self.sealed |= head.codec == PACK
        self.next_seq = head.next_seq
        self.durable = max(self.durable, head.durable_seq)
        if times and head.frames:
            first_ns, last_ns = receipt_span(head, item.body)
            self.first_ns = min(first_ns, first_ns if self.first_ns is None else self.first_ns)
            self.last_ns = max(last_ns, last_ns if self.last_ns is None else self.last_ns)


def survey(
    disk: Disk,
    folder: Path,
    first_seq: int,
    following: int | None = None,
    limit: int | None = None,
    *,
    times: bool = False,
) -> Survey:
    """Walk through one segment, to where ``following`` begins or to byte ``limit`` of the file.

    Receipt ``times`` are read only if they are asked for: they cost more than the walk's own
    arithmetic. Raises :class:`OSError`.
    """
    segment = open_segment(disk, folder, first_seq)
    try:
        window = FileWindow(
            disk, segment.fd, segment.size if limit is None else min(limit, segment.size)
        )
        head = header_at(window, SEGMENT_HEADER_SIZE)
        found = Survey(
            first_seq,
            segment.log_id.hex() if segment.log_id else "",
            segment.size,
            sealed=head is not None and head.codec == PACK,
            header_sound=segment.segment_id is not None,
            next_seq=first_seq,
            durable=first_seq,
        )
        for item in walk(window, SEGMENT_HEADER_SIZE, first_seq, segment.log_id):
            if following is not None and found.next_seq >= following:
                break
            found.add(item, times=times)
    finally:
        disk.close(segment.fd)
    return found


def surveys(
    disk: Disk,
    folder: Path,
    firsts: Sequence[int],
    mark: Watermark | None,
    *,
    times: bool = False,
) -> list[Survey]:
    """Walk through the segments ``firsts``, of which the last one is the journal's last.

    That one is walked up to ``mark``: it may end in a commit that is not durable. Raises
    :class:`OSError`.
    """
    found = [survey(disk, folder, *pair, times=times) for pair in pairwise(firsts)]
    for last in firsts[-1:]:
        limit = mark.offset if mark and mark.segment_first_seq == last else None
        found.append(survey(disk, folder, last, limit=limit, times=times))
    return found
