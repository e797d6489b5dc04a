"""What an audit says: its JSON, which scripts hold on to, then the words and tables for people."""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from forebay.domain.coverage import Gap, StreamKey
from forebay.domain.coverage.gaps import FAR

Basis = Literal["id", "seq", "checksum", "time", "none"]
Source = Literal["ledger", "frames"]
MAX_EXAMPLES = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000


class StageDigest(msgspec.Struct, frozen=True):
    """Digest of a stream at one stage, see :mod:`forebay.domain.digest`."""

    count: int = 0
    ids: str = "0" * 32
    rows: str = "0" * 32


class StreamAudit(msgspec.Struct, frozen=True, kw_only=True):
    """One stream; ``missing`` is None where its unit cannot tell and nothing was found."""

    venue: str
    market: str = "spot"
    channel: str
    symbol: str
    events: int
    verified_from: str | None
    """ISO 8601, UTC, nanoseconds: the first event of what was found to be complete."""
    verified_to: str | None
    basis: Basis
    """What its coverage counts; ``none`` also where the journal has none of its events."""
    stages: dict[str, StageDigest]
    unseeable: str = ""
    """What no audit of this stream can see, as clauses."""
    verified_by: list[Source] = []
    """Where what it was compared with is from: frames that were projected anew, the ledger."""
    missing: int | None = None
    doubled: int = 0
    mutated: int = 0
    spurious: int = 0

    @property
    def name(self) -> str:
        """The stream as one word."""
        return StreamKey(self.venue, self.market, self.channel, self.symbol).name


class Problem(msgspec.Struct, frozen=True):
    """Something that makes an audit red."""

    kind: str
    stream: str
    """The stream as one word, or empty if it concerns the whole folder."""
    count: int
    examples: list[str]
    """Numbers of events where the stream has some, otherwise event ids; or times of gaps. At most
    :data:`MAX_EXAMPLES`."""
    text: str


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole; ``ok`` exactly if ``problems`` is empty."""

    ok: bool
    missing: int
    doubled: int
    mutated: int
    spurious: int
    ambiguous: int
    dead_letters: int
    conflicts: int
    gaps: list[Gap]
    streams: list[StreamAudit]
    problems: list[Problem]
    notes: list[str]
    """What the audit could not say, one sentence each."""
    position: str | None
    """``log id:sequence`` up to which the store has consumed the journal."""
    since: str | None
    until: str | None
    frames: dict[str, int]
    """Frames of the journal up to ``position`` by outcome."""
    took_ms: int
    undelivered: int = 0
    """Captured frames, the collector's own records included, beyond ``position``."""
    verified_by: list[Source] = []

    def encode(self) -> bytes:
        """Return the report as one JSON document."""
        return msgspec.json.encode(self)


def iso(ns: int) -> str:
    """Return UTC nanoseconds as ISO 8601 with nine decimals."""
    seconds, rest = divmod(ns, _SECOND_NS)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


# -------------------------------------------------------------------------- for people

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
GAP_COLUMNS = ("state", "reason", "unit", "gaps", "size")
_TOLD = {"not_given": "asked for and refused"}
"""Kinds of problem whose names say too little."""


class GapSum(NamedTuple):
    """Gaps of one state, reason and unit together."""

    state: str
    reason: str
    unit: str
    gaps: int
    size: str
    """How many ids or numbers, or how long."""


def verdict(report: AuditReport) -> str:
    """Return the one sentence that matters."""
    stored = sum(stream.events for stream in report.streams)
    if report.ok:
        but = _gone(report) + _disputed(report)
        if not stored:
            return f"Nothing lost, and nothing to compare: no event is stored{but}."
        return f"Nothing lost: {stored:,} events stored, each once and as received{but}."
    told = {_TOLD.get(each.kind, each.kind.replace("_", " ")) for each in report.problems}
    kinds = sorted(told)
    return f"Not ok: {', '.join(kinds)}; {stored:,} events stored."


def _gone(report: AuditReport) -> str:
    """Return what even a clean record lacks, so that the sentence does not lie."""
    clauses = []
    for state, said in (("permanent", "declared as gone for good"), ("accepted", "accepted")):
        sums = [each for each in gap_sums(report) if each.state == state]
        gone = [each for each in sums if each.reason not in FAR]
        told = [
            f"{each.size} of {each.unit}" if each.unit == "time" else each.size for each in gone
        ]
        if told:
            clauses.append(f", and {' and '.join(told)} {said}")
    who = {
        f"{gap.accepted_by}: {gap.accepted_reason}"
        for gap in report.gaps
        if gap.state == "accepted" and gap.reason not in FAR
    }
    return "".join(clauses) + (f" as missing (by {'; by '.join(sorted(who))})" if who else "")


def _disputed(report: AuditReport) -> str:
    """Say that where the venue told two stories, what is stored is the first one."""
    if not report.conflicts:
        return ""
    return f"; {report.conflicts:,} were told again with other content (table conflicts)"


def gap_sums(report: AuditReport) -> list[GapSum]:
    """Return how many gaps there are by state, reason and unit, and how large they are."""
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for gap in report.gaps:
        sums[gap.state, gap.reason, gap.unit].append(gap.last - gap.first + 1)
    return [
        GapSum(*key, len(sizes), _size(key[2], sum(sizes))) for key, sizes in sorted(sums.items())
    ]


def gap_cells(report: AuditReport) -> list[list[str]]:
    """Return the table of gaps, in the order of :data:`GAP_COLUMNS`."""
    return [
        [each.state, each.reason.replace("_", " "), each.unit, f"{each.gaps:,}", each.size]
        for each in gap_sums(report)
    ]


def _size(unit: str, members: int) -> str:
    return f"{members // _SECOND_NS:,} s" if unit == "time" else f"{members:,}"


def unseeable(report: AuditReport) -> list[str]:
    """Return what can never be seen, a sentence for each kind of stream."""
    streams: dict[str, list[str]] = defaultdict(list)
    for stream in report.streams:
        if stream.unseeable:
            streams[stream.unseeable].append(stream.name)
    return [
        f"Not to be seen in {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {what}."
        for what, names in streams.items()
    ]


def shared_name(report: AuditReport) -> str:
    """Return what the names of all streams begin with, up to a slash and without their symbols."""
    places = [stream.name.removesuffix(stream.symbol) for stream in report.streams]
    shared = os.path.commonpath(places) if places else ""
    return f"{shared}/" if shared else ""


def stream_cells(stream: StreamAudit) -> list[str]:
    """Return one row of the table of streams, in the order of :data:`STREAM_COLUMNS`."""
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


def _verified(stream: StreamAudit) -> str:
    if stream.verified_from is None or stream.verified_to is None:
        return "no basis" if stream.basis == "none" else "no"
    seconds = len("2026-01-01T00:00:00")
    times = f"{stream.verified_from[:seconds]} to {stream.verified_to[:seconds]}"
    return f"{times} by {stream.basis}, from {' and '.join(stream.verified_by)}"


def other_facts(report: AuditReport) -> str:
    """Return the counts beside the events."""
    frames = ", ".join(f"{count:,} {kind}" for kind, count in report.frames.items())
    return (
        f"{report.dead_letters:,} dead letters, {report.conflicts:,} conflicts, "
        f"{report.ambiguous:,} ambiguous; frames: {frames}."
    )
