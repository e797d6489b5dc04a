"""What every torture of the journal has in common: a log that is put to it, and the judge.

The judge knows what was acknowledged and is told what a consumer got; it knows no journal, so
that the same judge can be shown to condemn logs that deserve it.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from forebay.clock import ManualClock
from forebay.errors import Corrupt
from forebay.journal import CursorFile, FsckReport, JournalReader, JournalWriter, PendingBlock, fsck
from forebay.journal.seal import seal
from tests.support.sim_disk import SimDisk
from tests.unit.journal.helpers import drain, losses_of, random_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.journal import Block, Disk, Position

FOLDER = Path("/sim")
CURSOR = FOLDER / "store.cursor"
CLOCK = ManualClock()
LOSS = 255


class Got(NamedTuple):
    """What one consumer was given, in order."""

    frames: list[tuple[int, bytes]]
    losses: list[tuple[int, int]]

    @classmethod
    def of(cls, blocks: Iterable[Block]) -> Got:
        blocks = list(blocks)
        frames = [
            pair
            for block in blocks
            if block.kind != LOSS
            for pair in enumerate(block.payloads, block.first_seq)
        ]
        return cls(frames, losses_of(blocks))


def complaints(acknowledged: Mapping[int, bytes], got: Got, *, first: int = 1) -> list[str]:
    """Everything that a consumer who began at ``first`` may rightly complain of."""
    found = []
    numbers = [seq for seq, _ in got.frames]
    if numbers != sorted(numbers):
        found.append("out of order")
    if len(set(numbers)) != len(numbers):
        found.append("doubled")
    altered = [seq for seq, data in got.frames if acknowledged.get(seq, data) != data]
    if altered:
        found.append(f"corrupt: {altered}")
    declared = {seq for start, last in got.losses for seq in range(start, last + 1)}
    silent = {seq for seq in acknowledged if seq >= first} - set(numbers) - declared
    if silent:
        found.append(f"lost without a word: {sorted(silent)}")
    if declared & set(numbers):
        found.append("declared lost and delivered")
    return found


# ------------------------------------------------------------------------- journals


class Template(NamedTuple):
    """A journal folder that is copied for every experiment."""

    files: dict[str, bytes]
    acknowledged: dict[int, bytes]
    cursors: tuple[Position, Position]
    """Stored last, and the one before."""


def open_at(
    disk: Disk,
    seed: int = 0,
    *,
    folder: Path = FOLDER,
    segment_bytes: int = 450,
    floor: Sequence[Position] = (),
    ballast_bytes: int = 0,
    new_log: bool = False,
) -> JournalWriter:
    return JournalWriter.open(
        folder,
        clock=CLOCK,
        disk=disk,
        random_id=random_ids(seed),
        segment_bytes=segment_bytes,
        ballast_bytes=ballast_bytes,
        floor=floor,
        new_log=new_log,
    )


def draft(first: int, count: int, salt: int = 0) -> PendingBlock:
    """Frames that are unlike one another and say their number."""
    dice = random.Random(first * 1009 + salt)
    payloads = [b"%d|" % seq + dice.randbytes(8) for seq in range(first, first + count)]
    return PendingBlock(1, b"c", payloads, [0] * count)


def template(*, closed: bool, commits: int = 6) -> Template:
    """A journal of small segments, two frames a commit, with a consumer's cursor in it.

    If it is closed, its first segment is sealed.
    """
    disk = SimDisk.of(FOLDER, {})
    writer = open_at(disk, 7)
    cursor = CursorFile(CURSOR, disk)
    acknowledged: dict[int, bytes] = {}
    stored = []
    for index in range(commits):
        first = writer.position.seq
        batch = draft(first, 2)
        writer.commit([batch])
        acknowledged |= dict(enumerate(batch.payloads, first))
        if index < 3:
            cursor.store(writer.position)
            stored.append(writer.position)
    if closed:
        writer.close()
        seal(disk, FOLDER, 1, 5, random_id=random_ids(9))
    return Template(disk.files, acknowledged, (stored[-1], stored[-2]))


# ------------------------------------------------------------------------ bit flips


class Flips(NamedTuple):
    """Counts of one run, for its output."""

    journals: int
    bits: int
    lost: int
    """Journals in which frames were lost, and declared."""
    undecided: int
    """Journals whose very last commit was hit together with what proves it."""


BITS = 5_000
"""Bits that one run flips."""
_JOURNALS = 1_000_000
"""Seeds that a run may use; it ends when it has flipped its bits."""


def bear_flips(made: Template, run: int) -> None:
    """Flip the bits of one run; fails if one of them is not borne, or if they hit nothing."""
    flips = flip_bits(made, range(run * _JOURNALS, (run + 1) * _JOURNALS), BITS)
    print(f"run {run}: {flips}")
    assert flips.bits >= BITS
    assert flips.lost > flips.journals // 10, "the flips hit nothing that mattered"


def flip_bits(made: Template, seeds: Iterable[int], bits: int) -> Flips:
    """Flip at least ``bits`` bits, one or some a journal, and look what becomes of each."""
    names = list(made.files)
    sizes = [len(made.files[name]) for name in names]
    # A slot file is mostly padding: most flips go where something is written.
    weights = [
        512 if name in {"watermark", CURSOR.name} else len(made.files[name]) for name in names
    ]
    journals = flipped = lost = undecided = 0
    for seed in seeds:
        rng = random.Random(seed)
        disk = SimDisk.of(FOLDER, made.files, boot=1 + (seed % 3 == 0))
        hit = set()
        for _ in range(1 if rng.random() < 0.5 else rng.randint(2, 10)):
            index = rng.choices(range(len(names)), weights)[0]
            at = _place(rng, names[index], sizes[index])
            if (index, at) not in hit:
                disk.flip(FOLDER / names[index], at)
                hit.add((index, at))
        touched = {names[index] for index, _ in hit}
        outcome = _examine(made, disk, touched, single=len(hit) == 1, seed=seed)
        journals, flipped = journals + 1, flipped + len(hit)
        lost += outcome == "lost"
        undecided += outcome == "undecided"
        if flipped >= bits:
            break
    return Flips(journals, flipped, lost, undecided)


def _place(rng: random.Random, name: str, size: int) -> int:
    if name in {"watermark", CURSOR.name} and rng.random() < 0.9:
        return (rng.randrange(2) * 4096 + rng.randrange(120)) * 8 + rng.randrange(8)
    return rng.randrange(size * 8)


def _examine(made: Template, disk: SimDisk, touched: set[str], *, single: bool, seed: int) -> str:
    """Check, read and open one damaged journal; every broken promise is an AssertionError."""
    where = f"seed {seed}, {sorted(touched)}"
    report = fsck(FOLDER, disk=disk, cursors=[CURSOR])
    assert report.findings or touched == {"writer.lock"}, f"fsck saw nothing: {where}"
    before = _read(disk, None)
    if disk.boot == 1 and not _both_slots_gone(report, "watermark"):
        found = complaints(_up_to(made.acknowledged, before), before)
        assert not found, f"{found} before recovery: {where}"
    elif disk.boot != 1:
        assert not before.frames, f"trusted another boot's watermark: {where}"
    cursor = _cursor(made, disk, report, single=single, where=where)
    with open_at(disk, seed, floor=[cursor] if cursor else []) as writer:
        batch = draft(writer.position.seq, 1, salt=1)
        known = made.acknowledged | {writer.position.seq: batch.payloads[0]}
        writer.commit([batch])
        start = cursor if seed % 2 else None
        found = complaints(known, _read(disk, start), first=start.seq if start else 1)
    undecided = writer.report.tail != "whole"
    if undecided and not single:
        found = [each for each in found if not each.startswith(("lost", "corrupt"))]
    assert not found, f"{found} after recovery: {where}"
    if before.losses or writer.report.losses:
        assert not report.ok, f"fsck found no damage: {where}"
        return "lost"
    return "undecided" if undecided else "whole"


def _cursor(
    made: Template, disk: SimDisk, report: FsckReport, *, single: bool, where: str
) -> Position | None:
    try:
        position = CursorFile(CURSOR, disk).load()
    except Corrupt:
        assert not single, f"one flip cost the cursor: {where}"
        assert _both_slots_gone(report, CURSOR.name), where
        return None
    assert position in made.cursors, f"an invented cursor: {where}"
    return position


def _both_slots_gone(report: FsckReport, name: str) -> bool:
    return any(
        finding.segment == name and finding.what.startswith("neither slot")
        for finding in report.findings
    )


def _up_to(acknowledged: Mapping[int, bytes], got: Got) -> dict[int, bytes]:
    """A reader whose newest watermark slot is damaged stops one commit early, and may."""
    ends = [seq for seq, _ in got.frames] + [last for _, last in got.losses]
    end = max(ends, default=0)
    assert end >= max(acknowledged) - 2, "the reader stopped early"
    return {seq: data for seq, data in acknowledged.items() if seq <= end}


def _read(disk: Disk, start: Position | None) -> Got:
    with JournalReader(FOLDER, start=start, disk=disk) as reader:
        return Got.of(drain(reader))
