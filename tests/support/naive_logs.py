"""Logs as they are often written, to show that the tortures can be failed.

Each is the append log of many programs: ``length | payload``, one after the other, synced at
every append; numbers are counted from 1 while reading. What each of them lacks is its name.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING

from forebay.journal.disk import translated
from tests.support.torture import FOLDER, Got

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from forebay.journal import Disk
    from tests.support.sim_disk import SimDisk

_HEAD = Struct("<II")


def _crc(payload: bytes) -> int:
    """Of the length too, or a page of zeros would be a run of empty records."""
    return zlib.crc32(payload, len(payload) + 1)


class NaiveLog:
    """A log in one file; a consumer reads to the end of it and remembers a number."""

    checks = True
    """Whether a record has a CRC that is looked at."""
    syncs_names = True
    """Whether the folder is synced after the file was made."""
    syncs = True
    """Whether an append is synced before it is acknowledged."""
    durable_only = True
    """Whether a consumer is kept from what is not yet synced."""

    def __init__(self) -> None:
        self.fd = -1
        self.end = self.durable = 0
        self.next = self.cursor = 1
        self.path: Path = FOLDER / "log"

    def open(self, disk: Disk, rng: random.Random | None = None) -> int:
        self.disk = disk
        with translated("open"):
            return self._open(disk)

    def _open(self, disk: Disk) -> int:
        try:
            self.fd = disk.open(self.path, write=True)
        except FileNotFoundError:
            self.fd = disk.open(self.path, create=True)
        if self.syncs_names:
            disk.fsync_dir(FOLDER)
        records, self.end = self._records(disk.size(self.fd))
        self.next = len(records) + 1
        disk.truncate(self.fd, self.end)
        # Again, because a page whose sync once failed is clean in memory and not on the disk.
        self._put(disk.pread(self.fd, self.end, 0), 0)
        disk.fdatasync(self.fd)
        self.durable = self.end
        return self.next

    def append(self, payloads: list[bytes]) -> int:
        records = [_HEAD.pack(len(data), _crc(data)) + data for data in payloads]
        with translated("append"):
            self._put(b"".join(records), self.end)
            if self.syncs:
                self.disk.fdatasync(self.fd)
        self.end += sum(map(len, records))
        self.durable = self.end
        self.next += len(payloads)
        return self.next

    def consume(self, disk: SimDisk) -> Got:
        records, _ = self._records(self.durable if self.durable_only else disk.size(self.fd))
        new = list(enumerate(records, 1))[self.cursor - 1 :]
        self.cursor += len(new)
        return Got(new, [])

    def everything(self, disk: Disk) -> Got:
        return Got(list(enumerate(self._records(disk.size(self.fd))[0], 1)), [])

    def close(self) -> None:
        """Nothing to do."""

    def _put(self, data: bytes, offset: int) -> None:
        while data:
            written = self.disk.pwritev(self.fd, [data], offset)
            data, offset = data[written:], offset + written

    def _records(self, limit: int) -> tuple[list[bytes], int]:
        data = self.disk.pread(self.fd, limit, 0)
        found: list[bytes] = []
        at = 0
        while at + _HEAD.size <= len(data):
            length, crc = _HEAD.unpack_from(data, at)
            payload = data[at + _HEAD.size :][:length]
            if len(payload) < length or (self.checks and _crc(payload) != crc):
                break
            found.append(payload)
            at += _HEAD.size + length
        return found, at


class WithoutCrc(NaiveLog):
    checks = False


class WithoutWatermark(NaiveLog):
    durable_only = False


class WithoutNames(NaiveLog):
    syncs_names = False


class WithoutSync(NaiveLog):
    syncs = False
