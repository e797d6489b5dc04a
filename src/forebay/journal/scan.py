"""Walking over a segment's bytes: what is sound, and where the holes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forebay.journal.disk import read_all
from forebay.journal.format import (
    BLOCK_HEADER_SIZE,
    BLOCK_MAGIC,
    PACK,
    BlockHeader,
    body_is_sound,
    parse_block_header,
)
from forebay.journal.packs import split, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.journal.disk import Disk

CHUNK = 8 << 20
"""Bytes of a file read at a time: as many as a reader gives at a time, so that their memory is
taken up again for the next ones, and few blocks lie across an end and are read twice."""


class SoundBlock(NamedTuple):
    """A sound block, or a pack of sound blocks."""

    offset: int
    """In the file; of a block in a pack: in the pack's body."""
    header: BlockHeader
    body: memoryview
    """Of a pack: the blocks in it, byte for byte."""
    inner: tuple[SoundBlock, ...] = ()
    """The blocks of a pack."""

    @property
    def end(self) -> int:
        """Offset after the block."""
        return self.offset + self.header.size

    @property
    def durable(self) -> int:
        """Everything below it was on stable storage before the block was written."""
        return self.header.durable_seq

    @property
    def blocks(self) -> tuple[SoundBlock, ...]:
        """The blocks that frames are in: itself, unless it is a pack."""
        return self.inner if self.header.codec == PACK else (self,)

    @property
    def raw_size(self) -> int:
        """Bytes of those blocks when they are not in a pack."""
        return len(self.body) if self.header.codec == PACK else self.header.size


class Damage(NamedTuple):
    """Bytes that are no sound block, and the sequence numbers that are missing there."""

    offset: int
    end: int
    first: int
    next: int | None
    """First sequence number that exists again; None if nothing sound follows."""
    durable: int = 0
    """Highest durable_seq of the sound headers in there, whose bodies are damaged."""


class FileWindow:
    """A file seen through one buffer; nothing at or after ``limit`` exists."""

    def __init__(self, disk: Disk, fd: int, limit: int, chunk: int = CHUNK) -> None:
        self.limit = limit
        self._disk = disk
        self._fd = fd
        self._chunk = chunk
        self._base = 0
        self._data = b""
        self._view = memoryview(b"")

    def view(self, offset: int, size: int) -> memoryview | None:
        """Return exactly ``size`` bytes, or None if the file has not so many before ``limit``."""
        if offset + size > self.limit:
            return None
        if not self._holds(offset, size):
            want = min(max(size, self._chunk), self.limit - offset)
            self._data = read_all(self._disk, self._fd, want, offset)
            self._view = memoryview(self._data)
            self._base = offset
            if not self._holds(offset, size):
                return None
        at = offset - self._base
        return self._view[at : at + size]

    def find(self, needle: bytes, offset: int) -> int:
        """Return the offset of the next ``needle`` from ``offset`` on; -1 if there is none."""
        while offset + len(needle) <= self.limit:
            if self.view(offset, len(needle)) is None:
                return -1
            at = self._data.find(needle, offset - self._base)
            if at >= 0:
                return self._base + at
            offset = self._base + len(self._data) - len(needle) + 1
        return -1

    def _holds(self, offset: int, size: int) -> bool:
        return self._base <= offset and offset + size <= self._base + len(self._data)


def header_at(window: FileWindow, offset: int) -> BlockHeader | None:
    """Return the block header at ``offset``, if there is one."""
    raw = window.view(offset, BLOCK_HEADER_SIZE)
    return None if raw is None else parse_block_header(bytes(raw))


def block_at(window: FileWindow, offset: int, header: BlockHeader) -> SoundBlock | None:
    """Return the block that ``header`` begins, if its body is sound."""
    body = window.view(offset + BLOCK_HEADER_SIZE, header.body_len)
    if body is None or not body_is_sound(header, body):
        return None
    if header.codec != PACK:
        return SoundBlock(offset, header, body)
    raw = unpacked(header, body)
    inner = None if raw is None else split(header, raw)
    if raw is None or inner is None:
        return None
    return SoundBlock(offset, header, raw, tuple(SoundBlock(*each) for each in inner))


def search(
    window: FileWindow, offset: int, least: int, log_id: bytes | None
) -> tuple[SoundBlock | None, int]:
    """Return the next sound block of the log whose first_seq is ``least`` or more.

    Beside it, the highest durable_seq of headers on the way whose bodies are damaged.
    """
    durable = 0
    while (at := window.find(BLOCK_MAGIC, offset)) >= 0:
        header = header_at(window, at)
        if header and header.first_seq >= least and log_id in {None, header.log_id}:
            block = block_at(window, at, header)
            if block is not None:
                return block, durable
            durable = max(durable, header.durable_seq)
        offset = at + 1
    return None, durable


def step(
    window: FileWindow, offset: int, expected: int, log_id: bytes | None
) -> SoundBlock | Damage | None:
    """Return what is at ``offset``, where the block that begins with ``expected`` should be.

    None at the end. Every answer takes the walk further: either in bytes or in sequence
    numbers, so that no damage can make it go round in circles.
    """
    if offset >= window.limit:
        return None
    header = header_at(window, offset)
    resume, least = offset + 1, expected
    if header is not None and log_id in {None, header.log_id}:
        if header.first_seq == expected:
            block = block_at(window, offset, header)
            if block is not None:
                return block
            # Its header is right, so it tells where the next one begins.
            resume, least = offset + BLOCK_HEADER_SIZE, header.next_seq
            if offset + header.size <= window.limit:
                resume = offset + header.size
        elif header.first_seq > expected:
            resume = offset
    found, durable = search(window, resume, least, log_id)
    if found is None:
        return Damage(offset, window.limit, expected, None, durable)
    return Damage(offset, found.offset, expected, found.header.first_seq, durable)


def walk(
    window: FileWindow, offset: int, expected: int, log_id: bytes | None
) -> Iterator[SoundBlock | Damage]:
    """Give everything from ``offset`` to the end, in order."""
    while (item := step(window, offset, expected, log_id)) is not None:
        yield item
        offset = item.end
        if isinstance(item, SoundBlock):
            log_id = item.header.log_id
            expected = item.header.next_seq
        elif item.next is not None:
            expected = item.next
