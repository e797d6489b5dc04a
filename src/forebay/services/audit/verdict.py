"""From what was found to what is said."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.intervals import IntervalSet
from forebay.services.audit import store_stage
from forebay.services.audit.accounts import StreamAccount
from forebay.services.audit.findings import Found, clip, problems_of
from forebay.services.audit.report import AuditReport, Basis, Problem, Stage, StreamReport

if TYPE_CHECKING:
    from forebay.domain.coverage import Gap, StreamKey
    from forebay.domain.digest import Digest
    from forebay.services.audit.accounts import Accounts, Snapshot
    from forebay.services.audit.journal_stage import JournalStage
    from forebay.services.audit.report import GapRow
    from forebay.services.audit.sql import Span
    from forebay.services.audit.truth_stage import TruthStage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class Audited:
    """What is known while an audit goes on, as of the snapshot's cursor."""

    span: Span
    snapshot: Snapshot
    ours: Accounts
    """What the journal holds."""
    journal: JournalStage
    truth: TruthStage | None = None
    gaps: dict[StreamKey, list[Gap]] = field(default_factory=dict)
    """Gaps as they follow from the journal."""
    found: dict[StreamKey, Found] = field(default_factory=lambda: defaultdict(Found))
    problems: list[Problem] = field(default_factory=list)
    letters: int = field(init=False)
    frames: dict[str, int] = field(init=False)
    whole_journal: bool = field(init=False)
    """Whether every frame that the store consumed could be read again."""

    def __post_init__(self) -> None:
        # The journal goes on while rows are compared; these belong to the snapshot.
        self.letters = self.journal.letters()
        self.frames = {kind: self.journal.frames[kind] for kind in ("yielding", "control", "dead")}
        self.whole_journal = self.journal.complete

    def streams(self) -> list[StreamKey]:
        """Every stream that anybody has heard of."""
        known = {*self.snapshot.accounts, *self.ours, *self.snapshot.claims, *self.gaps}
        return sorted(known.union(self.truth.streams() if self.truth else ()))

    def window(self, key: StreamKey) -> tuple[int, int]:
        """Ids of a stream that the audited times can contain."""
        return store_stage.window_of(key, self.snapshot, self.span)


def iso(ns: int | None) -> str | None:
    """UTC nanoseconds as ISO 8601 with nine decimals."""
    if ns is None:
        return None
    seconds, rest = divmod(ns, _SECOND_NS)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


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
        since=iso(audit.span.since),
        until=iso(audit.span.until),
        frames=audit.frames,
        took_ms=took_ms,
    )


def _concerns(audit: Audited, gap: GapRow) -> bool:
    """Whether a gap may hold events of the audited times."""
    for key in audit.streams():
        if key == (gap.venue, gap.channel, gap.symbol):
            return bool(clip(IntervalSet([(gap.first, gap.last)]), audit.window(key)))
    return True


def _stage(digest: Digest) -> Stage:
    return Stage(digest.count, f"{digest.ids:032x}", f"{digest.rows:032x}")


def _stream(audit: Audited, key: StreamKey, problems: list[Problem]) -> StreamReport:
    ours = audit.ours.get(key, StreamAccount())
    stored = audit.snapshot.accounts.get(key, StreamAccount())
    found, journal = audit.found[key], ours.total()
    basis: Basis = "id" if journal.count and key in audit.snapshot.claims else "none"
    stages = {"journal": _stage(journal), "store": _stage(stored.total())}
    if audit.truth and key in audit.truth.digests:
        stages["truth"] = _stage(audit.truth.digests[key])
    report = StreamReport(
        venue=key.venue,
        channel=key.channel,
        symbol=key.symbol,
        events=stages["store"].count,
        verified_from=None,
        verified_to=None,
        basis=basis,
        stages=stages,
        missing=found.missing.count() if basis != "none" or found.missing else None,
        doubled=found.doubled,
        mutated=found.mutated.count(),
        spurious=found.spurious.count(),
    )
    if basis == "none" or any(problem.stream in {"", report.name} for problem in problems):
        return report
    return _verified(report, ours)


def _verified(report: StreamReport, ours: StreamAccount) -> StreamReport:
    """Say from when to when a stream without a problem was found to be complete."""
    return msgspec.structs.replace(
        report, verified_from=iso(ours.first_ns), verified_to=iso(ours.last_ns)
    )


def _notes(audit: Audited) -> list[str]:
    notes = []
    if not audit.whole_journal:
        notes.append("Some frames are not in the journal any more: gaps were not projected anew.")
    unseen = sum(found.unseen.count() for found in audit.found.values())
    if unseen:
        notes.append(f"{unseen} stored events are older than the journal and were not compared.")
    if audit.truth and not audit.truth.before.status.finished:
        notes.append("The simulator had not finished: what was under way counts as missing.")
    return notes
