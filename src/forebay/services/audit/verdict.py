"""From what was found to what is said."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.digest import Digest
from forebay.domain.intervals import IntervalSet
from forebay.services.accounting import OUTCOMES
from forebay.services.audit import store_stage
from forebay.services.audit.accounts import StreamAccount
from forebay.services.audit.findings import Found, clip, iso, problems_of
from forebay.services.audit.report import (
    AuditReport,
    Basis,
    Problem,
    Source,
    Stage,
    StreamReport,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.domain.coverage import Gap, StreamKey
    from forebay.services.audit.accounts import Snapshot
    from forebay.services.audit.journal_stage import JournalStage
    from forebay.services.audit.sql import Span
    from forebay.services.audit.store_stage import Hours
    from forebay.services.audit.truth_stage import TruthStage


@dataclass(slots=True)
class Audited:
    """What is known while an audit goes on, as of the snapshot's cursor."""

    span: Span
    snapshot: Snapshot
    journal: JournalStage
    truth: TruthStage | None = None
    found: dict[StreamKey, Found] = field(default_factory=lambda: defaultdict(Found))
    problems: list[Problem] = field(default_factory=list)
    hours: Hours = field(init=False)
    """Digests that the journal has."""
    gaps: dict[StreamKey, list[Gap]] = field(init=False)
    """Gaps as they follow from the journal."""
    letters: int = field(init=False)
    frames: dict[str, int] = field(init=False)
    undelivered: int = field(init=False)
    """Sequence numbers that are captured and that the store has not consumed."""
    whole_journal: bool = field(init=False)
    """Whether every frame that the store consumed could be read or is in the ledger."""

    def __post_init__(self) -> None:
        # The journal goes on while rows are compared; these belong to the snapshot.
        record, cursor = self.journal.record, self.snapshot.cursor
        self.hours = {key: dict(hours) for key, hours in record.hours.items()}
        self.gaps = {key: held.gaps(key) for key, held in record.coverage.items()}
        self.letters = self.journal.letters()
        self.frames = {kind: record.frames[kind] for kind in OUTCOMES}
        self.undelivered = max(
            0, self.journal.end - (cursor.seq if cursor else self.journal.oldest)
        )
        self.whole_journal = record.complete

    def streams(self) -> list[StreamKey]:
        """Every stream that anybody has heard of."""
        known = {*self.snapshot.accounts, *self.hours, *self.snapshot.claims, *self.gaps}
        return sorted(known.union(self.truth.streams() if self.truth else ()))

    def window(self, key: StreamKey) -> tuple[int, int]:
        """Ids of a stream that the audited times can contain."""
        return store_stage.window_of(key, self.snapshot, self.span)


def report_of(audit: Audited, took_ms: int) -> AuditReport:
    """Answer the report; it is ok exactly if there is no problem."""
    streams = audit.streams()
    problems = [problem for key in streams for problem in problems_of(key, audit.found[key])]
    problems += audit.problems
    if not sum(audit.frames.values()):
        text = "The journal has no frames for what is stored, so nothing could be verified."
        problems.append(Problem("nothing_verified", "", 0, [], text))
    found = [audit.found[key] for key in streams]
    cursor, snapshot = audit.snapshot.cursor, audit.snapshot
    return AuditReport(
        ok=not problems,
        missing=sum(each.missing.count() for each in found),
        doubled=sum(each.doubled for each in found),
        mutated=sum(each.mutated.count() for each in found),
        spurious=sum(each.spurious.count() for each in found),
        ambiguous=snapshot.ambiguous,
        dead_letters=snapshot.letters,
        conflicts=snapshot.conflicts,
        gaps=[gap for gap in snapshot.gaps if _concerns(audit, gap)],
        streams=[_stream(audit, key, problems) for key in streams],
        problems=problems,
        notes=_notes(audit),
        position=f"{cursor.log_id}:{cursor.seq}" if cursor else None,
        since=_time(audit.span.since),
        until=_time(audit.span.until),
        frames=audit.frames,
        undelivered=audit.undelivered,
        verified_by=_sources(bool(audit.journal.by_ledger), bool(audit.journal.by_frames)),
        took_ms=took_ms,
    )


def _concerns(audit: Audited, gap: Gap) -> bool:
    """Whether a gap may hold events of the audited times."""
    for key in audit.streams():
        if key == (gap.venue, gap.channel, gap.symbol):
            return bool(clip(IntervalSet([(gap.first, gap.last)]), audit.window(key)))
    return True


def _time(ns: int | None) -> str | None:
    return None if ns is None else iso(ns)


def _sources(ledger: bool, frames: bool) -> list[Source]:
    found: list[Source] = ["ledger"] if ledger else []
    return [*found, "frames"] if frames else found


def _stage(hours: Mapping[int, Digest]) -> Stage:
    digest = sum(hours.values(), Digest())
    return Stage(digest.count, f"{digest.ids:032x}", f"{digest.rows:032x}")


def _stream(audit: Audited, key: StreamKey, problems: list[Problem]) -> StreamReport:
    account = audit.snapshot.accounts.get(key, StreamAccount())
    hours = audit.hours.get(key, {})
    hours = {hour: digest for hour, digest in hours.items() if audit.span.touches(hour)}
    found = audit.found[key]
    basis: Basis = "id" if hours and key in audit.snapshot.claims else "none"
    stages = {"journal": _stage(hours), "store": _stage(account.hours())}
    if audit.truth and key in audit.truth.digests:
        stages["truth"] = _stage({0: audit.truth.digests[key]})
    report = StreamReport(
        venue=key.venue,
        channel=key.channel,
        symbol=key.symbol,
        events=account.events,
        verified_from=None,
        verified_to=None,
        verified_by=_sources(key in audit.journal.by_ledger, key in audit.journal.by_frames),
        basis=basis,
        stages=stages,
        missing=found.missing.count() if basis != "none" or found.missing else None,
        doubled=found.doubled,
        mutated=found.mutated.count(),
        spurious=found.spurious.count(),
    )
    if basis == "none" or any(problem.stream in {"", report.name} for problem in problems):
        return report
    return _verified(report, account, hours, exactly=bool(found.unseen) or found.unproved > 0)


def _verified(
    report: StreamReport, account: StreamAccount, hours: Mapping[int, Digest], *, exactly: bool
) -> StreamReport:
    """Say from when to when a stream without a problem was found to be complete.

    ``exactly``: only hours that are the journal's, since some of what is stored was not seen.
    """
    stored = account.hours()
    proved = {hour for hour in hours if not exactly or stored.get(hour) == hours[hour]}
    ends = [
        (bucket.first_ns, bucket.last_ns)
        for bucket in account.buckets
        if bucket.hour in proved and bucket.first_ns is not None and bucket.last_ns is not None
    ]
    if not ends:
        return report
    first, last = min(first for first, _ in ends), max(last for _, last in ends)
    return msgspec.structs.replace(report, verified_from=iso(first), verified_to=iso(last))


def _notes(audit: Audited) -> list[str]:
    notes = [*audit.journal.notes]
    if audit.undelivered:
        notes.append(f"{audit.undelivered} captured frames are not delivered yet.")
    if not audit.whole_journal:
        notes.append("Some frames are not in the journal any more: gaps were not projected anew.")
    unseen = sum(found.unseen.count() + found.unproved for found in audit.found.values())
    if unseen:
        notes.append(
            f"{unseen} stored events were not compared: the journal does not hold their frames, "
            "which are older, or damaged (`forebay journal fsck` tells)."
        )
    if audit.truth and not audit.truth.before.status.finished:
        notes.append("The simulator had not finished: what was under way counts as missing.")
    return notes
