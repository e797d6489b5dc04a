"""Markets that come and go, from the command line: captured by a pattern while they are there."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.commands import Running, capture, connected, forebay, process, wait_for

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

SERIES, EVENT = "KXGOLD15M", "KXGOLD15M-26DEC31"
FIRST, NEXT, LAST = f"{EVENT}-T1", f"{EVENT}-T9", f"{EVENT}-T10"
OTHER = "KXOTHER-26DEC31-T1"
REFRESH_S = 2.0
STATES = "market_states"
KNOWN = (
    "markets m JOIN market_events e ON e.symbol = m.event_symbol "
    "JOIN market_series s ON s.symbol = e.series_symbol"
)
"""Markets of which the event and its series are stored, too."""


def told_to(url: str, market: str, **what: object) -> dict[str, Any]:
    """Have the simulator do something with a market."""
    asked = urllib.request.Request(f"{url}/markets/{market}", json.dumps(what).encode())  # noqa: S310 - of this machine
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - likewise
        told: dict[str, Any] = json.load(answer)
    return told


def until(running: Running, symbols: set[str]) -> None:
    """Wait until those symbols are captured and no others."""

    def look() -> bool:
        said = forebay("status", "--data", running.folder.root, "--json")
        return said.code == 0 and {each["symbol"] for each in said.json["streams"]} == symbols

    wait_for(lambda: look() or None, f"{symbols} are captured", 60)


def asked_of(data: Path, rows: str, columns: str) -> list[dict[str, Any]]:
    """Return some columns of rows."""
    query = f"SELECT {columns} FROM {rows}"  # noqa: S608 - our own
    answer = forebay("sql", query, "--data", data, "--format", "json", "--limit", 100_000)
    found: list[dict[str, Any]] = answer.json
    return found


def simulated(lab: subprocess.Popen[bytes], file: Path) -> str:
    """Write what captures a series of the simulator; return where its truth is."""
    assert lab.stdout is not None
    urls = json.loads(lab.stdout.readline())
    told = {
        "name": "kalshi",
        "symbols": [f"{SERIES}-*"],
        "channels": ["trade"],
        "refresh_s": REFRESH_S,
        **{name: urls[name] for name in ("ws_url", "rest_url", "credentials_file")},
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
    file.write_text("\n".join(["[[venues]]", *lines]))
    return str(urls["truth_url"])


@pytest.mark.drill
def test_a_market_is_captured_from_its_opening_to_its_end_and_nothing_is_owed_after(
    tmp_path: Path,
) -> None:
    data, file, keys = (tmp_path / name for name in ("data", "forebay.toml", "keys"))
    asked = ("--symbols", f"{FIRST},{OTHER}", "--rate", 40, "--start", "now", "--keys", keys)
    with process("lab", "serve", "kalshi", *asked, log=tmp_path / "lab.log") as lab:
        truth = simulated(lab, file)
        listed = ("symbols", "-c", file, "--venue", "kalshi", "--status", "open", "--json")
        assert [each["symbol"] for each in forebay(*listed, "--match", f"{SERIES}-*").json] == [
            FIRST
        ]
        assert {each["symbol"] for each in forebay(*listed).json} == {FIRST, OTHER}
        checked = forebay("check", "-c", file, "--data", data)
        assert checked.code == 0, checked
        with capture(data, file=file) as running:
            connected(running)
            until(running, {FIRST})
            opened = told_to(truth, NEXT, do="create", close_in_s=1000)["open_ns"]
            until(running, {FIRST, NEXT})
            captured = running.capture_status()["captured"]
            running.captured(captured + 60)
            told_to(truth, NEXT, do="close")
            told_to(truth, NEXT, do="determine", result="yes")
            told_to(truth, NEXT, do="settle")
            until(running, {FIRST})
            running.captured(running.capture_status()["captured"] + 60)
            answer = forebay("audit", "--data", data, "--truth", truth, "--json")
            states = asked_of(data, f"{STATES} ORDER BY valid_from", "symbol, status, result")
            trades = asked_of(data, "trades", "symbol, epoch_ns(event_ts) AS ns")
            known = asked_of(data, KNOWN, "m.symbol")
            running.stop()
    assert answer.code == 0, answer
    assert {row["symbol"] for row in trades} == {FIRST, NEXT}
    assert {row["symbol"] for row in known} == {FIRST, NEXT}
    first_ns = min(int(row["ns"]) for row in trades if row["symbol"] == NEXT)
    assert 0 <= first_ns - opened < 10**9, "what it was at first was asked of history"
    theirs = [row for row in states if row["symbol"] == NEXT]
    assert [theirs[-1]["status"], theirs[-1]["result"]] == ["finalized", "yes"]
    assert all(gap["state"] == "filled" for gap in answer.json["gaps"])


@pytest.mark.drill
def test_what_opened_and_ended_while_nothing_ran_is_owed_and_filled(tmp_path: Path) -> None:
    data, file, keys = (tmp_path / name for name in ("data", "forebay.toml", "keys"))
    asked = ("--symbols", FIRST, "--rate", 40, "--start", "now", "--keys", keys)
    with process("lab", "serve", "kalshi", *asked, log=tmp_path / "lab.log") as lab:
        truth = simulated(lab, file)
        with capture(data, file=file) as running:
            until(running, {FIRST})
            told = running.until(lambda told: told["capture"]["captured"] > 100, "some frames")
            pids = [running.process.pid, *(told[role]["pid"] for role in ("capture", "deliver"))]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        told_to(truth, NEXT, do="create", close_in_s=2)
        told_to(truth, LAST, do="create", close_in_s=1000)
        wait_for(lambda: markets(truth)[NEXT]["status"] == "closed" or None, "it is closed", 30)
        with capture(data, file=file) as running:
            until(running, {FIRST, LAST})
            wait_for(lambda: gaps_of(data) or None, "all gaps are filled", 60)
            answer = forebay("audit", "--data", data, "--truth", truth, "--json")
            trades = asked_of(data, "trades", "DISTINCT symbol")
            running.stop()
    assert answer.code == 0, answer
    assert {row["symbol"] for row in trades} == {FIRST, NEXT, LAST}


def gaps_of(data: Path) -> set[str]:
    """Return of which markets gaps are filled, if none is open and all have some."""
    found = asked_of(data, "gaps", "symbol, state")
    filled = {row["symbol"] for row in found if row["state"] == "filled"}
    return filled if len(filled) == len({row["symbol"] for row in found}) > 2 else set()


def markets(url: str) -> dict[str, dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/markets", timeout=10) as answer:  # noqa: S310 - of this machine
        told: dict[str, dict[str, Any]] = json.load(answer)
    return told
