"""Housekeeping in the running processes: what is stored gets sealed, or goes, and all is proved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import SystemClock
from forebay.services.ledger import read_ledger
from tests.support.commands import capture, forebay, simulator, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Running

MARKET = ("--rate", 4000, "--events", 16_000, "--start", "now")
SMALL = {"FOREBAY_JOURNAL__SEGMENT_MB": "1"}


def segments(running: Running) -> list[dict[str, Any]]:
    answer = forebay("journal", "inspect", "--data", running.folder.root, "--json")
    assert answer.code == 0, answer
    found: list[dict[str, Any]] = answer.json
    return found


def kept_until(data: Path, env: dict[str, str], sealed: bool) -> list[dict[str, Any]]:
    """Capture a market; the segments once all but the last are sealed, or there is no other."""

    def look() -> list[dict[str, Any]] | None:
        found = segments(running)
        older = [each["state"] for each in found[:-1]]
        done = set(older) == {"sealed"} if sealed else not older
        return found if done and found[-1]["next_seq"] > 16_000 else None

    with simulator(*MARKET, seed=5) as lab, capture(data, *lab.flags, env=SMALL | env) as running:
        running.captured(16_000)
        found = wait_for(look, f"what housekeeping does (log: {running.log})")
        audit = forebay("audit", "--data", data, "--truth", lab.truth_url, "--json")
        assert audit.code == 0, audit
        assert running.stop() == 0
    assert forebay("journal", "fsck", "--data", data).code == 0
    return found


@pytest.mark.drill
def test_what_is_stored_is_sealed_while_a_capture_runs(tmp_path: Path) -> None:
    found = kept_until(tmp_path / "data", {}, sealed=True)
    assert len(found) > 3
    assert found[0]["first_seq"] == 1
    assert all(each["ratio"] > 2 for each in found[:-1])
    status = forebay("status", "--data", tmp_path / "data", "--json").json["journal"]
    assert status["sealed"] >= len(found) - 1
    assert status["gb_per_day_on_disk"] < status["gb_per_day"]
    entries = read_ledger(tmp_path / "data" / "ledger", SystemClock())
    # What is read from segments ends with one; what delivery summed up goes as far as that is.
    assert entries[-1].end > found[-1]["first_seq"]
    exported = forebay("journal", "export", "--data", tmp_path / "data", "--to", 50)
    assert len(exported.stdout.splitlines()) == 49


@pytest.mark.drill
def test_what_is_kept_for_no_time_goes_while_a_capture_runs(tmp_path: Path) -> None:
    (last,) = kept_until(tmp_path / "data", {"FOREBAY_JOURNAL__RETAIN": "0"}, sealed=False)
    assert last["first_seq"] > 10_000
    logged = (tmp_path / "data.log").read_text() if (tmp_path / "data.log").exists() else ""
    assert "Traceback" not in logged
