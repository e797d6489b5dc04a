"""``forebay init``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from forebay.cli.output import command, err
from forebay.errors import ConfigError

_NEXT = ("check", "run")


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write forebay.toml.")] = Path(),
) -> None:
    """Write a commented forebay.toml, which every command in that folder goes by.

    Example: forebay init && forebay run
    """
    from forebay.app.wiring.config_template import template
    from forebay.app.wiring.data_folder import FILE_NAME

    file = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as written:
            written.write(template())
    except FileExistsError as error:
        raise ConfigError(f"{file} exists already.", hint="Edit it, or move it away.") from error
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}."
        raise ConfigError(message, hint="Choose another folder.") from error
    is_here = file.resolve() == Path(FILE_NAME).resolve()
    given = "" if is_here else " -c " + shlex.quote(str(file))
    lines = (f"Wrote {file}. Edit it, then:\n", *(f"  {command()} {v}{given}" for v in _NEXT))
    err.print("\n".join(lines))
