"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from forebay.services.audit.summary import (
    GAP_COLUMNS,
    STREAM_COLUMNS,
    gap_sums,
    other_facts,
    stream_cells,
    unseeable,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forebay.services.audit.report import AuditReport

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .8rem; text-align: left }
.ok, .red { padding: .8rem 1rem; border-left: .4rem solid; font-size: 1.2rem }
.ok { border-color: #1a7f37; background: #e6f4ea }
.red { border-color: #b42318; background: #fdecea }
"""


def render_html(report: AuditReport) -> str:
    """Return the report as a self-contained document; every text in it is escaped."""
    title = "Forebay audit"
    parts = [
        f'<h1>{title}</h1><p class="{"ok" if report.ok else "red"}">{escape(verdict(report))}</p>',
        f"<p>{escape(_extent(report))}</p>",
        _table(STREAM_COLUMNS, map(stream_cells, report.streams)),
        f"<p>{escape(other_facts(report))}</p>",
    ]
    if report.problems:
        rows = [(each.kind, each.text, ", ".join(each.examples)) for each in report.problems]
        parts += ["<h2>Problems</h2>", _table(("kind", "what", "examples"), rows)]
    if report.gaps:
        sums = [tuple(map(str, each)) for each in gap_sums(report)]
        parts += ["<h2>Gaps</h2>", _table(GAP_COLUMNS, sums)]
    parts += [f"<p>{escape(note)}</p>" for note in (*report.notes, *unseeable(report))]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _extent(report: AuditReport) -> str:
    times = f"from {report.since or 'the beginning'} to {report.until or 'the end'}"
    return f"Audited {times}, up to journal position {report.position or 'none'}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    lines = "\n".join(row(cells, "td") for cells in rows)
    return f"<table><thead>{row(head, 'th')}</thead><tbody>\n{lines}\n</tbody></table>"
