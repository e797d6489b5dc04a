"""The store against the truth: bounds and events come from the simulator, never from rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import MINUTE_NS, Digest
from forebay.domain.intervals import IntervalSet
from forebay.services.audit.compare import by_id
from forebay.services.audit.findings import difference
from forebay.services.audit.report import Problem
from forebay.services.audit.truth_told import FEEDS, ToldStream, unlike

if TYPE_CHECKING:
    from forebay.services.audit.case import Case
    from forebay.services.audit.compare import Comparison
    from forebay.services.audit.truth import Bounds, Event, Status, Truth, Withheld

LOST = ("open", "permanent", "accepted")
"""States of gaps whose ids the store does not have."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the truth server says at one moment."""

    status: Status
    withheld: dict[str, Withheld]
    others: dict[str, dict[str, Withheld]] = field(default_factory=dict)
    """By feed, what was withheld of what is told beside the status' channel."""

    @classmethod
    def at(cls, truth: Truth) -> Look:
        """Ask for all, bounds first: what is withheld later is then not held against anybody."""
        status = truth.status()
        return cls(status, truth.withheld(), {feed: truth.withheld(feed) for feed in status.feeds})

    def poison(self) -> tuple[int, int]:
        """Return how many frames were surely cut short, and how many may have been."""
        every = (self.withheld, *self.others.values())
        reports = [report for each in every for report in each.values()]
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
            self._judge_told(case, key, comparison)
            return
        bounds, later = (look.status.symbols.get(key.symbol) for look in (self.before, self.after))
        stream = _Stream(self.truth, case, key)
        if bounds is not None and later is not None:
            stream.take(bounds, later.last)
            self._judge_gaps(case, key, stream.base, later.last)
        self.digests[key] = stream.compare(comparison)

    def _judge_told(self, case: Case, key: StreamKey, comparison: Comparison) -> None:
        """Find what is wrong with a stream of another channel, if the simulator tells it."""
        feed = FEEDS.get(key.channel, "")
        status, later = self.before.status, self.after.status
        if key != StreamKey(status.venue, status.market, key.channel, key.symbol):
            return
        bounds = status.feeds.get(feed, {}).get(key.symbol)
        ahead = later.feeds.get(feed, {}).get(key.symbol)
        if bounds is None or ahead is None:
            return
        withheld = IntervalSet()
        for look in (self.before, self.after):
            report = look.others.get(feed, {}).get(key.symbol)
            if report is not None:
                for first, last, _ in (*report.certain, *report.in_doubt):
                    withheld.add(first, last)
        stream = ToldStream(self.truth, case, key, bounds, ahead.last, withheld)
        self.digests[key] = stream.compare(comparison)

    def judge_letters(self, case: Case) -> None:
        """Dead letters equal the injected poison."""
        letters, least = case.account.letters, self.before.poison()[0]
        most = max(least, self.after.poison()[1])
        if not least <= letters <= most:
            text = f"{letters} dead letters, but {least} to {most} poison frames were sent."
            case.problems.append(Problem("dead_letters", "", abs(letters - least), [], text))

    def _judge_gaps(self, case: Case, key: StreamKey, base: int, last: int) -> None:
        """Declared gaps equal what was withheld, a neighbour either side at most."""
        certain, possible = IntervalSet(), IntervalSet()
        for look in (self.before, self.after):
            if (report := look.withheld.get(key.symbol)) is not None:
                surely = _ids(base, report.certain)
                certain = surely if look is self.before else certain
                possible |= surely | _ids(base, report.in_doubt)
        declared = case.declared(key)
        unfilled = case.declared(key, LOST).within(base, base + last)
        silent, invented = certain - _widened(declared), declared - _widened(possible)
        text = "lost, though the venue's history has them."
        case.say("gap_unfilled", key, {("id", ""): unfilled}, text)
        case.say("withheld_undeclared", key, {("id", ""): silent}, "withheld, and no gap says so.")
        text = "declared as a gap, and delivered all the same."
        case.say("gap_unfounded", key, {("id", ""): invented}, text)


@dataclass(slots=True)
class _Stream:
    """One stream of the market, whose events are in the order of their times."""

    truth: Truth
    case: Case
    key: StreamKey
    base: int = 0
    """The number of index 0."""
    last: int = -1
    """The last index that can be there."""
    owed: IntervalSet = field(default_factory=IntervalSet)
    """Indices that must be there."""
    minutes: dict[int, Digest] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    """By minute, the index of its first event."""

    def take(self, bounds: Bounds, last: int) -> None:
        """Ask for the digests of what is owed, and of what is between that and what is stored."""
        self.base, self.last = self.truth.base(self.key.symbol), last
        if bounds.first is not None:
            self.owed.add(bounds.first, bounds.last)
        reach = self.owed.copy()
        for (stream, _), each in self.case.account.hours.items():
            for number in (each.first_number, each.last_number):
                if stream == self.key and number is not None:
                    reach.add(max(0, min(number - self.base, last)))
        if reach:
            at, end = reach.first, reach.last + 1
            self.minutes = self.truth.digests(self.key.symbol, at, end, MINUTE_NS)
            for minute, digest in sorted(self.minutes.items()):
                self.starts[minute] = at
                at += digest.count

    def compare(self, comparison: Comparison) -> Digest:
        """Compare hours, then minutes, then events; return the digest of the audited hours."""
        total, differing = unlike(self.case, self.key, self.minutes, comparison)
        for minutes in differing:
            self._compare_rows(comparison, minutes)
        return total

    def _compare_rows(self, comparison: Comparison, minutes: tuple[int, int]) -> None:
        table = comparison.rows(self.key, minutes)
        rows = by_id(table.filter(pc.less(table["seq"], self.case.seq)), self.key.channel)
        events = self._events(minutes)
        right = {event.event_id: event for event in events.values()}
        found = self.case.found[self.key]
        for event_id, each in rows.items():
            for row in each:
                event = right.get(event_id) or self._event(event_id, row.number)
                if event is None:
                    found.spurious[event_id] = row.number
                elif event.row != row.canonical:
                    how = difference(self.key.channel, row.canonical, event.row)
                    found.mutate(event_id, event.number, how)
        lost = self.case.declared(self.key, LOST)
        for index, event in events.items():
            if index in self.owed and event.event_id not in rows and event.number not in lost:
                found.missing[event.event_id] = event.number

    def _events(self, minutes: tuple[int, int]) -> dict[int, Event]:
        """Return the events of some minutes by their index."""
        within = [each for each in self.starts if minutes[0] <= each <= minutes[1]]
        if not within:
            return {}
        begin, last = self.starts[min(within)], max(within)
        end = self.starts[last] + self.minutes[last].count
        return dict(enumerate(self.truth.events(self.key.symbol, begin, end), begin))

    def _event(self, event_id: str, number: int | None) -> Event | None:
        """Return the event of a row that lies at another time than it should."""
        index = -1 if number is None else number - self.base
        if not 0 <= index <= self.last:
            return None
        (event,) = self.truth.events(self.key.symbol, index, index + 1)
        return event if event.event_id == event_id else None


def _ids(base: int, intervals: list[tuple[int, int, str]]) -> IntervalSet:
    return IntervalSet((base + first, base + last) for first, last, _ in intervals)


def _widened(ids: IntervalSet) -> IntervalSet:
    """Return a set with a neighbour either side of each interval."""
    return IntervalSet((max(0, first - 1), last + 1) for first, last in ids)
