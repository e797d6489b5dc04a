"""The first tutorial, as somebody would go through it: its commands and its Python, in order."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from forebay.app.processes.supervisor import statuses
from forebay.app.wiring.data_folder import DataFolder
from forebay.lab.commands import FOREBAY
from tests.support.commands import environment, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-capture.md"
BLOCKS = re.findall(r"(?ms)^```(console|python)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))


class Terminals:
    """A folder, in which commands are typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tools = folder / "bin"
        tools.mkdir()
        self._tool(tools / "forebay", *FOREBAY)
        self._tool(tools / "python", sys.executable)
        self.env = environment({"FOREBAY_HTTP__PORT": "0"}) | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"
        }
        self.going: list[subprocess.Popen[str]] = []

    def _tool(self, path: Path, *command: str) -> None:
        path.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n', encoding="utf-8")
        path.chmod(0o755)

    def start(self, line: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            ["sh", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.going.append(child)
        return child

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    made = Terminals(tmp_path)
    yield made
    for child in made.going:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait(30)
        if child.stdout:
            child.stdout.close()


def test_every_command_and_every_block_of_the_page_does_what_it_says(terminals: Terminals) -> None:
    typed = [
        (kind, line)
        for kind, block in BLOCKS
        for line in (typed_lines(block) if kind == "console" else [block])
    ]
    assert [kind for kind, _ in typed].count("console") == len(typed) - 2 == 9
    addresses: dict[str, str] = {}
    python, drawn = "", [""]
    for kind, line in typed:
        if kind == "python":
            python += line  # one session
            done = terminals.run(sys.executable, "-c", python)
            assert done.returncode == 0, done.stderr
            drawn = done.stdout.splitlines()
        elif line.startswith("forebay lab serve"):
            child = terminals.start(re.sub(r" --events \d+", "", line))  # the test closes it
            assert child.stdout is not None
            addresses = json.loads(child.stdout.readline())
        elif line.startswith("forebay run"):
            captured(terminals, terminals.start(filled(line, addresses)))
        else:
            if "--truth" in line:
                closed(terminals, addresses["truth_url"])
            done = terminals.run("sh", "-c", filled(line, addresses))
            assert (done.returncode, line) == (0, line), done.stdout + done.stderr
    assert all(drawn)
    assert max(map(len, drawn)) <= 80
    assert "Nothing lost" in (terminals.folder / "audit.html").read_text(encoding="utf-8")


def typed_lines(block: str) -> list[str]:
    """Lines as a shell sees them."""
    return [line.replace("\\\n", "").strip() for line in re.split(r"(?m)^\$ ", block)[1:]]


def filled(line: str, addresses: dict[str, str]) -> str:
    """The command with the addresses that the exchange has."""
    for option in ("ws-url", "rest-url", "truth"):
        key = f"{option.removesuffix('-url')}_url"
        line = re.sub(rf"(?<=--{option} )\S+", addresses[key], line)
    assert "…" not in line
    return line


def stored(terminals: Terminals) -> int:
    """Rows that are stored; none while a gap is open, or deliver does not answer."""
    data = terminals.folder / "lab-data"
    told = statuses(DataFolder(data))["deliver"] if data.is_dir() else None
    return int(told["rows"]) if told and not told["gaps"]["open"] else 0


def captured(terminals: Terminals, child: subprocess.Popen[str]) -> None:
    """Wait until it is under way."""
    assert wait_for(lambda: stored(terminals) > 100 or None, "trades to be stored")
    status = ("forebay", "status", "--data", "lab-data")  # rows may be those of a former run
    wait_for(lambda: terminals.run(*status).returncode == 0 or None, "the run to answer")
    assert child.poll() is None


def closed(terminals: Terminals, truth_url: str) -> None:
    """Close the market once it is heard again, and press Ctrl-C when all is stored."""
    before = stored(terminals)
    wait_for(lambda: stored(terminals) > before + 200 or None, "it to be heard again")
    assert httpx.post(f"{truth_url}/close").status_code == 200
    last = [*range(-20, 0)]

    def at_rest() -> bool | None:
        last[:] = [*last[1:], stored(terminals)]
        return (len({*last}) == 1 and last[0] > before) or None

    wait_for(at_rest, "the last trades to be stored")
    run = terminals.going[1]
    run.send_signal(signal.SIGINT)
    run.wait(30)
