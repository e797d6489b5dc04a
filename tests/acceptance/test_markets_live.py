"""Markets that come and go, from the command line: captured by a pattern while they are there."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.commands import Running, capture, connected, forebay, process, wait_for

if TYPE_CHECKING:
    from pathlib import Path

SERIES, EVENT = "KXGOLD15M", "KXGOLD15M-26DEC31"
FIRST, NEXT, OTHER = f"{EVENT}-T1", f"{EVENT}-T9", "KXOTHER-26DEC31-T1"
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
        return {each["symbol"] for each in said.json["streams"]} == symbols

    wait_for(lambda: look() or None, f"{symbols} are captured", 60)


def asked_of(data: Path, rows: str, columns: str) -> list[dict[str, Any]]:
    """Return some columns of rows."""
    query = f"SELECT {columns} FROM {rows}"  # noqa: S608 - our own
    answer = forebay("sql", query, "--data", data, "--format", "json", "--limit", 100_000)
    found: list[dict[str, Any]] = answer.json
    return found


@pytest.mark.drill
def test_a_market_is_captured_from_its_opening_to_its_end_and_nothing_is_owed_after(
    tmp_path: Path,
) -> None:
    data, file, keys = (tmp_path / name for name in ("data", "forebay.toml", "keys"))
    asked = ("--symbols", f"{FIRST},{OTHER}", "--rate", 40, "--start", "now", "--keys", keys)
    with process("lab", "serve", "kalshi", *asked, log=tmp_path / "lab.log") as lab:
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
            opened = told_to(urls["truth_url"], NEXT, do="create", close_in_s=1000)["open_ns"]
            until(running, {FIRST, NEXT})
            captured = running.capture_status()["captured"]
            running.captured(captured + 60)
            told_to(urls["truth_url"], NEXT, do="close")
            told_to(urls["truth_url"], NEXT, do="determine", result="yes")
            told_to(urls["truth_url"], NEXT, do="settle")
            until(running, {FIRST})
            running.captured(running.capture_status()["captured"] + 60)
            answer = forebay("audit", "--data", data, "--truth", urls["truth_url"], "--json")
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
