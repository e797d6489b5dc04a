"""What makes a drill green: a report with one thing wrong is red."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import ManualClock
from forebay.lab.drills import run as running
from forebay.lab.drills.plan import Drill, Timing
from forebay.lab.drills.report import AlertSeen, DrillReport
from forebay.lab.drills.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

GOOD = ["closed", "open", "half_open", "closed"]
ACCOUNT = dict.fromkeys(("withheld", "missing", "doubled", "mutated", "gaps"), 0) | {
    "produced": 10,
    "stored": 10,
}


async def nothing(stage: Stage) -> None:
    """No act."""


@dataclass
class FakeAlarms:
    alerts: list[AlertSeen]
    skipped: str = ""
    servers: list[Any] = field(default_factory=list)

    def seen(self, names: object) -> list[AlertSeen]:
        return self.alerts


def stage(root: Path, *, gaps: bool = False) -> Stage:
    drill = Drill("some", "about", nothing, ("store",), gaps=gaps)
    made = Stage(drill, root, 1, Timing(), ManualClock())
    made.fault_hits, made.recovery_s = 3, 1.5
    for at, now in enumerate(GOOD[1:]):
        made.watch._moves.setdefault("store", {})[(str(at), now)] = None
    return made


def judged(
    made: Stage, account: dict[str, int] = ACCOUNT, alarms: FakeAlarms | None = None
) -> DrillReport:
    return running._report(made, account, alarms, 9.0)  # type: ignore[arg-type]


def test_a_run_in_which_all_went_well_is_green_and_says_so_in_json(tmp_path: Path) -> None:
    report = judged(stage(tmp_path))
    told = json.loads(report.encode())

    assert told["ok"]
    assert told["fault_happened"]
    assert {"name", "produced", "withheld", "stored", "missing", "doubled", "mutated"} <= set(told)
    assert {"recovery_s", "peak_rss_mb", "peak_disk_mb", "servers"} <= set(told)
    assert told["breakers"] == {"store": GOOD}


@pytest.mark.parametrize("lost", ["missing", "doubled", "mutated"])
def test_one_event_that_is_lost_doubled_or_altered_is_red(tmp_path: Path, lost: str) -> None:
    assert not judged(stage(tmp_path), {**ACCOUNT, lost: 1}).ok


def test_nothing_stored_is_red(tmp_path: Path) -> None:
    assert not judged(stage(tmp_path), {**ACCOUNT, "stored": 0}).ok


def test_a_fault_that_never_happened_is_red(tmp_path: Path) -> None:
    made = stage(tmp_path)
    made.fault_hits = 0

    report = judged(made)
    assert (report.ok, report.fault_happened) == (False, False)


def test_no_recovery_is_red(tmp_path: Path) -> None:
    made = stage(tmp_path)
    made.recovery_s = None

    assert not judged(made).ok


@pytest.mark.parametrize(
    "went",
    [[], ["open"], ["open", "half_open"], ["open", "closed"], ["half_open", "closed"]],
)
def test_a_breaker_that_did_not_open_probe_and_close_is_red(
    tmp_path: Path, went: list[str]
) -> None:
    made = stage(tmp_path)
    made.watch._moves["store"] = {(str(at), now): None for at, now in enumerate(went)}

    assert not judged(made).ok


@pytest.mark.parametrize(("fired", "cleared"), [(True, False), (False, False)])
def test_an_alert_that_did_not_fire_or_clear_is_red(
    tmp_path: Path, fired: bool, cleared: bool
) -> None:
    assert judged(stage(tmp_path), alarms=FakeAlarms([AlertSeen("A", True, True)])).ok
    assert not judged(stage(tmp_path), alarms=FakeAlarms([AlertSeen("A", fired, cleared)])).ok


def test_any_check_that_failed_is_red(tmp_path: Path) -> None:
    made = stage(tmp_path)
    made.check("something", ok=False)

    assert not judged(made).ok


async def test_the_account_counts_what_happened_and_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(tmp_path)
    _answers(monkeypatch, gaps=[{"state": "filled"}])

    account = await running._account(made)

    assert account["produced"] == 51
    assert account["withheld"] == 3
    assert (account["stored"], account["gaps"]) == (51, 1)
    assert all(check.ok for check in made.checks)


@pytest.mark.parametrize(
    ("gaps", "wanted", "ok"),
    [
        ([], False, True),
        ([], True, False),
        ([{"state": "filled"}], True, True),
        ([{"state": "filled"}, {"state": "open"}], True, False),
        ([{"state": "permanent"}], False, False),
    ],
)
async def test_a_hole_that_must_be_is_declared_and_filled(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gaps: list[dict[str, str]],
    wanted: bool,
    ok: bool,
) -> None:
    made = stage(tmp_path, gaps=wanted)
    _answers(monkeypatch, gaps=gaps)

    await running._account(made)

    assert all(check.ok for check in made.checks) is ok


async def test_a_red_audit_is_red_and_its_words_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(tmp_path)
    _answers(monkeypatch, gaps=[], problems=[{"text": "3 events are missing."}])

    await running._account(made)

    assert [check.what for check in made.checks if not check.ok] == [
        "the audit is green: 3 events are missing."
    ]


def _answers(
    monkeypatch: pytest.MonkeyPatch,
    *,
    gaps: list[dict[str, str]],
    problems: list[dict[str, str]] | None = None,
) -> None:
    async def truth(_: Stage) -> dict[str, Any]:
        return {"symbols": {"A": {"first": 100, "last": 150}, "B": {"first": None, "last": 99}}}

    async def withheld(_: Stage) -> dict[str, Any]:
        return {"A": {"certain": [(101, 102, "x")], "in_doubt": [(107, 107, "y")]}}

    async def audit(_: Stage) -> dict[str, Any]:
        return {
            "ok": not problems,
            "problems": problems or [],
            "streams": [{"stages": {"store": {"count": 51}}}, {"stages": {}}],
            "gaps": gaps,
            **dict.fromkeys(("missing", "doubled", "mutated"), 0),
        }

    for method in (truth, withheld, audit):
        monkeypatch.setattr(Stage, method.__name__, method)
