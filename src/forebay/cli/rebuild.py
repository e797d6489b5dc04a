"""``forebay rebuild``."""

from __future__ import annotations

import typer

from forebay.cli.output import (
    DEFAULT_DATA,
    ConfigOption,
    DataOption,
    JsonOption,
    err,
    explained,
    print_json,
    print_table,
)


def rebuild(
    *,
    data: DataOption = DEFAULT_DATA,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the database anew from the journal, and put it in the place of the old one.

    The old one stays in use until the new one is whole. If it has what the journal does not
    hold any more, or cannot be read, it is kept beside the new one, with its Parquet files.

    Exit code 1: that was so. Exit code 3: a capture runs.

    Example: forebay rebuild --data DIR
    """
    with explained():
        from rich.progress import Progress

        from forebay.app import logs
        from forebay.app.config import load
        from forebay.app.data_folder import DataFolder
        from forebay.app.rebuild import rebuild_database
        from forebay.clock import SystemClock

        settings, _ = load(config, {"data": str(data)})
        logs.configure("warning", process="rebuild")
        with Progress(console=err, transient=True) as bars:
            task = bars.add_task("Rebuilding", total=None)
            account = rebuild_database(
                DataFolder(data),
                settings,
                clock=SystemClock(),
                observer=logs.observer(),
                progress=lambda done, total: bars.update(task, completed=done, total=total),
            )
        if as_json:
            print_json(account)
            raise typer.Exit(1 if account["kept"] else 0)
        shown = {name: value for name, value in account.items() if name not in _APART}
        print_table("Rebuilt", ("what", "count"), (shown | account["stored"]).items())
        if account["not_in_journal"]:
            rows = [tuple(absence.values()) for absence in account["not_in_journal"]]
            columns = ("venue", "channel", "symbol", "ids", "first", "last")
            print_table("Not in the journal any more", columns, rows)
        if account["kept"]:
            why = "The old database has what the new one lacks, or cannot be read"
            err.print(f"{why}: it is {account['kept']}, a folder parquet/ beside it likewise.")
            raise typer.Exit(1)


_APART = ("stored", "not_in_journal", "kept")
