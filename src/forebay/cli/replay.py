"""``forebay replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forebay.cli.output import (
    ConfigOption,
    JsonOption,
    err,
    print_json,
    print_table,
    progress,
)
from forebay.cli.settings import EXAMPLE_VENUE, offline_job


def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings: .rec, lines of <ns> <json>, NDJSON, journal exports; also gzipped."
        ),
    ],
    *,
    venue: Annotated[str, typer.Option(help=f"Venue that the frames are from: {EXAMPLE_VENUE}.")],
    data: Annotated[Path, typer.Option(help="Data folder.")],
    partial: Annotated[
        bool,
        typer.Option("--partial", help="The recording was filtered: its holes are no gaps."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send recorded frames through the whole path: journal, parser, store.

    Replaying the same recording again changes no table; the journal grows by it once more. A line
    that cannot be read becomes a dead letter with its place; exit code 1 says that part of a file
    was lost, and 2 that a file has no frame.

    Example: forebay replay COINBASE-20210417.ws.rec --venue coinbase --data DIR --json
    """
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

    from forebay.app.offline.replay import replay as run_replay
    from forebay.clock import SystemClock

    settings, folder, observer = offline_job("replay", config, data)
    words = TextColumn("{task.description}", markup=False)
    with progress(words, BarColumn(), DownloadColumn(), TimeRemainingColumn()) as bars:
        sizes = {file: file.stat().st_size for file in files if file.is_file()}
        tasks = {file: bars.add_task(file.name, total=size) for file, size in sizes.items()}
        account = run_replay(
            files,
            venue,
            folder,
            settings,
            clock=SystemClock(),
            observer=observer,
            partial=partial,
            progress=lambda file, done: bars.update(tasks[file], completed=done),
        )
    if as_json or not typer.get_text_stream("stdout").isatty():
        print_json(account)
    else:
        shown = {name: value for name, value in account.items() if name != "lost"}
        print_table("Replayed", ("what", "count"), shown.items())
    for loss in account["lost"]:
        text = f"{loss['file']}, line {loss['line']}: {loss['reason']}."
        err.print(f"lost: {text}")
    if account["lost"]:
        raise typer.Exit(1)
