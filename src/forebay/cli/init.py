"""``forebay init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forebay.cli.output import err, explained
from forebay.errors import ConfigError

__all__ = ["init"]


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write forebay.toml.")] = Path(),
) -> None:
    """Write a commented forebay.toml, to be edited and given to `forebay run -c`.

    Example: forebay init && forebay run -c forebay.toml
    """
    with explained():
        from forebay.app.config import FILE_NAME, TEMPLATE

        file = folder / FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as written:
                written.write(TEMPLATE)
        except FileExistsError as error:
            raise ConfigError(
                f"{file} exists already.", hint="Edit it, or move it away."
            ) from error
        except OSError as error:
            message = f"{file} cannot be written: {error.strerror}."
            raise ConfigError(message, hint="Choose another folder.") from error
        err.print(f"Wrote {file}. Edit it, then: forebay check -c {file}")
