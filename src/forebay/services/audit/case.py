"""What is known while an audit goes on, and what of it concerns the audited hours."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.channels import Channel, Unit, declared_of
from forebay.domain.coverage import GAP_STATES, Coverage, Gap, StreamKey
from forebay.domain.coverage.gaps import unit_of
from forebay.domain.digest import HOUR_NS, Digest, StreamHour
from forebay.domain.identity import native_id, stream_prefix
from forebay.domain.intervals import IntervalSet
from forebay.domain.roll import Roll
from forebay.services.audit.report import MAX_EXAMPLES, Problem, iso
from forebay.services.ledger_builder import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebay.errors import ForebayError
    from forebay.ports import Parser, Span, StoreAccount
    from forebay.services.audit.journal_stage import JournalStage
    from forebay.services.audit.truth import TruthStage
    from forebay.services.readback import Findings

Hours = dict[StreamKey, dict[int, Digest]]
Holes = dict[tuple[Unit, str], IntervalSet]
"""Members by unit and, where a connection counts for itself, epoch."""
_EVERY_NUMBER = (0, (1 << 62) - 1)
_REASONS_ONLY = "spanned"
"""Origin of intervals that only tell reasons of gaps, which may depend on how frames were cut."""
Ids = dict[str, int | None]
"""Event ids, and the number that each event has in its stream, if it has one."""


class Unlike(NamedTuple):
    """An hour that differs from the ledger, and of which the frames are gone."""

    hour: int
    """Since the Unix epoch."""
    stored: Digest
    ledger: Digest
    lacking: Ids
    """Events that are not stored though coverage owes them to this hour, or to one beside it."""


@dataclass(slots=True)
class Found:
    """What is wrong with the events of one stream."""

    missing: Ids = field(default_factory=dict)
    doubled: Ids = field(default_factory=dict)
    mutated: Ids = field(default_factory=dict)
    spurious: Ids = field(default_factory=dict)
    unseen: Ids = field(default_factory=dict)
    """Stored events of which the journal does not have the frames any more; nothing is wrong."""
    unproved: int = 0
    """Events of hours that are partly lost, and partly in a ledger without frames."""
    again: int = 0
    """Rows whose event is stored already."""
    unlike: list[Unlike] = field(default_factory=list)
    how: dict[str, str] = field(default_factory=dict)
    """Of some mutated events, what differs."""

    def double(self, event_id: str, number: int | None, rows: int) -> None:
        """Note that an event has so many rows too many."""
        self.doubled[event_id] = number
        self.again += rows

    def mutate(self, event_id: str, number: int | None, how: str) -> None:
        """Note that an event is not what it should be."""
        self.mutated[event_id] = number
        if len(self.how) < MAX_EXAMPLES:
            self.how.setdefault(event_id, how)

    def settle(self) -> None:
        """Take out what is missing because it is there, but different."""
        for event_id in self.mutated.keys() & self.missing.keys():
            del self.missing[event_id]


@dataclass(slots=True)
class Case:
    """One audit, as of the store's account."""

    span: Span
    account: StoreAccount
    journal: JournalStage
    parsers: Mapping[str, Parser]
    truth: TruthStage | None = None
    found: dict[StreamKey, Found] = field(default_factory=lambda: defaultdict(Found))
    problems: list[Problem] = field(default_factory=list)
    published: list[Findings] = field(default_factory=list)
    """What transports hold."""
    unread: dict[str, ForebayError] = field(default_factory=dict)
    """Why others could not be asked, by name."""
    seq: int = field(init=False)
    """Up to where the store has consumed the journal."""
    hours: Hours = field(init=False)
    """Digests that the journal has."""
    stored: Hours = field(init=False)
    """Digests that the store has."""
    coverage: dict[StreamKey, Coverage] = field(init=False)
    """Coverage that the journal has."""
    letters: int = field(init=False)
    frames: dict[str, int] = field(init=False)
    roll: Roll = field(init=False)
    """What was asked for, and what venues do not give."""
    latest_ns: int = field(init=False)
    """When the last frame of the journal was received."""
    whole_journal: bool = field(init=False)
    """Whether every frame that the store consumed could be read or is in the ledger."""

    def __post_init__(self) -> None:
        # The journal goes on while rows are compared; these belong to the account.
        record = self.journal.record
        self.seq = self.account.position.seq if self.account.position else 1
        self.hours, self.stored = defaultdict(dict), defaultdict(dict)
        for key, hours in record.hours.items():
            self.hours[key] |= {hour: hours[hour] for hour in hours if self.span.touches(hour)}
        for (key, hour), each in self.account.hours.items():
            if each.digest is not None and self.span.touches(hour):
                self.stored[key][hour] = each.digest
        self.coverage = dict(record.coverage)
        self.letters = len(self.journal.letters)
        self.frames = {kind: record.frames[kind] for kind in OUTCOMES}
        self.roll = Roll(dict(record.roll.asked), dict(record.roll.answers))
        self.latest_ns = record.latest_ns
        self.whole_journal = record.complete

    def streams(self) -> list[StreamKey]:
        """Return every stream that anybody has heard of, or asked for."""
        known = {key for key, _ in self.account.hours} | {gap.key for gap in self.account.gaps}
        known.update(self.hours, self.account.coverage, self.coverage, self.roll.streams())
        known.update(key for each in self.published for key, _ in each.hours)
        return sorted(known.union(self.truth.streams() if self.truth else ()))

    def digests(self, place: StreamHour) -> tuple[Digest, Digest]:
        """Return what the store and what the journal has of an hour."""
        key, hour = place
        both = (side.get(key, {}).get(hour, Digest()) for side in (self.stored, self.hours))
        return next(both), next(both)

    def differing(self) -> list[StreamHour]:
        """Return the audited hours of which store and journal do not say the same."""
        sides = chain(self.stored.items(), self.hours.items())
        places = {(key, hour) for key, hours in sides for hour in hours}
        return sorted(place for place in places if len({*self.digests(place)}) > 1)

    def channel(self, key: StreamKey) -> Channel | None:
        parser = self.parsers.get(key.venue)
        return declared_of(parser.channels, key.channel) if parser else None

    def unit(self, key: StreamKey) -> Unit:
        if (channel := self.channel(key)) is not None:
            return unit_of(key, channel)
        coverage = self.coverage.get(key) or self.account.coverage.get(key)
        return coverage.unit if coverage else "none"

    def window(self, key: StreamKey, span: Span) -> tuple[int, int]:
        """Return the least and greatest number of a stream that some hours can contain.

        That is everything between the last number before and the first one after, so that an hour
        of which all is lost is looked at. Numbers that are not in the order of their times must
        not narrow it.
        """
        low, high = _EVERY_NUMBER
        ends: list[int] = []
        for (stream, hour), each in self.account.hours.items():
            if stream != key or each.first_number is None or each.last_number is None:
                continue
            if span.touches(hour):
                ends += [each.first_number, each.last_number]
            elif span.since is not None and hour < span.since:
                low = max(low, each.last_number + 1)
            else:
                high = min(high, each.first_number - 1)
        return min([low, *ends]), max([high, *ends])

    def clip(self, key: StreamKey, unit: Unit, members: IntervalSet) -> IntervalSet:
        """Return the members of a stream's coverage or gaps that concern the audited hours."""
        since, until = self.span.since, self.span.until
        if self.span.whole or unit == "seq":
            return members
        if unit == "id":
            return members.within(*self.window(key, self.span))
        first = 0 if since is None else since * HOUR_NS
        return members.within(first, _EVERY_NUMBER[1] if until is None else until * HOUR_NS - 1)

    def declared(self, key: StreamKey, states: Iterable[str] = GAP_STATES) -> IntervalSet:
        """Return the ids of a stream's declared gaps in some states."""
        gaps = (gap for gap in self.account.gaps if gap.key == key)
        return holes_of(gaps, states).get(("id", ""), IntervalSet())

    def say(self, kind: str, key: StreamKey, holes: Holes, text: str) -> None:
        """Note a problem for each unit and epoch of which members concern the audited hours."""
        for (unit, epoch), members in sorted(holes.items()):
            if part := self.clip(key, unit, members):
                count = len(part) if unit == "time" else part.count()
                of = {"id": "ids", "seq": f"numbers of {epoch}", "time": "stretches of time"}[unit]
                text_of = f"{key.name}: {count} {of} {text}"
                told = _examples(unit, part)
                self.problems.append(Problem(kind, key.name, count, told, text_of))


def holes_of(gaps: Iterable[Gap], states: Iterable[str]) -> Holes:
    """Return what gaps in some states hold."""
    found: Holes = defaultdict(IntervalSet)
    for gap in gaps:
        if gap.state in states:
            found[gap.unit, gap.epoch].add(gap.first, gap.last)
    return dict(found)


def _examples(unit: Unit, members: IntervalSet) -> list[str]:
    """Return the first few members, or of times the first few intervals."""
    told: list[str] = []
    for first, last in members:
        room = MAX_EXAMPLES - len(told)
        if unit == "time":
            told += [f"{iso(first)} to {iso(last)}"][:room]
        else:
            told += map(str, range(first, min(last + 1, first + room)))
    return told


def sets_of(coverage: Coverage | None) -> dict[tuple[str, str], IntervalSet]:
    """Return what coverage holds, by origin and epoch."""
    found: dict[tuple[str, str], IntervalSet] = defaultdict(IntervalSet)
    for row in coverage.rows() if coverage else ():
        if row.origin != _REASONS_ONLY:
            found[row.origin, row.epoch].add(row.first, row.last)
    return found


def arrived(coverage: Coverage | None) -> IntervalSet:
    """Return the ids that arrived, however they came."""
    return coverage.arrived().get(("id", ""), IntervalSet()) if coverage else IntervalSet()


def ids_of(key: StreamKey, numbers: Iterable[int]) -> Ids:
    """Return the events that a venue's own integers identify."""
    prefix = stream_prefix(*key)
    return {str(native_id(prefix, number)): number for number in numbers}


def examples(ids: Ids) -> list[str]:
    """Return what the first few are called: by number, otherwise by id."""
    ordered = sorted((number or 0, event_id) for event_id, number in ids.items())
    return [_called(event_id, ids[event_id]) for _, event_id in ordered[:MAX_EXAMPLES]]


def _called(event_id: str, number: int | None) -> str:
    return event_id if number is None else str(number)


def problems_of(key: StreamKey, found: Found) -> list[Problem]:
    """Say what is wrong with one stream, a sentence a kind."""
    name, problems = key.name, []

    def say(kind: str, ids: Ids, text: str, count: int | None = None) -> None:
        if ids:
            count = len(ids) if count is None else count
            text = f"{name}: {kind} {count}, {text}"
            problems.append(Problem(kind, name, count, examples(ids), text))

    say("missing", found.missing, "to be stored and not there.")
    say("doubled", found.doubled, "rows with an event id that is stored already.", found.again)
    say("mutated", found.mutated, "stored with another content.")
    if found.mutated:
        told = sorted((found.mutated[each] or 0, each, how) for each, how in found.how.items())
        problems[-1].examples[:] = [
            f"{_called(each, found.mutated[each])}: {how}" for _, each, how in told
        ]
    say("spurious", found.spurious, "stored and never received.")
    return problems + [_unlike(name, each) for each in found.unlike]


def _unlike(name: str, each: Unlike) -> Problem:
    """Say what can be said of an hour without its frames."""
    stored, ledger = each.stored, each.ledger
    what = "other ids" if stored.ids != ledger.ids else "the same ids with other content"
    which = "so which ones cannot be said any more"
    if each.lacking:
        which = f"but coverage tells of {len(each.lacking)} that are not stored"
    text = (
        f"{name}: the hour from {iso(each.hour * HOUR_NS)} has {stored.count} events stored and "
        f"{ledger.count} in the ledger, {what} (ids {stored.ids:032x} and {ledger.ids:032x}, rows "
        f"{stored.rows:032x} and {ledger.rows:032x}); its frames are gone, {which}."
    )
    count = max(1, abs(stored.count - ledger.count))
    return Problem("unlike_ledger", name, count, examples(each.lacking), text)
