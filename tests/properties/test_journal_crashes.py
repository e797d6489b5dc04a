"""Whatever happens to the process and the power: what was acknowledged is there, in order."""

from __future__ import annotations

import errno
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.errors import Transient
from forebay.journal import Draft, JournalReader, JournalWriter, Position, fsck
from tests.support.sim_disk import FailNext, SimDisk
from tests.unit.journal.helpers import FOLDER, drain, frames_of, losses_of, open_writer, read_all

OPERATIONS = ["pwritev", "fdatasync", "fsync_dir", "rename", "create", "truncate"]


class Machine:
    """A writer, a reader and a model of what they may say to each other."""

    def __init__(self, seed: int, segment_bytes: int) -> None:
        self.rng = random.Random(seed)
        self.disk = SimDisk(random.Random(seed + 1))
        self.disk.short_writes = bool(seed % 2)
        self.segment_bytes = segment_bytes
        self.acknowledged: dict[int, bytes] = {}
        self.consumed: dict[int, bytes] = {}
        self.cursor: Position | None = None
        self.given: set[bytes] = set()
        self.serial = 0
        self.writer = self.open()

    def open(self) -> JournalWriter:
        writer = open_writer(self.disk, segment_bytes=self.segment_bytes)
        assert writer.report.losses == ()
        assert writer.position.seq > max(self.acknowledged, default=0)
        return writer

    def drafts(self) -> list[Draft]:
        drafts = []
        for _ in range(self.rng.randint(1, 3)):
            count = self.rng.randint(1, 4)
            payloads = []
            for _ in range(count):
                self.serial += 1
                size = self.rng.choice([0, 10, 600, 2000])
                payloads.append(b"%d|" % self.serial + self.rng.randbytes(size))
            drafts.append(Draft(self.rng.randint(1, 5), b"ctx", payloads, [0] * count))
        return drafts

    def commit(self, fault: FailNext | None = None) -> None:
        drafts = self.drafts()
        payloads = [payload for draft in drafts for payload in draft.payloads]
        self.given.update(payloads)
        first = self.writer.position.seq
        self.disk.fault = fault or (lambda _: None)
        try:
            end = self.writer.commit(drafts)
        except Transient:
            assert self.writer.position.seq == first
        else:
            assert end == first + len(payloads)
            self.acknowledged |= dict(enumerate(payloads, first))
        self.disk.fault = lambda _: None

    def read(self) -> None:
        with JournalReader(FOLDER, start=self.cursor, disk=self.disk) as reader:
            blocks = drain(reader, max_frames=self.rng.randint(1, 20))
            self.cursor = reader.position
        assert losses_of(blocks) == []
        for seq, payload in frames_of(blocks).items():
            assert seq not in self.consumed
            assert payload in self.given
            self.consumed[seq] = payload

    def crash(self, *, power: bool) -> None:
        if self.rng.random() < 0.7:
            self.die_in_commit()
        if power:
            self.disk.lose_power()
        else:
            self.disk.kill()
        self.writer = self.open()
        everything = frames_of(read_all(self.disk))
        assert list(everything) == list(range(1, self.writer.position.seq))
        for kept in (self.acknowledged, self.consumed):
            assert kept.items() <= everything.items()
        assert set(everything.values()) <= self.given
        assert fsck(FOLDER, disk=self.disk).ok
        # What survived without an acknowledgement is durable from now on as well.
        self.acknowledged = everything

    def die_in_commit(self) -> None:
        left = self.rng.randint(0, 6)

        def fault(_: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError

        drafts = self.drafts()
        self.given.update(payload for draft in drafts for payload in draft.payloads)
        self.disk.fault = fault
        first = self.writer.position.seq
        try:
            self.writer.commit(drafts)
        except KilledError:
            pass
        else:
            payloads = [payload for draft in drafts for payload in draft.payloads]
            self.acknowledged |= dict(enumerate(payloads, first))
        self.disk.fault = lambda _: None


class KilledError(BaseException):
    """The process is gone in the middle of an operation; nothing tidies up behind it."""


def fault_of(rng: random.Random) -> FailNext:
    return FailNext(
        rng.choice(OPERATIONS),
        rng.choice([errno.EIO, errno.ENOSPC]),
        times=rng.randint(1, 4),
        skip=rng.randrange(3),
    )


@settings(max_examples=300)
@given(
    seed=st.integers(0, 10**9),
    segment_bytes=st.sampled_from([100, 3000, 1 << 20]),
    actions=st.lists(
        st.sampled_from(["commit", "commit", "fault", "read", "kill", "power", "close"]),
        min_size=3,
        max_size=25,
    ),
)
def test_no_history_of_crashes_and_errors_loses_doubles_or_reorders(
    seed: int, segment_bytes: int, actions: list[str]
) -> None:
    machine = Machine(seed, segment_bytes)
    for action in [*actions, "power"]:
        if action == "commit":
            machine.commit()
        elif action == "fault":
            machine.commit(fault_of(machine.rng))
        elif action == "read":
            machine.read()
        elif action == "close":
            machine.writer.close()
            machine.writer = machine.open()
        else:
            machine.crash(power=action == "power")
    machine.read()
    end = machine.writer.position.seq
    assert list(machine.consumed) == list(range(1, end))
    assert machine.consumed == machine.acknowledged


@settings(max_examples=100)
@given(seed=st.integers(0, 10**9))
def test_a_disk_that_lies_about_syncs_is_found_out_by_its_consumers(seed: int) -> None:
    """A sync that kept nothing: a consumer is ahead of the log, and that is said."""
    machine = Machine(seed, 1 << 20)
    for _ in range(3):
        machine.commit()
    stable = {path: bytes(inode.stable) for path, inode in machine.disk.names.items()}
    before = machine.writer.position.seq
    for _ in range(3):
        machine.commit()
    machine.read()
    cursor = machine.cursor
    assert cursor is not None
    for path, data in stable.items():
        machine.disk.names[path].stable = bytearray(data)
    for inode in machine.disk.names.values():
        inode.data = bytearray(inode.stable)
        inode.dirty.clear()
    machine.disk.kill()
    machine.disk.boot += 1
    with open_writer(machine.disk, floor=[cursor]) as writer:
        assert writer.report.new_log
        assert writer.report.losses == ((before, cursor.seq - 1),)
        writer.commit([Draft(1, b"", [b"new"], [0])])
        blocks = read_all(machine.disk, start=cursor)
    assert losses_of(blocks) == [(before, cursor.seq - 1)]
    assert list(frames_of(blocks).values()) == [b"new"]
