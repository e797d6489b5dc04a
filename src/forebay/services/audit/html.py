"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import itertools
import re
import shlex
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from forebay.services.audit.report import (
    GAP_COLUMNS,
    STREAM_COLUMNS,
    gap_cells,
    iso,
    other_facts,
    stream_cells,
    unseeable,
    verdict,
)
from forebay.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.coverage import Gap
    from forebay.services.audit.report import AuditReport

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
