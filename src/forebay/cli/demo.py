"""``forebay demo``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from forebay.cli.output import JsonOption, command, err, explained, out


def demo(
    *,
    seconds: Annotated[
        float, typer.Option(min=3, max=600, help="How long the simulated market lasts.")
    ] = 15.0,
    seed: Annotated[int, typer.Option(help="Another seed is another market.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(help="Data folder, new or empty; else one is made.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Capture a simulated exchange with faults, kill the capture, recover, and prove the result.

    Capture is killed twice and deliver once, with SIGKILL; then every event is compared with
    what the simulator sent. Exit code 1 if one is missing, doubled or altered.

    Example: forebay demo --seconds 30 --keep demo-data
    """
    with explained():
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from forebay.app.data_folder import DataFolder
        from forebay.cli.audit_view import render_table
        from forebay.clock import SystemClock
        from forebay.lab.demo import demo_plan
        from forebay.lab.drills.kill import KillDrill

        folder = DataFolder(keep or Path(tempfile.mkdtemp(prefix="forebay-demo-"))).create()
        columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=err) as bars:
            task = bars.add_task("starting", total=1.0)

            def say(what: str, share: float) -> None:
                if what.startswith("killed"):
                    bars.console.print(f"  {what}")
                bars.update(task, description=what, completed=share)

            drill = KillDrill(demo_plan(seconds, seed), folder, SystemClock(), say)
            report = asyncio.run(drill.run())
        if as_json:
            sys.stdout.buffer.write(report.encode() + b"\n")
        else:
            out.print(render_table(report))
            out.print(f"\nThe data is in {folder.root}. Next:\n")
            query = "SELECT symbol, count(*), min(price), max(price) FROM trades GROUP BY ALL"
            out.print(f'  {command()} sql "{query}" --data {folder.root}\n')
        if not report.ok:
            raise typer.Exit(1)
