"""The store against the truth: bounds and events come from the simulator, never from rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import HOUR_NS, MINUTE_NS, Digest
from forebay.domain.intervals import IntervalSet
from forebay.services.audit.compare import by_id, paired, stretches
from forebay.services.audit.findings import difference
from forebay.services.audit.report import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.services.audit.compare import Comparison
    from forebay.services.audit.judge import Case
    from forebay.services.audit.truth import Bounds, Event, Status, Truth, Withheld

LOST = ("open", "permanent")
"""States of gaps whose ids the store does not have."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the truth server says at one moment."""

    status: Status
    withheld: dict[str, Withheld]

    @classmethod
    def at(cls, truth: Truth) -> Look:
        """Ask for both, bounds first: what is withheld later is then not held against anybody."""
        return cls(truth.status(), truth.withheld())

    def bounds(self, symbol: str) -> Bounds | None:
        """Return the bounds of a symbol, None if it is not in this market."""
        return self.status.symbols.get(symbol)

    def poison(self) -> tuple[int, int]:
        """Return how many frames were surely cut short, and how many may have been."""
        reports = self.withheld.values()
        certain = sum(len(report.poison) for report in reports)
        return certain, certain + sum(len(report.poison_in_doubt) for report in reports)


@dataclass(slots=True)
class TruthStage:
    """Compares one store with one truth, which may both be moving.

    ``before`` was seen before the store and bounds what must be there; ``after`` was seen
    after it and bounds what can be there.
    """

    truth: Truth
    before: Look
    after: Look
    digests: dict[StreamKey, Digest] = field(default_factory=dict)

    def _key(self, symbol: str) -> StreamKey:
        status = self.before.status
        return StreamKey(status.venue, status.market, status.channel, symbol)

    def streams(self) -> list[StreamKey]:
        """Return the streams of the market that somebody subscribed to."""
        symbols = self.before.status.symbols.items()
        return [self._key(symbol) for symbol, bounds in symbols if bounds.first is not None]

    def judge(self, case: Case, key: StreamKey, comparison: Comparison) -> None:
        """Find what the store of one stream has not as it happened, and the wrong gaps."""
        if key != self._key(key.symbol):
            return
        bounds, later = self.before.bounds(key.symbol), self.after.bounds(key.symbol)
        if bounds is None or later is None:
            _Stream(self, case, key, comparison, 0, -1).compare({})
            return
        stream = _Stream(self, case, key, comparison, self.truth.base(key.symbol), later.last)
        stream.owed = () if bounds.first is None else (bounds.first, bounds.last)
        stream.compare(stream.by_hour())
        stream.judge_gaps()

    def judge_letters(self, case: Case) -> None:
        """Dead letters equal the injected poison."""
        letters, least = case.account.letters, self.before.poison()[0]
        most = max(least, self.after.poison()[1])
        if not least <= letters <= most:
            text = f"{letters} dead letters, but {least} to {most} poison frames were sent."
            case.problems.append(Problem("dead_letters", "", abs(letters - least), [], text))


@dataclass(slots=True)
class _Stream:
    """One stream of the market."""

    stage: TruthStage
    case: Case
    key: StreamKey
    comparison: Comparison
    base: int
    """The number of index 0."""
    last: int
    """The last index that can be there."""
    owed: tuple[int, int] | tuple[()] = ()
    """The first and the last index that must be there."""
    starts: dict[int, int] = field(default_factory=dict)
    """By hour, the index of its first event."""

    def by_hour(self) -> dict[int, Digest]:
        """Return the digests of what is owed or between what is stored; note where hours begin."""
        numbers = [
            number - self.base
            for (stream, _), each in self.case.account.hours.items()
            if stream == self.key
            for number in (each.first_number, each.last_number)
            if number is not None
        ]
        reach = [*self.owed, *(max(0, min(index, self.last)) for index in numbers)]
        if not reach:
            return {}
        at = min(reach)
        told = self.stage.truth.digests(self.key.symbol, at, max(reach) + 1, HOUR_NS)
        for hour, digest in sorted(told.items()):
            self.starts[hour] = at
            at += digest.count
        return {hour: digest for hour, digest in told.items() if self.case.span.touches(hour)}

    def compare(self, truth: Mapping[int, Digest]) -> None:
        """Compare hours, then minutes, then events."""
        self.stage.digests[self.key] = sum(truth.values(), Digest())
        stored = self.case.stored.get(self.key, {})
        for hour in sorted(truth.keys() | stored.keys()):
            if truth.get(hour, Digest()) != stored.get(hour, Digest()):
                self._compare_hour(hour, truth.get(hour, Digest()).count)

    def _compare_hour(self, hour: int, count: int) -> None:
        at, symbol, truth = self.starts.get(hour, 0), self.key.symbol, self.stage.truth
        told = truth.digests(symbol, at, at + count, MINUTE_NS) if count else {}
        starts = {}
        for minute, digest in sorted(told.items()):
            starts[minute] = at
            at += digest.count
        for first, last in stretches(paired(self.comparison.minutes(self.key, hour), told)):
            within = [minute for minute in starts if first <= minute <= last]
            events: dict[int, Event] = {}
            if within:
                begin, end = starts[within[0]], starts[within[-1]] + told[within[-1]].count
                events = dict(enumerate(truth.events(symbol, begin, end), begin))
            self._compare_rows((first, last), events)

    def _compare_rows(self, minutes: tuple[int, int], events: dict[int, Event]) -> None:
        """Compare events, by their index, with what is stored of these minutes."""
        table = self.comparison.rows(self.key, minutes)
        rows = by_id(table.filter(pc.less(table["seq"], self.case.seq)), self.key.channel)
        right = {event.event_id: event for event in events.values()}
        found = self.case.found[self.key]
        for event_id, versions in rows.items():
            for row in versions:
                event = right.get(event_id) or self._event(event_id, row.number)
                if event is None:
                    found.spurious[event_id] = row.number
                elif event.row != row.canonical:
                    found.mutate(
                        event_id,
                        event.number,
                        difference(self.key.channel, row.canonical, event.row),
                    )
        lost = self.case.declared(self.key, LOST)
        for index, event in events.items():
            owed = bool(self.owed) and self.owed[0] <= index <= self.owed[1]
            if owed and event.event_id not in rows and event.number not in lost:
                found.missing[event.event_id] = event.number

    def _event(self, event_id: str, number: int | None) -> Event | None:
        """Return the event of a row that lies at another time than it should."""
        index = -1 if number is None else number - self.base
        if not 0 <= index <= self.last:
            return None
        (event,) = self.stage.truth.events(self.key.symbol, index, index + 1)
        return event if event.event_id == event_id else None

    # ---------------------------------------------------------------- gaps

    def judge_gaps(self) -> None:
        """Declared gaps equal what was withheld, a neighbour either side at most."""
        case, key = self.case, self.key
        looks = [look.withheld.get(key.symbol) for look in (self.stage.before, self.stage.after)]
        certain = self._ids(looks[0].certain if looks[0] else [])
        possible = IntervalSet()
        for report in looks:
            if report is not None:
                possible |= self._ids(report.certain) | self._ids(report.in_doubt)
        declared, lost = case.declared(key), case.declared(key, LOST)
        history = IntervalSet([(self.base, self.base + self.last)])
        text = "lost, though the venue's history has them."
        case.say("gap_unfilled", key, {("id", ""): lost & history}, text)
        text = "withheld, and no gap says so."
        case.say("withheld_undeclared", key, {("id", ""): certain - _widened(declared)}, text)
        text = "declared as a gap, and delivered all the same."
        case.say("gap_unfounded", key, {("id", ""): declared - _widened(possible)}, text)

    def _ids(self, intervals: list[tuple[int, int, str]]) -> IntervalSet:
        return IntervalSet((self.base + first, self.base + last) for first, last, _ in intervals)


def _widened(ids: IntervalSet) -> IntervalSet:
    """Return a set with a neighbour either side of each interval."""
    return IntervalSet((max(0, first - 1), last + 1) for first, last in ids)
