"""What a person reads who asks for help."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forebay.cli import main as program
from tests.support.commands import Answer, environment, invoked

GROUPS = ("gaps", "dlq", "journal", "drill", "lab")


def run(*arguments: str) -> Answer:
    command = [sys.executable, "-m", "forebay", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_an_example_of_its_own(group: str) -> None:
    assert f"Example: forebay {group} " in invoked(group, "--help").stdout


@pytest.mark.parametrize("group", GROUPS)
def test_the_example_of_a_group_is_one_of_its_commands(group: str) -> None:
    (example,) = (each[3] for each in program.GROUPS if each[1] == group)
    assert invoked(*example.split()[:2], "--help").code == 0


def test_commands_are_listed_by_what_they_are_for() -> None:
    text = invoked("--help").stdout
    headings = [*program.COMMANDS]
    assert headings == sorted(headings, key=text.index)
    for heading, commands in program.COMMANDS.items():
        after = text[text.index(f"─ {heading} ─") :]
        part = after[: after.index("╰")]
        assert all(f"│ {name} " in part for name in commands)


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


def test_the_package_is_a_program() -> None:
    assert run("--version").stdout.startswith("forebay ")
    assert run("help", "nope").code == 2
