"""The journal's housekeeping: what every consumer is past is recorded, sealed, and removed.

:func:`forebay.journal.retention.plan` decides, this does it: one segment a call, so that its
caller may give way to delivery between two.
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING, Protocol

from forebay.errors import ForebayError, Transient
from forebay.journal import OS_DISK, Position, iter_blocks
from forebay.journal.disk import translated
from forebay.journal.overview import facts, span
from forebay.journal.retention import Floor, Rules, SegmentFacts, Step, plan
from forebay.journal.seal import Unsealable, seal
from forebay.journal.segments import list_segments, remove_sealing, remove_segment, segment_path
from forebay.telemetry import HousekeepingRefused, Observer, SegmentRemoved, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal import Block, Disk

LOCK_NAME = "housekeeping.lock"


class Ledger(Protocol):
    """The permanent record of what segments held."""

    def reached(self) -> Position | None:
        """The ``end`` that was recorded last; None if nothing is."""
        ...

    def record(self, blocks: Iterable[Block], end: Position) -> None:
        """Record everything before ``end``, perhaps more; durable when it returns.

        ``blocks`` are one segment's, in order, for what is not known without. An ``end`` that was
        reached before changes nothing. Raises :class:`~forebay.errors.Transient`.
        """
        ...


def _random_id() -> str:
    return uuid.uuid4().hex


class Housekeeper:
    """Keeps one journal's house; blocking, one of them a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        cursors: Callable[[], Sequence[Position]],
        ledger: Ledger,
        rules: Rules,
        disk: Disk = OS_DISK,
        observer: Observer = ignore,
        random_id: Callable[[], str] = _random_id,
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
        self._facts: dict[int, SegmentFacts] = {}
        self._left: set[int] = set()

    def step(self) -> Step | None:
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

    def _look(self) -> list[SegmentFacts]:
        """Every segment; only the last one changes by other hands than these."""
        firsts = list_segments(self._disk, self._folder)
        self._facts = {
            first_seq: self._facts.get(first_seq) or facts(self._disk, self._folder, first_seq)
            for first_seq in firsts
        }
        if not firsts:
            return []
        found = list(self._facts.values())
        self._facts.pop(firsts[-1])
        return self._dated(found)

    def _dated(self, segments: list[SegmentFacts]) -> list[SegmentFacts]:
        """The same with the age of the oldest one.

        One that holds no readable frame is as old as what follows it, or it would stay and
        keep all that follow it.
        """
        if segments[0].last_ns is None:
            for segment in segments[:-1]:
                last_ns = span(self._disk, self._folder, segment.first_seq).last_ns
                if last_ns is not None:
                    segments[0] = dataclasses.replace(segments[0], last_ns=last_ns)
                    self._facts[segments[0].first_seq] = segments[0]
                    break
        return segments

    def _settled(self, step: Step, known: Mapping[int, SegmentFacts]) -> bool:
        name = segment_path(self._folder, step.first_seq).name
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

    def _record(self, step: Step, known: Mapping[int, SegmentFacts]) -> None:
        start = Position(known[step.first_seq].log_id or step.end.log_id, step.first_seq)
        self._ledger.record(self._blocks(start, step.end.seq), step.end)
        reached = self._ledger.reached()
        logs = {step.end.log_id, *(segment.log_id for segment in known.values())}
        if reached is None or reached.seq < step.end.seq or reached.log_id not in logs:
            message = f"The ledger has no entry up to {step.end.log_id}:{step.end.seq}."
            raise Transient(message, hint="Is it the ledger of another journal?")

    def _do(self, step: Step, segment: SegmentFacts, name: str) -> None:
        self._facts.pop(step.first_seq, None)  # whatever happens now, it is looked at again
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
