"""From the journal to a store: CAPTURED becomes STORED, in order, once.

A :class:`~forebay.services.pump.Pump` whose sink is a store: what is read is projected, and rows,
coverage and cursor are committed together. The store's own cursor is what counts.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.errors import ForebayError
from forebay.journal import OS_DISK
from forebay.ports import Commit
from forebay.services.coverage_book import declared
from forebay.services.projection import Projection, batches_of
from forebay.services.pump import JournalFeed, JournalPiece, Pump
from forebay.services.store_writer import Delivered, StoreWriter
from forebay.telemetry import CursorNotSaved, Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.journal import CursorFile, Disk, Position
    from forebay.ports import HistoryRequest, Parser, Store
    from forebay.services.ledger_builder import LiveSums
    from forebay.services.projection import Projected

CONSUMER = "store"
"""Name of the delivering consumer's cursor."""
PACE_S = 0.1
"""How long to let frames gather after a step that found few: a commit costs the store about as
much as thousands of rows, however few it holds."""
REST_S = 1.0
"""How long to let them gather at most, where they come slowly: so far the store lags behind."""
ENOUGH_FRAMES = 512
"""So many in one commit are worth it: they are not waited for any longer than that takes."""
BACKLOG_FRAMES = 4096
"""A step that found so many is followed by the next one at once."""
RETRY_S = 0.5
"""How long to wait after the store could not take a commit."""


def gathering_s(frames: int, passed_s: float, most_s: float) -> float:
    """Return how long to wait for the next step after one that found ``frames``.

    ``passed_s`` is how long they took to come; the answer is from :data:`PACE_S` to ``most_s``.
    That none came says little of the rate if it was looked for soon: then it is doubled.
    """
    if frames >= BACKLOG_FRAMES:
        return 0.0
    enough_s = passed_s * (ENOUGH_FRAMES / frames if frames else 2)
    return min(max(enough_s, PACE_S), most_s)


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be stored of some blocks."""

    piece: JournalPiece
    projected: Projected
    commit: Commit


@dataclass(slots=True)
class StoreSink:
    """A store as it takes a journal; see :class:`~forebay.services.pump.Sink`."""

    writer: StoreWriter
    parsers: Mapping[str, Parser]
    cursor: CursorFile | None
    observe: Observer
    consumer: str
    sums: LiveSums | None
    _projection: Projection = field(init=False)
    _position: Position | None = None
    _loaded: bool = False

    def load(self) -> Position | None:
        """See :class:`~forebay.services.pump.Sink`."""
        state = self.writer.load()
        self._position = position = state.positions.get(self.consumer)
        self._projection = Projection(self.parsers, state.coverage, state.ordinals)
        if self.sums is not None:
            if self._loaded:  # the store is not where the sums were counted up to
                self.sums.stop()
            else:
                self.sums.begin(position)
        self._loaded = True
        return position

    def begin_again(self) -> None:
        """See :class:`~forebay.services.pump.Sink`; what is stored is recognised by its ids."""
        self._projection.begin_again()
        if self.sums is not None:
            self.sums.stop()

    def plan(self, piece: JournalPiece) -> Planned:
        """See :class:`~forebay.services.pump.Sink`."""
        projected = self._projection.project(batches_of(piece.blocks))
        commit = Commit(
            {self.consumer: piece.end},
            expected={self.consumer: self._position},
            events=projected.tables(),
            dead_letters=projected.letter_rows(),
            coverage=projected.coverage,
            ordinals={key: stream.encode() for key, stream in projected.ordinals.items()},
        )
        return Planned(piece, projected, commit)

    def commit(self, plan: Planned) -> int:
        """See :class:`~forebay.services.pump.Sink`."""
        end, projected = plan.piece.end, plan.projected
        done = self.writer.commit(plan.commit)
        self._projection.adopt(projected)
        self._position = end
        if self.sums is not None:
            self.sums.add(plan.piece.blocks, projected, done.first)
        self.writer.account(plan.commit, projected, done, end)
        save_cursor(self.cursor, end, self.observe)
        return projected.frames.total()


def save_cursor(cursor: CursorFile | None, position: Position, observer: Observer) -> None:
    """Tell the journal how far a consumer is; the cursor in its own state is what counts."""
    if cursor is None:
        return
    try:
        cursor.store(position)
    except ForebayError as error:
        observer(CursorNotSaved(str(error)))


class Deliverer(Pump[JournalPiece, Planned]):
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
        self._writer = StoreWriter(store, declared(parsers), observer)
        sink = StoreSink(self._writer, parsers, cursor, observer, consumer, sums)
        super().__init__(JournalFeed(journal, disk=disk), sink, observer=observer)

    @property
    def delivered(self) -> Delivered:
        """Totals since the process started, or since they were forgotten."""
        return self._writer.delivered

    @property
    def heard(self) -> Mapping[StreamKey, int]:
        """See :attr:`~forebay.services.store_writer.StoreWriter.heard`; a copy."""
        return dict(self._writer.heard)

    def forget_totals(self) -> None:
        """Count from zero again."""
        self._writer.delivered = Delivered()

    def open_gaps(
        self, venue: str | None = None, states: Collection[str] = ("open",)
    ) -> tuple[list[HistoryRequest], int]:
        """Return the holes that are worth asking for, and the journal seq that they are as of."""
        seq = self.position.seq if self.position else 0
        return self._writer.open_gaps(venue, states), seq

    def coverage_of(self, key: StreamKey) -> Coverage | None:
        """Return what is stored of a stream's coverage; None if it has none."""
        return self._writer.coverage_of(key)

    def gap_counts(self) -> dict[str, int]:
        """Return how many gaps there are of each state."""
        return self._writer.gap_counts()

    def status(self) -> dict[str, object]:
        """Return totals, position and gaps, as JSON can hold them."""
        position = self.position
        return {
            **dataclasses.asdict(self.delivered),
            "log_id": position.log_id if position else None,
            "seq": position.seq if position else 0,
            "gaps": self.gap_counts(),
            "behind": self.behind,
        }
