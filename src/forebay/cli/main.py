"""``forebay``: the command and its verbs."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Annotated

import typer

import forebay
from forebay.cli import (
    alerts,
    audit,
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
)
from forebay.cli.folder import find_folders
from forebay.cli.settings import EXAMPLE_VENUE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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

COMMANDS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    "Capture": {
        "init": init.init,
        "check": check.check,
        "run": run.run,
        "status": status.status,
        "top": top.top,
        "symbols": symbols.symbols,
    },
    "Read": {
        "sql": sql.sql,
        "book": book.book,
        "replay": replay.replay,
        "rebuild": rebuild.rebuild,
    },
    "Prove": {"audit": audit.audit},
    "Practise and be told": {"demo": demo.demo, "alerts": alerts.alerts},
}
"""By the heading under which help lists them."""
GROUPS = (
    ("Prove", "gaps", gaps.app, "gaps list --data DIR"),
    ("Prove", "dlq", dlq.app, "dlq list --data DIR"),
    ("Prove", "journal", journal.app, "journal inspect --data DIR"),
    ("Practise and be told", "drill", drill.app, "drill run store-read-only"),
    ("Practise and be told", "lab", lab.app, "lab serve coinbase --rate 200 --start now"),
)
for heading, commands in COMMANDS.items():
    for verb, command in commands.items():
        app.command(verb, rich_help_panel=heading, help=reflowed(command))(command)
for heading, verb, group, example in GROUPS:
    app.add_typer(group, name=verb, rich_help_panel=heading, epilog=f"Example: forebay {example}")
    for info in group.registered_commands:
        info.help = info.help or reflowed(info.callback)
find_folders(app)


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
    """Run the command line; ``forebay help COMMAND`` is ``forebay COMMAND --help``."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    app(arguments, prog_name="forebay")


if __name__ == "__main__":
    main()
