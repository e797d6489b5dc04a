"""Bugs for the simulation to find: each breaks the core in one place, in memory only."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from forebay.domain.coverage import IdCoverage, base
from forebay.domain.digest import first_of_each_id
from forebay.errors import Transient
from forebay.journal import recovery
from forebay.journal.scan import SoundBlock
from forebay.journal.writer import JournalWriter
from forebay.ports import Commit, Events
from forebay.services import ledger_builder
from forebay.services.backfiller import BackfillPlanner
from forebay.services.deliver import Deliverer
from forebay.services.group_commit import GroupCommit
from forebay.services.ledger import Ledger
from forebay.services.ledger_builder import LiveSums
from tests.simulation.machine import LifeDisk
from tests.simulation.store import SimStore
from tests.support.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from forebay.journal import PendingBlock
    from forebay.journal.recovery import TailVerdict
    from forebay.journal.segments import Segment


def acknowledged_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LifeDisk, "fdatasync", lambda self, fd: self._life.operate("fdatasync"))


def sink_that_answers_too_early(patch: pytest.MonkeyPatch) -> None:
    async def flushed(self: GroupCommit) -> int:
        return self.next_seq

    patch.setattr(GroupCommit, "flushed", flushed)


def folder_not_synced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LifeDisk, "fsync_dir", lambda self, _: self._life.operate("fsync_dir"))


def recovery_that_cuts_too_much(patch: pytest.MonkeyPatch) -> None:
    decide = recovery.decide

    def one_block_less(found: Any, first_seq: int, start: int, proved: int) -> TailVerdict:  # noqa: ANN401
        sound = [item for item in found if isinstance(item, SoundBlock)]
        return decide(sound[:-1] if len(sound) > 1 else found, first_seq, start, 0)

    patch.setattr(recovery, "decide", one_block_less)


def reader_beyond_the_watermark(patch: pytest.MonkeyPatch) -> None:
    """The writer tells of what it has not synced yet."""
    append = JournalWriter._append

    def told_first(
        self: JournalWriter, segment: Segment, buffers: Sequence[bytes], next_seq: int
    ) -> None:
        before, size = self._next_seq, segment.size
        self._next_seq, segment.size = next_seq, size + sum(map(len, buffers))
        self._publish()
        self._next_seq, segment.size = before, size
        append(self, segment, buffers, next_seq)

    patch.setattr(JournalWriter, "_append", told_first)


def cursor_apart_from_the_rows(patch: pytest.MonkeyPatch) -> None:
    """The position is committed first, and the rows only if the process still lives then."""
    commit = SimStore.commit

    def position_first(self: SimStore, whole: Commit) -> Any:  # noqa: ANN401
        self._inner.commit(Commit(whole.positions, expected=whole.expected))
        return commit(self, whole)

    patch.setattr(SimStore, "commit", position_first)


def absence_believed_at_once(patch: pytest.MonkeyPatch) -> None:
    """Whatever history leaves out once counts as absent."""
    patch.setattr(base.Verdict, "look", lambda self, lacking, look: lacking)


def duplicates_not_removed(patch: pytest.MonkeyPatch) -> None:
    """A store whose key is where the row came from and not what it is."""
    plain = MemoryStore.table

    def doubled(self: MemoryStore, name: str) -> Any:  # noqa: ANN401
        table = plain(self, name)
        extra = getattr(self, "_seen_twice", 0)
        if name != "trades" or not extra:
            return table
        return type(table).from_batches([*table.to_batches(), *table.slice(0, extra).to_batches()])

    commit = MemoryStore.commit

    def counted(self: MemoryStore, whole: Commit) -> Any:  # noqa: ANN401
        done = commit(self, whole)
        told = sum(len(events.rows) for events in whole.events.values())
        twice = getattr(self, "_seen_twice", 0) + told - done.inserted - done.conflicts
        self._seen_twice = twice  # type: ignore[attr-defined]
        return done

    patch.setattr(MemoryStore, "table", doubled)
    patch.setattr(MemoryStore, "commit", counted)


def fill_taken_for_live(patch: pytest.MonkeyPatch) -> None:
    see = IdCoverage.see
    patch.setattr(
        IdCoverage,
        "see",
        lambda self, arrival: see(self, dataclasses.replace(arrival, live=True)),
    )


def group_dropped_on_a_full_disk(patch: pytest.MonkeyPatch) -> None:
    commit = JournalWriter.commit

    def careless(self: JournalWriter, drafts: Sequence[PendingBlock]) -> int:
        try:
            return commit(self, drafts)
        except Transient:
            return self.position.seq

    patch.setattr(JournalWriter, "commit", careless)


def commit_repeated_blindly(patch: pytest.MonkeyPatch) -> None:
    """After a lost answer the next frames are read at once: the refused commit is forgotten."""
    store = Deliverer.store

    def forget(self: Deliverer) -> int:
        if self._in_hand is not None and self._in_hand.tried:
            self._in_hand = None
            return 1
        return store(self)

    patch.setattr(Deliverer, "store", forget)


def gap_never_asked_for_again(patch: pytest.MonkeyPatch) -> None:
    """A fill that failed is never tried again."""
    patch.setattr(BackfillPlanner, "failed", lambda self, request, now: 1.0)


def repeats_taken_for_new_in_the_ledger(patch: pytest.MonkeyPatch) -> None:
    add = LiveSums.add

    def everything(self: LiveSums, blocks: Any, projected: Any, firsts: Any) -> None:  # noqa: ANN401
        add(
            self, blocks, projected, {table: np.ones_like(first) for table, first in firsts.items()}
        )

    patch.setattr(LiveSums, "add", everything)


def sums_of_a_killed_process_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The ledger does not read the frames again that nobody recorded."""
    patch.setattr(Ledger, "_end", lambda self: self._live.begins or 0)


def ledger_by_the_order_of_connections(patch: pytest.MonkeyPatch) -> None:
    """An event is new where coverage met it first, wherever it is in the journal."""

    def first_rows(_table: str, events: Events, _told: object) -> Any:  # noqa: ANN401
        first = first_of_each_id(events.rows) == np.arange(len(events.rows))
        return first & events.vouched_new

    patch.setattr(ledger_builder, "first_rows", first_rows)


MUTANTS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    acknowledged_before_the_sync,
    sink_that_answers_too_early,
    folder_not_synced,
    recovery_that_cuts_too_much,
    reader_beyond_the_watermark,
    cursor_apart_from_the_rows,
    absence_believed_at_once,
    duplicates_not_removed,
    fill_taken_for_live,
    group_dropped_on_a_full_disk,
    commit_repeated_blindly,
    gap_never_asked_for_again,
    repeats_taken_for_new_in_the_ledger,
    sums_of_a_killed_process_forgotten,
    ledger_by_the_order_of_connections,
)
