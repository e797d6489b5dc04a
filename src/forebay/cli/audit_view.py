"""An audit's report on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

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
    from rich.console import RenderableType

    from forebay.services.audit import AuditReport

_FAULTS = range(4, 8)
"""Columns of the streams' table that count what is wrong."""
_SHOWN = 5
"""Examples of a problem that fit onto a line."""


def render_table(report: AuditReport) -> RenderableType:
    """Return what is to be seen at one glance: streams, gaps, problems, and the verdict last."""
    parts: list[RenderableType] = [_streams(report)]
    if report.gaps:
        parts.append(_gaps(report))
    parts.append(Text(other_facts(report), style="dim"))
    parts += [Text(each, style="dim") for each in unseeable(report)]
    parts += [Text(note, style="yellow") for note in report.notes]
    for problem in report.problems:
        line = Text(problem.text, style="red")
        if problem.examples:
            line.append(" " + ", ".join(problem.examples[:_SHOWN]), style="dim")
        parts.append(line)
    parts.append(Text(verdict(report), style="bold green" if report.ok else "bold red"))
    return Group(*parts)


def _streams(report: AuditReport) -> Table:
    table = Table(title="Events", title_justify="left")
    for name in STREAM_COLUMNS:
        table.add_column(name, justify="left" if name in {"stream", "verified"} else "right")
    for stream in report.streams:
        cells = [Text(cell) for cell in stream_cells(stream)]
        for column in _FAULTS:
            cells[column].stylize("green" if cells[column].plain == "0" else "bold red")
        table.add_row(*cells)
    return table


def _gaps(report: AuditReport) -> Table:
    table = Table(title="Gaps", title_justify="left")
    for column in GAP_COLUMNS:
        table.add_column(column, justify="right" if column in {"gaps", "size"} else "left")
    for state, reason, unit, gaps, size in gap_sums(report):
        colour = "red" if state == "open" else ""
        table.add_row(state, reason.replace("_", " "), unit, f"{gaps:,}", size, style=colour)
    return table
