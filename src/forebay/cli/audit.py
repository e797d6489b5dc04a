"""``forebay audit``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    out,
    print_encoded,
    progress,
)
from forebay.cli.settings import reading

if TYPE_CHECKING:
    from forebay.services.audit import AuditReport


class ComparedWith(StrEnum):
    """What ``--from`` may say."""

    auto = "auto"
    frames = "frames"
    ledger = "ledger"


def audit(
    *,
    data: DataOption = DEFAULT_DATA,
    since: Annotated[
        str | None, typer.Option(help="From this time on, ISO 8601, down to the hour.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to this time, up to the hour.")] = None,
    truth: Annotated[
        str | None, typer.Option(help="The truth_url that forebay lab serve printed.")
    ] = None,
    source: Annotated[
        ComparedWith, typer.Option("--from", help="What the store is compared with.")
    ] = ComparedWith.auto,
    html: Annotated[Path | None, typer.Option(help="Also write the report here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what was received with what is stored, event by event; exit code 1 if they differ.

    Works while a capture is running. Without --truth it proves that everything captured is
    stored, once and unchanged, and that every hole is declared. What the ledger has recorded is
    verified by its digests, and frames are read for what is newer or differs; --from frames reads
    every frame that is kept, --from ledger insists on a ledger.

    Example: forebay audit --data DIR --html report.html
    """
    from forebay.cli.audit_view import render_table
    from forebay.lab.truth_client import TruthClient

    with progress() as bars:
        task = bars.add_task("reading the journal", total=None)
        report = reading(data).audit_report(
            since=since,
            until=until,
            truth=TruthClient(truth) if truth else None,
            source=source.value,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    if html is not None:
        _write_html(html, report, data)
    if as_json:
        print_encoded(f"{report.encode().decode()}\n")
    else:
        out.print(render_table(report))
    if not report.ok:
        raise typer.Exit(1)


def _write_html(path: Path, report: AuditReport, data: Path) -> None:
    import forebay
    from forebay.clock import SystemClock
    from forebay.errors import ConfigError
    from forebay.services.audit import Made, render_html
    from forebay.times import to_text

    made = Made(to_text(SystemClock().wall_ns()), str(data.absolute()), forebay.__version__)
    try:
        path.write_text(render_html(report, made), encoding="utf-8")
    except OSError as error:
        message = f"The report cannot be written to {path}: {error.strerror}."
        raise ConfigError(message, hint="Choose another path.") from error
