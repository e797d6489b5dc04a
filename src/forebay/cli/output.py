"""What every command shares: JSON and tables on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from forebay.app.complaints import ConfigErrors
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.progress import Progress

_PIPE_WIDTH = 10_000
"""Into a file or a pipe, a table is as wide as its cells: nothing is cut."""
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)

DATA_VARIABLES = ("FOREBAY_DATA", "DATA_DIR")
DataOption = Annotated[
    Path,
    typer.Option("--data", help="Data folder; else the one of -c.", envvar=[*DATA_VARIABLES]),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of a table.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        envvar="FOREBAY_CONFIG",
        help="Configuration; else forebay.toml of the data folder, else of the current folder.",
    ),
]
DEFAULT_DATA = Path("data")


def print_json(document: object) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table to stdout."""
    table = Table(*columns, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(table)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn an error of ours into one sentence on stderr and its exit code."""
    try:
        yield
    except ForebayError as error:
        for each in error.errors if isinstance(error, ConfigErrors) else [error]:
            err.print(f"[bold red]error[/]: {_escaped(str(each))}")
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error
    except BrokenPipeError as error:  # the reader of our output has seen enough
        sys.stderr.close()
        raise typer.Exit(0) from error


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def byte_bars() -> Progress:
    """Answer progress bars on stderr that count bytes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, transient=True)


def command() -> str:
    """Answer how this command was called, so that the next one can be typed the same way."""
    called = Path(sys.argv[0])
    if shutil.which(called.name) == str(called) or called.suffix == ".py":
        return "forebay"
    here = Path.cwd()
    return str(called.relative_to(here) if called.is_relative_to(here) else called)


def plain(value: Any) -> Any:  # noqa: ANN401 - a cell can be anything
    """Answer a cell as people and JSON readers expect it."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value
