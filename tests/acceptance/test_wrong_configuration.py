"""A wrong configuration is one clear sentence that says what to do, and exit 2 or 3."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from forebay.app.wiring.data_folder import DataFolder
from forebay.cli.main import app
from tests.support.commands import (
    Answer,
    capture,
    connected,
    forebay,
    process,
    refused,
    said,
    simulator,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

COINBASE = ("--venue", "coinbase", "--symbols", "BTC-USD")
NOWHERE = ("--ws-url", "ws://127.0.0.1:9", "--rest-url", "http://127.0.0.1:9")
VENUE = '[[venues]]\nname = "coinbase"\nsymbols = ["BTC-USD"]\n'


class Wrong(NamedTuple):
    """A file or an environment that cannot be, and what must be said of it."""

    toml: str
    parts: tuple[str, ...]
    environment: dict[str, str] = {}  # noqa: RUF012 - never changed


WRONG = {
    "unknown key": Wrong("[journal]\nlinger = 5\n", ("'journal.linger'", "'linger_ms'?")),
    "unknown table": Wrong("[jornal]\n", ("'jornal'", "Did you mean 'journal'?")),
    "unknown key of a venue": Wrong(VENUE + 'wsurl = ""\n', ("wsurl", "Did you mean 'ws_url'?")),
    "wrong type": Wrong('[journal]\nlinger_ms = "soon"\n', ("'journal.linger_ms'", "Correct it")),
    "out of range": Wrong("[journal]\nsegment_mb = 0\n", ("'journal.segment_mb'", ">= 1")),
    "missing symbols": Wrong('[[venues]]\nname = "coinbase"\n', ("symbols", "missing", "Add it.")),
    "no symbols": Wrong('[[venues]]\nname = "coinbase"\nsymbols = []\n', ("symbols", "Correct it")),
    "no TOML": Wrong("data = \n", ("not valid TOML", "line 1", "Correct that line.")),
    "unknown venue": Wrong(
        VENUE.replace("coinbase", "coinbse"), ("'coinbse'", "Did you mean 'coinbase'?")
    ),
    "no address": Wrong(VENUE + 'ws_url = "localhost"\n', ("ws_url", "Write ws://")),
    "wrong in the environment": Wrong(
        VENUE, ("'log_level'", "the environment"), {"LOG_LEVEL": "loud"}
    ),
    "no JSON in the environment": Wrong(
        "", ("FOREBAY_VENUES", "not valid JSON"), {"FOREBAY_VENUES": "[{"}
    ),
    "nothing to capture": Wrong("", ("nothing to capture", "--venue coinbase")),
}


class Run:
    """Runs a command here and answers what it said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name in [*os.environ]:
            if name.startswith(("FOREBAY_", "DATA_DIR", "LOG_LEVEL")):
                monkeypatch.delenv(name)

    def __call__(self, *arguments: object, environment: dict[str, str] | None = None) -> Answer:
        for name, text in (environment or {}).items():
            self._monkeypatch.setenv(name, text)
        with pytest.raises(SystemExit) as ended:
            app([*map(str, arguments)], prog_name="forebay")
        written = self._capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 1, written.out, written.err)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run commands in this process: many refusals, one start of Python."""
    return Run(monkeypatch, capsys)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_or_environment(name: str, tmp_path: Path, in_process: Run) -> None:
    wrong, file = WRONG[name], tmp_path / "forebay.toml"
    file.write_text(wrong.toml)
    for verb in ("check", "run"):
        refused(in_process(verb, "-c", file, environment=wrong.environment), 2, *wrong.parts)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.toml"
    refused(forebay("run", "-c", missing), 2, str(missing), "forebay init")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("run", "--venue", "coinbase"), ("--symbols",)),
        (("run", "--symbols", "BTC-USD"), ("--venue coinbase",)),
        (("run", *COINBASE, "--only", "capure"), ("'capure'", "capture, deliver")),
        (("replay", "nowhere.rec", "--venue", "coinbase", "--data", "x"), ("nowhere.rec",)),
        (("audit", "--data", "nowhere"), ("nowhere", "not a Forebay data folder")),
        (("symbols", "--venue", "kraken"), ("'kraken'", "coinbase")),
        (("lab", "serve", "kraken", "--seed", "1"), ("'kraken'", "coinbase")),
        (("lab", "serve", "coinbase", "--seed", "1", "--faults", "rain=1"), ("'rain'", "drop")),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_wrong_flags(arguments: tuple[str, ...], parts: tuple[str, ...], in_process: Run) -> None:
    refused(in_process(*arguments), 2, *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("capture",), ("No such command 'capture'", "forebay --help")),
        (("run", "--dta", "x"), ("No such option", "forebay run --help")),
        (("gaps", "list", "--state", "shut"), ("'shut'", "permanent", "forebay gaps list --help")),
        (("journal", "tail", "-n", "0"), ("-n", "forebay journal tail --help")),
    ],
    ids=["command", "flag", "choice", "number"],
)
def test_a_wrong_command_line(
    arguments: tuple[str, ...], parts: tuple[str, ...], in_process: Run
) -> None:
    answer = in_process(*arguments)
    assert answer.code == 2
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    for part in parts:
        assert part in answer.stderr


# ------------------------------------------------------------------ the data folder


def test_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    data = tmp_path / "file" / "data"
    refused(forebay("run", *COINBASE, "--data", data), 2, str(data), "Choose another folder")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        data = Path("/proc/forebay")
    else:
        data = tmp_path / "locked" / "data"
        data.parent.mkdir(mode=0o500)
    for verb in (("run",), ("check",)):
        answer = forebay(*verb, *COINBASE, *NOWHERE, "--data", data)
        assert answer.code in (2, 3)
        assert "Choose another folder with --data" in answer.stdout + answer.stderr
        assert "Traceback" not in answer.stderr


def test_a_folder_with_something_of_somebody_else_in_it(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    answer = forebay("run", *COINBASE, "--data", tmp_path)
    refused(answer, 2, "not empty", "Choose an empty or a new folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = forebay("lab", "serve", "coinbase", "--seed", "1", "--port", port)
    refused(answer, 3, str(port), "in use", "Choose another")


# ------------------------------------------------------------------------- check


def test_check_reaches_every_part(tmp_path: Path) -> None:
    with simulator("--symbols", "BTC-USD") as lab:
        flags = (*lab.flags, "--data", tmp_path / "data")
        answer = forebay("check", *COINBASE, *flags, "--json")
        assert answer.code == 0, answer
        assert answer.json["ok"]
        parts = {part["part"]: part["ok"] for part in answer.json["parts"]}
        assert parts == dict.fromkeys(
            ("data folder", "descriptors", "http", "coinbase REST", "coinbase websocket"), True
        )
        wrong = forebay("check", "--venue", "coinbase", "--symbols", "DOGE-USD", *flags)
        assert wrong.code == 2
        assert "DOGE-USD" in wrong.stdout
        assert "forebay symbols --venue coinbase" in wrong.stdout


def test_check_says_what_cannot_be_reached(tmp_path: Path) -> None:
    answer = forebay("check", *COINBASE, *NOWHERE, "--data", tmp_path / "data")
    assert answer.code == 3
    failed = [line for line in answer.stdout.splitlines() if line.startswith("no ")]
    assert len(failed) == 2
    assert all("127.0.0.1:9" in line and "network" in line for line in failed)


# --------------------------------------------------------------------- disk full


@contextlib.contextmanager
def tiny_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a small file system; skips where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "forebay-test", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def filled(file: Path) -> Path:
    """Write a file that takes all the space there is."""
    with file.open("wb", buffering=0) as greedy, contextlib.suppress(OSError):
        while True:
            greedy.write(b"\0" * 65_536)
    with file.open("ab", buffering=0) as greedy, contextlib.suppress(OSError):
        while True:
            greedy.write(b"\0" * 256)
    return file


def test_starting_on_a_full_disk(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", 8) as disk:
        greedy = filled(disk / "greedy")
        flags = (*COINBASE, *NOWHERE, "--data", disk / "data")
        refused(forebay("run", *flags), 3, "no space", "Free some")
        greedy.unlink()
        assert not DataFolder(disk / "data").create().databases()
        filled(disk / "greedy")  # now the folder is one already
        refused(forebay("run", *flags), 3, "no space", "Free some")


@pytest.mark.drill
def test_a_disk_that_fills_up_while_capturing(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with (
        tiny_disk(tmp_path / "disk", 96) as disk,
        simulator("--rate", "1000", "--start", "now") as lab,
        capture(disk / "data", *lab.flags, log=log) as running,
    ):
        connected(running)
        running.until(lambda told: told["deliver"]["rows"] > 500, "half a second of the market")
        greedy = filled(disk / "greedy")
        running.until(lambda told: told["capture"]["full"], "the journal to be full")
        greedy.unlink()
        at = running.until(lambda told: not told["capture"]["full"], "room for the journal")
        running.until(
            lambda told: (
                told["capture"]["connected"] > 0
                and told["deliver"]["rows"] > at["deliver"]["rows"] + 1500
                and not told["deliver"]["gaps"]["open"]
            ),
            "what happened meanwhile",
        )
        assert said(log, "journal_full_began")
        assert said(log, "journal_full_ended")
        assert running.stop() == 0
        answer = forebay("audit", "--data", disk / "data", "--truth", lab.truth_url, "--json")
        report = answer.json
        counts = [report[name] for name in ("doubled", "mutated", "spurious")]
        assert counts == [0, 0, 0]
        ours = forebay("audit", "--data", disk / "data", "--json")
        assert (ours.code, ours.json["problems"]) == (0, [])


def test_nothing_is_left_of_a_refused_start(tmp_path: Path) -> None:
    with process("run", *COINBASE, "--data", tmp_path / "file" / "x", "--only", "x") as child:
        assert child.wait(30) == 2
    assert not (tmp_path / "file").exists()
