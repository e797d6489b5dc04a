"""What the journal's tests share."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.clock import ManualClock
from forebay.journal import LOSS_KIND, Block, JournalReader, JournalWriter, PendingBlock, Position
from forebay.journal.format import BLOCK_HEADER_SIZE, RAW, BlockHeader
from forebay.journal.scan import SoundBlock
from tests.support.sim_disk import SimDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.journal import Disk

FOLDER = Path("/sim")


def sim(seed: int = 0, *, capacity: int = 1 << 40) -> SimDisk:
    return SimDisk(random.Random(seed), capacity=capacity)


def random_ids(seed: int) -> Callable[[], str]:
    rng = random.Random(seed)
    return lambda: rng.randbytes(16).hex()


_seeds = itertools.count(1)


def open_writer(
    disk: Disk,
    folder: Path = FOLDER,
    *,
    segment_bytes: int = 1 << 20,
    ballast_bytes: int = 0,
    floor: Sequence[Position] = (),
    clock: ManualClock | None = None,
) -> JournalWriter:
    return JournalWriter.open(
        folder,
        clock=clock or ManualClock(),
        disk=disk,
        random_id=random_ids(next(_seeds)),
        segment_bytes=segment_bytes,
        ballast_bytes=ballast_bytes,
        floor=floor,
    )


def draft(*payloads: bytes, kind: int = 1, context: bytes = b"ctx") -> PendingBlock:
    return PendingBlock(kind, context, list(payloads), list(range(len(payloads))))


def numbered(first: int, count: int, size: int = 20) -> PendingBlock:
    """Frames that say their own sequence number, so that order and place can be checked."""
    return draft(*(b"%d|" % seq + b"x" * size for seq in range(first, first + count)))


def read_all(disk: Disk, folder: Path = FOLDER, start: Position | None = None) -> list[Block]:
    with JournalReader(folder, start=start, disk=disk) as reader:
        return drain(reader)


def drain(reader: JournalReader, **limits: int) -> list[Block]:
    blocks: list[Block] = []
    while part := reader.read(**limits):
        blocks += part
        assert len(blocks) < 100_000, "the reader goes round in circles"
    return blocks


def frames_of(blocks: list[Block]) -> dict[int, bytes]:
    """Payload by sequence number, losses left out; no number may come twice."""
    found: dict[int, bytes] = {}
    for block in blocks:
        if block.kind != LOSS_KIND:
            for seq, payload in enumerate(block.payloads, block.first_seq):
                assert seq not in found, f"{seq} was delivered twice"
                found[seq] = payload
    assert list(found) == sorted(found)
    return found


def losses_of(blocks: list[Block]) -> list[tuple[int, int]]:
    records = [json.loads(block.payloads[0]) for block in blocks if block.kind == LOSS_KIND]
    assert all(record["type"] == "loss" for record in records)
    return [(record["first"], record["last"]) for record in records]


def says_its_seq(seq: int, payload: bytes) -> bool:
    return payload.split(b"|")[0] == str(seq).encode()


def segment_files(disk: SimDisk) -> list[Path]:
    return sorted(path for path in disk.names if path.suffix == ".fbj")


def bytes_on_disk(disk: SimDisk) -> int:
    return sum(len(disk.names[path].data) for path in segment_files(disk))


def sound(offset: int, end: int, first: int, following: int, durable: int) -> SoundBlock:
    """A block without its body that says ``durable``, at ``offset`` to ``end``."""
    body_len = end - offset - BLOCK_HEADER_SIZE
    count, nothing = following - first, bytes(16)
    header = BlockHeader(1, RAW, nothing, first, count, 0, body_len, durable, 0, 0, 0)
    return SoundBlock(offset, header, memoryview(b""))


def content(disk: SimDisk, path: Path) -> bytes:
    return bytes(disk.names[path].data)


def overwrite(disk: SimDisk, path: Path, data: bytes) -> None:
    inode = disk.names[path]
    inode.data, inode.stable = bytearray(data), bytearray(data)
    inode.dirty.clear()


def forget_watermark(disk: SimDisk) -> None:
    del disk.names[FOLDER / "watermark"]
