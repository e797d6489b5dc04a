"""``forebay status``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.app import status_client
from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    explained,
    out,
    print_json,
    print_table,
)
from forebay.cli.summary import flat, lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.app.status_client import SystemStatus

NOT_RUNNING = 3
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Ask the routes there instead: http://HOST:PORT.")
]


def status(
    *,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print all details.")] = False,
    as_json: JsonOption = False,
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
            for line in lines(told, journal, url or str(data)):
                out.print(line)
            if verbose:
                print_table("", ("part", "what", "value"), _details(told, journal))
        if told is None or not running(told):
            raise typer.Exit(NOT_RUNNING)


def asked(data: Path, url: str | None) -> SystemStatus | None:
    """Return what the capture in ``data``, or at ``url``, says; None if there runs none.

    Raises :class:`~forebay.errors.Unreachable` if nothing answers at ``url``.
    """
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.errors import Unreachable

    if url:
        return status_client.from_url(url)
    try:
        return status_client.from_socket(DataFolder(data).existing())
    except Unreachable:
        return None


def running(told: SystemStatus) -> bool:
    """Whether every process answers."""
    from forebay.app.status_client import statuses

    return all(statuses(told).values())


def document(
    told: SystemStatus | None, journal: dict[str, Any] | None, data: Path, url: str | None
) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    from msgspec import to_builtins

    from forebay.app.status_client import statuses

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
        "streams": to_builtins(report.streams()),
    }


def _journal(data: Path) -> dict[str, Any]:
    """Return how large the journal is and how fast it grows; rates are of recent segments."""
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.journal.overview import overview
    from forebay.times import to_text

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


def _details(
    told: SystemStatus | None, journal: dict[str, Any] | None
) -> Iterator[tuple[str, str, str]]:
    from forebay.app.processes import standing
    from forebay.app.status_client import statuses

    found: dict[str, dict[str, Any] | None] = {"journal": journal}
    if told is not None:
        whole = {
            "streams": standing.summary(told.report.streams()),
            "http": told.http or "not served",
        }
        found |= {"system": whole, **statuses(told)}
        for breaker in told.report.breakers():
            found[f"breaker {breaker.name}"] = {
                "state": breaker.state,
                "cause": breaker.cause,
                "calls": breaker.requests,
                "failed": breaker.failures,
                "not permitted": breaker.not_permitted,
                "trips": breaker.trips,
            }
    for part, values in found.items():
        for what, value in flat(values or {}):
            yield part, what, value
