"""``forebay``: the command and its verbs."""

from __future__ import annotations

import inspect
import io
import sys
from typing import TYPE_CHECKING, Annotated

import typer

import forebay
from forebay.cli import (
    alerts,
    audit,
    backfill,
    book,
    check,
    demo,
    dlq,
    drill,
    gaps,
    init,
    journal,
    lab,
    rebuild,
    replay,
    run,
    sql,
    status,
    symbols,
    top,
    verify,
)
from forebay.cli.output import said
from forebay.cli.settings import EXAMPLE_VENUE, prepare_commands

if TYPE_CHECKING:
    from collections.abc import Callable


def reflowed(command: Callable[..., object] | None) -> str:
    """Return what a command says of itself, with one line a paragraph."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


app = typer.Typer(
    name="forebay",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Capture market data, deliver it once, and prove it.",
    epilog="Start with `forebay demo`, then "
    f"`forebay run --venue {EXAMPLE_VENUE} --symbols BTC-USD --data DIR`.",
)

_PANELS = {
    "Capture": (init, check, run, status, top, alerts, symbols, backfill, replay, rebuild),
    "Read": (sql, book, gaps, dlq, journal),
    "Prove": (audit, verify),
    "Practise": (demo, lab, drill),
}
"""Where ``forebay --help`` lists the command, or the group, of each module."""
EXAMPLES = {
    "gaps": "gaps list --data DIR",
    "dlq": "dlq list --data DIR",
    "journal": "journal inspect --data DIR",
    "lab": f"lab serve {EXAMPLE_VENUE} --rate 200 --start now",
    "drill": "drill run store-read-only",
}
"""Of groups; a command has its own."""
for _panel, _modules in _PANELS.items():
    for _module in _modules:
        _name = _module.__name__.rpartition(".")[2]
        if _group := getattr(_module, "app", None):
            _example = f"Example: forebay {EXAMPLES[_name]}"
            app.add_typer(_group, name=_name, rich_help_panel=_panel, epilog=_example)
            for _info in _group.registered_commands:
                _info.help = _info.help or reflowed(_info.callback)
        else:
            _command = getattr(_module, _name)
            app.command(_name, rich_help_panel=_panel, help=reflowed(_command))(_command)
prepare_commands(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"forebay {forebay.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line; what it wrote has arrived, or its exit code says otherwise.

    ``forebay help COMMAND`` is ``forebay COMMAND --help``.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    try:
        try:
            app(arguments, prog_name="forebay")
        finally:
            sys.stdout.flush()
    except OSError as error:
        sys.exit(said(error))


if __name__ == "__main__":
    main()
