"""The store against the truth: bounds and events come from who made the market, never from rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import pyarrow.compute as pc

from forebay.domain.digest import MINUTE_NS, MINUTES, Digest, difference
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import KINDS
from forebay.services.audit.compare import Comparison, by_id, stretches
from forebay.services.audit.report import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.domain.coverage import StreamKey
    from forebay.services.audit.case import Case
    from forebay.services.audit.compare import Rows

_OF_CONNECTION = 18
"""Characters of an id that all events of one connection have in common, dashes included."""

LOST = ("open", "permanent", "accepted")
"""States of gaps whose ids the store does not have."""


@dataclass(frozen=True, slots=True)
class TruthBounds:
    """First index owed (None: never subscribed) and last index that happened."""

    first: int | None
    last: int


class WithheldIndices(NamedTuple):
    """Indices that subscribers were not given."""

    certain: IntervalSet = IntervalSet()
    possible: IntervalSet = IntervalSet()
    """Those, and the ones in doubt."""


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """One event as it happened."""

    event_id: str
    index: int
    row: str
    """The canonical row, see :mod:`forebay.domain.digest`."""
    number: int | None = None
    """What the venue numbers it by."""


@dataclass(frozen=True, slots=True)
class TruthSnapshot:
    """What the truth says at one moment."""

    market: tuple[str, str, str]
    """Venue, market and channel of which every stream is told, with numbers and declared gaps."""
    bounds: Mapping[StreamKey, TruthBounds]
    """Of those streams, and of others that somebody subscribed to."""
    withheld: Mapping[StreamKey, WithheldIndices]
    poison: tuple[int, int]
    """How many frames were surely cut short, and how many may have been."""
    finished: bool


class Truth(Protocol):
    """Who made the market; every call raises :class:`~forebay.errors.Unreachable`."""

    def look(self) -> TruthSnapshot:
        """Say all, bounds first: what is withheld later is then not held against anybody."""
        ...

    def digests(self, key: StreamKey, first: int, end: int) -> dict[int, Digest]:
        """Return digests of the events with index ``first`` to ``end - 1``, by minute."""
        ...

    def events(self, key: StreamKey, first: int, end: int) -> Sequence[TrueEvent]:
        """Return the events with index ``first`` to ``end - 1``."""
        ...

    def between(self, key: StreamKey, since_ns: int, until_ns: int) -> Sequence[TrueEvent]:
        """Return the events from one moment to before another."""
        ...


class TruthStage:
    """Compares one store with one truth, which may both be moving.

    ``before`` was seen before the store and bounds what must be there; ``after`` was seen
    after it and bounds what can be there.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.before = self.after = truth.look()
        self.digests: dict[StreamKey, Digest] = {}

    def look_again(self) -> None:
        self.after = self._truth.look()

    def streams(self) -> list[StreamKey]:
        """Return the streams of the market that somebody subscribed to."""
        bounds = self.before.bounds.items()
        return [key for key, each in bounds if self._numbered(key) and each.first is not None]

    def _numbered(self, key: StreamKey) -> bool:
        return key[:3] == self.before.market

    def judge(self, case: Case, key: StreamKey, comparison: Comparison) -> None:
        """Find what the store of one stream has not as it happened, and the wrong gaps."""
        bounds, later = self.before.bounds.get(key), self.after.bounds.get(key)
        if bounds is not None and later is not None:
            kind = _Numbered if self._numbered(key) else _kind_of(case, key)
            stream = kind(self._truth, case, key, bounds, later.last, self._possible(key))
            if isinstance(stream, _Numbered):
                self._judge_gaps(case, key, stream.base, later.last)
        elif self._numbered(key):
            stream = _Numbered(self._truth, case, key, TruthBounds(None, -1), -1, IntervalSet())
        else:
            return
        self.digests[key] = stream.compare(comparison)

    def judge_letters(self, case: Case) -> None:
        """Dead letters equal the injected poison."""
        letters, least = case.account.letters, self.before.poison[0]
        most = max(least, self.after.poison[1])
        if not least <= letters <= most:
            text = f"{letters} dead letters, but {least} to {most} poison frames were sent."
            case.problems.append(Problem("dead_letters", "", abs(letters - least), [], text))

    def _possible(self, key: StreamKey) -> IntervalSet:
        looks = (look.withheld.get(key, WithheldIndices()) for look in (self.before, self.after))
        return next(looks).possible | next(looks).possible

    def _judge_gaps(self, case: Case, key: StreamKey, base: int, last: int) -> None:
        """Declared gaps equal what was withheld, a neighbour either side at most."""
        certain = _ids(base, self.before.withheld.get(key, WithheldIndices()).certain)
        possible = _ids(base, self._possible(key))
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
    """One stream of events that are known by what they say.

    They have no numbers, so nothing is declared of single ones: what was withheld, surely or
    perhaps, may be missing, and nothing else.
    """

    truth: Truth
    case: Case
    key: StreamKey
    bounds: TruthBounds
    """What is owed."""
    last: int
    """The last index that can be there."""
    excused: IntervalSet
    """Indices that may be missing."""
    numbered: ClassVar[bool] = False
    every: ClassVar[bool] = False
    """Whether rows are compared even where digests agree, or cannot."""

    def compare(self, comparison: Comparison) -> Digest:
        """Compare hours, then minutes, then events; return the digest of the audited hours."""
        hours: dict[int, dict[int, Digest]] = defaultdict(dict)
        for minute, digest in self.minutes().items():
            if self.case.span.touches(minute // MINUTES):
                hours[minute // MINUTES][minute] = digest
        stored, total = self.case.stored.get(self.key, {}), Digest()
        for hour in sorted(hours.keys() | stored.keys()):
            right = hours.get(hour, {})
            whole = sum(right.values(), Digest())
            total += whole
            if self.every or whole != stored.get(hour, Digest()):
                ours = comparison.minutes(self.key, hour)
                for minutes in stretches(ours, right, every=self.every):
                    table = comparison.rows(self.key, minutes)
                    table = table.filter(pc.less(table["seq"], self.case.seq))
                    self.compare_rows(by_id(table, self.key.channel), minutes)
        return total

    def compare_rows(self, rows: Rows, minutes: tuple[int, int]) -> None:
        """Find what is wrong with the rows of some minutes."""
        right = {event.event_id: event for event in self.events(minutes)}
        found = self.case.found[self.key]
        for event_id, each in rows.items():
            for row in each:
                event = right.get(event_id) or self.elsewhere(event_id, row.number)
                if event is None:
                    found.spurious[event_id] = row.number if self.numbered else None
                elif event.row != row.canonical:
                    how = difference(KINDS[self.key.channel], row.canonical, event.row)
                    found.mutate(event_id, event.number, how)
        for event_id, event in right.items():
            if event_id not in rows and self.owes(event):
                found.missing[event_id] = event.number

    def minutes(self) -> dict[int, Digest]:
        """Return the right digests by minute, of what is owed and of what came since."""
        first = self.bounds.first
        return {} if first is None else self.truth.digests(self.key, first, self.last + 1)

    def events(self, minutes: tuple[int, int]) -> Sequence[TrueEvent]:
        """Return the right events of some minutes.

        A new subscriber is told the latest event, before what is owed: it is right to have it.
        """
        since, until = minutes[0] * MINUTE_NS, (minutes[1] + 1) * MINUTE_NS
        return self.truth.between(self.key, since, until)

    def elsewhere(self, event_id: str, number: int | None) -> TrueEvent | None:
        """Return the event of a row that lies at another time than it should."""
        del event_id, number
        return None

    def owes(self, event: TrueEvent) -> bool:
        first = self.bounds.first
        inside = first is not None and first <= event.index <= self.bounds.last
        return inside and event.index not in self.excused


@dataclass(slots=True)
class _Session(_Stream):
    """One stream whose events are known by the connection that told them.

    Nobody else can know their ids, so what is compared is what they say, and how often: each
    connection may tell every event once, and one of them must.
    """

    every: ClassVar[bool] = True

    def compare_rows(self, rows: Rows, minutes: tuple[int, int]) -> None:
        told: dict[str, list[TrueEvent]] = defaultdict(list)
        for event in self.events(minutes):
            told[_content(event.row)].append(event)
        stored: dict[str, Counter[str]] = defaultdict(Counter)
        found = self.case.found[self.key]
        for event_id, each in rows.items():
            says = _content(each[0].canonical)
            connection = event_id[:_OF_CONNECTION]
            stored[says][connection] += 1
            if stored[says][connection] > len(told.get(says, ())):
                found.spurious[event_id] = None
        for says, events in told.items():
            owed = [event for event in events if self.owes(event)]
            for nth, event in enumerate(owed[stored[says].total() :]):
                found.missing[f"{event.event_id}+{nth}" if nth else event.event_id] = None


@dataclass(slots=True)
class _Numbered(_Stream):
    """One stream whose events have numbers, in the order of their times.

    What the store declares lost may be missing, and whether it may declare that is judged apart.
    """

    base: int = 0
    """The number of index 0."""
    right: dict[int, Digest] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    """By minute, the index of its first event."""
    numbered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.last >= 0:
            self.base = self.truth.events(self.key, 0, 1)[0].number or 0
        self.excused = _ids(-self.base, self.case.declared(self.key, LOST))

    def minutes(self) -> dict[int, Digest]:
        """Return digests of what is owed, and of what is between that and what is stored."""
        reach = IntervalSet()
        if self.bounds.first is not None:
            reach.add(self.bounds.first, self.bounds.last)
        for (stream, _), each in self.case.account.hours.items():
            for number in (each.first_number, each.last_number):
                if stream == self.key and number is not None and self.last >= 0:
                    reach.add(max(0, min(number - self.base, self.last)))
        if reach:
            at = reach.first
            self.right = self.truth.digests(self.key, at, reach.last + 1)
            for minute, digest in sorted(self.right.items()):
                self.starts[minute] = at
                at += digest.count
        return self.right

    def events(self, minutes: tuple[int, int]) -> Sequence[TrueEvent]:
        """Return the events of some minutes, as many as were digested."""
        within = [each for each in self.starts if minutes[0] <= each <= minutes[1]]
        if not within:
            return ()
        last = max(within)
        end = self.starts[last] + self.right[last].count
        return self.truth.events(self.key, self.starts[min(within)], end)

    def elsewhere(self, event_id: str, number: int | None) -> TrueEvent | None:
        index = -1 if number is None else number - self.base
        if not 0 <= index <= self.last:
            return None
        (event,) = self.truth.events(self.key, index, index + 1)
        return event if event.event_id == event_id else None


def _kind_of(case: Case, key: StreamKey) -> type[_Stream]:
    channel = case.channel(key)
    return _Session if channel is not None and channel.identity == "session" else _Stream


def _content(row: str) -> str:
    """Return what a canonical row says beside its id."""
    return row.partition("|")[2]


def _ids(base: int, indices: IntervalSet) -> IntervalSet:
    return IntervalSet((base + first, base + last) for first, last in indices)


def _widened(ids: IntervalSet) -> IntervalSet:
    return IntervalSet((max(0, first - 1), last + 1) for first, last in ids)
