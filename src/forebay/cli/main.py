"""``forebay``: the command and its verbs."""

from __future__ import annotations

import io
import sys
from typing import Annotated

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
from forebay.cli.output import said
from forebay.cli.settings import EXAMPLE_VENUE

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

app.command("init")(init.init)
app.command("check")(check.check)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("replay")(replay.replay)
app.command("rebuild")(rebuild.rebuild)
app.command("sql")(sql.sql)
app.command("book")(book.book)
app.command("audit")(audit.audit)
app.command("status")(status.status)
app.command("top")(top.top)
app.command("symbols")(symbols.symbols)
app.command("alerts")(alerts.alerts)
app.add_typer(gaps.app, name="gaps")
app.add_typer(dlq.app, name="dlq")
app.add_typer(journal.app, name="journal")
app.add_typer(drill.app, name="drill")
app.add_typer(lab.app, name="lab")


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
    """Run the command line; what it wrote has arrived, or its exit code says otherwise."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app(prog_name="forebay")
        finally:
            sys.stdout.flush()
    except OSError as error:
        sys.exit(said(error))


if __name__ == "__main__":
    main()
