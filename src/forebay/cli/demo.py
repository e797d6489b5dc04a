"""``forebay demo``."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.output import JsonOption, command, err, out, print_encoded, progress
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


def demo(
    *,
    seconds: Annotated[
        float, typer.Option(min=3, max=600, help="How long the simulated market lasts.")
    ] = 15.0,
    seed: Annotated[int, typer.Option(help="Another seed is another market.")] = 1,
    keep: Annotated[
        Path | None,
        typer.Option(help="Data folder, new or empty; else one that the next demo replaces."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Capture a simulated exchange with faults, kill the capture, recover, and prove the result.

    Capture is killed twice and deliver once, with SIGKILL; then every event is compared with
    what the simulator sent. Exit code 1 if one is missing, doubled or altered.

    Example: forebay demo --seconds 30 --keep demo-data
    """
    with contextlib.ExitStack() as stack:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

        from forebay.app.wiring.data_folder import DataFolder
        from forebay.cli.audit_view import render_table
        from forebay.clock import SystemClock
        from forebay.lab.drills.kill import KillDrill, demo_plan

        if keep and keep.is_dir() and any(keep.iterdir()):
            message = f"{keep} is not empty, and a demo kills what captures there."
            raise ConfigError(message, hint="Name a folder that is new or empty.")
        root = contextlib.nullcontext(keep) if keep else _latest()
        folder = DataFolder(stack.enter_context(root)).create()
        columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with progress(*columns) as bars:
            task = bars.add_task("starting", total=1.0)

            def say(what: str, share: float) -> None:
                if what.startswith("killed"):
                    err.print(f"  {what}")
                bars.update(task, description=what, completed=share)

            drill = KillDrill(demo_plan(seconds, seed), folder, SystemClock(), say)
            report = asyncio.run(drill.run())
        if as_json:
            print_encoded(f"{report.encode().decode()}\n")
        else:
            out.print(render_table(report))
            out.print(f"\nThe data is in {folder.root}. Next:\n")
            next_one = f'{command()} sql "FROM trades LIMIT 2" --data {quote(str(folder.root))}'
            out.print(f"  {next_one}\n")
        if not report.ok:
            raise typer.Exit(1)


@contextlib.contextmanager
def _latest() -> Iterator[Path]:
    """Return the folder of the latest demo, without what is left of the one before.

    Raises :class:`~forebay.errors.ConfigError` while another demo runs.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache, "forebay", "demo").absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"Another demo runs in {folder}."
            raise ConfigError(message, hint="Choose a folder with --keep.") from error
        if (folder / "FOREBAY").exists():  # a data folder, and so ours
            shutil.rmtree(folder)
        yield folder
