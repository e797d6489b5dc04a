"""``forebay status``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    explained,
    print_json,
    print_table,
)

NOT_RUNNING = 3


def status(*, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """Say how a running capture is doing; exit code 3 if none runs.

    Example: forebay status --data DIR --json
    """
    with explained():
        from forebay.app.data_folder import DataFolder
        from forebay.app.supervisor import statuses

        folder = DataFolder(data).existing()
        found = statuses(folder)
        running = all(found.values())
        journal = _journal(folder.journal)
        if as_json:
            print_json({"data": str(data), "running": running, **found, "journal": journal})
        else:
            rows = _rows({**found, "journal": journal})
            print_table(f"Capture in {data}", ("part", "what", "value"), rows)
        if not running:
            raise typer.Exit(NOT_RUNNING)


def _journal(folder: Path) -> dict[str, Any]:
    """Answer how large the journal is and how fast it grows; rates are of recent segments."""
    from forebay.app.times import to_text
    from forebay.journal.overview import overview

    seen = overview(folder)
    days = seen.days_left
    return {
        "bytes": seen.bytes,
        "segments": seen.segments,
        "sealed": seen.sealed,
        "raw": seen.segments - seen.sealed,
        "oldest": None if seen.oldest_ns is None else to_text(seen.oldest_ns),
        "gb_per_day": _gigabytes(seen.raw_per_day),
        "gb_per_day_on_disk": _gigabytes(seen.disk_per_day),
        "days_until_full": None if days is None else round(days, 1),
    }


def _gigabytes(number: int | None) -> float | None:
    return None if number is None else round(number / 1e9, 3)


def _rows(found: dict[str, dict[str, Any] | None]) -> list[tuple[str, str, object]]:
    rows: list[tuple[str, str, object]] = []
    for role, told in found.items():
        if told is None:
            rows.append((role, "not running", ""))
            continue
        for key, value in told.items():
            shown = f"{value:.2f}" if isinstance(value, float) else value
            rows.append((role, key, shown))
    return rows
