"""The page of the command line: usage, options and examples, all from the commands."""

from __future__ import annotations

import re
import textwrap
from html import escape
from typing import TYPE_CHECKING, Any

import typer

from forebay.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """\
# Commands

What `forebay --help` and the `--help` of each command say. The page is made
from the code: `make docs`.

Everything that prints a table prints one JSON document with `--json`; logs and
progress go to stderr. Exit codes:

| code | says |
|---|---|
| 0 | done |
| 1 | ran, and found something wrong |
| 2 | wrong usage or configuration |
| 3 | a needed part could not be reached |
| 130 | interrupted |
"""
_WIDTH = 80


def page() -> str:
    """The page of all commands, in the order and panels of ``forebay --help``."""
    root: Any = typer.main.get_command(app)
    panels: dict[str, list[str]] = {}
    for name, command in root.commands.items():
        verbs = {f"{name} {verb}": each for verb, each in getattr(command, "commands", {}).items()}
        commands = verbs or {name: command}
        shown = panels.setdefault(command.rich_help_panel, [])
        shown += [_entry(*each) for each in commands.items()]
    parts = [HEAD]
    for panel, entries in panels.items():
        parts += [f"## {panel}\n", *entries]
    return "\n".join(parts)


def _entry(name: str, command: Any) -> str:  # noqa: ANN401 - a command of typer's own
    paragraphs = (command.help or "").split("\n\n")
    if command.epilog:
        paragraphs.append(command.epilog)
    parts = [f"### forebay {name}\n"]
    for text in map(" ".join, map(str.split, paragraphs)):
        if text.startswith("Example: "):
            parts.append(f"```console\n$ {text.removeprefix('Example: ')}\n```\n")
        else:
            wrapped = textwrap.fill(text.replace("``", "`"), _WIDTH, break_on_hyphens=False)
            parts.append(f"{wrapped}\n")
    options = list(_options(command))
    if options:
        rows = [("option", "default", "meaning"), *options]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        parts.append("\n".join([lines[0], "|---|---|---|", *lines[1:]]) + "\n")
    return "\n".join(parts)


def _options(command: Any) -> Iterator[tuple[str, str, str]]:  # noqa: ANN401 - typer's own
    context = command.make_context(command.name, [], resilient_parsing=True)
    for param in command.params:
        if param.param_type_name == "argument":
            named = param.name.upper()
        else:
            named = ", ".join([*param.opts, *param.secondary_opts])
            if not param.is_flag:
                named += f" {_value(param.display_type(context))}"
        yield (
            f"`{named}`".replace("|", "\\|"),
            _default(param),
            escape(param.help or "", quote=False),
        )


def _default(param: Any) -> str:  # noqa: ANN401 - typer's own
    if param.required:
        return "must be given"
    default = param.default
    if default is None or default is False or callable(default) or default in ((), ""):
        return ""
    return f"`{getattr(default, 'value', default)}`"


def _value(displayed: str) -> str:
    kind = re.sub(r"^<(list\[)?(.*?)\]?( range)?>$", r"\2", displayed)
    return {"str": "TEXT", "int": "N", "float": "N", "path": "PATH"}.get(kind, kind)
