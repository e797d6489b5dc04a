"""The journal's housekeeping: what every consumer is past is recorded, sealed, and removed.

:func:`forebay.journal.retention.plan` decides, this does it: one segment a call, so that its
caller may give way to delivery between two.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from forebay.errors import ForebayError, Transient
from forebay.journal.disk import OS_DISK, translated
from forebay.journal.fsck import iter_blocks
from forebay.journal.model import Position, new_id
from forebay.journal.retention import Floor, HousekeepingStep, Rules, plan
from forebay.journal.seal import Unsealable, seal
from forebay.journal.segments import list_segments, remove_sealing, remove_segment, segment_name
from forebay.journal.survey import GLANCE, Survey, survey
from forebay.telemetry import HousekeepingRefused, Observer, SegmentRemoved, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal.disk import Disk
    from forebay.journal.model import Block

LOCK_NAME = "housekeeping.lock"


class SegmentLedger(Protocol):
    """The permanent record of what segments held."""

    def reached(self) -> Position | None:
        """Return the ``end`` that was recorded last; None if nothing is."""
        ...

    def record(self, blocks: Iterable[Block], end: Position) -> None:
        """Record everything before ``end``, perhaps more; durable when it returns.

        ``blocks`` are one segment's, in order, for what is not known without. An ``end`` that was
        reached before changes nothing. Raises :class:`~forebay.errors.Transient`.
        """
        ...


class Housekeeper:
    """Maintains one journal; blocking, one of them a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        cursors: Callable[[], Sequence[Position]],
        ledger: SegmentLedger,
        rules: Rules,
        disk: Disk = OS_DISK,
        observer: Observer = ignore,
        random_id: Callable[[], str] = new_id,
    ) -> None:
        """``cursors`` gives those of all required consumers, each durable when it is given."""
        self._folder = folder
        self._clock = clock
        self._cursors = cursors
        self._ledger = ledger
        self.rules = rules
        """How long segments are kept; may change between two steps."""
        self._disk = disk
        self._observe = observer
        self._random_id = random_id
        self._lock: int | None = None
        self._known: dict[int, Survey] = {}
        self._left: set[int] = set()

    def step(self) -> HousekeepingStep | None:
        """Settle the most urgent thing that can be settled; None if nothing was.

        What the disk or the ledger refuses is told and left for a later call, and does not
        keep the next thing from being done. Raises :class:`~forebay.errors.ForebayError` if
        not even a decision could be made, for instance because another process has the folder.
        """
        with translated(f"keep house in the journal {self._folder}"):
            self._own()
            segments = self._look()
        floor = Floor(self._cursors(), self._ledger.reached())
        known = {segment.first_seq: segment for segment in segments}
        for step in plan(segments, self._clock.wall_ns(), self.rules, floor, self._left):
            if self._settled(step, known):
                return step
        return None

    def close(self) -> None:
        """Leave the folder to others."""
        if self._lock is not None:
            self._disk.close(self._lock)
            self._lock = None

    def _own(self) -> None:
        if self._lock is not None:
            return
        note = f"{self._disk.process_id()}\n".encode("ascii")
        try:
            self._lock = self._disk.lock(self._folder / LOCK_NAME, note)
        except BlockingIOError as error:
            message = f"Another process keeps house in the journal {self._folder}."
            raise Transient(message, hint="It is tried again; nothing was changed.") from error
        remove_sealing(self._disk, self._folder)

    def _look(self) -> list[Survey]:
        """Return every segment; only the last one changes by other hands than these."""
        firsts = list_segments(self._disk, self._folder)
        self._known = {
            first_seq: self._known.get(first_seq)
            or survey(self._disk, self._folder, first_seq, limit=GLANCE)
            for first_seq in firsts
        }
        segments = list(self._known.values())
        if segments:
            self._known.pop(firsts[-1])
            self._date(segments)
        return segments

    def _date(self, segments: list[Survey]) -> None:
        """Find out how old the oldest one is.

        One that holds no readable frame is as old as what follows it, or it would stay and
        keep all that follow it.
        """
        oldest = segments[0]
        for first_seq, following in pairwise(segment.first_seq for segment in segments):
            if oldest.last_ns is not None:
                return
            dated = survey(self._disk, self._folder, first_seq, following, times=True)
            oldest.last_ns = dated.last_ns

    def _settled(self, step: HousekeepingStep, known: Mapping[int, Survey]) -> bool:
        name = segment_name(step.first_seq)
        try:
            if step.action == "record":
                self._record(step, known)
            else:
                self._do(step, known[step.first_seq], name)
        except ForebayError as error:
            self._observe(HousekeepingRefused(step.action, name, str(error)))
            if not isinstance(error, Unsealable):
                return False
            self._left.add(step.first_seq)
        return True

    def _record(self, step: HousekeepingStep, known: Mapping[int, Survey]) -> None:
        start = Position(known[step.first_seq].log_id or step.end.log_id, step.first_seq)
        self._ledger.record(self._blocks(start, step.end.seq), step.end)
        reached = self._ledger.reached()
        logs = {step.end.log_id, *(segment.log_id for segment in known.values())}
        if reached is None or reached.seq < step.end.seq or reached.log_id not in logs:
            message = f"The ledger has no entry up to {step.end.log_id}:{step.end.seq}."
            raise Transient(message, hint="Is it the ledger of another journal?")

    def _do(self, step: HousekeepingStep, segment: Survey, name: str) -> None:
        self._known.pop(step.first_seq, None)  # whatever happens now, it is looked at again
        if step.action == "seal":
            where = (self._disk, self._folder, step.first_seq)
            seal(*where, step.end.seq, random_id=self._random_id)
            return
        with translated(f"remove {name} of the journal {self._folder}"):
            remove_segment(self._disk, self._folder, step.first_seq)
        self._observe(SegmentRemoved(name, step.end.seq - step.first_seq, segment.bytes))

    def _blocks(self, start: Position, end_seq: int) -> Iterator[Block]:
        for block in iter_blocks(self._folder, start, disk=self._disk):
            if block.first_seq >= end_seq:
                return
            yield block
