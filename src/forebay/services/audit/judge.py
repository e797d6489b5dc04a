"""From what was found to what is said: which coverage and gaps may stand, and the report."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from forebay.domain.coverage import GAP_STATES, Gap
from forebay.domain.digest import HOUR_NS, Digest
from forebay.domain.identity import native_id, stream_prefix
from forebay.domain.intervals import IntervalSet
from forebay.services.accounting import OUTCOMES
from forebay.services.audit.findings import Found, problems_of
from forebay.services.audit.report import (
    MAX_EXAMPLES,
    AuditReport,
    Basis,
    Problem,
    Source,
    Stage,
    StreamReport,
    iso,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from forebay.domain.channels import Channel, Unit
    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.domain.digest import StreamHour
    from forebay.ports import Parser, Span, StoreAccount
    from forebay.services.audit.findings import Ids
    from forebay.services.audit.journal_stage import JournalStage
    from forebay.services.audit.truth_stage import TruthStage

    Hours = dict[StreamKey, dict[int, Digest]]
    Holes = dict[tuple[Unit, str], IntervalSet]
    """Members by unit and, where it counts by connection, epoch."""

EVERY_NUMBER = (0, (1 << 62) - 1)
_REASONS_ONLY = "spanned"
"""Origin of intervals that only tell reasons of gaps, which may depend on how frames were cut."""
_COUNTED: dict[Unit, str] = {
    "id": "ids",
    "seq": "numbers of a connection",
    "time": "stretches of time",
    "none": "of nothing",
}


@dataclass(slots=True)
class Case:
    """What is known while an audit goes on, as of the store's account."""

    span: Span
    account: StoreAccount
    journal: JournalStage
    parsers: Mapping[str, Parser]
    truth: TruthStage | None = None
    found: dict[StreamKey, Found] = field(default_factory=lambda: defaultdict(Found))
    problems: list[Problem] = field(default_factory=list)
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
    whole_journal: bool = field(init=False)
    """Whether every frame that the store consumed could be read or is in the ledger."""

    def __post_init__(self) -> None:
        # The journal goes on while rows are compared; these belong to the account.
        record, span = self.journal.record, self.span
        self.seq = self.account.position.seq if self.account.position else 1
        self.hours = {
            key: {hour: digest for hour, digest in hours.items() if span.touches(hour)}
            for key, hours in record.hours.items()
        }
        self.stored = defaultdict(dict)
        for (key, hour), each in self.account.hours.items():
            if each.digest is not None and span.touches(hour):
                self.stored[key][hour] = each.digest
        self.coverage = dict(record.coverage)
        self.letters = len(self.journal.letters)
        self.frames = {kind: record.frames[kind] for kind in OUTCOMES}
        self.whole_journal = record.complete

    def streams(self) -> list[StreamKey]:
        """Return every stream that anybody has heard of."""
        known = {key for key, _ in self.account.hours}
        known.update(self.hours, self.account.coverage, self.coverage)
        known.update(gap.key for gap in self.account.gaps)
        return sorted(known.union(self.truth.streams() if self.truth else ()))

    def digests(self, place: StreamHour) -> tuple[Digest, Digest]:
        """Return what the store and what the journal has of an hour."""
        key, hour = place
        stored, ours = self.stored.get(key, {}), self.hours.get(key, {})
        return stored.get(hour, Digest()), ours.get(hour, Digest())

    def differing(self) -> list[StreamHour]:
        """Return the audited hours of which store and journal do not say the same."""
        both = chain(self.stored.items(), self.hours.items())
        places = {(key, hour) for key, hours in both for hour in hours}
        return sorted(each for each in places if len({*self.digests(each)}) > 1)

    def channel(self, key: StreamKey) -> Channel | None:
        """Return what the venue declares of a stream."""
        parser = self.parsers.get(key.venue)
        return parser.channels.get(key.channel) if parser else None

    def unit(self, key: StreamKey) -> Unit:
        """Return what coverage of a stream counts."""
        if (channel := self.channel(key)) is not None:
            return channel.unit
        coverage = self.coverage.get(key) or self.account.coverage.get(key)
        return coverage.unit if coverage else "none"

    def window(self, key: StreamKey) -> tuple[int, int]:
        """Return the least and greatest number of a stream that the audited hours can contain.

        That is everything between the last number before and the first one after, so that an hour
        of which all is lost is looked at. Numbers that are not in the order of their times must
        not narrow it.
        """
        low, high = EVERY_NUMBER
        ends: list[int] = []
        for (stream, hour), each in self.account.hours.items():
            if stream != key or each.first_number is None or each.last_number is None:
                continue
            if self.span.touches(hour):
                ends += [each.first_number, each.last_number]
            elif self.span.since is not None and hour < self.span.since:
                low = max(low, each.last_number + 1)
            else:
                high = min(high, each.first_number - 1)
        return min([low, *ends]), max([high, *ends])

    def clip(self, key: StreamKey, unit: Unit, members: IntervalSet) -> IntervalSet:
        """Return the members of a stream's coverage or gaps that concern the audited hours."""
        span = self.span
        if span.whole or unit == "seq":
            return members
        if unit == "id":
            return members.within(*self.window(key))
        first = 0 if span.since is None else span.since * HOUR_NS
        last = EVERY_NUMBER[1] if span.until is None else span.until * HOUR_NS - 1
        return members.within(first, last)

    def declared(self, key: StreamKey, states: Iterable[str] = GAP_STATES) -> IntervalSet:
        """Return the ids of a stream's declared gaps in some states."""
        gaps = (gap for gap in self.account.gaps if gap.key == key)
        return _holes(gaps, states).get(("id", ""), IntervalSet())

    def say(self, kind: str, key: StreamKey, holes: Holes, text: str) -> None:
        """Note a problem for each unit of which there are members in the audited hours."""
        for unit in _COUNTED:
            parts = {
                epoch: self.clip(key, of, members)
                for (of, epoch), members in holes.items()
                if of == unit
            }
            told = _examples(unit, parts.values())
            if not told:
                continue
            count = sum(len(part) if unit == "time" else part.count() for part in parts.values())
            epochs = ", ".join(epoch for epoch, part in parts.items() if epoch and part)
            of_epochs = f" ({epochs})" if epochs else ""
            text = f"{key.name}: {count} {_COUNTED[unit]}{of_epochs} {text}"
            self.problems.append(Problem(kind, key.name, count, told, text))


def _examples(unit: Unit, parts: Iterable[IntervalSet]) -> list[str]:
    """Return the first few members, or of times the first few intervals."""
    told: list[str] = []
    for first, last in chain.from_iterable(parts):
        room = MAX_EXAMPLES - len(told)
        if unit == "time":
            told += [f"{iso(first)} to {iso(last)}"][:room]
        else:
            told += map(str, range(first, min(last + 1, first + room)))
    return told


# ------------------------------------------------------------------------ coverage and gaps


def judge_stream(case: Case, key: StreamKey) -> None:
    """Hold what the store claims of a stream against what the journal shows."""
    ours, theirs = case.coverage.get(key), case.account.coverage.get(key)
    gaps = [gap for gap in case.account.gaps if gap.key == key]
    _still_open(case, key, gaps)
    if case.whole_journal and not case.found[key].unseen:
        _coverage_like(case, key, ours, theirs)
    else:
        _owed_by_itself(case, key, ours, theirs)
        ours = theirs  # at least its gaps must be those of its own coverage
    right = ours.gaps(key) if ours else []
    for state in GAP_STATES:
        declared, due = _holes(gaps, [state]), _holes(right, [state])
        text = f"declared as a gap, {state}, where the journal shows none of that."
        case.say("gap_unfounded", key, _minus(declared, due), text)
        text = f"a gap in the journal, {state}, and not declared as that."
        case.say("gap_undeclared", key, _minus(due, declared), text)


def _still_open(case: Case, key: StreamKey, gaps: Iterable[Gap]) -> None:
    """A gap that is still open is a loss that may yet be mended."""
    channel = case.channel(key)
    for place, members in _holes(gaps, ["open"]).items():
        fillable = channel is not None and channel.history and channel.unit == place[0]
        what = "run `forebay gaps fill`." if fillable else "the venue has no history to fill them."
        case.say("gap_open", key, {place: members}, f"in open gaps; {what}")


def _holes(gaps: Iterable[Gap], states: Iterable[str]) -> Holes:
    found: Holes = defaultdict(IntervalSet)
    for gap in gaps:
        if gap.state in states:
            found[gap.unit, gap.epoch].add(gap.first, gap.last)
    return dict(found)


def _minus(some: Holes, others: Holes) -> Holes:
    return {place: held - others.get(place, IntervalSet()) for place, held in some.items()}


def _coverage_like(
    case: Case, key: StreamKey, ours: Coverage | None, theirs: Coverage | None
) -> None:
    """The store's coverage is that of the journal, interval by interval."""
    right, stored = _sets(ours), _sets(theirs)
    unit = (ours or theirs).unit if ours or theirs else "none"
    clauses: list[str] = []
    count = 0
    for place in sorted(right.keys() | stored.keys()):
        mine, other = (each.get(place, IntervalSet()) for each in (right, stored))
        named = " ".join(filter(None, place))
        for what, some, rest in (("lacks", mine, other), ("has", other, mine)):
            if part := case.clip(key, unit, some - rest):
                count += part.count() if unit == "id" else len(part)
                clauses.append(f"{what} {named} {', '.join(_intervals(part))}")
    if clauses:
        text = f"{key.name}: coverage is not that of the journal: it {'; it '.join(clauses)}."
        case.problems.append(Problem("coverage_unlike", key.name, count, [], text))


def _sets(coverage: Coverage | None) -> dict[tuple[str, str], IntervalSet]:
    found: dict[tuple[str, str], IntervalSet] = defaultdict(IntervalSet)
    for row in coverage.rows() if coverage else ():
        if row.origin != _REASONS_ONLY:
            found[row.origin, row.epoch].add(row.first, row.last)
    return dict(found)


def _intervals(members: IntervalSet) -> Iterator[str]:
    for count, (first, last) in enumerate(members):
        if count == MAX_EXAMPLES:
            yield "and so on"
            return
        yield str(first) if first == last else f"{first} to {last}"


def _owed_by_itself(
    case: Case, key: StreamKey, ours: Coverage | None, theirs: Coverage | None
) -> None:
    """Of ids that the store covers and the journal lost, it must have those rows."""
    found = case.found[key]
    if case.unit(key) != "id" or theirs is None or found.unproved:
        return
    lost = _covered(theirs) - _covered(ours)
    lost -= IntervalSet((n, n) for n in found.unseen.values() if n is not None)
    for first, last in case.clip(key, "id", lost):
        found.missing |= ids_of(key, range(first, last + 1))


def _covered(coverage: Coverage | None) -> IntervalSet:
    sets = _sets(coverage)
    return sets.get(("live", ""), IntervalSet()) | sets.get(("fill", ""), IntervalSet())


def ids_of(key: StreamKey, numbers: Iterable[int]) -> Ids:
    """Return the events that a venue's own integers identify."""
    prefix = stream_prefix(*key)
    return {str(native_id(prefix, number)): number for number in numbers}


# ------------------------------------------------------------------------------ the report


def report_of(case: Case, took_ms: int) -> AuditReport:
    """Return the report; it is ok exactly if there is no problem."""
    streams = case.streams()
    problems = [problem for key in streams for problem in problems_of(key, case.found[key])]
    problems += case.problems
    if not sum(case.frames.values()):
        text = "The journal has no frames for what is stored, so nothing could be verified."
        problems.append(Problem("nothing_verified", "", 0, [], text))
    found = [case.found[key] for key in streams]
    account, span = case.account, case.span
    position = account.position
    verified = [_stream(case, key, {problem.stream for problem in problems}) for key in streams]
    by_frames = bool(case.journal.by_frames)
    return AuditReport(
        ok=not problems,
        missing=sum(len(each.missing) for each in found),
        doubled=sum(each.again for each in found),
        mutated=sum(len(each.mutated) for each in found),
        spurious=sum(len(each.spurious) for each in found),
        ambiguous=account.ambiguous,
        dead_letters=account.letters,
        conflicts=account.conflicts,
        gaps=[gap for gap in account.gaps if _concerns(case, gap)],
        streams=verified,
        problems=problems,
        notes=_notes(case),
        position=f"{position.log_id}:{position.seq}" if position else None,
        since=None if span.since is None else iso(span.since * HOUR_NS),
        until=None if span.until is None else iso(span.until * HOUR_NS),
        frames=case.frames,
        undelivered=_undelivered(case),
        verified_by=_sources(ledger=bool(case.journal.recorded), frames=by_frames),
        took_ms=took_ms,
    )


def _concerns(case: Case, gap: Gap) -> bool:
    """Return whether a gap may hold events of the audited hours."""
    return bool(case.clip(gap.key, gap.unit, IntervalSet([(gap.first, gap.last)])))


def _undelivered(case: Case) -> int:
    """Count sequence numbers that are captured and that the store has not consumed."""
    consumed = case.seq if case.account.position else case.journal.oldest
    return max(0, case.journal.end - consumed)


def _sources(*, ledger: bool, frames: bool) -> list[Source]:
    found: list[Source] = ["ledger"] if ledger else []
    return [*found, "frames"] if frames else found


def _stage(digests: Iterable[Digest]) -> Stage:
    digest = sum(digests, Digest())
    return Stage(digest.count, f"{digest.ids:032x}", f"{digest.rows:032x}")


def _stream(case: Case, key: StreamKey, red: set[str]) -> StreamReport:
    """Report one stream; ``red`` are the streams that have a problem."""
    hours, stored, found = case.hours.get(key, {}), case.stored.get(key, {}), case.found[key]
    unit, channel = case.unit(key), case.channel(key)
    basis: Basis = unit if hours else "none"
    stages = {"journal": _stage(hours.values()), "store": _stage(stored.values())}
    if case.truth and key in case.truth.digests:
        stages["truth"] = _stage([case.truth.digests[key]])
    countable = basis in ("id", "seq")
    ledger, frames = key in case.journal.recorded, key in case.journal.by_frames
    ends = None
    if basis != "none" and red.isdisjoint({"", key.name}):
        ends = _verified(case, key, exactly=bool(found.unseen) or found.unproved > 0)
    return StreamReport(
        venue=key.venue,
        market=key.market,
        channel=key.channel,
        symbol=key.symbol,
        events=stages["store"].count,
        verified_from=iso(ends[0]) if ends else None,
        verified_to=iso(ends[1]) if ends else None,
        verified_by=_sources(ledger=ledger, frames=frames),
        basis=basis,
        unseeable=channel.unseeable if channel else "",
        stages=stages,
        missing=len(found.missing) if countable or found.missing else None,
        doubled=found.again,
        mutated=len(found.mutated),
        spurious=len(found.spurious),
    )


def _verified(case: Case, key: StreamKey, *, exactly: bool) -> tuple[int, int] | None:
    """Return from when to when a stream without a problem was found to be complete.

    ``exactly``: only hours that are the journal's, since some of what is stored was not seen.
    """
    ends = [
        (each.first_ns, each.last_ns)
        for (stream, hour), each in case.account.hours.items()
        if stream == key
        and hour in case.hours[key]
        and (not exactly or len({*case.digests((key, hour))}) == 1)
    ]
    return (min(ends)[0], max(last for _, last in ends)) if ends else None


def _notes(case: Case) -> list[str]:
    notes = [*case.journal.notes]
    if undelivered := _undelivered(case):
        notes.append(f"{undelivered} captured frames are not delivered yet.")
    if not case.whole_journal:
        notes.append("Some frames are not in the journal any more: gaps were not projected anew.")
    unseen = sum(len(found.unseen) + found.unproved for found in case.found.values())
    if unseen:
        notes.append(
            f"{unseen} stored events were not compared: the journal does not hold their "
            "frames, which are older, or damaged (`forebay journal fsck` tells)."
        )
    if case.truth and not case.truth.before.status.finished:
        notes.append("The simulator had not finished: what was under way counts as missing.")
    return notes
