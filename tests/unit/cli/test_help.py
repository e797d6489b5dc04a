"""The first screen: what one comes for is first, and every command is where one looks for it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import typer.testing

from forebay.cli import main as program
from forebay.cli.main import app
from tests.support.commands import Answer, environment, invoked


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
    assert told["Prove"] == ["audit", "verify"]
    assert {"demo", "lab", "drill"} == {*told["Practise"]}


def test_every_command_is_in_one_panel() -> None:
    listed = sorted(name for names in panels().values() for name in names)
    known = [each.name for each in app.registered_commands]
    known += [each.name for each in app.registered_groups]
    assert listed == sorted(filter(None, known))


# ----------------------------------------------------------------- asking for it


@pytest.mark.parametrize("group", program.EXAMPLES)
def test_a_group_has_an_example_of_its_own(group: str) -> None:
    assert f"Example: forebay {group} " in invoked(group, "--help").stdout


@pytest.mark.parametrize("group", program.EXAMPLES)
def test_the_example_of_a_group_is_one_of_its_commands(group: str) -> None:
    assert program.EXAMPLES[group].split()[0] == group
    assert invoked(*program.EXAMPLES[group].split()[:2], "--help").code == 0


def test_paragraphs_are_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    lines = [line.strip() for line in invoked("run", "--help").stdout.splitlines()]
    assert sum("SIGTERM or Ctrl-C" in line and "SIGHUP" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("asked", "same"), [((), ("--help",)), (("gaps", "list"), ("gaps", "list", "--help"))]
)
def test_help_is_a_word_too(
    asked: tuple[str, ...],
    same: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = []
    for arguments in (("help", *asked), same):
        monkeypatch.setattr(sys, "argv", ["forebay", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        shown.append((ended.value.code, *capsys.readouterr()))
    assert shown[0] == shown[1]
    assert shown[0][0] == 0


def run(*arguments: str) -> Answer:
    command = [sys.executable, "-m", "forebay", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_the_package_is_a_program() -> None:
    assert run("--version").stdout.startswith("forebay ")
    assert run("help", "nope").code == 2
