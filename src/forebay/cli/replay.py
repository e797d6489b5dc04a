"""``forebay replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forebay.cli.output import (
    ConfigOption,
    JsonOption,
    byte_bars,
    explained,
    print_json,
    print_table,
)
from forebay.cli.settings import EXAMPLE_VENUE


def replay(
    files: Annotated[
        list[Path], typer.Argument(help="Recordings: .rec, NDJSON or a journal export, also .gz.")
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

    Replaying the same recording again changes nothing.

    Example: forebay replay COINBASE-20210417.ws.rec --venue coinbase --data DIR --json
    """
    with explained():
        from forebay.app import logs
        from forebay.app.config import load
        from forebay.app.data_folder import DataFolder
        from forebay.app.replay import replay as run_replay
        from forebay.clock import SystemClock
        from forebay.errors import ConfigError

        for file in files:
            if not file.is_file():
                raise ConfigError(f"There is no recording {file}.", hint="Check the path.")
        settings, _ = load(config, {"data": str(data)})
        logs.configure("warning", process="replay")
        with byte_bars() as bars:
            tasks = {file: bars.add_task(file.name, total=file.stat().st_size) for file in files}
            account = run_replay(
                files,
                venue,
                DataFolder(data),
                settings,
                clock=SystemClock(),
                observer=logs.observer(),
                partial=partial,
                progress=lambda file, done: bars.update(tasks[file], completed=done),
            )
        if as_json or not typer.get_text_stream("stdout").isatty():
            print_json(account)
        else:
            print_table("Replayed", ("what", "count"), account.items())
