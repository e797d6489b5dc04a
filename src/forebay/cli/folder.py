"""One rule, for every command, of which configuration file and which data folder count.

The file is the one given with ``-c`` or ``FOREBAY_CONFIG``, else ``forebay.toml`` of the data
folder that is given, else that of the current folder. The data folder is the one given with
``--data``, ``FOREBAY_DATA`` or ``DATA_DIR``, else the file's.
"""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.cli.output import DATA_VARIABLES, DEFAULT_DATA, ConfigOption, explained

if TYPE_CHECKING:
    from collections.abc import Callable

    import typer


def find_folders(app: typer.Typer) -> None:
    """Have every command of ``app`` and its groups that uses a data folder obey the rule."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _finding(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            find_folders(group.typer_instance)


def _finding(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``command`` with ``-c`` if it lacks that, told which file and which folder count."""
    signature = inspect.signature(command, eval_str=True)
    parameters = dict(signature.parameters)
    takes_config = "config" in parameters
    reads = "data" in parameters and parameters["data"].default == DEFAULT_DATA
    if not takes_config and not reads:
        return command
    if reads:
        parameters["data"] = parameters["data"].replace(default=None)
    if not takes_config:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters["config"] = inspect.Parameter(
            "config", kind, default=None, annotation=ConfigOption
        )

    @functools.wraps(command)
    def finding(**given: Any) -> object:  # noqa: ANN401 - whatever options the command has
        with explained():
            told = given if takes_config else {name: given[name] for name in signature.parameters}
            file = _file(given["config"], given.get("data"))
            if takes_config:
                told["config"] = file
            if reads:
                told["data"] = _folder(given["config"], file, given["data"])
        return command(**told)

    whole = signature.replace(parameters=[*parameters.values()])
    finding.__signature__ = whole  # type: ignore[attr-defined]
    finding.__annotations__ = {name: each.annotation for name, each in parameters.items()}
    return finding


def _file(given: Path | None, data: Path | None) -> Path | None:
    from forebay.app.wiring.config import file_for

    said = data or next(filter(None, map(os.environ.get, DATA_VARIABLES)), None)
    return file_for(given, Path(said) if said else None, Path())


def _folder(given: Path | None, file: Path | None, data: Path | None) -> Path:
    """Return the data folder; a file that was found and is not needed may be wrong."""
    if file is None or (data is not None and given is None):
        return data or DEFAULT_DATA
    from forebay.app.wiring.config import load

    settings, _ = load(file, {}, {})
    return data or Path(settings.data)
