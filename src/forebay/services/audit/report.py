"""What an audit says: its JSON, which scripts hold on to, then words, tables and a page of HTML."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections import defaultdict
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from forebay.domain.coverage import Gap, StreamKey
from forebay.domain.coverage.gaps import FAR
from forebay.domain.frames import EVERY_SYMBOL
from forebay.services.audit.transport_report import (
    TRANSPORT_COLUMNS,
    TransportAudit,
    transport_cells,
)
from forebay.times import to_text
from forebay.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Basis = Literal["id", "seq", "checksum", "time", "none"]
Source = Literal["ledger", "frames"]
MAX_EXAMPLES = 20
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
    """Those that are open: neither replayed nor discarded."""
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
    transports: list[TransportAudit] = []
    undelivered: int = 0
    """Captured frames, the collector's own records included, beyond ``position``."""
    verified_by: list[Source] = []

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


iso = partial(to_text, exact=True)
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
_TOLD = {
    "not_given": "asked for and refused",
    "unpublished": "missing on a transport",
    "published_otherwise": "mutated on a transport",
    "published_only": "spurious on a transport",
    "step_lacking": "steps not whole on a transport",
    "lane_anew": "a topic made anew",
}
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
        gone = [each for each in _sums(_lost(report)) if each.state == state]
        told = [
            f"{each.size} of {each.unit}" if each.unit == "time" else each.size for each in gone
        ]
        if told:
            clauses.append(f", and {' and '.join(told)} {said}")
    who = {
        f"{gap.accepted_by}: {gap.accepted_reason}"
        for gap in _lost(report)
        if gap.state == "accepted"
    }
    return "".join(clauses) + (f" as missing (by {'; by '.join(sorted(who))})" if who else "")


def _disputed(report: AuditReport) -> str:
    """Say that where the venue told two stories, what is stored is the first one."""
    if not report.conflicts:
        return ""
    return f"; {report.conflicts:,} were told again with other content (table conflicts)"


def _lost(report: AuditReport) -> list[Gap]:
    """Return the gaps that lack something: what a connection's numbers do, its streams say."""
    return [gap for gap in report.gaps if gap.reason not in FAR and gap.symbol != EVERY_SYMBOL]


def gap_sums(report: AuditReport) -> list[GapSum]:
    """Return how many gaps there are by state, reason and unit, and how large they are."""
    return _sums(report.gaps)


def _sums(gaps: Iterable[Gap]) -> list[GapSum]:
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for gap in gaps:
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


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: .3rem } h2 { margin: 2rem 0 .3rem; font-size: 1.15rem }
table { border-collapse: collapse; margin: .5rem 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .8rem; text-align: left }
thead th { border-bottom: 2px solid #888 }
.number { text-align: right; font-variant-numeric: tabular-nums }
.about, .legend { color: #555 }
.ok, .red { padding: .8rem 1rem; border-left: .4rem solid; font-size: 1.2rem }
.ok { border-color: #1a7f37; background: #e6f4ea }
.red { border-color: #b42318; background: #fdecea }
pre { background: #f4f4f4; padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere }
@media print { body { margin: 0; max-width: none } tr { break-inside: avoid } }
"""
_LEGEND = (
    "Journal, store and truth are events counted at each: as they came, as they are stored, and as "
    "a simulated exchange says that it sent them. Missing: not stored. Doubled: stored more than "
    "once. Mutated: stored with other content. Spurious: stored, and nobody sent it. A question "
    "mark: the stream cannot tell."
)
_NUMBER = re.compile(r"[\d,]+|[?–]")
_STATES = {"open": 0, "permanent": 1, "accepted": 2, "filled": 3}
_LISTED = 1000
"""Gaps that are listed one by one."""


class Made(NamedTuple):
    """What a document says of itself."""

    at: str
    """ISO 8601, UTC."""
    folder: str
    version: str


def render_html(report: AuditReport, made: Made) -> str:
    """Return the report as a self-contained document; every text in it is escaped."""
    title = "Forebay audit"
    about = f"Made at {made.at} by Forebay {made.version} of the data in {made.folder}."
    parts = [
        f'<h1>{title}</h1>\n<p class="about">{_shown(about)}</p>',
        f'<p class="{"ok" if report.ok else "red"}">{_shown(verdict(report))}</p>',
    ]
    if report.problems:
        rows = [(each.kind, each.text, ", ".join(each.examples)) for each in report.problems]
        parts += ["<h2>Problems</h2>", _table(("kind", "what", "examples"), rows)]
    parts += ["<h2>Scope</h2>", *(f"<p>{_shown(line)}</p>" for line in _scope(report))]
    parts += ["<h2>Streams</h2>", _table(STREAM_COLUMNS, map(stream_cells, report.streams))]
    parts.append(f'<p class="legend">{_LEGEND}</p>')
    if report.transports:
        published = _table(TRANSPORT_COLUMNS, map(transport_cells, report.transports))
        parts += ["<h2>Transports</h2>", published]
    if report.gaps:
        summed = _table(GAP_COLUMNS, gap_cells(report))
        parts += ["<h2>Gaps</h2>", summed, *_every_gap(report.gaps)]
    if limits := (*report.notes, *unseeable(report)):
        parts += ["<h2>What it does not say</h2>", *(f"<p>{_shown(note)}</p>" for note in limits)]
    parts += _reproduced(report, made)
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _scope(report: AuditReport) -> Iterator[str]:
    times = f"from {report.since or 'the beginning'} to {report.until or 'the end'}"
    yield f"Audited {times}, up to journal position {report.position or 'none'}."
    first = [each.verified_from for each in report.streams if each.verified_from]
    last = [each.verified_to for each in report.streams if each.verified_to]
    if first and last:
        yield f"What was verified happened from {min(first)} to {max(last)}."
    yield other_facts(report)


def _reproduced(report: AuditReport, made: Made) -> Iterator[str]:
    """Return how a reader makes the same report anew."""
    words = ["forebay", "audit", "--data", shlex.quote(made.folder)]
    for option, time in (("--since", report.since), ("--until", report.until)):
        words += [option, time] if time else []
    if any("truth" in stream.stages for stream in report.streams):
        words += ["--truth", "TRUTH_URL"]
    yield "<h2>How to reproduce</h2>"
    yield f"<p>With Forebay {_shown(made.version)}, on the machine that has the data:</p>"
    yield f"<pre>{_shown(' '.join(words))}</pre>"
    yield (
        "<p>Add --json for the digests of each stream, and --from frames to read every frame that "
        "is kept once more. The exit code is 0 if nothing is wrong, and 1 if something is.</p>"
    )


def _every_gap(gaps: Sequence[Gap]) -> Iterator[str]:
    """Return the gaps one by one, open ones first."""
    ranked = sorted(gaps, key=lambda gap: (_STATES.get(gap.state, 0), gap))
    rows = [
        (gap.key.name, gap.unit, *_ends(gap), gap.state, gap.reason.replace("_", " "))
        for gap in ranked[:_LISTED]
    ]
    yield _table(("stream", "unit", "from", "to", "state", "reason"), rows)
    if more := len(gaps) - len(rows):
        yield f"<p>… and {more:,} more gaps, see forebay gaps list.</p>"


def _ends(gap: Gap) -> tuple[str, str]:
    ends = gap.first, gap.last
    first, last = map(iso, ends) if gap.unit == "time" else map(str, ends)
    return first, last


def _shown(text: str) -> str:
    return escape(visible(text))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(map(cell, cells, itertools.repeat(tag))) + "</tr>"

    def cell(text: str, tag: str) -> str:
        number = ' class="number"' if _NUMBER.fullmatch(text) else ""
        return f"<{tag}{number}>{_shown(text)}</{tag}>"

    lines = "\n".join(row(cells, "td") for cells in rows)
    return f"<table><thead>{row(head, 'th')}</thead><tbody>\n{lines}\n</tbody></table>"
