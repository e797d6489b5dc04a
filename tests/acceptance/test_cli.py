"""Every command as a person or a script meets it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.testing

import forebay as package
from forebay.cli.main import app
from tests.support import made_recording as made
from tests.support.commands import (
    Answer,
    Lab,
    Running,
    alive,
    capture,
    connected,
    ended,
    forebay,
    invoked,
    process,
    refused,
    simulator,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

VERBS = [
    *("init", "check", "demo", "run", "replay", "rebuild", "backfill", "verify"),
    *("sql", "book", "audit", "status", "top", "symbols", "alerts"),
    *("gaps list", "gaps check", "gaps explain", "gaps fill", "dlq list", "dlq show"),
    *("dlq replay", "dlq discard"),
    *("journal fsck", "journal inspect", "journal export", "journal tail"),
    *("drill list", "drill run"),
    *("lab serve", "lab truth"),
]
NO_TABLE = {
    "init",
    "run",
    "top",
    "alerts",
    "journal export",
    "journal tail",
    "lab serve",
    "lab truth",
}
"""Commands that print no table: nothing, or NDJSON, or JSON anyway."""


ENDLESS = "SELECT sum(hash(a.range * b.range)) FROM range(2000000) a, range(2000000) b"


def help_of(verb: str) -> str:
    answer = typer.testing.CliRunner().invoke(app, [*verb.split(), "--help"])
    assert answer.exit_code == 0
    return answer.output


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_that_is_the_command_itself(verb: str) -> None:
    text = help_of(verb)
    assert f"Example: forebay {verb}" in text
    assert ("--json" in text) is (verb not in NO_TABLE)


def test_help_lists_every_command() -> None:
    listed = forebay("--help")
    assert listed.code == 0
    assert all(verb.split()[0] in listed.stdout for verb in VERBS)
    known = {command.name for command in app.registered_commands}
    assert known == {verb for verb in VERBS if " " not in verb}


def test_version() -> None:
    assert forebay("--version") == Answer(0, f"forebay {package.__version__}\n", "")


# ------------------------------------------------------------------- configuration


def test_init_writes_what_check_accepts_and_never_overwrites(tmp_path: Path) -> None:
    assert forebay("init", tmp_path).code == 0
    file = tmp_path / "forebay.toml"
    before = file.read_bytes()
    assert forebay("check", "--explain", "-c", file, "--json").code == 0
    refused(forebay("init", tmp_path), 2, "exists already", "move it away")
    assert file.read_bytes() == before


def explained(*arguments: object, env: dict[str, str]) -> dict[str, tuple[Any, str]]:
    answer = forebay("check", "--explain", "--json", *arguments, env=env)
    assert answer.code == 0, answer.stderr
    return {row["key"]: (row["value"], row["origin"]) for row in answer.json}


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text('data = "of the file"\ncollector = "of the file"\n[journal]\nlinger_ms = 7\n')
    env = {
        "FOREBAY_DATA": "of the environment",
        "DATA_DIR": "of an alias",
        "FOREBAY_JOURNAL__SEGMENT_MB": "8",
        "LOG_LEVEL": "WARNING",
        "FOREBAY_VENUES": '[{"name": "coinbase", "symbols": ["SOL-USD"]}]',
    }
    found = explained("-c", file, "--data", "of a flag", env=env)
    environment = "the environment"
    assert found["data"] == ("of a flag", "the command line")
    assert found["collector"] == ("of the file", str(file))
    assert found["journal.linger_ms"] == (7.0, str(file))
    assert found["journal.segment_mb"] == (8, environment)
    assert found["journal.max_pending_mb"] == (32, "default")
    assert found["log_level"] == ("warning", environment)
    assert found["venues"][0][0]["symbols"] == ["SOL-USD"]
    assert found["venues"][1] == environment
    assert explained("-c", file, env=env)["data"] == ("of the environment", environment)
    alias = {"DATA_DIR": "of an alias"}
    assert explained("-c", file, env=alias)["data"] == ("of an alias", environment)


# ------------------------------------------------------------- reading what was stored


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    (folder / "made.rec").write_bytes(made.rec())
    data = folder / "data"
    assert forebay("replay", folder / "made.rec", "--venue", "coinbase", "--data", data).code == 0
    return data


def test_everything_that_prints_a_table_prints_one_json_document(stored: Path) -> None:
    gap = made.GAPS[0]
    letter = invoked("dlq", "list", "--data", stored, "--json").json[0]["letter"]
    commands: dict[tuple[object, ...], int] = {
        ("sql", "SELECT * FROM trades LIMIT 3"): 0,
        ("audit",): 1,  # its gaps are open
        ("gaps", "list"): 0,
        ("gaps", "explain", gap[0], gap[1]): 0,
        ("dlq", "list"): 0,
        ("dlq", "show", letter): 0,
        ("journal", "fsck"): 0,
        ("journal", "inspect"): 0,
        ("status",): 3,
    }
    for command, code in commands.items():
        answer = invoked(*command, "--data", stored, "--json")
        assert answer.code == code, (command, answer)
        assert answer.json is not None
        table = invoked(*command, "--data", stored)
        assert table.code == code
        assert table.stdout
        with pytest.raises(json.JSONDecodeError):
            json.loads(table.stdout)


def test_gaps_are_listed_by_state_and_explained(stored: Path) -> None:
    found = invoked("gaps", "list", "--data", stored, "--state", "open", "--json").json
    assert [(gap["symbol"], gap["first"], gap["last"], gap["reason"]) for gap in found] == made.GAPS
    assert invoked("gaps", "list", "--data", stored, "--state", "filled", "--json").json == []
    symbol, first, last, reason = made.GAPS[1]
    told = invoked("gaps", "explain", symbol, first + 1, "--data", stored, "--json").json
    assert (told["first"], told["last"], told["reason"]) == (first, last, reason)
    assert told["ids"] == last - first + 1
    assert [row["venue_seq"] for row in told["neighbours"]] == [first - 1, last + 1]
    assert "nothing was connected" in told["meaning"]
    assert told["filling"] == "The venue's history is asked for it."


@pytest.mark.parametrize("style", ["csv", "parquet"])
def test_sql_writes_other_forms(style: str, stored: Path, tmp_path: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    query = "SELECT symbol, trade_id::BIGINT AS id FROM trades ORDER BY ALL LIMIT 2"
    done = typer.testing.CliRunner().invoke(
        app, ["sql", query, "--data", str(stored), "--format", style]
    )
    file = tmp_path / f"answer.{style}"
    file.write_bytes(done.stdout_bytes)
    read = pyarrow.csv.read_csv if style == "csv" else pyarrow.parquet.read_table
    assert read(file).to_pylist() == [
        {"symbol": "BTC-USD", "id": 1},
        {"symbol": "BTC-USD", "id": 2},
    ]


def test_the_journals_frames_are_exported_by_position_and_from_the_end(stored: Path) -> None:
    middle = invoked("journal", "export", "--data", stored, "--from", 5, "--to", 8).stdout
    assert [json.loads(line)["seq"] for line in middle.splitlines()] == [5, 6, 7]
    total = len(made.frames())
    tail = invoked("journal", "tail", "-n", 3, "--data", stored).stdout
    assert [json.loads(line)["seq"] for line in tail.splitlines()] == [total - 2, total - 1, total]
    assert json.loads(tail.splitlines()[-1])["payload"].encode() == made.frames()[-1][1]


def test_fsck_names_what_is_damaged(stored: Path, tmp_path: Path) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(stored, data)
    (segment,) = sorted((data / "journal").glob("*.fbj"))
    content = bytearray(segment.read_bytes())
    at = content.index(b'"trade_id": 100,')
    content[at] ^= 0xFF
    segment.write_bytes(content)
    answer = forebay("journal", "fsck", "--data", data, "--json")
    assert answer.code == 1
    assert not answer.json["ok"]
    (finding,) = answer.json["findings"]
    assert finding["segment"] == segment.name
    assert finding["offset"] <= at
    assert finding["first_seq"] <= finding["last_seq"]
    assert segment.read_bytes() == content  # it only looks


# ----------------------------------------------------------------- a running system


def test_symbols_of_a_simulator() -> None:
    with simulator("--symbols", "BTC-USD,SOL-USD") as lab:
        flags = ("--venue", "coinbase", "--rest-url", lab.rest_url)
        answer = forebay("symbols", *flags, "--json")
        assert answer.code == 0
        assert [(row["symbol"], row["quote"]) for row in answer.json] == [
            ("BTC-USD", "USD"),
            ("SOL-USD", "USD"),
        ]
        some = forebay("symbols", *flags, "--json", "--match", "S*-US?", "--status", "online")
        assert [row["symbol"] for row in some.json] == ["SOL-USD"]
        refused(forebay("symbols", *flags, "--status", "asleep"), 2, "asleep", "online")


def answering(data: Path) -> Answer:
    """Return what ``status`` says once the supervisor, too, has heard of both processes."""

    def look() -> Answer | None:
        told = forebay("status", "--data", data, "--json")
        return told if told.code == 0 else None

    return wait_for(look, "the capture to answer")


def test_sigterm_drains_and_gaps_are_filled_afterwards(tmp_path: Path) -> None:
    data = tmp_path / "data"
    market = ("--rate", 1000, "--events", 3000, "--faults", "drop=0.005", "--start", "now")
    with simulator(*market, seed=4) as lab:
        with capture(data, *lab.flags, env={"FOREBAY_FILL__ENABLED": "false"}) as running:
            running.captured(1500)  # in the midst of it
            told = answering(data)
            assert (told.code, told.json["running"]) == (0, True)
            assert told.json["capture"]["connected"] == 1
            assert running.stop() == 0
        stopped = forebay("status", "--data", data, "--json")
        assert stopped.code == 3
        journal = stopped.json["journal"]
        assert (journal["segments"], journal["sealed"], journal["raw"]) == (1, 0, 1)
        assert (
            journal["bytes"]
            == forebay("journal", "inspect", "--data", data, "--json").json[0]["bytes"]
        )
        assert journal["oldest"][:2] == "20"
        assert journal["gb_per_day"] == journal["gb_per_day_on_disk"] > 0
        assert journal["days_until_full"] is None  # a few seconds do not tell
        with package.open(data) as opened:
            position = opened.sql("SELECT seq FROM cursors").to_pylist()
        summaries = forebay("journal", "inspect", "--data", data, "--json").json
        assert position == [{"seq": summaries[-1]["next_seq"]}]  # everything captured is stored
        gaps = forebay("gaps", "list", "--data", data, "--json").json
        assert gaps
        assert {gap["state"] for gap in gaps} == {"open"}
        assert forebay("audit", "--data", data, "--json").code == 1

        answer = forebay("gaps", "fill", "--data", data, "--rest-url", lab.rest_url, "--json")
        assert answer.code == 0, answer.stderr
        assert answer.json == {"open": 0, "filled": len(gaps), "permanent": 0, "accepted": 0}
        audit = forebay("audit", "--data", data, "--json")
        assert (audit.code, audit.json["problems"]) == (0, [])


def test_an_interrupt_ends_a_capture_gracefully_and_a_command_with_130(tmp_path: Path) -> None:
    with simulator("--rate", 100) as lab:
        with capture(tmp_path / "data", *lab.flags) as running:
            connected(running)
            with process("sql", ENDLESS, "--data", tmp_path / "data") as query:
                wait_for(lambda: connection_of(query.pid), "the query to have been asked")
                assert ended(query, signal.SIGINT) == 130
            # Nobody waits for its answer any more, so nothing may wait for its end.
            assert ended(running.process, signal.SIGINT, seconds=15.0) == 130
        assert ended(lab.process, signal.SIGINT) == 130


def connection_of(pid: int) -> bool | None:
    """Whether a process has an open socket; None if not."""
    try:
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return None
    return any(link.startswith("socket:") for link in links) or None


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[Lab, Running]]:
    with (
        simulator("--rate", "500", "--start", "now") as lab,
        capture(tmp_path / "data", *lab.flags) as running,
    ):
        yield lab, running


@pytest.mark.drill
def test_no_process_outlives_a_killed_supervisor(busy: tuple[Lab, Running]) -> None:
    lab, running = busy
    told = connected(running)
    children = [told[role]["pid"] for role in ("capture", "deliver")]
    assert all(alive(pid) for pid in children)
    running.process.kill()
    running.process.wait()
    wait_for(lambda: not any(map(alive, children)) or None, "the orphans to be gone", 10.0)
    with capture(running.folder.root, *lab.flags, log=running.log) as successor:
        told = connected(successor)
        successor.until(lambda told: told["deliver"]["rows"] > 500, "a second of the market")
        assert told["capture"]["pid"] not in children
        assert successor.stop() == 0
    report = forebay("audit", "--data", running.folder.root, "--json").json
    assert (report["missing"], report["doubled"], report["mutated"]) == (0, 0, 0)


def test_logs_go_to_stderr_and_say_nothing_on_stdout(busy: tuple[Lab, Running]) -> None:
    _, running = busy
    connected(running)
    assert running.stop() == 0
    assert running.process.stdout is not None
    assert running.process.stdout.read() == b""
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert "subscription_accepted" in events
    assert events[-1] == "stopped"
    with package.open(running.folder.root) as opened:
        (rows,) = opened.sql("SELECT count(*) AS rows FROM trades").to_pylist()
    assert lines[-1]["events"] == rows["rows"] > 0
    assert (lines[-1]["waiting"], lines[-1]["gaps_open"]) == (0, 0)
    ending = lines[events.index("stopping") :]
    assert ending[0]["reason"] == "SIGTERM"
    assert {line["level"] for line in ending} == {"info"}
    assert "connection_closed" not in events
    assert not re.search(r"Traceback", running.log.read_text())


def test_one_symbol_is_counted_as_one(tmp_path: Path) -> None:
    with simulator("--symbols", "BTC-USD") as lab:
        where = ("--venue", "coinbase", "--rest-url", lab.rest_url)
        listed = forebay("symbols", *where)
        asked = ("--symbols", "BTC-USD", "--ws-url", lab.ws_url, "--data", tmp_path / "data")
        checked = forebay("check", *where, *asked)
    assert listed.stdout.startswith("coinbase: 1 symbol\n")
    assert "answers, 1 symbol\n" in checked.stdout
