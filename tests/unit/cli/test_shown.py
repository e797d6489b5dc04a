"""What is shown is what is there: no cell is markup, emoji or a control code, in any command."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import termios
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from forebay.app.wiring import logs
from forebay.cli import book, output
from forebay.cli.main import main
from forebay.cli.output import layout, print_table
from forebay.lab.commands import FOREBAY
from forebay.visible import visible
from tests.support.commands import Answer, environment, forebay, invoked, refused

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTILE = [
    "[/]",
    "[/x]",
    "a[1] [b]",
    "[red]x[/red]",
    ":x:",
    "\x1b[2J\x1b]0;mine\x07",
    "\x9b31m\x7f\x00",
    "\u202egnp.exe",
    "a\u200bb\ufeff",
    "one\ntwo\r\tthree\u2028four",
]
MATCH = {
    "type": "match",
    "trade_id": 1,
    "side": "sell",
    "size": "1",
    "price": "1",
    "product_id": "BTC-USD",
    "sequence": 1,
    "time": "2026-01-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trade, and dead letters of hostile symbols, prices and lines."""
    root = tmp_path_factory.mktemp("hostile")
    bad = [{**MATCH, name: text} for text in HOSTILE for name in ("product_id", "price")]
    lines = [json.dumps(each) for each in (MATCH, *bad)]
    (root / "a.ndjson").write_text("\n".join([*lines, *HOSTILE[:9]]))
    done = forebay("replay", root / "a.ndjson", "--venue", "coinbase", "--data", root / "data")
    assert done.code == 0
    return root / "data"


def seen(answer: Answer, *expected: str) -> None:
    """Assert that texts stand there as they are, and nothing that moves a terminal's cursor."""
    assert "Traceback" not in answer.stderr
    for shown in (answer.stdout, answer.stderr):
        assert all(line.isprintable() for line in shown.split("\n"))
    for text in expected:
        assert visible(text) in answer.stdout + answer.stderr


def test_text_without_a_picture_is_escaped_and_all_else_is_left() -> None:
    assert [visible(text) for text in HOSTILE[5:]] == [
        r"\x1b[2J\x1b]0;mine\x07",
        r"\x9b31m\x7f\x00",
        r"\u202egnp.exe",
        r"a\u200bb\ufeff",
        r"one\ntwo\r\tthree\u2028four",
    ]
    assert visible("Ünïcode 価格 ❌ \\ ok") == "Ünïcode 価格 ❌ \\ ok"
    assert visible("\U000e0041\udc80") == r"\U000e0041\udc80"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_and_a_head_are_shown_as_they_are(text: str, data: Path) -> None:
    literal, name = text.replace("'", "''"), text.replace('"', '""').replace("\x00", "")
    query = f"SELECT '{literal}' AS \"{name}\"".replace("\x00", "")
    answer = invoked("sql", query, "--data", data)
    seen(answer, text.replace("\x00", ""))
    assert answer.stdout.count(visible(text.replace("\x00", ""))) == 2
    told = invoked("sql", query, "--data", data, "--json").json
    assert told == [{name: text.replace("\x00", "")}]


@pytest.mark.parametrize("columns", ["80", "", "25", "2"])
def test_every_command_that_shows_a_venues_text_shows_it_as_it_is(
    columns: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    query = "SELECT payload::VARCHAR, payload, error FROM dead_letters"
    seen(invoked("sql", query, "--data", data))
    letters = invoked("dlq", "list", "--data", data)
    seen(letters, *(repr(text) for text in HOSTILE if columns in ("80", "")))
    for letter in invoked("dlq", "list", "--data", data, "--limit", 6, "--json").json:
        shown = invoked("dlq", "show", letter["letter"], "--data", data)
        seen(shown, letter["error"])
    seen(invoked("audit", "--data", data))
    seen(invoked("gaps", "list", "--data", data))


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_looked_for_and_not_found_is_named_as_it_is(text: str, data: Path) -> None:
    seen(invoked("gaps", "explain", text, "7", "--data", data))
    seen(invoked("book", "coinbase", text, "--data", data), text)
    seen(invoked("dlq", "list", "--reason", text, "--data", data))
    seen(invoked("dlq", "show", text, "--data", data))


def test_a_book_of_a_symbol_that_is_not_here_names_the_one_that_is(data: Path) -> None:
    said = invoked("book", "coinbase", "BTC-USDX", "--data", data)
    refused(said, 2, "Nothing of 'BTC-USDX' is stored here. Did you mean 'BTC-USD'?")
    assert "unknown" in invoked("book", "coinbase", "BTC-USD", "--data", data).stderr


def test_a_book_without_levels_is_said_to_be_empty(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, object] = {"state": "known", "bids": [], "asks": [], "crossed": False}
    told |= {"venue": "kalshi", "symbol": "KXA-1", "at": "then", "as_of": "then"}
    opened = SimpleNamespace(book_at=lambda *_: told)
    monkeypatch.setattr(book, "reading", lambda _: opened)
    said = invoked("book", "kalshi", "KXA-1", "--data", data)
    assert said.stdout.startswith("kalshi KXA-1 at then, as of then, empty\n")


@pytest.mark.parametrize("command", ["rebuild", "audit"])
def test_no_progress_is_drawn_where_nobody_sees_it(command: str, tmp_path: Path) -> None:
    said = forebay(command, "--data", tmp_path / "none")
    assert said.stderr.partition(":")[0] in ("", "error")


def test_where_there_are_no_letters_a_sentence_says_so(data: Path) -> None:
    said = invoked("dlq", "list", "--reason", "nope", "--data", data).stdout
    assert said.replace("\n", " ") == f"No dead letters of the reason nope in {data}. "


@pytest.mark.parametrize(
    ("limit", "head"),
    [(1, "the latest 1 dead letter"), (7, "the latest 7 dead letters"), (29, "29 dead letters,")],
)
def test_a_part_of_the_letters_is_not_called_all(limit: int, head: str, data: Path) -> None:
    said = invoked("dlq", "list", "--limit", limit, "--data", data).stdout
    assert said.startswith(head)


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\x00" not in text])
def test_an_error_shows_what_was_typed_as_it_is(text: str, tmp_path: Path) -> None:
    seen(invoked("sql", f"SELECT {text}", "--data", tmp_path / text))
    seen(invoked("audit", "--data", tmp_path / text))
    seen(invoked("symbols", "--venue", text))
    seen(invoked("replay", tmp_path / text, "--venue", text, "--data", tmp_path / "data"))
    seen(invoked("sql", "SELECT 1", "--format", text, "--data", tmp_path))


def test_json_lines_on_a_terminal_are_the_same_json_without_controls(data: Path) -> None:
    shown = at_a_terminal("journal", "tail", "-n", 9, "--data", data)
    assert all(line.isprintable() for line in shown)
    piped = invoked("journal", "tail", "-n", 9, "--data", data).stdout.splitlines()
    assert [json.loads(line) for line in shown if line] == [json.loads(line) for line in piped]
    assert "\x9b31m" in piped[6]


def test_a_log_line_on_a_terminal_moves_no_cursor(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs._STDERR, "terminal", True)
    monkeypatch.setenv("NO_COLOR", "1")
    try:
        logs.configure("info", process="capture")
        structlog.get_logger().info("venue_complained", reason="\x1b[2J\x9b\u202e")
    finally:
        structlog.reset_defaults()
    assert r"\x1b[2J\x9b\u202e" in capfd.readouterr().err


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=()), max_size=60).map(visible)


@given(
    table=st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.lists(CELLS, min_size=n, max_size=n),
            st.lists(st.lists(CELLS, min_size=n, max_size=n), max_size=4),
        )
    ),
    limit=st.integers(20, 100),
    fold=st.booleans(),
)
def test_a_table_fits_and_leaves_nothing_out(
    table: tuple[Sequence[str], Sequence[Sequence[str]]], limit: int, *, fold: bool
) -> None:
    head, rows = table
    lines = list(layout(head, rows, limit, fold=fold))
    assert all(cell_len(line) <= limit for line in lines)
    there = sorted(c for line in lines for c in line if not c.isspace())
    for text in (*head, *(cell for row in rows for cell in row)):
        assert all(there.count(c) >= text.count(c) for c in set(text) if not c.isspace())


def test_numbers_are_flush_right_and_texts_left() -> None:
    lines = layout(["symbol", "n"], [["A", "1,234"], ["BTC-USD", "5"]], 80)
    assert list(lines) == ["symbol       n", "-------  -----", "A        1,234", "BTC-USD      5"]


def test_what_does_not_fit_is_a_line_a_cell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    print_table("", ["event_id", "price"], [["x" * 40, "1.5"]], fold=False)
    assert capsys.readouterr().out.splitlines() == [
        "row 1",
        "  event_id  " + "x" * 18,
        "            " + "x" * 18,
        "            " + "x" * 4,
        "  price     1.5",
    ]


def test_a_whole_trade_fits_a_terminal_of_80_columns(data: Path) -> None:
    shown = at_a_terminal("sql", "SELECT * FROM trades LIMIT 2", "--data", data)
    assert max(map(cell_len, shown)) <= 80
    assert {"row 1", "  price         1", "  symbol        BTC-USD"} <= set(shown)
    refusal = at_a_terminal("sql", "SELECT 1", "--format", "parquet", "--data", data)
    assert "error: Parquet is not for a terminal." in " ".join(refusal)


def at_a_terminal(*arguments: object) -> list[str]:
    """Return what a command shows on a terminal of 80 columns."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    with subprocess.Popen(
        [*FOREBAY, *map(str, arguments)],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment({"NO_COLOR": "1", "TERM": "xterm"}),
    ):
        os.close(its)
        shown = b""
        try:
            while more := os.read(ours, 65536):
                shown += more
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return [
        line.replace("\x1b[0m", "").replace("\x1b[1m", "")
        for line in shown.decode().replace("\r", "").split("\n")
    ]


PRINTING = [
    "sql", "dlq list", "dlq show", "audit", "audit --json", "gaps list", "journal inspect",
    "journal fsck", "journal export", "journal tail", "drill list",
    "book coinbase BTC-USD --json",
    "lab truth coinbase --seed 1 --symbols BTC-USD --from 0 --to 3",
    "status", "check --explain", "alerts", "--help", "sql --help", "--version",
]  # fmt: skip


@pytest.mark.parametrize("command", PRINTING)
def test_output_that_cannot_be_written_is_one_sentence(
    command: str, data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = command.split()
    if command == "sql":
        words.append("SELECT range FROM range(100000)")
    if command == "dlq show":
        words.append(invoked("dlq", "list", "--data", data, "--json").json[0]["letter"])
    if words[0] not in ("drill", "alerts", "lab", "--help", "--version") and "--help" not in words:
        words += ["--data", str(data)]
    monkeypatch.setattr("sys.argv", ["forebay", *words])
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert said == "error: The output cannot be written: No space left on device.\n"
    monkeypatch.undo()
    with output.out.capture() as kept:
        pass
    assert kept.get() == "", "whoever prints next in this process would print it, too"


@pytest.mark.parametrize("form", ["json", "csv"])
def test_the_end_of_a_process_adds_nothing(form: str, data: Path) -> None:
    words: list[object] = ["sql", "SELECT 1", "--format", form, "--data", data]
    with Path("/dev/full").open("wb") as full:
        answer = forebay(*words, stdout=full.fileno())
    refused(answer, 1, "No space left on device.")


@pytest.mark.parametrize("form", ["table", "json"])
def test_whoever_has_read_enough_ends_a_command_quietly(form: str, data: Path) -> None:
    flags = f"--format {form} --limit 200000 --data {data}"
    command = [*FOREBAY, "sql", "'SELECT range FROM range(200000)'", flags]
    script = f"set -o pipefail; {' '.join(command)} | head -c 20"
    done = subprocess.run(
        ["bash", "-c", script], env=environment(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) == 20
