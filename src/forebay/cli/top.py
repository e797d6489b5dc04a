"""``forebay top``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from forebay.cli.output import DEFAULT_DATA, DataOption, err, out
from forebay.cli.status import NOT_RUNNING, UrlOption, asked, lines
from forebay.visible import visible

if TYPE_CHECKING:
    from forebay.cli.status import SystemStatus

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

    with Live(console=out, refresh_per_second=4, transient=not times) as live:
        looks = 0
        while True:
            told = asked(data, url)
            if told is None:
                live.stop()
                err.print(f"Nothing runs in {data}. Start it: forebay run --data {data} …")
                raise typer.Exit(NOT_RUNNING)
            live.update(picture(told), refresh=True)
            looks += 1
            if looks == times:
                return
            threading.Event().wait(every)


def picture(now: SystemStatus) -> Group:
    """Return what is shown."""
    report, health = now.report, now.report.health
    services = _table("service", "", "critical", "why")
    for service in health.services:
        root = health.attributed.get(service.name, "")
        why = service.reason if root in ("", service.name) else f"{service.reason} ({root})"
        mark = Text("up", "green") if service.up else Text("down", "red")
        critical = "yes" if service.critical else ""
        services.add_row(Text(service.name), mark, critical, Text(visible(why)))
    breakers = _table("breaker", "state", "in a row", "calls", "failed", "refused")
    for breaker in report.breakers():
        wait = f" {breaker.retry_after_s:.0f} s" if breaker.retry_after_s else ""
        breakers.add_row(
            Text(breaker.name),
            Text(breaker.state + wait, _COLOURS.get(breaker.state, "")),
            str(breaker.failure_count),
            f"{breaker.requests:,}",
            f"{breaker.failures:,}",
            f"{breaker.not_permitted:,}",
        )
    head = [_line(line) for line in lines(now, None, "")]
    head[0].highlight_words([str(health.state)], _COLOURS.get(health.state, ""))
    if now.http:
        head.append(_line(f"http          {now.http}"))
    return Group(*head, services, Text(""), breakers)


def _line(text: str) -> Text:
    return Text(visible(text), no_wrap=False, overflow="fold")


def _table(*names: str) -> Table:
    """Return a table of which no cell is cut, however narrow the terminal is."""
    return Table(*(Column(name, overflow="fold") for name in names), box=None)
