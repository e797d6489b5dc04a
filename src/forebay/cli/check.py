"""``forebay check``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from forebay.cli.output import ConfigOption, JsonOption, explained, out, print_json, print_table
from forebay.cli.settings import (
    ChannelsFlag,
    DataFlag,
    RestFlag,
    SymbolsFlag,
    VenueFlag,
    WsFlag,
    capture_config,
    need_venues,
)

if TYPE_CHECKING:
    from forebay.app.checking import Finding

_COLOUR = {True: "green", False: "red"}


def check(
    *,
    config: ConfigOption = None,
    venue: VenueFlag = None,
    symbols: SymbolsFlag = None,
    channels: ChannelsFlag = None,
    data: DataFlag = None,
    ws_url: WsFlag = None,
    rest_url: RestFlag = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say where each value comes from; reach nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Validate the configuration and reach every part of it.

    Example: forebay check -c forebay.toml
    """
    with explained():
        from forebay.app.config import leaves

        settings, origins = capture_config(
            config,
            data=data,
            venue=venue,
            symbols=symbols,
            channels=channels,
            ws_url=ws_url,
            rest_url=rest_url,
        )
        if explain:
            rows = [(key, value, origins.get(key, "default")) for key, value in leaves(settings)]
            if as_json:
                print_json([{"key": k, "value": v, "origin": o} for k, v, o in rows])
            else:
                print_table("", ("key", "value", "from"), rows)
            return
        need_venues(settings)
        from forebay.app.checking import check_all

        findings = asyncio.run(check_all(settings))
        _show(findings, as_json=as_json)
        if code := max((finding.exit_code for finding in findings), default=0):
            raise typer.Exit(code)


def _show(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        ok = not any(finding.exit_code for finding in findings)
        parts = [{"part": f.part, "ok": not f.exit_code, "text": f.text} for f in findings]
        print_json({"ok": ok, "parts": parts})
        return
    for finding in findings:
        out.print(
            Text("no " if finding.exit_code else "ok ", _COLOUR[not finding.exit_code]), end=""
        )
        out.print(f"{finding.part}: {finding.text}")
