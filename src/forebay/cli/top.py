"""``forebay top``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.output import DEFAULT_DATA, DataOption, err, explained, out
from forebay.cli.status import NOT_RUNNING, UrlOption, asked

if TYPE_CHECKING:
    from rich.console import Group

    from forebay.app.asking import Told

_COLOURS = {
    "healthy": "green", "degraded": "yellow", "critical": "red", "emergency": "bold red",
    "closed": "green", "half_open": "yellow", "open": "red", "forced_open": "red",
    "disabled": "yellow",
}  # fmt: skip


def top(
    *,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    times: Annotated[int, typer.Option(min=0, help="End after so many looks; 0: never.")] = 0,
) -> None:
    """Watch a running capture: health, rates, lag, breakers. Ctrl-C ends it.

    Example: forebay top --data DIR
    """
    from rich.live import Live

    with explained(), Live(console=out, refresh_per_second=4, transient=not times) as live:
        before: Told | None = None
        looks = 0
        while True:
            told = asked(data, url)
            if told is None:
                live.stop()
                err.print(f"Nothing runs in {data}. Start it: forebay run --data {data} …")
                raise typer.Exit(NOT_RUNNING)
            live.update(picture(before, told), refresh=True)
            before, looks = told, looks + 1
            if looks == times:
                return
            threading.Event().wait(every)


def picture(before: Told | None, now: Told) -> Group:
    """Answer what is shown; rates are between two looks."""
    from rich.console import Group
    from rich.table import Table

    report, health = now.report, now.report.health
    services = Table("service", "", "critical", "why", box=None)
    for service in health.services:
        root = health.attributed.get(service.name, "")
        why = service.reason if root in ("", service.name) else f"{service.reason} ({root})"
        mark = "[green]up[/]" if service.up else "[red]down[/]"
        services.add_row(service.name, mark, "yes" if service.critical else "", why)
    breakers = Table("breaker", "state", "in a row", "calls", "failed", "not permitted", box=None)
    for breaker in report.breakers():
        wait = f" {breaker.retry_after_s:.0f} s" if breaker.retry_after_s else ""
        breakers.add_row(
            breaker.name,
            f"[{_COLOURS.get(breaker.state, 'default')}]{breaker.state}{wait}[/]",
            str(breaker.failure_count),
            f"{breaker.requests:,}",
            f"{breaker.failures:,}",
            f"{breaker.not_permitted:,}",
        )
    colour = _COLOURS.get(health.state, "default")
    head = f"[{colour}]{health.state}[/] {health.reason}  {now.http}"
    return Group(head, _flow(before, now), "", services, "", breakers)


def _flow(before: Told | None, now: Told) -> str:
    """Answer one line of rates and lag."""
    from forebay.app.asking import statuses
    from forebay.cli.run import summary

    if before is None or (seconds := (now.report.at_ns - before.report.at_ns) / 1e9) <= 0:
        before, seconds = now, 1.0
    return summary(statuses(before), statuses(now), seconds)
