"""A disk that is really full, and one that really fails: nothing is lost, and on it goes."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from forebay.clock import SystemClock
from forebay.domain.frames import Context, FrameKind
from forebay.errors import JournalFull, Transient
from forebay.journal import (
    CursorFile,
    JournalReader,
    JournalWriter,
    OsDisk,
    PendingBlock,
    Position,
    fsck,
)
from forebay.services.group_commit import GroupCommit, GroupLimits
from tests.unit.journal.helpers import drain, frames_of, losses_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or umount is None:
        pytest.skip("a size-limited tmpfs can only be mounted by root")
    command = [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a size-limited tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([umount, str(folder)], check=True)


def open_writer(folder: Path) -> JournalWriter:
    return JournalWriter.open(
        folder / "journal", clock=SystemClock(), segment_bytes=MB, ballast_bytes=MB // 2
    )


def batch(first: int, count: int = 20, size: int = 2000) -> PendingBlock:
    payloads = [b"%d|" % seq + bytes(size) for seq in range(first, first + count)]
    return PendingBlock(1, b"ctx", payloads, [0] * count)


def read(folder: Path) -> dict[int, bytes]:
    with JournalReader(folder / "journal") as reader:
        blocks = drain(reader)
    assert losses_of(blocks) == []
    return frames_of(blocks)


def in_order(found: dict[int, bytes], end: int) -> bool:
    numbers = [int(payload.split(b"|")[0]) for payload in found.values()]
    return list(found) == numbers == list(range(1, end))


def fill(folder: Path, leave: int = 0) -> Path:
    """Let somebody else have the space, all but ``leave`` bytes of it."""
    hog = folder / "hog"
    with hog.open("ab") as file:
        free = shutil.disk_usage(folder).free - leave
        os.posix_fallocate(file.fileno(), 0, file.tell() + free)
    return hog


def ballast(small: Path) -> Path:
    return small / "journal" / "ballast"


def commit_for_ever(writer: JournalWriter) -> None:
    while True:
        writer.commit([batch(writer.position.seq)])


def commit_until_full(writer: JournalWriter) -> None:
    with pytest.raises(JournalFull, match="No space left"):
        commit_for_ever(writer)


def test_a_full_disk_takes_the_ballast_then_nothing_and_goes_on_when_there_is_space(
    small: Path,
) -> None:
    with open_writer(small) as writer:
        assert ballast(small).exists()
        hog = fill(small, leave=MB)
        commit_until_full(writer)
        end = writer.position.seq
        assert end - 1 >= (MB + MB // 2) // 2100, "the ballast was no help"
        assert not ballast(small).exists()
        for _ in range(3):
            with pytest.raises(JournalFull):
                writer.commit([batch(end)])
        assert in_order(read(small), end)
        hog.unlink()
        assert writer.commit([batch(end)]) == end + 20
        assert ballast(small).exists()
        assert in_order(read(small), end + 20)
    assert fsck(small / "journal").ok


def test_a_journal_opens_reads_and_goes_on_on_a_full_disk(small: Path) -> None:
    with open_writer(small) as writer:
        hog = fill(small, leave=MB)
        commit_until_full(writer)
        end = writer.position.seq
    fill(small)
    assert shutil.disk_usage(small).free == 0
    with open_writer(small) as writer:
        assert writer.report.losses == ()
        assert writer.position.seq == end
        assert in_order(read(small), end)
        with pytest.raises(JournalFull):
            writer.commit([batch(end)])
        hog.unlink()
        writer.commit([batch(end)])
        assert in_order(read(small), end + 20)


def test_a_new_log_that_a_full_disk_has_no_room_for_gets_the_room_of_the_ballast(
    small: Path,
) -> None:
    with open_writer(small) as writer:
        writer.commit([batch(1)])
        ahead = Position(writer.position.log_id, 100)
    fill(small)
    with JournalWriter.open(
        small / "journal", clock=SystemClock(), ballast_bytes=MB // 2, floor=[ahead]
    ) as writer:
        assert writer.report.new_log
        assert writer.report.losses == ((21, 99),)
        assert not ballast(small).exists()
        assert writer.commit([batch(101)]) == 121


def test_a_cursor_on_a_full_disk_keeps_what_it_had(small: Path) -> None:
    old, new = Position("ab" * 16, 7), Position("ab" * 16, 9)
    cursor = CursorFile(small / "cursors" / "c")
    cursor.store(old)
    hog = fill(small)
    with pytest.raises(JournalFull):
        CursorFile(small / "cursors" / "other").store(new)
    cursor.store(new)  # its place is its own already
    assert CursorFile(small / "cursors" / "c").load() == new
    assert os.listdir(small / "cursors") == ["c"]  # noqa: PTH208 - and no scratch file
    hog.unlink()
    cursor.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another thread makes it true
            await asyncio.sleep(0)


async def test_capture_waits_for_space_and_loses_nothing_of_what_it_received(small: Path) -> None:
    writer = open_writer(small)
    pressed: list[bool] = []
    limits = GroupLimits(linger_s=0.001, full_backoff_s=0.01, full_cap_s=0.02)
    group = GroupCommit(writer, clock=SystemClock(), rng=random.Random(1), limits=limits)
    group.on_pressure(pressed.append)
    async with group:
        hog = fill(small, leave=MB)
        take = group.open(Context(venue="v", source="ws", purpose="live", collector="c", epoch="e"))
        sent = 600  # 2.4 MB: more than there is, and less than there will be
        for serial in range(1, sent + 1):
            take.frame(FrameKind.TEXT, b"%d|" % serial + bytes(4000))
            await asyncio.sleep(0)
        await until(lambda: group.full)
        assert pressed == [True]
        captured = group.next_seq - 1
        assert captured < sent
        waiting = asyncio.create_task(group.flushed())
        await until(lambda: writer.position.seq == group.next_seq)
        assert not waiting.done()
        hog.unlink()
        assert await asyncio.wait_for(waiting, 60) == sent + 1
        await until(lambda: not group.full)
        assert pressed == [True, False]
    writer.close()
    assert in_order(read(small), sent + 1)


class FailingDisk(OsDisk):
    """Real files, and a sync that fails as often as told; the kernel is not asked then."""

    def __init__(self) -> None:
        self.failures = 0

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)


@pytest.mark.parametrize("failures", [1, 2, 3, 7])
def test_a_failing_sync_gives_the_segment_up_and_never_acknowledges(
    tmp_path: Path, failures: int
) -> None:
    disk = FailingDisk()
    refused = 0
    with JournalWriter.open(tmp_path / "journal", clock=SystemClock(), disk=disk) as writer:
        writer.commit([batch(1)])
        disk.failures = failures
        while writer.position.seq < 41:
            try:
                writer.commit([batch(21)])
            except Transient:
                refused += 1
                assert writer.position.seq == 21
                assert in_order(read(tmp_path), 21)
        assert refused == failures // 3
        assert disk.failures == 0
        assert in_order(read(tmp_path), 41)
    assert fsck(tmp_path / "journal").ok
