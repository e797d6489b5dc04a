"""The door to the operating system, and the simulated disk that stands in for it."""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING

import pytest

from forebay.errors import ConfigError, ForebayError, JournalFull, Transient
from forebay.journal.ballast import Ballast
from forebay.journal.disk import OsDisk, read_all, translate, translated, write_all
from forebay.journal.watermark import (
    Watermark,
    WatermarkReader,
    WatermarkWriter,
    decode_watermark,
    encode_watermark,
)
from tests.support.sim_disk import FailNext, SimDisk
from tests.unit.journal.helpers import FOLDER, sim

if TYPE_CHECKING:
    from pathlib import Path

FILE = FOLDER / "file"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, JournalFull),
        (errno.EDQUOT, JournalFull),
        (errno.EACCES, ConfigError),
        (errno.EROFS, ConfigError),
        (errno.ELOOP, ConfigError),
        (errno.EIO, Transient),
        (errno.EMFILE, Transient),
    ],
)
def test_each_error_of_the_system_says_what_happens_next(
    number: int, kind: type[ForebayError]
) -> None:
    error = OSError(number, "reason")
    found = translate(error, "do something")
    assert type(found) is kind
    assert "do something" in found.message
    assert "reason" in found.message
    assert found.hint
    with pytest.raises(kind) as caught, translated("do something"):
        raise error
    assert caught.value.__cause__ is error


def test_our_own_errors_pass_through_untranslated() -> None:
    mine = ConfigError("mine")
    with pytest.raises(ConfigError) as caught, translated("do something"):
        raise mine
    assert caught.value is mine


def test_a_file_is_created_only_if_it_is_new(tmp_path: Path) -> None:
    disk = OsDisk()
    disk.close(disk.open(tmp_path / "a", create=True))
    with pytest.raises(FileExistsError):
        disk.open(tmp_path / "a", create=True)
    with pytest.raises(FileNotFoundError):
        disk.open(tmp_path / "b", write=True)


def test_a_symbolic_link_is_never_followed(tmp_path: Path) -> None:
    disk = OsDisk()
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for options in ({}, {"write": True}, {"create": True}):
        with pytest.raises(OSError, match=r"link"):
            disk.open(tmp_path / "link", **options)
    with pytest.raises(OSError, match=r"link"):
        disk.lock(tmp_path / "link", b"note")
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_a_handle_opened_to_read_cannot_write(tmp_path: Path) -> None:
    disk = OsDisk()
    (tmp_path / "a").write_bytes(b"abc")
    fd = disk.open(tmp_path / "a")
    with pytest.raises(OSError, match="Bad file"):
        disk.pwritev(fd, [b"x"], 0)
    assert (disk.pread(fd, 10, 1), disk.size(fd)) == (b"bc", 3)
    disk.close(fd)


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    disk = OsDisk()
    disk.make_folder(tmp_path / "a" / "b" / "c")
    disk.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        disk.make_folder(tmp_path / "file")


def test_a_lock_holds_until_it_is_closed_and_says_who_has_it(tmp_path: Path) -> None:
    disk = OsDisk()
    first = disk.lock(tmp_path / "lock", b"first, with a long note\n")
    with pytest.raises(BlockingIOError):
        disk.lock(tmp_path / "lock", b"second")
    assert (tmp_path / "lock").read_bytes() == b"first, with a long note\n"
    disk.close(first)
    disk.close(disk.lock(tmp_path / "lock", b"second"))
    assert (tmp_path / "lock").read_bytes() == b"second"


def test_space_is_really_reserved(tmp_path: Path) -> None:
    disk = OsDisk()
    fd = disk.open(tmp_path / "a", create=True)
    disk.allocate(fd, 100_000)
    assert disk.size(fd) == 100_000
    assert (tmp_path / "a").stat().st_blocks * 512 >= 100_000
    disk.close(fd)
    assert disk.free(tmp_path) > 0


def test_the_boot_has_a_name_that_fits_the_watermark() -> None:
    boot_id = OsDisk().boot_id()
    assert boot_id == OsDisk().boot_id()
    assert 0 < len(boot_id.encode("ascii")) <= 36


@pytest.mark.parametrize("seed", range(20))
def test_write_all_writes_all_however_short_the_writes(seed: int) -> None:
    disk = sim(seed)
    disk.short_writes = True
    rng = random.Random(seed)
    parts = [rng.randbytes(rng.choice([0, 1, 7, 300])) for _ in range(rng.randint(0, 40))]
    fd = disk.open(FILE, create=True)
    assert write_all(disk, fd, parts, 5) == 5 + sum(map(len, parts))
    assert read_all(disk, fd, 1 << 20, 5) == b"".join(parts)


def test_a_disk_that_takes_nothing_is_an_error_and_no_endless_loop() -> None:
    class Stuck(SimDisk):
        def pwritev(self, fd: int, buffers: object, offset: int) -> int:
            return 0

    disk = Stuck(random.Random(0))
    with pytest.raises(OSError, match="took no byte"):
        write_all(disk, disk.open(FILE, create=True), [b"x"], 0)


def test_a_read_error_that_goes_away_costs_nothing() -> None:
    disk = sim()
    fd = disk.open(FILE, create=True)
    write_all(disk, fd, [bytes(range(256)) * 64], 0)
    disk.fault = FailNext("pread", times=1)
    assert read_all(disk, fd, 16_384, 0) == bytes(range(256)) * 64
    disk.fault = FailNext("pread", times=2)
    damaged = read_all(disk, fd, 16_384, 0)
    assert damaged == bytes(4096) + bytes(range(256)) * 48
    disk.fault = FailNext("pread", errno.EACCES, times=1)
    with pytest.raises(PermissionError):
        read_all(disk, fd, 16_384, 0)


# ----------------------------------------------------------------- watermark


def mark(next_seq: int, boot_id: str = "boot-1") -> Watermark:
    return Watermark(b"L" * 16, boot_id, next_seq, 1, b"S" * 16, 64)


def test_a_watermark_comes_back_as_it_was() -> None:
    for boot_id in ("x", "x" * 36):
        assert decode_watermark(encode_watermark(mark(7, boot_id))) == mark(7, boot_id)
    assert decode_watermark(b"short") is None
    assert decode_watermark(encode_watermark(mark(7))[:16] + b"\xff" * 76) is None


def test_a_torn_watermark_shows_the_one_before() -> None:
    disk = sim()
    writer = WatermarkWriter(disk, FOLDER, FOLDER / f"{'0' * 32}.tmp")
    reader = WatermarkReader(disk, FOLDER)
    for seq in range(1, 10):
        writer.publish(mark(seq))
        before = bytes(disk.names[FOLDER / "watermark"].data)
        assert reader.read() == mark(seq)
        writer.publish(mark(seq + 1))
        data = disk.names[FOLDER / "watermark"].data
        changed = next(at for at in range(len(data)) if data[at] != before[at])
        data[changed + 20 :] = before[changed + 20 :]
        assert reader.read() == mark(seq)
        data[:] = before


def test_a_publication_that_fails_half_way_is_made_up_for() -> None:
    disk = sim()
    writer = WatermarkWriter(disk, FOLDER, FOLDER / f"{'0' * 32}.tmp")
    disk.fault = FailNext("rename", times=1)
    writer.publish(mark(1))
    pending = [writer.pending]
    assert [path for path in disk.names if path.suffix == ".tmp"] == []
    writer.publish(mark(2))
    assert [*pending, writer.pending] == [True, False]
    assert WatermarkReader(disk, FOLDER).read() == mark(2)


# ------------------------------------------------------------------- ballast


def test_a_ballast_that_does_not_fit_is_not_half_there() -> None:
    disk = sim()
    ballast = Ballast(disk, FILE, 1000)
    disk.fault = FailNext("allocate", errno.ENOSPC, times=1)
    ballast.restore()
    assert (ballast.held, ballast.release(), FILE in disk.names) == (False, False, False)
    ballast.restore()
    assert (ballast.held, FILE in disk.names) == (True, True)
    assert ballast.release()
    assert FILE not in disk.names


def test_a_ballast_of_the_wrong_size_is_made_anew() -> None:
    disk = sim()
    Ballast(disk, FILE, 10).restore()
    Ballast(disk, FILE, 1000).restore()
    assert len(disk.names[FILE].data) == 1000


# ------------------------------------------------- the simulated disk itself


def test_a_power_cut_keeps_what_was_synced_and_may_drop_the_rest() -> None:
    outcomes = set()
    for seed in range(200):
        disk = sim(seed)
        fd = disk.open(FILE, create=True)
        disk.pwritev(fd, [b"a" * 512], 0)
        disk.fdatasync(fd)
        disk.fsync_dir(FOLDER)
        disk.pwritev(fd, [b"b" * 1024], 512)
        disk.lose_power()
        data = bytes(disk.names[FILE].data)
        assert data[:512] == b"a" * 512
        outcomes.add(data[512:])
    zeros, page = bytes(512), b"b" * 512
    assert outcomes == {b"", zeros + zeros, zeros + page, page + zeros, page + page}


def test_a_power_cut_may_drop_a_name_that_was_not_synced() -> None:
    kept = set()
    for seed in range(50):
        disk = sim(seed)
        disk.open(FILE, create=True)
        disk.lose_power()
        kept.add(FILE in disk.names)
    assert kept == {True, False}


def test_a_failed_sync_leaves_pages_clean_that_are_not_on_the_disk() -> None:
    lost = 0
    for seed in range(50):
        disk = sim(seed)
        fd = disk.open(FILE, create=True)
        disk.fsync_dir(FOLDER)
        disk.pwritev(fd, [b"a" * 512], 0)
        disk.fault = FailNext("fdatasync", times=1)
        with pytest.raises(OSError, match="output error"):
            disk.fdatasync(fd)
        disk.fdatasync(fd)
        assert disk.pread(fd, 512, 0) == b"a" * 512
        disk.lose_power()
        lost += bytes(disk.names[FILE].data) != b"a" * 512
    assert 10 < lost < 40


def test_a_kill_keeps_every_byte_and_frees_the_lock() -> None:
    disk = sim()
    disk.lock(FOLDER / "lock", b"1")
    fd = disk.open(FILE, create=True)
    disk.pwritev(fd, [b"written"], 0)
    with pytest.raises(BlockingIOError):
        disk.lock(FOLDER / "lock", b"2")
    disk.kill()
    disk.lock(FOLDER / "lock", b"2")
    assert bytes(disk.names[FILE].data) == b"written"
