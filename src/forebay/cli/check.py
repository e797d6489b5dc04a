"""``forebay check``."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from forebay.app.wiring.complaints import Complaints
from forebay.cli.output import ConfigOption, JsonOption, out, print_json
from forebay.cli.settings import CaptureFlags, capture_config, need_venues
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from forebay.app.offline.preflight import PartFinding
    from forebay.app.wiring.config import Config

_COLOUR = {True: "green", False: "red"}


def check(
    *,
    config: ConfigOption = None,
    given: CaptureFlags,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say where each value comes from; reach nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Validate the configuration and reach every part of it; change nothing.

    Example: forebay check -c forebay.toml
    """
    sys.dont_write_bytecode = True  # a venue's plugin is imported
    complaints = Complaints()
    settings, origins = capture_config(config, given, complaints)
    if explain:
        complaints.tell()
        _explain(settings, origins, as_json=as_json)
        return
    if not complaints.errors:
        with complaints.noted():
            need_venues(settings)
    from forebay.app.offline.preflight import check_all, check_here

    if complaints.errors:
        found = [each for each in check_here(settings) if each.exit_code]
    else:
        found = asyncio.run(check_all(settings))
    _show(found, complaints.errors, as_json=as_json)
    complaints.tell()
    if code := max((finding.exit_code for finding in found), default=0):
        raise typer.Exit(code)


def _explain(settings: Config, origins: Mapping[str, str], *, as_json: bool) -> None:
    from forebay.app.processes.process_breakers import in_force
    from forebay.app.wiring.config import leaves

    found = leaves(in_force(settings))
    if as_json:
        rows = [{"key": k, "value": v, "origin": origins.get(k, "default")} for k, v in found]
        print_json(rows)
        return
    for key, value in found:
        origin = origins.get(key, "default")
        for name, text in _words_of(key, value):
            out.print(f"{name} = {text}  ({origin})")


def _words_of(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Return keys and values as people write them; of a table in a list, those that are set."""
    from forebay.app.wiring.config import LISTS

    if key in LISTS and isinstance(value, (list, tuple)):
        for number, table in enumerate(value):
            for name, said in table.items():
                if said not in (None, "", (), []):
                    yield from _words_of(f"{key}[{number}].{name}", said)
    elif isinstance(value, bool):
        yield key, str(value).lower()
    elif isinstance(value, (list, tuple)):
        yield key, ", ".join(map(str, value)) or "not set"
    else:
        yield key, "not set" if value in (None, "") else str(value)


def _show(found: Sequence[PartFinding], errors: Sequence[ConfigError], *, as_json: bool) -> None:
    if as_json:
        parts = [{"part": "configuration", "ok": False, "text": str(error)} for error in errors]
        parts += [{"part": f.part, "ok": not f.exit_code, "text": f.text} for f in found]
        print_json({"ok": all(part["ok"] for part in parts), "parts": parts})
        return
    for finding in found:
        out.print(
            Text("no " if finding.exit_code else "ok ", _COLOUR[not finding.exit_code]), end=""
        )
        out.print(f"{finding.part}: {finding.text}")
