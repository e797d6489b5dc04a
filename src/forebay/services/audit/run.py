"""The whole audit: the store's account, the journal up to its position, the verdict, the report."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Literal

from forebay.clock import Clock, SystemClock
from forebay.domain.channels import kind_of
from forebay.domain.coverage import GAP_STATES, Coverage, Gap, StreamKey
from forebay.domain.coverage.gaps import FAR
from forebay.domain.digest import HOUR_NS, Digest
from forebay.domain.frames import EVERY_SYMBOL
from forebay.domain.intervals import IntervalSet
from forebay.errors import ConfigError
from forebay.ports import Audited, Parser, Span
from forebay.services.audit.asked import NEVER_HEARD, NOT_GIVEN, judge_asked
from forebay.services.audit.case import (
    Case,
    Holes,
    arrived,
    holes_of,
    ids_of,
    problems_of,
    sets_of,
)
from forebay.services.audit.compare import Comparison
from forebay.services.audit.journal_stage import JournalStage
from forebay.services.audit.report import (
    MAX_EXAMPLES,
    AuditReport,
    Basis,
    Problem,
    Source,
    StageDigest,
    StreamAudit,
    iso,
)
from forebay.services.audit.transports import (
    Reading,
    notes_of_transports,
    problems_of_transport,
    read_transport,
    transports_of,
)
from forebay.services.audit.truth import Truth, TruthStage
from forebay.services.ledger import read_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from forebay.services.readback import TransportStage

Use = Literal["auto", "frames", "ledger"]
_CLOCK = SystemClock()
_MILLISECOND_NS = 1_000_000


def run_audit(
    store: Audited,
    journal_folder: Path,
    parsers: Mapping[str, Parser],
    *,
    ledger_folder: Path | None = None,
    source: Use = "auto",
    since_ns: int | None = None,
    until_ns: int | None = None,
    truth: Truth | None = None,
    arrive: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], object] = lambda *_: None,
    transports: Sequence[TransportStage] = (),
    reading: Reading = lambda *_: None,
    clock: Clock = _CLOCK,
) -> AuditReport:
    """Compare a store with the journal that it was made from, and with the truth if there is one.

    The store may be moving: every answer says its position, and the journal is projected exactly
    that far. With ``source`` ``auto`` the ledger's word is taken as far as it reaches, and the
    frames behind it are projected; ``ledger`` insists that there is one, ``frames`` projects
    every frame that is kept. Whole hours are audited: ``since_ns`` is rounded down, ``until_ns``
    up. ``arrive`` is called once what the truth owes is known: it returns when that had time to
    arrive. ``progress`` is told ``(done, total)`` bytes of the journal.

    Raises :class:`~forebay.errors.ConfigError` if there is no ledger and it was insisted on,
    :class:`~forebay.errors.Unreachable` if the store or the truth does not answer, and
    :class:`~forebay.errors.Transient` if the store was rebuilt or frames retired meanwhile, or if
    a transport cannot be read.
    """
    began = clock.monotonic_ns()
    since = None if since_ns is None else since_ns // HOUR_NS
    span = Span(since, None if until_ns is None else -(-until_ns // HOUR_NS))
    stage = TruthStage(truth) if truth else None
    if stage:
        arrive()
    account = store.account(span)
    if stage:
        stage.look_again()
    with closing(JournalStage(journal_folder, parsers, clock, progress)) as journal:
        seq = account.position.seq if account.position else 1
        _use_ledger(journal, ledger_folder, source, seq, clock)
        reached = journal.advance(seq)
        case = Case(span, account, journal, parsers, stage)
        if not reached:
            end = journal.record.end
            text = f"The journal ends at {end}, the store has consumed it up to {seq}."
            case.problems.append(Problem("journal_short", "", seq - end, [], text))
        _judge(case, Comparison(store, case))
        for asked in transports:
            read_transport(case, asked, (journal_folder, ledger_folder), reading, clock)
        return report_of(case, (clock.monotonic_ns() - began) // _MILLISECOND_NS)


def _use_ledger(
    journal: JournalStage, folder: Path | None, source: Use, seq: int, clock: Clock
) -> None:
    if source == "frames":
        return
    entries = [] if folder is None else read_ledger(folder, clock)
    if entries and journal.use(entries, seq):
        return
    what = f"The ledger {folder} is of another journal." if entries else "There is no ledger yet."
    if source == "ledger":
        raise ConfigError(what, hint="Audit with `--from auto` or `--from frames`.")
    if entries:
        journal.notes.append(f"{what} Frames were read instead.")


def _judge(case: Case, comparison: Comparison) -> None:
    stored, ours = case.account.letters, case.letters
    left = stored - case.account.replayed  # today's parser reads what these were of
    if stored < ours or (left > ours and case.whole_journal):
        text = f"{stored} dead letters are stored and the journal has {ours}."
        case.problems.append(Problem("dead_letters", "", abs(stored - ours), [], text))
    for text in case.account.damaged:
        case.problems.append(Problem("damaged", "", 1, [], text))
    if case.truth and case.span.whole:
        case.truth.judge_letters(case)
    comparison.run()
    for key in case.streams():
        judge_stream(case, key)
        if case.truth:
            case.truth.judge(case, key, comparison)
    judge_asked(case)
    for found in case.found.values():
        found.settle()


def judge_stream(case: Case, key: StreamKey) -> None:
    """Hold what the store claims of a stream against what the journal shows."""
    ours, theirs = case.coverage.get(key), case.account.coverage.get(key)
    gaps = [gap for gap in case.account.gaps if gap.key == key]
    _still_open(case, key, gaps)
    if case.whole_journal and not case.found[key].unseen:
        _coverage_alike(case, key, ours, theirs)
    else:
        _owed_by_itself(case, key, ours, theirs)
        ours = theirs  # at least its gaps must be those of its own coverage
    right = ours.gaps(key) if ours else []
    for state in GAP_STATES:
        declared, due = holes_of(gaps, [state]), holes_of(right, [state])
        text = f"declared as a gap, {state}, where the journal shows none of that."
        case.say("gap_unfounded", key, _minus(declared, due), text)
        text = f"a gap in the journal, {state}, and not declared as that."
        case.say("gap_undeclared", key, _minus(due, declared), text)


def _still_open(case: Case, key: StreamKey, gaps: Iterable[Gap]) -> None:
    """A gap that is still open is a loss that may yet be mended.

    One up to an id that nothing vouches for is none: it is in a note.
    """
    channel = case.channel(key)
    gaps = [gap for gap in gaps if gap.reason not in FAR]
    for place, members in holes_of(gaps, ["open"]).items():
        fillable = channel is not None and channel.history and channel.unit == place[0]
        what = "run `forebay gaps fill`" if fillable else "the venue has no history to fill them"
        case.say("gap_open", key, {place: members}, f"in open gaps; {what}.")


def _minus(some: Holes, others: Holes) -> Holes:
    return {place: held - others.get(place, IntervalSet()) for place, held in some.items()}


def _coverage_alike(
    case: Case, key: StreamKey, ours: Coverage | None, theirs: Coverage | None
) -> None:
    """The store's coverage is that of the journal, interval by interval."""
    right, stored = sets_of(ours), sets_of(theirs)
    count, clauses = 0, []
    for place in sorted(right.keys() | stored.keys()):
        mine, other = (side.get(place, IntervalSet()) for side in (right, stored))
        for what, rest in (("lacks", mine - other), ("has", other - mine)):
            if part := case.clip(key, case.unit(key), rest):
                count += part.count() if case.unit(key) == "id" else len(part)
                named = " ".join(filter(None, place))
                clauses.append(f"{what} {named} {', '.join(_intervals(part))}")
    if clauses:
        text = f"{key.name}: coverage is not that of the journal: it {'; it '.join(clauses)}."
        case.problems.append(Problem("coverage_unlike", key.name, count, [], text))


def _intervals(members: IntervalSet) -> Iterator[str]:
    for count, (first, last) in enumerate(members):
        if count == MAX_EXAMPLES:
            yield "and so on"
            return
        yield str(first) if first == last else f"{first} to {last}"


def _owed_by_itself(
    case: Case, key: StreamKey, ours: Coverage | None, theirs: Coverage | None
) -> None:
    """Of ids that the store covers and the journal lost, it must have the rows."""
    found = case.found[key]
    if case.unit(key) == "id" and not found.unproved:
        unseen = IntervalSet((n, n) for n in found.unseen.values() if n is not None)
        for first, last in case.clip(key, "id", arrived(theirs) - arrived(ours) - unseen):
            found.missing |= ids_of(key, range(first, last + 1))


def report_of(case: Case, took_ms: int) -> AuditReport:
    """Return the report; it is ok exactly if there is no problem."""
    streams = case.streams()
    problems = [problem for key in streams for problem in problems_of(key, case.found[key])]
    problems += case.problems
    if not sum(case.frames.values()):
        text = "The journal has no frames for what is stored, so nothing could be verified."
        problems.append(Problem("nothing_verified", "", 0, [], text))
    streams = [key for key in streams if _has_events(key)]
    # What came before a venue refused more is verified all the same.
    red = {each.stream for each in problems if each.kind not in (NOT_GIVEN, NEVER_HEARD)}
    problems += [problem for each in case.published for problem in problems_of_transport(each)]
    found = [case.found[key] for key in streams]
    account, span, position = case.account, case.span, case.account.position
    return AuditReport(
        ok=not problems,
        missing=sum(len(each.missing) for each in found),
        doubled=sum(each.again for each in found),
        mutated=sum(len(each.mutated) for each in found),
        spurious=sum(len(each.spurious) for each in found),
        ambiguous=account.ambiguous,
        dead_letters=account.letters - account.replayed - account.discarded,
        conflicts=account.conflicts,
        gaps=[_with_who(case, gap) for gap in account.gaps if _concerns(case, gap)],
        streams=[_stream(case, key, red) for key in streams],
        problems=problems,
        notes=_notes(case),
        position=f"{position.log_id}:{position.seq}" if position else None,
        since=None if span.since is None else iso(span.since * HOUR_NS),
        until=None if span.until is None else iso(span.until * HOUR_NS),
        frames=case.frames,
        transports=transports_of(case.published, case.unread),
        undelivered=_undelivered(case),
        verified_by=_sources(bool(case.journal.recorded), bool(case.journal.by_frames)),
        took_ms=took_ms,
    )


def _has_events(key: StreamKey) -> bool:
    return kind_of(key.channel) == key.channel and key.symbol != EVERY_SYMBOL


def _concerns(case: Case, gap: Gap) -> bool:
    return bool(case.clip(gap.key, gap.unit, IntervalSet([(gap.first, gap.last)])))


def _with_who(case: Case, gap: Gap) -> Gap:
    """Return a gap with who accepted it and why, which its table does not say."""
    if gap.state != "accepted" or (coverage := case.account.coverage.get(gap.key)) is None:
        return gap
    return next((told for told in coverage.gaps(gap.key) if told == gap), gap)


def _undelivered(case: Case) -> int:
    consumed = case.seq if case.account.position else case.journal.oldest
    return max(0, case.journal.end - consumed)


def _sources(ledger: bool, frames: bool) -> list[Source]:
    found: list[Source] = ["ledger"] if ledger else []
    return [*found, "frames"] if frames else found


def _stage(digests: Iterable[Digest]) -> StageDigest:
    return StageDigest(*sum(digests, Digest()).hex())


def _stream(case: Case, key: StreamKey, red: set[str]) -> StreamAudit:
    hours, stored, found = case.hours.get(key, {}), case.stored.get(key, {}), case.found[key]
    channel = case.channel(key)
    basis: Basis = case.unit(key) if hours else "none"
    stages = {"journal": _stage(hours.values()), "store": _stage(stored.values())}
    for each in case.published:
        stages[each.name] = _stage(digest for (of, _), digest in each.hours.items() if of == key)
    if case.truth and key in case.truth.digests:
        stages["truth"] = _stage([case.truth.digests[key]])
    proved = basis != "none" and red.isdisjoint({"", key.name})
    first, last = _verified(case, key) if proved else (None, None)
    countable = basis in ("id", "seq")
    return StreamAudit(
        venue=key.venue,
        market=key.market,
        channel=key.channel,
        symbol=key.symbol,
        events=stages["store"].count,
        verified_from=first,
        verified_to=last,
        verified_by=_sources(key in case.journal.recorded, key in case.journal.by_frames),
        basis=basis,
        unseeable=channel.unseeable if channel else "",
        stages=stages,
        missing=len(found.missing) if countable or found.missing else None,
        doubled=found.again,
        mutated=len(found.mutated),
        spurious=len(found.spurious),
    )


def _verified(case: Case, key: StreamKey) -> tuple[str | None, str | None]:
    """Return from when to when a stream without a problem was found to be complete."""
    # Where some of what is stored was not seen, only hours that are the journal's count.
    exactly = bool(case.found[key].unseen) or case.found[key].unproved > 0
    ends = [
        (each.first_ns, each.last_ns)
        for (stream, hour), each in case.account.hours.items()
        if stream == key
        and hour in case.hours[key]
        and not (exactly and len({*case.digests((key, hour))}) > 1)
    ]
    if not ends:
        return None, None
    return iso(min(first for first, _ in ends)), iso(max(last for _, last in ends))


def _notes(case: Case) -> list[str]:
    notes = [*case.journal.notes]
    for gap in case.account.gaps:
        if gap.state == "open" and gap.reason in FAR:
            what = f"One id of {gap.key.name} is far from all others, and nothing vouches for it"
            notes.append(f"{what}: {gap.first} to {gap.last} is not counted as missing.")
    if undelivered := _undelivered(case):
        notes.append(f"{undelivered} captured frames are not delivered yet.")
    if not case.whole_journal:
        notes.append("Some frames are not in the journal any more: gaps were not projected anew.")
    if unseen := sum(len(found.unseen) + found.unproved for found in case.found.values()):
        notes.append(
            f"{unseen} stored events were not compared: the journal does not hold their frames, "
            "which are older, or damaged (`forebay journal fsck` tells)."
        )
    notes += notes_of_transports(case.published, case.unread)
    if case.truth and not case.truth.before.finished:
        notes.append(
            "The simulator goes on: what it sends from now on is not owed yet; "
            "what it sent while nothing captured is."
        )
    return notes
