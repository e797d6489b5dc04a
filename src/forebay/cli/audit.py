"""``forebay audit``."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from forebay.cli.output import (
    DEFAULT_DATA,
    ConfigOption,
    DataOption,
    JsonOption,
    out,
    print_encoded,
    progress,
)
from forebay.cli.settings import reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import TaskID

    from forebay.services.audit import AuditReport
    from forebay.services.readback import TransportStage


class ComparedWith(StrEnum):
    """What ``--from`` may say."""

    auto = "auto"
    frames = "frames"
    ledger = "ledger"


def audit(
    *,
    data: DataOption = DEFAULT_DATA,
    store: Annotated[
        str | None, typer.Option("--store", help="Audit this store; else the first.")
    ] = None,
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
    transport: Annotated[
        list[str] | None,
        typer.Option(help="Read this transport back, and insist on it; repeat it. Else all."),
    ] = None,
    no_transports: Annotated[
        bool, typer.Option("--no-transports", help="Do not read transports back.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Also write the report here.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what was received with what is stored, event by event; exit code 1 if they differ.

    Works while a capture is running. Without --truth it proves that everything captured is
    stored, once and unchanged, and that every hole is declared. What the ledger has recorded is
    verified by its digests, and frames are read for what is newer or differs; --from frames reads
    every frame that is kept, --from ledger insists on a ledger.

    What transports hold is read back as well, and compared as far as it was published and is kept
    there. One that cannot be asked is said and makes nothing red, unless it is named with
    --transport: then the exit code is 3.

    Example: forebay audit --data DIR --html report.html
    """
    from forebay.cli.audit_view import render_table
    from forebay.lab.truth_client import TruthClient

    stages, unsaid = ([], []) if no_transports else _stages(config, data, transport or [])
    asked = partial(
        reading(data, store).audit_report,
        since=since,
        until=until,
        truth=TruthClient(truth) if truth else None,
        source=source.value,
        transports=stages,
    )
    report = _shown(asked)
    report = msgspec.structs.replace(report, notes=[*report.notes, *unsaid])
    if html is not None:
        _write_html(html, report, data)
    if as_json:
        print_encoded(f"{report.encode().decode()}\n")
    else:
        out.print(render_table(report))
    if not report.ok:
        raise typer.Exit(1)


def _shown(asked: Callable[..., AuditReport]) -> AuditReport:
    """Return the report, and show meanwhile how far it is."""
    with progress() as bars:
        task = bars.add_task("reading the journal", total=None)
        tasks: dict[str, TaskID] = {}

        def read(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"reading {name} back", total=None)
            bars.update(tasks[name], completed=done, total=total)

        def journal(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        return asked(progress=journal, reading=read)


def _stages(
    config: Path | None, data: Path, names: list[str]
) -> tuple[list[TransportStage], list[str]]:
    """Return the transports to read back, and notes on what nothing can be said of."""
    from forebay.app.offline.reading_back import forgotten, stages
    from forebay.app.wiring import logs
    from forebay.app.wiring.config import load
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.errors import ConfigError

    folder = DataFolder(data)
    try:
        settings, _ = load(config, {"data": str(data)})
        logs.configure("warning", process="audit")
        found = stages(folder, settings, names, logs.observer())
    except ConfigError as error:
        if names:
            raise
        return [], [f"No transport was read back: {error.message}"]
    return found, [
        f"The capture publishes to {name}, of which this configuration says nothing."
        for name in forgotten(folder, settings)
    ]


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
