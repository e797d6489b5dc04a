"""``forebay drill``: failures with real processes, and an audit at the end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.output import JsonOption, out, print_json, print_table, progress
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.lab.drills.plan import Drill, DrillReport, Timing

app = typer.Typer(
    help="Failures with real processes, each with an audit at the end.", no_args_is_help=True
)


@app.command("list", epilog="Example: forebay drill list --json")
def list_drills(*, as_json: JsonOption = False) -> None:
    """List the drills: what fails, which breakers trip, which alerts fire."""
    from forebay.lab.drills.catalogue import DRILLS

    rows = [
        {
            "name": drill.name,
            "about": drill.about,
            "requirements": drill.requirements.split(),
            "breakers": drill.breakers,
            "alerts": drill.alerts,
        }
        for drill in DRILLS.values()
    ]
    if as_json:
        print_json(rows)
        return
    cells = [
        (drill.name, drill.about, ", ".join(drill.breakers), ", ".join(drill.alerts))
        for drill in DRILLS.values()
    ]
    print_table("", ("name", "about", "breakers", "alerts"), cells)


@app.command(epilog="Example: forebay drill run store-read-only rest-429 --seed 7 --report r.json")
def run(
    names: Annotated[list[str], typer.Argument(help="Drills by name, or all.")],
    *,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another market.")] = 1,
    healthy: Annotated[
        float, typer.Option(min=0, help="Seconds before the fault, and after the recovery.")
    ] = 2.0,
    fault: Annotated[
        float, typer.Option(min=0, help="Seconds that the fault goes on once it is noticed.")
    ] = 3.0,
    alerts: Annotated[
        bool, typer.Option("--alerts", help="Run Prometheus and Alertmanager beside it.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the reports here as JSON.")] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="New or empty folder for data and logs; else those of red drills stay."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run drills one after the other.

    Each captures a simulated market with ``forebay run``, brings a fault about, takes it away,
    and compares every event with what the simulator sent. Exit code 1 if a drill is red.
    """
    from forebay.lab.drills.catalogue import DRILLS, drill_named
    from forebay.lab.drills.plan import Timing

    wanted = list(DRILLS.values()) if names == ["all"] else [drill_named(n) for n in names]
    timing = replace(Timing(), healthy_s=healthy, fault_s=fault)
    with _folder(keep) as root:
        reports = _run(wanted, root, seed, timing, alerts)
        kept = keep is not None or not all(each.ok for each in reports)
        if not kept:
            shutil.rmtree(root)
    text = b"[" + b",\n".join(each.encode() for each in reports) + b"]\n"
    if report is not None:
        report.write_bytes(text)
    if as_json:
        typer.echo(text.decode(), nl=False)
    else:
        _print(reports)
        if kept:
            out.print(f"\nData and logs are in {root}.")
    if not all(each.ok for each in reports):
        raise typer.Exit(1)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Return where data and logs go; a folder that was made is gone after an interrupt."""
    if keep is None:
        made = Path(tempfile.mkdtemp(prefix="forebay-drill-"))
        try:
            yield made
        except KeyboardInterrupt:
            shutil.rmtree(made, ignore_errors=True)
            raise
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        empty = not any(keep.iterdir())
    except OSError as error:
        message = f"The folder {keep} cannot be used: {error.strerror}."
        raise ConfigError(message, hint="Choose another with --keep.") from error
    if not empty:
        raise ConfigError(f"The folder {keep} is not empty.", hint="Choose another with --keep.")
    yield keep.resolve()


def _run(
    drills: Sequence[Drill], root: Path, seed: int, timing: Timing, alerts: bool
) -> list[DrillReport]:
    """Run the drills with a progress display on stderr."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    from forebay.clock import SystemClock
    from forebay.lab.drills.run import run_drill

    clock = SystemClock()
    reports: list[DrillReport] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with progress(*columns) as bars:
        task = bars.add_task("", total=len(drills))
        for drill in drills:

            def say(what: str, name: str = drill.name) -> None:
                bars.update(task, description=f"{name}: {what}")

            folder = root / drill.name
            folder.mkdir()
            running = run_drill(
                drill, folder, seed=seed, timing=timing, clock=clock, with_alerts=alerts, say=say
            )
            reports.append(asyncio.run(running))
            bars.update(task, advance=1)
    return reports


def _print(reports: Sequence[DrillReport]) -> None:
    numbers = (
        "name", "ok", "fault_hits", "produced", "withheld", "stored", "missing", "doubled",
        "mutated", "recovery_s", "peak_rss_mb", "peak_disk_mb", "took_s",
    )  # fmt: skip
    print_table("", numbers, [[getattr(each, name) for name in numbers] for each in reports])
    for each in reports:
        out.print(f"\n{each.name}: {'ok' if each.ok else 'RED'}")
        for check in each.checks:
            out.print(f"  {'yes' if check.ok else 'NO '}  {check.what}")
        if each.alerts_skipped:
            out.print(f"  alerts were not looked at: {each.alerts_skipped}")
        for alert in each.alerts:
            fired, cleared = ("yes" if said else "NO" for said in (alert.fired, alert.cleared))
            out.print(f"  alert {alert.name}: fired {fired}, cleared {cleared}")
