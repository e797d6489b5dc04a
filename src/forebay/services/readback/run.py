"""One transport, read back: its lanes, the journal, and what of them does not agree."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.clock import Clock, SystemClock
from forebay.domain.digest import HOUR_NS, Digest, difference
from forebay.domain.messages import Step
from forebay.errors import CursorBeyondEnd, Transient
from forebay.ports import Span
from forebay.services.readback.findings import (
    MAX_EXAMPLES,
    Findings,
    LaneFindings,
    StreamFindings,
)
from forebay.services.readback.journal import JournalTellings
from forebay.services.readback.lane import DistinctEvents, LaneReading
from forebay.services.readback.mending import Mending, repaired
from forebay.services.readback.tellings import STRETCH, TellingKey, Tellings, by_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from forebay.domain.intervals import IntervalSet
    from forebay.domain.messages import Message
    from forebay.ports import Parser, Transport
    from forebay.services.lanes import Part
    from forebay.services.publisher import LaneTold
    from forebay.services.readback.lane import LaneAccount
    from forebay.services.readback.tellings import RowTelling

ROWS_IN_MEMORY = 20_000
"""Rows of either side that are compared at once, unless a single stretch has more."""
_CLOCK = SystemClock()
_WHOLE = Span()


@dataclass(frozen=True, slots=True)
class Published:
    """What a publisher has told one transport."""

    name: str
    transport: Transport
    log_id: str
    """Of the journal; empty if it has told nothing."""
    lanes: Mapping[str, LaneTold]


@dataclass(frozen=True, slots=True)
class TransportStage:
    """A transport that is to be read back."""

    name: str
    opened: Callable[[], AbstractContextManager[Published]]
    """Opens it for as long as the context is; raises :class:`~forebay.errors.ForebayError`."""
    insisted: bool = False
    """Whether it must be there; otherwise it is said that it was not looked at."""


@dataclass(slots=True)
class _Place:
    """One lane and stretch that does not agree."""

    parts: list[Part] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    theirs: list[Tellings] = field(default_factory=list)


def read_back(
    published: Published,
    journal_folder: Path,
    parsers: Mapping[str, Parser],
    *,
    ledger_folder: Path | None = None,
    span: Span = _WHOLE,
    mending: Mending | None = None,
    expired: bool = False,
    progress: Callable[[int, int], object] = lambda *_: None,
    clock: Clock = _CLOCK,
) -> Findings:
    """Compare what the lanes of a transport hold with the journal, as far as it was told them.

    What the transport has deleted because of its age is missing with ``expired`` alone. With
    ``mending``, what is lacking is published once more, but to lanes made anew: those the publisher
    tells everything. ``progress`` is told ``(done, total)`` frames; if it raises, that is the end.

    Raises :class:`~forebay.errors.Transient` if the transport cannot be asked, or if a lane was
    made anew meanwhile.
    """
    began = clock.monotonic_ns()
    if not published.log_id:
        return Findings(published.name)
    journal = JournalTellings(
        journal_folder,
        parsers,
        published.log_id,
        published.lanes,
        ledger=ledger_folder,
        clock=clock,
    )
    work = _ReadBack(published, journal, span, mending, progress, expired=expired)
    try:
        findings = work.run(DistinctEvents(parsers))
    except CursorBeyondEnd as error:
        message = f"A lane of {published.name} was made anew while it was read."
        raise Transient(message, hint="Try again.") from error
    findings.took_ms = (clock.monotonic_ns() - began) // 1_000_000
    return findings


class _ReadBack:
    def __init__(
        self,
        published: Published,
        journal: JournalTellings,
        span: Span,
        mending: Mending | None,
        progress: Callable[[int, int], object],
        *,
        expired: bool,
    ) -> None:
        self._log_id = published.log_id
        self._journal = journal
        self._span = span
        self._mending = mending
        self._progress = progress
        self._expired = expired
        self._done, self._total = 0, 1
        self._readings = {
            name: LaneReading(published.transport, published.log_id, (name, told))
            for name, told in published.lanes.items()
        }
        self._begins: dict[str, int] = {}
        """Of each lane the first frame that is compared."""
        self._steps: dict[str, IntervalSet] = {}
        self._unmarked: dict[str, IntervalSet] = {}
        self.findings = Findings(published.name)

    @property
    def _accounts(self) -> dict[str, LaneAccount]:
        return {name: reading.account for name, reading in self._readings.items()}

    def run(self, events: DistinctEvents) -> Findings:
        ends = [account.end for account in self._accounts.values()]
        first = max(self._journal.oldest, 1)
        span = max(1, max(ends, default=1) - first)
        self._total = span * (len(ends) + 1)

        def tell(seq: int) -> None:
            self._tell(min(max(seq - first, 0), span))

        for name, reading in self._readings.items():
            account = reading.read(events, tell, expired=self._expired)
            self._begins[name] = self._begin(account)
            self._done += span
        self.findings.hours = {
            place: digest for place, digest in events.hours.items() if self._span.touches(place[1])
        }
        for name, account in self._accounts.items():
            self._note(name, account)
        self._compare(self._differing())
        self._progress(self._total, self._total)
        return self.findings

    def _tell(self, frames: int) -> None:
        self._progress(min(self._total, self._done + frames), self._total)

    def _begin(self, account: LaneAccount) -> int:
        """Return the first frame that a lane owes."""
        oldest = max(self._journal.oldest, 1)
        if account.anew:
            return oldest
        if account.oldest is None:
            return account.end  # nothing is kept, so all of it was deleted
        return max(oldest, account.oldest)

    def _note(self, name: str, account: LaneAccount) -> None:
        begin = self._begins[name]
        steps, self._unmarked[name] = account.lacking_steps(begin)
        self._steps[name] = steps
        self.findings.rows += account.rows
        self.findings.lanes.append(
            LaneFindings(
                name,
                account.oldest,
                account.end,
                account.rows,
                account.anew,
                account.unreadable,
                steps,
            )
        )
        for stretch, held in account.stretches.items():
            if (stretch + 1) * STRETCH <= self._journal.oldest:
                self.findings.unseen += held.digest.count

    # ------------------------------------------------------------------- by stretches

    def _differing(self) -> dict[int, set[str]]:
        """Return the lanes that do not agree with the journal, by stretch."""
        ours = self._sums()
        found: dict[int, set[str]] = defaultdict(set)
        for name, account in self._accounts.items():
            begin, end = self._begins[name], account.end
            owed = range(begin // STRETCH, -(-end // STRETCH)) if begin < end else range(0)
            theirs = {at: held.digest for at, held in account.stretches.items() if at in owed}
            for stretch in theirs.keys() | ours[name].keys():
                if theirs.get(stretch, Digest()) != ours[name].get(stretch, Digest()):
                    found[stretch].add(name)
            for first, last in self._steps[name]:
                for stretch in range(first // STRETCH, last // STRETCH + 1):
                    found[stretch].add(name)
        return found

    def _sums(self) -> dict[str, dict[int, Digest]]:
        """Return the digests of the journal's tellings, by lane and stretch."""
        sums: dict[str, dict[int, Digest]] = defaultdict(lambda: defaultdict(Digest))
        begin, end = self._bounds(self._readings)
        for piece in self._journal.parts(begin, end):
            for part in piece.parts:
                tellings = self._owed(part)
                if tellings is not None and len(tellings.rows):
                    hashed = tellings.hashed()
                    digests = hashed.by_group(tellings.seqs // STRETCH)
                    for stretch, digest in digests.items():
                        sums[part.lane][stretch] += digest
            self._tell(piece.end - begin)
        return sums

    def _bounds(self, lanes: Mapping[str, object]) -> tuple[int, int]:
        """Return from where to where frames are compared for some lanes."""
        owing = [name for name in lanes if self._begins[name] < self._accounts[name].end]
        begin = min((self._begins[name] for name in owing), default=1)
        return begin, max((self._accounts[name].end for name in owing), default=1)

    def _owed(self, part: Part) -> Tellings | None:
        """Return the rows of a part that its lane must have."""
        if part.lane not in self._readings:
            return None
        tellings = Tellings.of(part.told, part.rows)
        return tellings and self._within(part.lane, tellings)

    def _within(self, lane: str, tellings: Tellings) -> Tellings:
        return tellings.within(self._begins[lane], self._accounts[lane].end)

    # ---------------------------------------------------------------------- by events

    def _compare(self, differing: dict[int, set[str]]) -> None:
        """Look at single events where lanes do not agree with the journal."""
        lanes = {name for names in differing.values() for name in names}
        begin, end = self._bounds(dict.fromkeys(lanes))
        if not differing:
            return
        batches = self._batches(differing)
        batch = next(batches)
        places = self._empty(batch, differing)
        first = min(differing) * STRETCH
        for piece in self._journal.parts(max(begin, first), end):
            while piece.stretch > batch[-1]:
                self._resolve(places)
                if (following := next(batches, None)) is None:
                    return
                batch = following
                places = self._empty(batch, differing)
            self._take(piece.begin, piece.end, piece.parts, piece.stretch, places)
        while batch:
            self._resolve(places)
            batch = next(batches, [])
            places = self._empty(batch, differing)

    def _take(
        self,
        begin: int,
        end: int,
        parts: Sequence[Part],
        stretch: int,
        places: dict[tuple[str, int], _Place],
    ) -> None:
        for (_, of), place in places.items():
            if of == stretch:
                place.begin, place.end = place.begin or begin, end
        for part in parts:
            if (part.lane, stretch) in places:
                places[part.lane, stretch].parts.append(part)

    def _batches(self, differing: dict[int, set[str]]) -> Iterator[list[int]]:
        batch, weight = list[int](), 0
        accounts = self._accounts
        for stretch in sorted(differing):
            held = (accounts[name].stretches.get(stretch) for name in differing[stretch])
            weight += max(STRETCH, sum(each.digest.count for each in held if each))
            if batch and weight > ROWS_IN_MEMORY:
                yield batch
                batch, weight = [], 0
            batch.append(stretch)
        if batch:
            yield batch

    def _empty(
        self, batch: Sequence[int], differing: dict[int, set[str]]
    ) -> dict[tuple[str, int], _Place]:
        return {(name, stretch): _Place() for stretch in batch for name in differing[stretch]}

    def _resolve(self, places: dict[tuple[str, int], _Place]) -> None:
        """Read what the lanes have of some stretches, and compare event by event."""
        self._tell(self._total)
        stretches: dict[str, set[int]] = defaultdict(set)
        for lane, stretch in places:
            stretches[lane].add(stretch)
        for lane, wanted in stretches.items():
            for stretch, tellings in self._readings[lane].rows(wanted):
                places[lane, stretch].theirs.append(self._within(lane, tellings))
            messages: list[Message] = []
            for stretch in sorted(wanted):
                messages += self._judge(lane, places[lane, stretch])
            if self._mending is not None and not self._accounts[lane].anew:
                self._mending.tell(lane, messages)
                self.findings.mended += sum(len(rows) for _, rows in messages if rows is not None)

    def _judge(self, lane: str, place: _Place) -> list[Message]:
        """Find what is wrong with a stretch; return the step that mends it, if one does."""
        begin = max(place.begin, self._begins[lane])
        end = min(place.end, self._accounts[lane].end)
        steps = self._steps[lane].within(begin, end - 1)
        owed = (self._owed(part) for part in place.parts)
        ours = by_key(each for each in owed if each is not None)
        theirs = by_key(place.theirs)
        lacking = set[TellingKey]()
        for key, (mine, *_) in ours.items():
            rows = theirs.get(key, [])
            # Rows of a step without its mark are taken by nobody.
            if key[0] in self._unmarked[lane] or all(row.hashed != mine.hashed for row in rows):
                lacking.add(key)
            self._judge_event(mine, rows)
        for key in theirs.keys() - ours.keys():
            self._stranger(key, theirs[key][0])
        if not lacking and not steps:
            return []
        return repaired(Step(self._log_id, begin, end), place.parts, lacking, steps)

    def _judge_event(self, mine: RowTelling, rows: Sequence[RowTelling]) -> None:
        stream = mine.stream
        if not self._span.touches(mine.event_ns // HOUR_NS):
            return
        if len(rows) == 1 and rows[0].hashed == mine.hashed:
            return
        found = self.findings.streams.setdefault(stream, StreamFindings())
        if not rows:
            found.missing.add(mine.event_id, mine.number)
        elif any(row.hashed == mine.hashed for row in rows):
            found.again += len(rows) - 1
        else:
            found.again += len(rows) - 1
            found.mutated.add(mine.event_id, mine.number)
            if len(found.how) < MAX_EXAMPLES:
                found.how.append(_difference(rows[0], mine))

    def _stranger(self, key: TellingKey, row: RowTelling) -> None:
        """Judge a row that the journal does not have."""
        if key[0] not in self._journal.read:
            self.findings.unseen += 1
        elif self._span.touches(row.event_ns // HOUR_NS):
            found = self.findings.streams.setdefault(row.stream, StreamFindings())
            found.spurious.add(row.event_id, row.number)


def _difference(theirs: RowTelling, mine: RowTelling) -> str:
    called = mine.event_id if mine.number is None else str(mine.number)
    if mine.tellings.kind is None:
        return called
    return f"{called}: {difference(mine.tellings.kind, theirs.canonical, mine.canonical)}"
