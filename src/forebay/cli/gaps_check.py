"""``forebay gaps check``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from forebay.cli.output import ConfigOption, JsonOption, explained, out, print_json
from forebay.cli.settings import DataFlag


def check(
    *,
    data: DataFlag = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare stored bars with those that calendars expect, without a running capture.

    What is missing is an open gap from then on. A running capture does this every hour, and after
    each outage. Exit code 1 says that something is missing.

    Example: forebay gaps check --data DIR
    """
    with explained():
        from forebay.app.offline.gaps import check_bars
        from forebay.app.wiring import logs, venues
        from forebay.app.wiring.config import load
        from forebay.app.wiring.data_folder import DataFolder

        settings, _ = load(config, {"data": str(data) if data else None})
        folder = DataFolder(Path(settings.data)).existing()
        logs.configure("warning", process="check")
        venues.install(folder, settings.venues)
        found = asyncio.run(check_bars(folder, settings, logs.observer()))
        documents = [checked.document() for checked in found]
        if as_json:
            print_json(documents)
        else:
            for each in documents:
                named = f"{each['venue']} {each['market']} {each['symbol']} {each['channel']}"
                out.print(f"{named}: {each['missing']:,} of {each['expected']:,} missing")
            if not documents:
                out.print(f"No series in {folder.root} that a calendar could speak of.")
        if any(each["missing"] for each in documents):
            raise typer.Exit(1)
