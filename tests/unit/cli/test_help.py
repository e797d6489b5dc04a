"""The first screen: what one comes for is first, and every command is where one looks for it."""

from __future__ import annotations

import re

import typer.testing

from forebay.cli.main import app


def panels() -> dict[str, list[str]]:
    """The commands of each panel of ``forebay --help``, in their order."""
    runner = typer.testing.CliRunner(env={"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"})
    found: dict[str, list[str]] = {}
    panel = ""
    for line in runner.invoke(app, ["--help"]).output.splitlines():
        if heading := re.match(r"╭─ (\w+) ─", line):
            panel = heading[1]
        elif command := re.match(r"│ (\w+) ", line):
            found.setdefault(panel, []).append(command[1])
    return found


def test_commands_are_listed_by_what_they_are_for() -> None:
    told = panels()
    assert list(told) == ["Capture", "Read", "Prove", "Practise"]
    assert {"run", "status", "top"} <= {*told["Capture"]}
    assert told["Read"][0] == "sql"
    assert told["Prove"] == ["audit"]
    assert {"demo", "lab", "drill"} == {*told["Practise"]}


def test_every_command_is_in_one_panel() -> None:
    listed = sorted(name for names in panels().values() for name in names)
    known = [each.name for each in app.registered_commands]
    known += [each.name for each in app.registered_groups]
    assert listed == sorted(filter(None, known))
