"""What every command shares: JSON and tables on stdout, everything else on stderr.

A cell is never markup: what is shown is what is there, and what has no picture is escaped.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from forebay.app.wiring.complaints import ConfigErrors
from forebay.errors import ForebayError
from forebay.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.progress import Progress, ProgressColumn


class _Plain(Console):
    """Prints texts as they are: no markup, no emoji, and what has no picture is escaped."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - Rich's own
        """Print as Rich does; texts with a style are given as ``Text``."""
        super().print(*(_as_it_is(each) for each in objects), **options)


def _as_it_is(shown: object) -> object:
    return Text("\n".join(map(visible, shown.split("\n")))) if isinstance(shown, str) else shown


out = _Plain(highlight=False, soft_wrap=True, emoji=False)
err = _Plain(stderr=True, highlight=False, soft_wrap=True, emoji=False)

DATA_VARIABLES = ("FOREBAY_DATA", "DATA_DIR")
DataOption = Annotated[
    Path,
    typer.Option("--data", help="Data folder; else the one of -c.", envvar=[*DATA_VARIABLES]),
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Ask this store; else the first that can be reached."),
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
_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+([eE][-+]?\d+)?|-?Infinity|NaN|NULL|–|\?|")
_GAP = 2
"""Spaces between two columns."""
_UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
_NARROW = 16
"""A column of text is not folded into less."""


def print_json(document: object) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, default=str) + "\n")


def print_encoded(document: str) -> None:
    """Write JSON as it is; on a terminal, what has no picture is escaped as JSON does."""
    if sys.stdout.isatty():
        document = "".join(
            each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1]
            for each in document
        )
    sys.stdout.write(document)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    fold: bool = True,
) -> None:
    """Write a table to stdout, as wide as the terminal at most.

    What is too wide is folded, or, where that does not do, a line is written for each cell.
    """
    head = [visible(name) for name in columns]
    cells = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
    if title:
        out.print(Text(visible(title), style="italic"))
    for number, line in enumerate(layout(head, cells, width(), fold=fold)):
        if number == 0:
            out.print(Text(line, style="bold"))
        else:
            sys.stdout.write(line + "\n")


def width() -> int | None:
    """Return how wide the output is; None for a file or a pipe, where nothing is folded."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return max(shutil.get_terminal_size().columns, _NARROW + 2 * _GAP)
    return None


def layout(
    head: Sequence[str], rows: Sequence[Sequence[str]], limit: int | None, *, fold: bool = True
) -> Iterator[str]:
    """Return the lines of a table; columns of numbers are flush right."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(head)
    right = [bool(cells) and all(map(_NUMBER.fullmatch, cells)) for cells in columns]
    widths = [max(map(_wide, (name, *cells))) for name, cells in zip(head, columns, strict=True)]
    if limit is not None and not _fit(widths, limit, right, fold=fold):
        yield from _one_by_one(head, rows, limit)
        return
    for row in (head, ["-" * each for each in widths], *rows):
        folded = [wrapped(cell, each) for cell, each in zip(row, widths, strict=True)]
        for number in range(max(map(len, folded), default=0)):
            line = [part[number] if number < len(part) else "" for part in folded]
            yield _line(line, widths, right)


def _wide(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _fit(widths: list[int], limit: int, right: Sequence[bool], *, fold: bool) -> bool:
    """Narrow the widest columns of text until all fit; return whether they do."""
    too_wide = sum(widths) + _GAP * (len(widths) - 1) - limit
    texts = [column for column, number in enumerate(right) if not number and fold]
    while too_wide > 0:
        widest = max(texts, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _NARROW:
            return False
        widths[widest] -= 1
        too_wide -= 1
    return True


def wrapped(text: str, limit: int | None) -> list[str]:
    """Return a text in lines that are no wider than ``limit``."""
    if limit is None or _wide(text) <= limit:
        return [text]
    words = textwrap.wrap(text, limit) if text.isascii() else []
    return words or _chopped(text, limit)


def _chopped(text: str, limit: int) -> list[str]:
    if text.isascii():
        return [text[at : at + limit] for at in range(0, len(text), limit)] or [""]
    parts = [""]
    for character in text:
        if cell_len(parts[-1] + character) > limit:
            parts.append("")
        parts[-1] += character
    return parts


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, limit, number in zip(cells, widths, right, strict=True):
        blank = " " * (limit - _wide(cell))
        padded.append(blank + cell if number else cell + blank)
    return (" " * _GAP).join(padded).rstrip()


def _one_by_one(head: Sequence[str], rows: Sequence[Sequence[str]], limit: int) -> Iterator[str]:
    """Return a line for each cell, after its column's name."""
    indent = min(max(map(_wide, head)), limit // 2) + 2 * _GAP
    for number, row in enumerate(rows, 1):
        yield f"row {number}"
        for name, cell in zip(head, row, strict=True):
            first, *others = _chopped(cell, max(limit - indent, 1))
            if _wide(name) > indent - 2 * _GAP:
                yield from (" " * _GAP + part for part in _chopped(name, limit - _GAP))
                others, first = [first, *others], ""
            else:
                blank = " " * (indent - _GAP - _wide(name))
                yield (" " * _GAP + name + blank + first).rstrip()
            yield from (" " * indent + part for part in others)
    if not rows:
        yield from wrapped(f"no rows of {', '.join(head)}", limit)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn an error of ours, or an output that cannot be written, into a sentence and its code."""
    try:
        yield
        sys.stdout.flush()
    except (ForebayError, OSError, KeyboardInterrupt) as error:
        raise typer.Exit(said(error)) from error


def said(error: BaseException) -> int:
    """Say on stderr what went wrong, in one sentence, and return the exit code.

    What is no error of ours and nothing about a file or the output is raised again.
    """
    if isinstance(error, KeyboardInterrupt):
        return 130
    code = error.exit_code if isinstance(error, ForebayError) else 1
    text = str(error)
    if isinstance(error, OSError):
        if error.filename is None:
            if error.errno not in _UNWRITABLE:
                raise error
            _leave_stdout()
            text = f"The output cannot be written: {error.strerror}."
        else:
            text = f"{error.filename}: {error.strerror}."
        if isinstance(error, BrokenPipeError):  # the reader of our output has seen enough
            return 0
    with contextlib.suppress(OSError, ValueError):  # nobody listens
        for each in map(str, error.errors) if isinstance(error, ConfigErrors) else [text]:
            lines = "\n".join(map(visible, each.split("\n")))
            err.print(Text.assemble(("error", "bold red"), f": {lines}"))
    return code


def _leave_stdout() -> None:
    """Let what is still to be written go nowhere, so that no second error follows at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with out.capture():  # which empties it of what it could not write
            pass


def progress(*columns: ProgressColumn | str) -> Progress:
    """Return a display of progress on stderr, which shows nothing where that is no terminal."""
    from rich.progress import Progress

    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def command() -> str:
    """Return how this command was called, so that the next one can be typed the same way."""
    called = Path(sys.argv[0])
    if shutil.which(called.name) == str(called) or called.suffix == ".py":
        return "forebay"
    here = Path.cwd()
    return str(called.relative_to(here) if called.is_relative_to(here) else called)
