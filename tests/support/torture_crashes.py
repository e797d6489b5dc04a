"""Power cuts and kills at any operation of a log, several in a row, with a consumer that follows.

A subject is put through an ordeal by seed. The journal is one subject; others exist to show that
the ordeal can be failed (``tests/support/naive_logs.py``).
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from forebay.errors import JournalFull, Transient
from forebay.journal import CursorFile, JournalReader, PendingBlock, fsck
from tests.support.sim_disk import FailNext, Killed, SimDisk
from tests.support.torture import CURSOR, FOLDER, Got, complaints, open_at
from tests.unit.journal.helpers import drain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from forebay.journal import JournalWriter, Position


_SELDOM = 0.3
SEGMENT_BYTES = (100, 300, 1200, 3000, 1 << 20)
OPERATIONS = ("pwritev", "fdatasync", "fsync_dir", "rename", "create", "truncate")
"""What a disk may refuse in the middle of a commit."""


class Subject(Protocol):
    """A log on a simulated disk."""

    def open(self, disk: SimDisk, rng: random.Random) -> int:
        """Open or recover; gives the next sequence number."""
        ...

    def append(self, payloads: list[bytes]) -> int:
        """Acknowledge by returning the next sequence number; raises Transient if refused."""
        ...

    def consume(self, disk: SimDisk) -> Got:
        """What a consumer that follows is given now; its cursor moves along."""
        ...

    def everything(self, disk: SimDisk) -> Got:
        """What a consumer without a cursor is given."""
        ...

    def close(self) -> None: ...


class JournalSubject:
    """The journal, with small segments, a ballast, a floor, and now and then a new log."""

    def __init__(self, segment_bytes: Sequence[int] = SEGMENT_BYTES) -> None:
        self.segment_bytes = segment_bytes
        self.writer: JournalWriter | None = None
        self.cursor: Position | None = None
        self.begun_anew = 0

    def open(self, disk: SimDisk, rng: random.Random) -> int:
        self.rng = rng
        stored = CursorFile(CURSOR, disk).load()
        assert stored is not None or self.cursor is None, "the cursor is gone"
        self.cursor = stored
        anew = rng.random() < 0.1
        self.writer = open_at(
            disk,
            rng.randrange(1 << 30),
            segment_bytes=rng.choice(self.segment_bytes),
            ballast_bytes=rng.choice([0, 600]),
            floor=[stored] if stored else [],
            new_log=anew,
        )
        report = self.writer.report
        assert not report.losses, f"recovery lost {report.losses}"
        assert report.new_log == (anew and self.writer.position.seq > 1)
        self.begun_anew += report.new_log
        findings = fsck(FOLDER, disk=disk, cursors=[CURSOR]).findings
        found = [finding.sentence for finding in findings]
        assert not found, found
        return self.writer.position.seq

    def append(self, payloads: list[bytes]) -> int:
        """In one commit of batches of several kinds."""
        assert self.writer is not None
        drafts = []
        while payloads:
            size = self.rng.randint(1, len(payloads))
            context = self.rng.choice([b"", b"ctx"])
            drafts.append(
                PendingBlock(self.rng.randint(1, 5), context, payloads[:size], [0] * size)
            )
            payloads = payloads[size:]
        return self.writer.commit(drafts)

    def consume(self, disk: SimDisk) -> Got:
        with JournalReader(FOLDER, start=self.cursor, disk=disk) as reader:
            got = Got.of(drain(reader, max_frames=self.rng.randint(1, 20)))
            position = reader.position
        if got.frames:
            file = CursorFile(CURSOR, disk)
            try:
                file.store(position)
            except Transient:
                return Got([], [])  # the consumer's own disk refused: nothing was consumed
            finally:
                file.close()
            self.cursor = position
        return got

    def everything(self, disk: SimDisk) -> Got:
        assert self.writer is not None
        self.writer.commit([])  # publishes a watermark that found no space until now
        with JournalReader(FOLDER, disk=disk) as reader:
            return Got.of(drain(reader))

    def close(self) -> None:
        assert self.writer is not None
        self.writer.close()


class Ordeal:
    """One history, decided by its seed; :attr:`complaints` is empty if the subject stood it."""

    def __init__(self, seed: int, make: Callable[[], Subject]) -> None:
        self.rng = random.Random(seed)
        self.disk = SimDisk(random.Random(seed + 1), capacity=self.rng.choice([4000, 1 << 40]))
        self.disk.short_writes = bool(seed % 2)
        self.subject = make()
        self.acknowledged: dict[int, bytes] = {}
        self.given: set[bytes] = set()
        self.consumed: dict[int, bytes] = {}
        self.complaints: list[str] = []
        self.cuts: Counter[str] = Counter()
        """What was interrupted: the phase and the operation."""
        self._serial = 0
        self.next_seq = self.subject.open(self.disk, self.rng)

    def run(self, steps: int) -> list[str]:
        for _ in range(steps):
            self.rng.choice([self.append, self.append, self.fail, self.consume, self.crash])()
            if self.complaints:
                break
        else:
            self.crash()
            self.consume()
        return self.complaints

    def append(self) -> None:
        """A commit; the consumer may look on in the middle of it."""
        at = self.rng.randrange(12)

        def look(_: str) -> None:
            nonlocal at
            at -= 1
            if at == 0:
                self.disk.fault = _nothing
                self.consume()

        self._append(look)

    def fail(self) -> None:
        """A commit under a disk that refuses something, perhaps more than once."""
        number, times = self.rng.choice([errno.EIO, errno.ENOSPC]), self.rng.randint(1, 4)
        skip = self.rng.randrange(3)
        self._append(FailNext(self.rng.choice(OPERATIONS), number, times, skip))

    def consume(self) -> None:
        got = self.subject.consume(self.disk)
        self.complaints += [f"{lost} was declared lost" for lost in got.losses]
        for seq, payload in got.frames:
            if seq in self.consumed:
                same = self.consumed[seq] == payload
                what = "comes to the consumer twice" if same else "means two things to the consumer"
                self.complaints.append(f"{seq} {what}")
            self.consumed[seq] = payload
            if payload not in self.given:
                self.complaints.append(f"{seq} was never given")

    def reopen(self) -> None:
        """An orderly end and a new start."""
        self.subject.close()
        self._open()
        self._check()

    def kill(self) -> None:
        self.crash(power=False)

    def cut_power(self) -> None:
        self.crash(power=True)

    def crash(self, *, power: bool | None = None) -> None:
        """Die somewhere, cut the power or not, and die again while recovering."""
        phase = self.rng.choice(["append", "append", "close", "rest"])
        if phase != "rest":
            self._die_in(phase, self._append if phase == "append" else self.subject.close)
        self._down(power)
        for _ in range(self.rng.choice([0, 0, 1, 3])):
            if not self._die_in("open", self._open):
                return self._check()
            self._down(power)
        self._open()
        return self._check()

    # ------------------------------------------------------------------ inside

    def _append(self, fault: Callable[[str], None] | None = None) -> None:
        payloads = []
        for _ in range(self.rng.randint(1, 5)):
            self._serial += 1
            payloads.append(b"%d|" % self._serial + bytes(self.rng.choice([0, 10, 600, 2000])))
        self.given.update(payloads)
        if fault is not None:
            self.disk.fault = fault
        try:
            end = self.subject.append(payloads)
        except JournalFull:
            self.cuts["full"] += 1
            self.disk.capacity = 1 << 40
        except Transient:
            self.cuts["refused"] += 1
        else:
            self.acknowledged |= dict(enumerate(payloads, end - len(payloads)))
            self.next_seq = end
        if fault is not None:
            self.disk.fault = _nothing

    def _open(self) -> None:
        try:
            self.next_seq = self.subject.open(self.disk, self.rng)
        except JournalFull:
            self.cuts["full at the start"] += 1
            self.disk.capacity = 1 << 40
            self.next_seq = self.subject.open(self.disk, self.rng)

    def _die_in(self, phase: str, call: Callable[[], None]) -> bool:
        left = self.rng.randrange(1, 12)
        refuse = self.rng.random() < _SELDOM

        def die(operation: str) -> None:
            nonlocal left, refuse
            if operation == "fdatasync" and refuse and left > 1:
                # Its pages are clean in memory from now on, and perhaps not on the disk.
                refuse, left = False, self.rng.randint(1, 2)
                raise OSError(errno.EIO, "refused")
            if operation == "pread":  # it changes nothing: only what changes is worth a cut
                return
            left -= 1
            if left == 0:
                self.cuts[f"{phase}: {operation}"] += 1
            if left <= 0:
                raise Killed

        self.disk.fault = die
        try:
            call()
        except (Killed, Transient) as death:
            if isinstance(death, JournalFull):
                self.disk.capacity = 1 << 40
            return True
        finally:
            self.disk.fault = _nothing
        return False

    def _down(self, power: bool | None) -> None:
        if self.rng.random() < 0.7 if power is None else power:
            self.disk.lose_power()
        else:
            self.disk.kill()

    def _check(self) -> None:
        self.disk.capacity = 1 << 40
        got = self.subject.everything(self.disk)
        self.complaints += complaints(self.acknowledged, got)
        self.complaints += complaints(self.consumed, got)
        if [seq for seq, _ in got.frames] != list(range(1, self.next_seq)):
            self.complaints.append("what is recovered is no prefix")
        # What survived without an acknowledgement is durable from now on as well.
        self.acknowledged = dict(got.frames)


def _nothing(_: str) -> None:
    """No fault."""


def ordeals(make: Callable[[], Subject], seeds: Iterable[int]) -> tuple[Counter[str], list[str]]:
    """Put fresh subjects through histories; gives what happened, and the first complaints."""
    happened: Counter[str] = Counter()
    for seed in seeds:
        try:
            ordeal = Ordeal(seed, make)
            found = ordeal.run(8)
        except AssertionError as broken:
            return happened, [f"seed {seed}: {broken}"]
        happened += ordeal.cuts
        happened["histories"] += 1
        if found:
            return happened, [f"seed {seed}: {each}" for each in found]
    return happened, []
