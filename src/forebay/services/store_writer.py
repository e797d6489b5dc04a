"""What is committed to a store, counted and told: rows, dead letters, conflicts, gaps.

Whoever delivers to a store uses it, whatever the events came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from forebay.domain.channels import declared_of
from forebay.domain.coverage import GAP_STATES
from forebay.domain.coverage.gaps import FAR, FAR_AHEAD, FAR_BEHIND
from forebay.domain.intervals import IntervalSet
from forebay.errors import ConfigError
from forebay.ports import HistoryRequest
from forebay.telemetry import (
    ConflictFound,
    DeadLettered,
    GapClosed,
    GapOpened,
    LossFound,
    Observer,
    ignore,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from forebay.domain.coverage import Coverage, Gap, StreamKey
    from forebay.journal import Position
    from forebay.ports import Commit, Committed, Store, StoreState
    from forebay.services.coverage_book import Declared, Projected


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


class StoreWriter:
    """One store as a consumer writes to it. Blocking."""

    def __init__(self, store: Store, channels: Declared, observer: Observer = ignore) -> None:
        self._store = store
        self._channels = channels
        self._observe = observer
        self._gaps: dict[StreamKey, set[Gap]] = {}
        self._streams: dict[StreamKey, Coverage] = {}
        self.delivered = Delivered()
        self.heard: dict[StreamKey, int] = {}
        """When the last event was received of each stream of which something was ever heard; 0 if
        none was since the process started."""

    def load(self) -> StoreState:
        """Return where the store is; its gaps are taken as told.

        Raises :class:`~forebay.errors.ConfigError` if a stream was counted otherwise than it is
        declared to be.
        """
        state = self._store.load()
        refuse_other_units(state.coverage, self._channels)
        for key, stream in state.coverage.items():
            if any(stream.rows()):
                self.heard.setdefault(key, 0)
        self._gaps = {key: set(stream.gaps(key)) for key, stream in state.coverage.items()}
        self._streams = dict(state.coverage)
        return state

    def commit(self, commit: Commit) -> Committed:
        """See :meth:`forebay.ports.Store.commit`."""
        return self._store.commit(commit)

    def account(self, commit: Commit, projected: Projected, done: Committed, end: Position) -> None:
        """Count and tell what was made of some frames up to ``end``, and ``done`` with it."""
        self._count(commit, projected, done)
        for reason, count in done.letters.items():
            self._observe(DeadLettered(count=count, reason=reason))
        for key, stream in projected.coverage.items():
            if stream.unit == "id":  # a number that is known to exist is a word of the venue's
                self.heard.setdefault(key, 0)
        self.heard |= projected.heard
        self._tell(projected, end.log_id)
        if done.conflicts:
            self._observe(ConflictFound(done.conflicts))

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
        total.dead_letters += sum(done.letters.values())
        for sums, new in (
            (total.events, told),
            (total.stored, stored),
            (total.outcomes, projected.frames),
            (total.unbuilt, projected.unbuilt),
            (total.flags, projected.flags),
        ):
            for name, count in new.items():
                sums[name] = sums.get(name, 0) + count

    def _tell(self, projected: Projected, log_id: str) -> None:
        for loss in projected.losses:
            self._observe(LossFound(log_id, loss.first, loss.last))
        for key, stream in projected.coverage.items():
            self._tell_gaps(key, stream)

    def _tell_gaps(self, key: StreamKey, stream: Coverage) -> None:
        """Tell of holes that are new, and of what became of them.

        One that shrinks, splits or goes on is the same; so is what was closed of it before.
        """
        before, now = self._gaps.get(key, set()), set(stream.gaps(key))
        self._gaps[key], self._streams[key] = now, stream
        if before == now:
            return
        was, over, done = _parts(before), _over(before), _over(now)
        ended = _parts(over)
        for gap in sorted((now - before) | (done - over)):
            where, sort = (gap.first, gap.last), _sort(gap)
            named = key.venue, key.channel, key.symbol, *where, gap.reason
            if gap.state == "open":
                if not was.get(sort, IntervalSet()).within(*where):
                    self._observe(GapOpened(*named, key.market, gap.unit))
            elif gap in done and ended.get(sort, IntervalSet()).holes(*where):
                self._observe(GapClosed(*named, gap.state, key.market, gap.unit))

    # ---------------------------------------------------------------- answers

    def open_gaps(
        self, venue: str | None = None, states: Collection[str] = ("open",)
    ) -> list[HistoryRequest]:
        """Return the holes that are worth asking for."""
        return [
            request
            for gaps in list(self._gaps.values())
            for gap in sorted(gaps)
            if gap.state in states and venue in (None, gap.venue)
            if (request := self._request(gap)) is not None
        ]

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
        """Return how many gaps there are of each state."""
        counts = dict.fromkeys(map(str, GAP_STATES), 0)
        for gaps in list(self._gaps.values()):
            for gap in gaps:
                counts[gap.state] += 1
        return counts


_Sort: TypeAlias = tuple[str, str, bool, str]


def _sort(gap: Gap, state: str = "") -> _Sort:
    """Return what gaps have in common of which one can be a part of another."""
    return gap.unit, gap.epoch, gap.reason in FAR, state or gap.state


def _over(gaps: Iterable[Gap]) -> set[Gap]:
    """Return what is over: of a hole that is being filled, nothing until no open part adjoins."""
    goes_on = _parts(gap for gap in gaps if gap.state == "open")
    return {
        gap
        for gap in gaps
        if gap.state in ("permanent", "accepted")
        or (
            gap.state == "filled"
            and not goes_on.get(_sort(gap, "open"), IntervalSet()).within(
                gap.first - 1, gap.last + 1
            )
        )
    }


def _parts(gaps: Iterable[Gap]) -> dict[_Sort, IntervalSet]:
    """Return what gaps of each sort hold."""
    found: dict[_Sort, IntervalSet] = {}
    for gap in gaps:
        found.setdefault(_sort(gap), IntervalSet()).add(gap.first, gap.last)
    return found


def refuse_other_units(coverage: Mapping[StreamKey, Coverage], channels: Declared) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if a stream was counted otherwise than declared.

    Coverage in a new unit would begin empty, and vouch for events that are stored already.
    """
    for key, held in coverage.items():
        declared = declared_of(channels.get(key.venue, {}), key.channel)
        if declared is not None and declared.unit != held.unit:
            counted = f"{key.name} is counted by {held.unit}"
            hint = "`forebay rebuild --data DIR` makes the database anew from the journal."
            raise ConfigError(f"{counted} and declared to be by {declared.unit}.", hint=hint)
