"""From the journal to a store: CAPTURED becomes STORED, in order, once.

:meth:`Deliverer.prepare` reads what is durable and projects it; :meth:`Deliverer.store` commits
rows, coverage and cursor together, and is the only one that touches the store. What is prepared
stays in hand until it is stored. A commit says where the store's cursor must be: one whose answer
was lost is recognised when it is repeated, and a store that is elsewhere, after a failover or
because an older copy was restored, is taken at its word.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.errors import ConfigError, CursorBeyondEnd, CursorMoved, ForebayError
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

    from forebay.domain.coverage import Coverage, Gap, StreamKey
    from forebay.journal import Block, CursorFile, Disk, Position
    from forebay.ports import Parser, Store, StoreState
    from forebay.services.accounting import LiveSums
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
class _InHand:
    """Read and projected, not yet stored."""

    blocks: list[Block]
    commit: Commit
    projected: Projected
    oldest_ns: int
    """Receipt of its first frame."""
    tried: bool = False
    """Whether it was refused, or its answer was lost."""


@dataclass(slots=True)
class Delivered:
    """Totals since the process started."""

    frames: int = 0
    rows: int = 0
    """Events that were stored."""
    duplicates: int = 0
    """Events that were stored already, with the same content."""
    conflicts: int = 0
    dead_letters: int = 0
    flagged: int = 0
    steps: int = 0
    stored: dict[str, int] = field(default_factory=dict)
    """Events that were stored, by table."""
    events: dict[str, int] = field(default_factory=dict)
    """Events that were told, by table."""
    outcomes: dict[str, int] = field(default_factory=dict)
    unbuilt: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)


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
        sums: LiveSums | None = None,
    ) -> None:
        """Go on where ``store`` says that ``consumer`` has got to.

        ``sums`` are told of all that is stored, for the ledger.
        """
        self._journal = journal
        self._store = store
        self._cursor = cursor
        self._observe = observer
        self._consumer = consumer
        self._disk = disk
        self._sums = sums
        self._parsers = parsers
        self.delivered = Delivered()
        self._channels = {
            (venue, name): channel
            for venue, parser in parsers.items()
            for name, channel in parser.channels.items()
        }
        self._begin(store.load())
        if sums is not None:
            sums.begin(self.position)

    def _begin(self, state: StoreState) -> None:
        """Go on where the store is, with nothing in hand."""
        _refuse_other_units(state.coverage, self._parsers)
        self._in_hand: _InHand | None = None
        self._projection = Projection(self._parsers, state.coverage, state.ordinals)
        self.position = state.positions.get(self._consumer)
        self._reader = self._open_reader(self.position)
        self._gaps: dict[StreamKey, set[Gap]] = {
            key: set(stream.gaps(key)) for key, stream in state.coverage.items()
        }

    def _reload(self) -> None:
        """Go on where the store is now, which is not where it was left."""
        state = self._store.load()
        self._reader.close()
        self._begin(state)
        if self._sums is not None:
            self._sums.stop()

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
        if self._sums is not None:
            self._sums.stop()
        return JournalReader(self._journal, disk=self._disk)

    def _read(self) -> list[Block]:
        try:
            return self._reader.read()
        except CursorBeyondEnd:  # known only now that somebody has recovered the journal
            self._reader.close()
            self._reader = self._begin_again(self.position)
            return self._reader.read()

    def step(self) -> int:
        """Prepare and store what is durable; answer the number of frames, 0 when there is none.

        Raises :class:`~forebay.errors.Transient` if the store could not take it: call again.
        """
        return self.store() if self.prepare() else 0

    def prepare(self) -> bool:
        """Have something in hand to store, if anything is durable; answer whether there is.

        Raises :class:`~forebay.errors.Transient` if the journal cannot be read now.
        """
        if self._in_hand is None:
            blocks = self._read()
            if blocks:
                self._in_hand = self._plan(blocks)
        return self._in_hand is not None

    def store(self) -> int:
        """Commit what is in hand; answer the number of its frames, at least 1, or 0 without.

        Raises :class:`~forebay.errors.Transient` if the store could not take it: call again. After
        :class:`~forebay.errors.CursorMoved` nothing is in hand: prepare anew.
        """
        held = self._in_hand
        if held is None:
            return 0
        try:
            done = self._store.commit(held.commit)
        except CursorMoved:
            self._reload()
            raise
        except ForebayError:
            held.tried = True
            raise
        return self._committed(held, done)

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

    def _plan(self, blocks: list[Block]) -> _InHand:
        projected = self._projection.project(batches_of(blocks))
        commit = Commit(
            {self._consumer: self._reader.position},
            expected={self._consumer: self.position},
            events=projected.tables(),
            dead_letters=projected.letter_rows(),
            coverage=projected.coverage,
            ordinals={key: stream.encode() for key, stream in projected.ordinals.items()},
        )
        received = [int(block.received_ns[0]) for block in blocks if len(block.received_ns)]
        return _InHand(blocks, commit, projected, next(filter(None, received), 0))

    def _committed(self, held: _InHand, done: Committed) -> int:
        commit, projected = held.commit, held.projected
        self._in_hand = None
        self._projection.adopt(projected)
        if self._sums is not None:
            self._sums.add(held.blocks, projected, done.first)
        self.position = commit.positions[self._consumer]
        frames = projected.frames.total()
        self._count(commit, projected, done)
        self._tell(projected)
        if done.conflicts:
            self._observe(ConflictFound(done.conflicts))
        self._save_cursor(self.position)
        return max(frames, 1)

    def _count(self, commit: Commit, projected: Projected, done: Committed) -> None:
        total = self.delivered
        told = {table: len(events.rows) for table, events in commit.events.items()}
        stored = {table: int(first.sum()) for table, first in done.first.items()}
        total.steps += 1
        total.frames += projected.frames.total()
        total.rows += done.inserted
        total.duplicates += sum(told.values()) - done.inserted - done.conflicts
        total.conflicts += done.conflicts
        total.flagged += projected.flagged
        total.dead_letters += sum(projected.reasons.values())
        for sums, new in (
            (total.events, told),
            (total.stored, stored),
            (total.outcomes, projected.frames),
            (total.unbuilt, projected.unbuilt),
            (total.flags, projected.flags),
        ):
            for name, count in new.items():
                sums[name] = sums.get(name, 0) + count

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

    def _tell_gaps(self, key: StreamKey, stream: Coverage) -> None:
        before, now = self._gaps.get(key, set()), set(stream.gaps(key))
        for gap in sorted(now - before):
            where = key.venue, key.channel, key.symbol, gap.first, gap.last, gap.reason
            if gap.state == "open":
                self._observe(GapOpened(*where, key.market, gap.unit))
            else:
                self._observe(GapClosed(*where, gap.state, key.market, gap.unit))
        self._gaps[key] = now

    # ---------------------------------------------------------------- answers

    def open_gaps(self, venue: str | None = None) -> tuple[list[FillRequest], int]:
        """Answer the holes that are worth asking for, and the journal seq that they are as of."""
        seq = self.position.seq if self.position else 0
        wanted = [
            request
            for gaps in list(self._gaps.values())
            for gap in sorted(gaps)
            if gap.state == "open" and venue in (None, gap.venue)
            if (request := self._request(gap)) is not None
        ]
        return wanted, seq

    def _request(self, gap: Gap) -> FillRequest | None:
        """Return what the venue's history is asked for a gap; None if it cannot be."""
        channel = self._channels.get((gap.venue, gap.channel))
        if channel is None or not channel.history or gap.unit not in ("id", "time"):
            return None
        return FillRequest(gap.channel, gap.symbol, gap.first, gap.last, gap.unit, gap.market)

    def status(self) -> dict[str, object]:
        """Answer totals, position and gaps, as JSON can hold them."""
        position = self.position
        return {
            **dataclasses.asdict(self.delivered),
            "log_id": position.log_id if position else None,
            "seq": position.seq if position else 0,
            "gaps": self.gap_counts(),
            "behind": self._in_hand is not None and self._in_hand.tried,
        }

    @property
    def waiting_since_ns(self) -> int:
        """Receipt of the oldest frame in hand, wall clock; 0 if nothing is or nobody knows."""
        held = self._in_hand
        return 0 if held is None else held.oldest_ns

    def gap_counts(self) -> dict[str, int]:
        """Answer how many gaps there are of each state."""
        counts = {"open": 0, "filled": 0, "permanent": 0}
        for gaps in list(self._gaps.values()):
            for gap in gaps:
                counts[gap.state] += 1
        return counts


def _refuse_other_units(
    coverage: Mapping[StreamKey, Coverage], parsers: Mapping[str, Parser]
) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if a stream was counted otherwise than declared.

    Coverage in the new unit would begin empty, and vouch for events that are stored already.
    """
    for key, held in coverage.items():
        parser = parsers.get(key.venue)
        declared = parser.channels.get(key.channel) if parser else None
        if declared is not None and declared.unit != held.unit:
            message = f"{key.name} is counted by {held.unit} and declared to be by {declared.unit}."
            hint = "`forebay rebuild --data DIR` makes the database anew from the journal."
            raise ConfigError(message, hint=hint)
