"""``forebay status``."""

from __future__ import annotations

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
        if as_json:
            print_json({"data": str(data), "running": running, **found})
        else:
            print_table(f"Capture in {data}", ("process", "what", "value"), _rows(found))
        if not running:
            raise typer.Exit(NOT_RUNNING)


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
