"""``forebay status``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    explained,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from forebay.app.asking import Told

NOT_RUNNING = 3
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Ask the routes there instead: http://HOST:PORT.")
]


def status(
    *, data: DataOption = DEFAULT_DATA, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Say how a running capture is doing; exit code 3 if none runs.

    Example: forebay status --data DIR --json
    """
    with explained():
        told = asked(data, url)
        journal = None if url else _journal(data)
        if as_json:
            print_json(document(told, journal, data, url))
        else:
            _show(told, journal, url or str(data))
        if told is None or not running(told):
            raise typer.Exit(NOT_RUNNING)


def asked(data: Path, url: str | None) -> Told | None:
    """Answer what the capture in ``data``, or at ``url``, says; None if there runs none.

    Raises :class:`~forebay.errors.Unreachable` if nothing answers at ``url``.
    """
    from forebay.app import asking
    from forebay.app.data_folder import DataFolder
    from forebay.errors import Unreachable

    if url:
        return asking.of_url(url)
    try:
        return asking.of_folder(DataFolder(data).existing())
    except Unreachable:
        return None


def running(told: Told) -> bool:
    """Whether every process answers."""
    from forebay.app.asking import statuses

    return all(statuses(told).values())


def document(
    told: Told | None, journal: dict[str, Any] | None, data: Path, url: str | None
) -> dict[str, Any]:
    """Answer what ``--json`` prints."""
    from msgspec import to_builtins

    from forebay.app import standing
    from forebay.app.asking import statuses

    found: dict[str, Any] = {
        **({"url": url} if url else {"data": str(data)}),
        "running": told is not None and running(told),
        "capture": None,
        "deliver": None,
        "journal": journal,
    }
    if told is None:
        return found
    report = told.report
    return {
        **found,
        **statuses(told),
        "http": told.http or None,
        "health": to_builtins(report.health),
        "not_ready": report.not_ready,
        "breakers": to_builtins(report.breakers()),
        "restart_needed": list(report.restart_needed),
        "streams": standing.document(report.streams),
    }


def _journal(data: Path) -> dict[str, Any]:
    """Answer how large the journal is and how fast it grows; rates are of recent segments."""
    from forebay.app.data_folder import DataFolder
    from forebay.app.times import to_text
    from forebay.journal.overview import overview

    seen = overview(DataFolder(data).existing().journal)
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


def _show(told: Told | None, journal: dict[str, Any] | None, where: str) -> None:
    from forebay.app import standing
    from forebay.app.asking import statuses

    found: dict[str, Any] = {"capture": None, "deliver": None}
    if told is not None:
        health = told.report.health
        whole = {"state": health.state, "reason": health.reason or "none"}
        if told.report.not_ready:
            whole["not ready"] = told.report.not_ready
        if told.report.restart_needed:
            whole["waits for a restart"] = ", ".join(told.report.restart_needed)
        whole["streams"] = standing.summary(told.report.streams)
        whole["http"] = told.http or "not served"
        found = {"system": whole, **found, **statuses(told)}
        for breaker in told.report.breakers():
            since = f", {breaker.cause}" if breaker.state != "closed" and breaker.cause else ""
            found[f"breaker {breaker.name}"] = {
                "state": breaker.state + since,
                "calls": f"{breaker.requests} ({breaker.failures} failed, "
                f"{breaker.not_permitted} not permitted), {breaker.trips} trips",
            }
    if journal is not None:
        found["journal"] = journal
    print_table(f"Capture in {where}", ("part", "what", "value"), _rows(found))


def _rows(found: dict[str, dict[str, Any] | None]) -> list[tuple[str, str, object]]:
    rows: list[tuple[str, str, object]] = []
    for part, told in found.items():
        if told is None:
            rows.append((part, "not running", ""))
            continue
        for key, value in told.items():
            shown = f"{value:.2f}" if isinstance(value, float) else value
            rows.append((part, key, shown))
    return rows
