"""Into a store: what is CAPTURED becomes STORED, in order, once.

Rows, coverage and cursors are committed together; what is committed is counted and told: rows,
dead letters, conflicts, gaps.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from forebay.domain.channels import declared_of
from forebay.domain.coverage import GAP_STATES, Coverage, Gap, StreamKey
from forebay.domain.coverage.gaps import FAR_AHEAD, FAR_BEHIND, unit_of
from forebay.errors import ConfigError, RowsRefused, Transient
from forebay.journal import OS_DISK, CursorFile, Disk, Position
from forebay.ports import Commit, Committed, HistoryRequest, Parser, Store, StoreState
from forebay.services.gap_news import gap_news
from forebay.services.projection import (
    CoverageBook,
    Declared,
    Projected,
    Projection,
    batches_of,
    declared,
)
from forebay.services.pump import Given, JournalFeed, JournalPiece, PositionedFeed, Pump
from forebay.services.venue_totals import VenueTotals, count_again, plus, way
from forebay.telemetry import (
    ConflictFound,
    DeadLettered,
    GapClosed,
    GapOpened,
    LossFound,
    Observer,
    RowsLeftOut,
    ignore,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from forebay.services.clock_skew import SkewWatch
    from forebay.services.ledger_builder import LiveSums

Book = TypeVar("Book", bound=CoverageBook)
CONSUMER = "store"
"""Name of the delivering consumer's cursor."""
PACE_S = 0.1
"""How long to let frames gather after a step that found few: a commit costs the store about as
much as thousands of rows, however few it holds."""
REST_S = 1.0
"""How long to let them gather at most, where they come slowly: so far the store lags behind."""
ENOUGH_FRAMES = 512
"""So many in one commit are worth it: they are not waited for any longer than that takes."""
TRIES = 3
"""How often rows may be refused before they are left out."""
BACKLOG_FRAMES = 4096
"""A step that found so many is followed by the next one at once."""


def gathering_s(frames: int, passed_s: float, most_s: float) -> float:
    """Return how long to wait for the next step after one that found ``frames``.

    ``passed_s`` is how long they took to come; the answer is from :data:`PACE_S` to ``most_s``.
    That none came says little of the rate if it was looked for soon: then it is doubled.
    """
    if frames >= BACKLOG_FRAMES:
        return 0.0
    enough_s = passed_s * (ENOUGH_FRAMES / frames if frames else 2)
    return min(max(enough_s, PACE_S), most_s)


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
    venues: VenueTotals = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned(Generic[Given]):
    """What is to be stored of a piece."""

    piece: Given
    projected: Projected
    commit: Commit
    end: Position
    """In the journal."""


class StoreWriter(Pump[Given, Planned[Given]], Generic[Given, Book]):
    """A pump whose sink is a store; its own cursor is what counts. Blocking."""

    _book: Book

    def __init__(
        self,
        feed: PositionedFeed[Given],
        store: Store,
        channels: Declared,
        consumer: str,
        observer: Observer = ignore,
    ) -> None:
        """Go on where ``store`` says that ``consumer`` has got to."""
        self._store = store
        self._channels = channels
        self._consumer = consumer
        self._positions: dict[str, Position] = {}
        self._gaps: dict[StreamKey, set[Gap]] = {}
        self._counts: Counter[str] = Counter()
        self._streams: dict[StreamKey, Coverage] = {}
        self._heard: dict[StreamKey, int] = {}
        self.delivered = Delivered()
        """Totals since the process started, or since they were forgotten."""
        super().__init__(feed, observer)

    def load(self) -> Position | None:
        """Return where the store is; its gaps are taken as told. See :func:`refuse_other_units`."""
        state = self._look()
        refuse_other_units(state.coverage, self._channels)
        for key, stream in state.coverage.items():
            counted = stream.unit == "id" and any(stream.rows())
            if counted or any(stream.arrived().values()):
                self._heard.setdefault(key, 0)
        self._gaps, self._counts = {}, Counter()
        for key, stream in state.coverage.items():
            self._hold(key, set(stream.gaps(key)))
        self._streams = dict(state.coverage)
        self._positions = dict(state.positions)
        self._book = self._book_of(state)
        return self._positions.get(self._consumer)

    def _look(self) -> StoreState:
        """Return what is stored."""
        return self._store.load()

    @abstractmethod
    def _book_of(self, state: StoreState) -> Book:
        """Return what keeps coverage on top of what is stored."""

    def _planned(
        self, piece: Given, projected: Projected, positions: Mapping[str, Position], end: Position
    ) -> Planned[Given]:
        commit = Commit(
            positions,
            expected={name: self._positions.get(name) for name in positions},
            events=projected.events,
            dead_letters=projected.letters,
            letter_states=projected.letter_states,
            coverage=projected.coverage,
            ordinals={key: stream.encode() for key, stream in projected.ordinals.items()},
        )
        return Planned(piece, projected, commit, end)

    def commit(self, plan: Planned[Given]) -> int:
        done = self._store.commit(plan.commit)
        self._positions |= plan.commit.positions
        self._book.adopt(plan.projected)
        self._stored(plan, done)
        self._count(plan.commit, plan.projected, done)
        for (venue, reason), count in done.letters.items():
            self._observe(DeadLettered(count, reason, venue))
        for key, stream in plan.projected.coverage.items():
            # A number that is known to exist is a word of the venue's.
            if stream.unit == "id" or stream.vouched:
                self._heard.setdefault(key, 0)
        self._heard |= plan.projected.heard
        self._tell(plan.projected, plan.end.log_id)
        if done.conflicts:
            self._observe(ConflictFound(done.conflicts))
        return plan.projected.frames.total()

    def _stored(self, plan: Planned[Given], done: Committed) -> None:
        """Hear of what has been stored."""

    def _without_refused(self) -> None:
        """Have what is in hand stored without the rows that are refused."""
        held = self._in_hand
        if held is not None:
            commit = dataclasses.replace(held.plan.commit, without_refused=True)
            held.plan = dataclasses.replace(held.plan, commit=commit)

    def _count(self, commit: Commit, projected: Projected, done: Committed) -> None:
        total = self.delivered
        told = {table: len(events.rows) for table, events in commit.events.items()}
        stored = {table: int(first.sum()) for table, first in done.first.items()}
        total.steps += 1
        total.frames += projected.frames.total()
        total.rows += done.inserted
        left_out = sum(map(len, done.refused.values()))
        total.duplicates += sum(told.values()) - done.inserted - done.conflicts - left_out
        total.conflicts += done.conflicts
        total.flagged += projected.flagged
        total.dead_letters += sum(done.letters.values())
        for sums, new in (
            (total.events, told),
            (total.stored, stored),
            (total.outcomes, projected.frames),
            (total.unbuilt, projected.unbuilt),
            (total.flags, projected.flags),
        ):
            plus(sums, new)
        for venue, ways in projected.venues.items():
            for source, counts in ways.items():
                way(total.venues, venue, source).add(counts)
        for table, first in done.first.items():
            count_again(commit.events[table].rows, first, projected.sources, total.venues)

    def _tell(self, projected: Projected, log_id: str) -> None:
        for loss in projected.losses:
            self._observe(LossFound(log_id, loss.first, loss.last))
        for key, stream in projected.coverage.items():
            self._tell_gaps(key, stream)

    def _tell_gaps(self, key: StreamKey, stream: Coverage) -> None:
        """Tell of holes that are new, and of what became of them."""
        before, now = self._gaps.get(key, set()), set(stream.gaps(key))
        self._hold(key, now)
        self._streams[key] = stream
        for gap in gap_news(before, now):
            named = key.venue, key.channel, key.symbol, gap.first, gap.last, gap.reason
            if gap.state == "open":
                self._observe(GapOpened(*named, key.market, gap.unit))
            else:
                self._observe(GapClosed(*named, gap.state, key.market, gap.unit))

    def _hold(self, key: StreamKey, gaps: set[Gap]) -> None:
        counts = self._counts.copy()  # another thread may read it
        counts.subtract(gap.state for gap in self._gaps.get(key, ()))
        counts.update(gap.state for gap in gaps)
        self._counts = counts
        self._gaps[key] = gaps
        if not gaps:  # of thousands of streams that ended, nobody asks each second
            del self._gaps[key]

    @property
    def heard(self) -> Mapping[StreamKey, int]:
        """When the last event of each stream came; 0: none since the process started. A copy."""
        return dict(self._heard)

    def open_gaps(
        self, venue: str | None = None, states: Collection[str] = ("open",)
    ) -> tuple[list[HistoryRequest], int]:
        """Return the holes that are worth asking for, and the journal seq that they are as of."""
        requests = [
            request
            for gaps in list(self._gaps.values())
            for gap in sorted(gaps)
            if gap.state in states and venue in (None, gap.venue)
            if (request := self._request(gap)) is not None
        ]
        return requests, self.position.seq if self.position else 0

    def _request(self, gap: Gap) -> HistoryRequest | None:
        """Return what the venue's history is asked for a gap; None if it cannot be.

        Of a hole up to an id far ahead nothing but its end: whether history knows of that id.
        """
        channel = declared_of(self._channels.get(gap.venue, {}), gap.channel)
        if channel is None or not channel.history or gap.unit not in ("id", "time"):
            return None
        if gap.reason == FAR_BEHIND:
            return None
        first = gap.last if gap.reason == FAR_AHEAD else gap.first
        count = self._streams[gap.key].looks(gap.first, gap.last)
        waits_s = channel.believed_after_s[: max(0, count.looks - 1)]
        about = gap.unit, gap.market, count.at_ns, waits_s[-1] if waits_s else 0.0
        return HistoryRequest(gap.channel, gap.symbol, first, gap.last, *about)

    def coverage_of(self, key: StreamKey) -> Coverage | None:
        """Return what is stored of a stream's coverage; None if it has none."""
        return self._streams.get(key)

    def gap_counts(self) -> dict[str, int]:
        return {state: self._counts[state] for state in map(str, GAP_STATES)}


class Deliverer(StoreWriter[JournalPiece, Projection]):
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
        skew: SkewWatch | None = None,
    ) -> None:
        """``sums`` are told of all that is stored, for the ledger, ``skew`` how long it took."""
        self._parsers = parsers
        self._sums = sums
        self._skew = skew
        self._loaded = False
        self._refusals = 0
        """How often what is in hand was refused."""
        feed = JournalFeed(journal, cursor, observer, disk)
        super().__init__(feed, store, declared(parsers), consumer, observer)

    def _book_of(self, state: StoreState) -> Projection:
        if self._sums is not None:
            if self._loaded:  # the store is not where the sums were counted up to
                self._sums.stop()
            else:
                self._sums.begin(state.positions.get(self._consumer))
        self._loaded = True
        return Projection(self._parsers, state.coverage, state.ordinals)

    def begin_again(self) -> None:
        """See :class:`~forebay.services.pump.Pump`; what is stored is recognised by its ids."""
        super().begin_again()
        self._book.begin_again()
        if self._sums is not None:
            self._sums.stop()

    def read_again(self) -> None:
        """Begin at the oldest frame there is: what the store has is recognised by its ids."""
        if not self.begun:
            self.begin()
        self._book.begin_again()
        self._feed.seek(None)

    def plan(self, piece: JournalPiece) -> Planned[JournalPiece]:
        projected = self._book.project(batches_of(piece.blocks))
        return self._planned(piece, projected, {self._consumer: piece.end}, piece.end)

    def store(self) -> int:
        """See :class:`~forebay.services.pump.Pump`; rows that are refused hold up the rest awhile.

        After :data:`TRIES` they are left out, and the store has them as dead letters.
        """
        try:
            return super().store()
        except RowsRefused as error:
            self._refusals += 1
            if self._refusals >= TRIES:
                self._without_refused()
            raise Transient(error.message, hint=error.hint) from error

    def _stored(self, plan: Planned[JournalPiece], done: Committed) -> None:
        self._refusals = 0
        for table, refused in done.refused.items():
            self._observe(RowsLeftOut(self._consumer, table, len(refused), refused[0].error))
        if self._skew is not None:
            self._skew.add(plan.projected.delays)
        if self._sums is not None:
            self._sums.add(plan.piece.blocks, plan.projected, done.first)

    def forget_totals(self) -> None:
        """Count from zero again."""
        self.delivered = Delivered()

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


def refuse_other_units(coverage: Mapping[StreamKey, Coverage], channels: Declared) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if a stream was counted otherwise than declared.

    Coverage in a new unit would begin empty, and vouch for events that are stored already.
    """
    for key, held in coverage.items():
        declared = declared_of(channels.get(key.venue, {}), key.channel)
        if declared is not None and (unit := unit_of(key, declared)) != held.unit:
            counted = f"{key.name} is counted by {held.unit}"
            hint = "`forebay rebuild --data DIR` makes the database anew from the journal."
            raise ConfigError(f"{counted} and declared to be by {unit}.", hint=hint)
