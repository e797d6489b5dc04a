"""Sealing: a segment that nobody needs soon is rewritten with its blocks in packs.

The file keeps its name and its header, and what counts of its content comes back bit for bit
(:func:`unsealed`). A crash leaves the old file or the new one, both whole.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import xxhash

from forebay.errors import Permanent, Transient
from forebay.journal.disk import read_all, translated, write_all
from forebay.journal.format import MAX_PACK_BYTES, PACK, SEGMENT_HEADER_SIZE, BlockHeader
from forebay.journal.packs import encode_pack
from forebay.journal.scan import FileWindow, SoundBlock, walk
from forebay.journal.segments import Segment, open_segment, sealing_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from forebay.journal.disk import Disk

PACK_BYTES = 1 << 20
"""A pack is closed when its blocks are so large: enough for zstd to find what repeats, little
enough to lose when it is damaged. A larger block makes a pack by itself."""


class Unsealable(Permanent):
    """The segment is damaged or odd: it stays as it is, as evidence."""


def seal(
    disk: Disk, folder: Path, first_seq: int, following: int, *, random_id: Callable[[], str]
) -> None:
    """Rewrite the segment that ends where ``following`` begins; the caller is the only one.

    What is written is read back and compared before it takes the old file's name. Raises
    :class:`Unsealable` if the segment has a hole, a damaged header or a block that fits no
    pack, and :class:`~forebay.errors.Transient` if the disk refuses or gives back something
    else than was written; the segment is then as before.
    """
    with translated(f"seal the segment {first_seq} of the journal {folder}"):
        segment = open_segment(disk, folder, first_seq)
        try:
            scratch = sealing_path(folder, random_id())
            fd = disk.open(scratch, create=True)
            try:
                size, digest = _write(disk, segment, following, fd)
                disk.fdatasync(fd)
                _verify(disk, replace(segment, fd=fd, size=size), following, digest)
                disk.rename(scratch, segment.path)
            except BaseException:
                # What is left would take space away from the next try on a full disk.
                with contextlib.suppress(OSError):
                    disk.unlink(scratch)
                raise
            finally:
                disk.close(fd)
            disk.fsync_dir(folder)
        finally:
            disk.close(segment.fd)


def unsealed(disk: Disk, segment: Segment, following: int) -> Iterator[bytes | memoryview]:
    """Give the bytes of a segment as they were before it was sealed, in pieces.

    Blocks without frames at its end belong to it; whatever else stands behind the first frame
    of the following segment was never acknowledged and does not. Raises :class:`Unsealable`.
    """
    yield read_all(disk, segment.fd, SEGMENT_HEADER_SIZE, 0)
    window = FileWindow(disk, segment.fd, segment.size)
    for block in _sound(window, segment, following):
        if block.header.codec == PACK:
            yield block.body
        else:
            yield _whole(window, block)


def _sound(window: FileWindow, segment: Segment, following: int) -> Iterator[SoundBlock]:
    if segment.segment_id is None:
        raise _unsealable(segment, "its header is damaged")
    expected = segment.first_seq
    for item in walk(window, SEGMENT_HEADER_SIZE, expected, segment.log_id):
        if not isinstance(item, SoundBlock) or item.header.next_seq > following:
            break
        expected = item.header.next_seq
        yield item
    if expected != following:
        raise _unsealable(segment, f"it has a hole at {expected}")


def _unsealable(segment: Segment, why: str) -> Unsealable:
    message = f"The segment {segment.path.name} is not sealed: {why}."
    return Unsealable(message, hint="It is kept as it is; see `forebay journal fsck`.")


def _whole(window: FileWindow, block: SoundBlock) -> memoryview:
    whole = window.view(block.offset, block.header.size)
    if whole is None:
        message = f"A block at byte {block.offset} was there and is not any more."
        raise Transient(message, hint="Check the disk's health; the call may be repeated.")
    return whole


def _write(disk: Disk, segment: Segment, following: int, fd: int) -> tuple[int, bytes]:
    """Write header and packs; gives their size, and a digest of what went into them."""
    header = read_all(disk, segment.fd, SEGMENT_HEADER_SIZE, 0)
    digest = xxhash.xxh3_128(header)
    end = write_all(disk, fd, [header], 0)
    window = FileWindow(disk, segment.fd, segment.size)
    gathered: list[tuple[BlockHeader, memoryview]] = []
    size = 0
    for block in _sound(window, segment, following):
        if block.header.codec == PACK:
            raise _unsealable(segment, "it is sealed already")
        if block.header.size > MAX_PACK_BYTES:
            raise _unsealable(segment, f"its block {block.header.first_seq} fits no pack")
        if gathered and size + block.header.size > PACK_BYTES:
            end = write_all(disk, fd, [encode_pack(gathered)], end)
            gathered, size = [], 0
        whole = _whole(window, block)
        digest.update(whole)
        gathered.append((block.header, whole))
        size += len(whole)
    end = write_all(disk, fd, [encode_pack(gathered)], end)
    return end, digest.digest()


def _verify(disk: Disk, written: Segment, following: int, expected: bytes) -> None:
    """Read back what was written and compare it with what it was made from, bit for bit."""
    digest = xxhash.xxh3_128()
    try:
        for piece in unsealed(disk, written, following):
            digest.update(piece)
    except Unsealable:
        digest.reset()
    if digest.digest() != expected:
        message = f"The sealed {written.path.name} does not read back as it was written."
        raise Transient(message, hint="Check the disk's health; the segment was left as it is.")
