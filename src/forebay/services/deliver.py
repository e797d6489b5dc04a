"""From the journal to a store: CAPTURED becomes STORED, in order, once.

One :meth:`Deliverer.step` reads what is durable, projects it and commits rows, coverage and
cursor together. A step that failed changed nothing; before it is tried again the store is
asked how far it got, because a commit whose answer was lost may have happened.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from forebay.errors import CursorBeyondEnd, ForebayError, Transient
from forebay.journal import OS_DISK, JournalReader
from forebay.ports import Commit, Committed, FillRequest
from forebay.services.projection import Projection, batches_of
from forebay.telemetry import (
    ConflictFound,
    CursorNotSaved,
    DeadLettered,
    GapClosed,
    GapOpened,
    LossFound,
    Observer,
    ignore,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from forebay.domain.coverage import Gap, StreamCoverage, StreamKey
    from forebay.journal import Block, CursorFile, Disk, Position
    from forebay.ports import Parser, Store
    from forebay.services.projection import Projected

CONSUMER = "store"
"""Name of the delivering consumer's cursor."""
PACE_S = 0.1
"""How long to let frames gather after a step that found few: a commit costs the store about as
much as thousands of rows, however few it holds."""
BACKLOG_FRAMES = 4096
"""A step that found so many is followed by the next one at once."""
RETRY_S = 0.5
"""How long to wait after the store could not take a commit."""


@dataclass(slots=True)
class Delivered:
    """Totals since the process started."""

    frames: int = 0
    rows: int = 0
    duplicates: int = 0
    conflicts: int = 0
    dead_letters: int = 0
    flagged: int = 0
    steps: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    unbuilt: dict[str, int] = field(default_factory=dict)


class Deliverer:
    """Moves one journal into one store. Blocking: run it in a thread of its own."""

    def __init__(
        self,
        journal: Path,
        store: Store,
        parsers: Mapping[str, Parser],
        *,
        cursor: CursorFile | None = None,
        observer: Observer = ignore,
        consumer: str = CONSUMER,
        disk: Disk = OS_DISK,
    ) -> None:
        """Go on where ``store`` says that ``consumer`` has got to."""
        self._journal = journal
        self._store = store
        self._cursor = cursor
        self._observe = observer
        self._consumer = consumer
        self._disk = disk
        self._pending: tuple[Commit, Projected] | None = None
        self.delivered = Delivered()
        state = store.load()
        self._projection = Projection(parsers, state.coverage, state.ordinals)
        self.position = state.positions.get(consumer)
        self._reader = self._open_reader(self.position)
        self._gaps: dict[StreamKey, set[Gap]] = {
            key: set(stream.gaps(key)) for key, stream in state.coverage.items()
        }

    def _open_reader(self, position: Position | None) -> JournalReader:
        try:
            return JournalReader(self._journal, start=position, disk=self._disk)
        except CursorBeyondEnd:
            return self._begin_again(position)

    def _begin_again(self, position: Position | None) -> JournalReader:
        """Read from the oldest frame: the log that the cursor counted in is gone.

        What the store has already is recognised by its ids.
        """
        if position is not None:
            self._observe(LossFound(position.log_id, 1, position.seq - 1))
        self._projection.begin_again()
        return JournalReader(self._journal, disk=self._disk)

    def _read(self) -> list[Block]:
        try:
            return self._reader.read()
        except CursorBeyondEnd:  # known only now that somebody has recovered the journal
            self._reader.close()
            self._reader = self._begin_again(self.position)
            return self._reader.read()

    def step(self) -> int:
        """Deliver what is durable now; answer the number of frames, 0 when there is none.

        Raises :class:`~forebay.errors.Transient` if the store could not take it: call again.
        """
        if self._pending is not None:
            return self._retry(*self._pending)
        blocks = self._read()
        if not blocks:
            return 0
        return self._commit(*self._plan(blocks))

    def forget_totals(self) -> None:
        """Count from zero again."""
        self.delivered = Delivered()

    def drain(self, progress: Callable[[int], None] = lambda _: None) -> int:
        """Step until everything durable is delivered; answer the number of frames."""
        total = 0
        while frames := self.step():
            total += frames
            progress(total)
        return total

    def _plan(self, blocks: list[Block]) -> tuple[Commit, Projected]:
        projected = self._projection.project(batches_of(blocks))
        trades = projected.trade_rows()
        commit = Commit(
            consumer=self._consumer,
            position=self._reader.position,
            rows={} if trades is None else {"trades": trades},
            covered={} if trades is None else {"trades": np.concatenate(projected.covered)},
            dead_letters=projected.letter_rows(),
            coverage=projected.coverage,
            ordinals={key: stream.encode() for key, stream in projected.ordinals.items()},
        )
        return commit, projected

    def _commit(self, commit: Commit, projected: Projected) -> int:
        try:
            done = self._store.commit(commit)
        except Transient:
            self._pending = (commit, projected)
            raise
        return self._committed(commit, projected, done)

    def _retry(self, commit: Commit, projected: Projected) -> int:
        if self._store.load().positions.get(self._consumer) == commit.position:
            rows = commit.rows.get("trades")
            return self._committed(commit, projected, Committed(0 if rows is None else len(rows)))
        return self._commit(commit, projected)

    def _committed(self, commit: Commit, projected: Projected, done: Committed) -> int:
        self._pending = None
        self._projection.adopt(projected)
        self.position = commit.position
        frames = projected.frames.total()
        total = self.delivered
        total.steps += 1
        total.frames += frames
        total.rows += done.inserted
        total.duplicates += done.duplicates
        total.conflicts += done.conflicts
        total.flagged += projected.flagged
        total.dead_letters += sum(projected.reasons.values())
        for sums, new in (
            (total.outcomes, projected.frames),
            (total.unbuilt, projected.unbuilt),
        ):
            for name, count in new.items():
                sums[name] = sums.get(name, 0) + count
        self._tell(projected)
        if done.conflicts:
            self._observe(ConflictFound(done.conflicts))
        self._save_cursor(commit.position)
        return max(frames, 1)

    def _save_cursor(self, position: Position) -> None:
        """Tell the journal how far the store is; the store's own cursor is what counts."""
        if self._cursor is None:
            return
        try:
            self._cursor.store(position)
        except ForebayError as error:
            self._observe(CursorNotSaved(str(error)))

    def _tell(self, projected: Projected) -> None:
        for reason, count in projected.reasons.items():
            self._observe(DeadLettered(count=count, reason=reason))
        for loss in projected.losses:
            self._observe(LossFound(self._reader.position.log_id, loss.first, loss.last))
        for key, stream in projected.coverage.items():
            self._tell_gaps(key, stream)

    def _tell_gaps(self, key: StreamKey, stream: StreamCoverage) -> None:
        before, now = self._gaps.get(key, set()), set(stream.gaps(key))
        for gap in sorted(now - before):
            if gap.state == "open":
                self._observe(GapOpened(*key, gap.first, gap.last, gap.reason))
            else:
                self._observe(GapClosed(*key, gap.first, gap.last, gap.reason, gap.state))
        self._gaps[key] = now

    # ---------------------------------------------------------------- answers

    def open_gaps(self, venue: str | None = None) -> tuple[list[FillRequest], int]:
        """Answer the holes that are worth asking for, and the journal seq that they are as of."""
        seq = self.position.seq if self.position else 0
        wanted = [
            FillRequest(gap.channel, gap.symbol, gap.first, gap.last)
            for gaps in list(self._gaps.values())
            for gap in sorted(gaps)
            if gap.state == "open" and venue in (None, gap.venue)
        ]
        return wanted, seq

    def status(self) -> dict[str, object]:
        """Answer totals, position and gaps, as JSON can hold them."""
        position = self.position
        return {
            **dataclasses.asdict(self.delivered),
            "log_id": position.log_id if position else None,
            "seq": position.seq if position else 0,
            "gaps": self.gap_counts(),
            "behind": self._pending is not None,
        }

    def gap_counts(self) -> dict[str, int]:
        """Answer how many gaps there are of each state."""
        counts = {"open": 0, "filled": 0, "permanent": 0}
        for gaps in list(self._gaps.values()):
            for gap in gaps:
                counts[gap.state] += 1
        return counts
