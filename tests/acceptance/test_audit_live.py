"""The audit against a simulator's truth while both the simulator and the capture go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.commands import capture, connected, forebay, simulator

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_under_way_is_not_missing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with (
        simulator("--rate", "500", "--start", "now") as lab,
        capture(data, *lab.flags) as running,
    ):
        connected(running)
        running.captured(1000)
        answer = forebay("audit", "--data", data, "--truth", lab.truth_url, "--json")
        told = running.told()
    assert answer.code == 0, answer
    assert told is not None
    assert told["capture"]["captured"] > 1000
    report = answer.json
    assert (report["ok"], report["missing"]) == (True, 0)
    assert all(stream["stages"]["truth"]["count"] > 0 for stream in report["streams"])
    assert "The simulator goes on: what it sends from now on is not owed yet." in report["notes"]
