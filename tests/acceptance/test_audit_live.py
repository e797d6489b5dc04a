"""The audit against a simulator's truth while both the simulator and the capture go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.commands import capture, connected, forebay, simulator

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.drill
def test_what_is_under_way_is_not_missing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with (
        simulator("--rate", "500", "--start", "now") as lab,
        capture(data, *lab.flags) as running,
    ):
        connected(running)
        running.captured(1000)
        answer = forebay("audit", "--data", data, "--truth", lab.truth_url, "--json")
        query = "SELECT price, size, sum(price*size) OVER ()/sum(size) OVER () AS vwap FROM trades"
        sold = forebay("sql", query, "--data", data, "--json", "--limit", 500)
        told = running.told()
    assert answer.code == 0, answer
    prices = [float(row["price"]) for row in sold.json]
    assert len(prices) == 500
    assert all(type(row["vwap"]) is float for row in sold.json)
    assert " more rows." in sold.stderr
    assert told is not None
    assert told["capture"]["captured"] > 1000
    report = answer.json
    assert (report["ok"], report["missing"]) == (True, 0)
    assert all(stream["stages"]["truth"]["count"] > 0 for stream in report["streams"])
    assert any(note.startswith("The simulator goes on: ") for note in report["notes"])
