"""The demonstration that a newcomer sees first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from forebay.lab.commands import running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(180)
async def test_the_demo_kills_three_times_and_proves_that_nothing_was_lost(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "demo"
    arguments = ("demo", "--seconds", "8", "--seed", "5", "--keep", str(folder), "--json")
    async with running(*arguments) as process:
        stdout, _ = await process.communicate()
    report = json.loads(stdout)

    assert process.returncode == 0
    assert report["ok"]
    assert [report[name] for name in ("missing", "doubled", "mutated", "spurious")] == [0, 0, 0, 0]
    assert report["problems"] == []
    assert report["gaps"]
    assert {gap["state"] for gap in report["gaps"]} == {"filled"}
    died = [
        json.loads(line)["name"]
        for line in (folder / "run.log").read_text().splitlines()
        if '"event": "process_died"' in line
    ]
    assert sorted(died) == ["capture", "capture", "deliver"]
