"""An audit's report on a terminal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from forebay.cli.output import layout, width, wrapped
from forebay.services.audit.report import (
    GAP_COLUMNS,
    STREAM_COLUMNS,
    gap_cells,
    other_facts,
    shared_name,
    stream_cells,
    unseeable,
    verdict,
)
from forebay.services.audit.transport_report import TRANSPORT_COLUMNS, transport_cells
from forebay.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forebay.services.audit import AuditReport

_TRUTH, _FAULTS, _VERIFIED = 3, slice(4, 8), -1
"""Columns of the streams' table."""
_SHOWN = 5
"""Examples of a problem, and lines of what was verified, that are seen at one glance."""


def render_table(report: AuditReport) -> Group:
    """Return what is to be seen at one glance: streams, gaps, problems, and the verdict last."""
    limit = width()
    parts = [*_streams(report, limit), *_verified(report, limit)]
    if report.transports:
        rows = [transport_cells(each) for each in report.transports]
        wrong = [bool(each.missing or each.mutated or each.spurious) for each in report.transports]
        parts += _table("Transports", TRANSPORT_COLUMNS, rows, wrong, limit)
    if report.gaps:
        rows = gap_cells(report)
        parts += _table("Gaps", GAP_COLUMNS, rows, [row[0] == "open" for row in rows], limit)
    for fact in (other_facts(report), *unseeable(report)):
        parts += _prose(fact, "dim", limit)
    for note in report.notes:
        parts += _prose(note, "yellow", limit)
    for problem in report.problems:
        parts += _prose(f"{problem.text} {', '.join(problem.examples[:_SHOWN])}", "red", limit)
    parts += _prose(verdict(report), "bold green" if report.ok else "bold red", limit)
    return Group(*parts)


def _streams(report: AuditReport, limit: int | None) -> Iterator[Text]:
    """Return the table of streams, without what all their names begin with."""
    if not report.streams:
        return _prose("No stream of events.", "", limit)
    shared = shared_name(report)
    told = [stream_cells(stream) for stream in report.streams]
    has_truth = any("truth" in stream.stages for stream in report.streams)
    columns = [n for n in range(len(STREAM_COLUMNS) - 1) if n != _TRUTH or has_truth]
    rows = [[row[0].removeprefix(shared), *(row[n] for n in columns[1:])] for row in told]
    wrong = [any(cell != "0" for cell in row[_FAULTS]) for row in told]
    title = f"Events of {shared.rstrip('/')}" if shared else "Events"
    return _table(title, [STREAM_COLUMNS[n] for n in columns], rows, wrong, limit)


def _verified(report: AuditReport, limit: int | None) -> Iterator[Text]:
    """Return from when to when what was verified by what: a line for all that is the same."""
    shared = shared_name(report)
    streams: dict[str, list[str]] = defaultdict(list)
    for stream in report.streams:
        streams[stream_cells(stream)[_VERIFIED]].append(stream.name.removeprefix(shared))
    for said, names in list(streams.items())[:_SHOWN]:
        more = f" and {len(names) - 1} more" if names[1:] else ""
        whose = f", {names[0]}{more}" if len(streams) > 1 else ""
        yield from _prose(f"verified{whose}: {said}", "", limit)
    if len(streams) > _SHOWN:
        yield from _prose(f"… and {len(streams) - _SHOWN} more, see --html.", "", limit)


def _table(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    wrong: Sequence[bool],
    limit: int | None,
) -> Iterator[Text]:
    """Return the lines of a table; a row that is ``wrong`` is red."""
    cells = [[visible(cell) for cell in row] for row in rows]
    lines = list(layout(head, cells, limit))
    yield Text(visible(title), "italic")
    for number, line in enumerate(lines):
        whole = len(lines) == len(rows) + 2
        red = whole and number > 1 and wrong[number - 2]
        yield Text(line, "bold red" if red else "" if number else "bold")


def _prose(text: str, style: str, limit: int | None) -> Iterator[Text]:
    return (Text(line, style) for line in wrapped(visible(text.strip()), limit))
