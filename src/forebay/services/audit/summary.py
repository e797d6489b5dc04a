"""A report in words and small tables, the same for the terminal and for HTML."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forebay.services.audit.report import AuditReport, StreamReport

STREAM_COLUMNS = (
    "stream",
    "journal",
    "store",
    "truth",
    "missing",
    "doubled",
    "mutated",
    "spurious",
    "verified",
)
GAP_COLUMNS = ("state", "reason", "gaps", "ids")


class GapSum(NamedTuple):
    """Gaps of one state and reason together."""

    state: str
    reason: str
    gaps: int
    ids: int


def verdict(report: AuditReport) -> str:
    """The one sentence that matters."""
    stored = sum(stream.events for stream in report.streams)
    if report.ok:
        but = _gone(report) + _disputed(report)
        return f"Nothing lost: {stored:,} events stored, each once and as received{but}."
    kinds = sorted({problem.kind.replace("_", " ") for problem in report.problems})
    return f"Not ok: {', '.join(kinds)}; {stored:,} events stored."


def _gone(report: AuditReport) -> str:
    """What even a clean record lacks, so that the sentence does not lie."""
    gone = sum(gap.last - gap.first + 1 for gap in report.gaps if gap.state == "permanent")
    return f", and {gone:,} declared as gone for good" if gone else ""


def _disputed(report: AuditReport) -> str:
    """Where the venue told two stories, what is stored is the first one."""
    if not report.conflicts:
        return ""
    return f"; {report.conflicts:,} were told again with other content (table conflicts)"


def gap_sums(report: AuditReport) -> list[GapSum]:
    """How many gaps and ids there are by state and reason."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for gap in report.gaps:
        entry = sums[gap.state, gap.reason]
        entry[0] += 1
        entry[1] += gap.last - gap.first + 1
    return [GapSum(*key, gaps, ids) for key, (gaps, ids) in sorted(sums.items())]


def stream_cells(stream: StreamReport) -> list[str]:
    """One row of the table of streams, in the order of :data:`STREAM_COLUMNS`."""
    stages = [stream.stages.get(name) for name in ("journal", "store", "truth")]
    return [
        stream.name,
        *(f"{stage.count:,}" if stage else "–" for stage in stages),
        "?" if stream.missing is None else f"{stream.missing:,}",
        f"{stream.doubled:,}",
        f"{stream.mutated:,}",
        f"{stream.spurious:,}",
        _verified(stream),
    ]


def _verified(stream: StreamReport) -> str:
    if stream.verified_from is None or stream.verified_to is None:
        return "no basis" if stream.basis == "none" else "no"
    seconds = len("2026-01-01T00:00:00")
    times = f"{stream.verified_from[:seconds]} to {stream.verified_to[:seconds]}"
    return f"{times} by {stream.basis}, from {' and '.join(stream.verified_by)}"


def other_facts(report: AuditReport) -> str:
    """Counts beside the events."""
    frames = ", ".join(f"{count:,} {kind}" for kind, count in report.frames.items())
    return (
        f"{report.dead_letters:,} dead letters, {report.conflicts:,} conflicts, "
        f"{report.ambiguous:,} ambiguous; frames: {frames}."
    )
