"""What makes a drill green: a report with one thing wrong is red."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import ManualClock
from forebay.lab.drills import run as running
from forebay.lab.drills.plan import AlertSeen, Drill, DrillReport, Timing
from forebay.lab.drills.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GOOD = ["closed", "open", "half_open", "closed"]


async def nothing(stage: Stage) -> None:
    """No act."""


def stage(root: Path, *, gaps: bool = False) -> Stage:
    drill = Drill("some", "About.", nothing, ("store",), gaps=gaps)
    made = Stage(drill, root, 1, Timing(), ManualClock())
    report = made.report
    report.fault_hits, report.recovery_s = 3, 1.5
    report.produced = report.stored = 10
    for at, now in enumerate(GOOD[1:]):
        made.watch._moves.setdefault("store", {})[(str(at), now)] = None
    return made


def judged(made: Stage, **changes: Any) -> DrillReport:  # noqa: ANN401
    """Return the report, with some of its fields changed before it is judged."""
    for name, value in changes.items():
        setattr(made.report, name, value)
    running._judge(made)
    return made.report


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
    assert not judged(stage(tmp_path), **{lost: 1}).ok


def test_nothing_stored_is_red(tmp_path: Path) -> None:
    assert not judged(stage(tmp_path), stored=0).ok


def test_a_fault_that_never_happened_is_red(tmp_path: Path) -> None:
    report = judged(stage(tmp_path), fault_hits=0)
    assert (report.ok, report.fault_happened) == (False, False)


def test_no_recovery_is_red(tmp_path: Path) -> None:
    assert not judged(stage(tmp_path), recovery_s=None).ok


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
    assert judged(stage(tmp_path), alerts=[AlertSeen("A", True, True)]).ok
    assert not judged(stage(tmp_path), alerts=[AlertSeen("A", fired, cleared)]).ok


def test_any_check_that_failed_is_red(tmp_path: Path) -> None:
    made = stage(tmp_path)
    made.check("something", ok=False)

    assert not judged(made).ok


async def test_the_account_counts_what_happened_and_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(tmp_path)
    _answers(monkeypatch, gaps=["filled"])

    made.report.produced = 0
    await running._count(made)

    assert (made.report.produced, made.report.withheld, made.report.stored) == (51, 3, 51)
    assert all(check.ok for check in made.report.checks)


@pytest.mark.parametrize(
    ("gaps", "wanted", "ok"),
    [
        ([], False, True),
        ([], True, False),
        (["filled"], True, True),
        (["filled", "open"], True, False),
        (["permanent"], False, False),
    ],
)
async def test_a_hole_that_must_be_is_declared_and_filled(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gaps: list[str],
    wanted: bool,
    ok: bool,
) -> None:
    made = stage(tmp_path, gaps=wanted)
    _answers(monkeypatch, gaps=gaps)

    await running._count(made)

    assert all(check.ok for check in made.report.checks) is ok


async def test_a_red_audit_is_red_and_its_words_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(tmp_path)
    _answers(monkeypatch, gaps=[], problems=["3 events are missing."])

    await running._count(made)

    assert [check.what for check in made.report.checks if not check.ok] == [
        "the audit is green: 3 events are missing."
    ]


def _answers(
    monkeypatch: pytest.MonkeyPatch,
    *,
    gaps: Sequence[str],
    problems: Sequence[str] = (),
) -> None:
    async def truth(_: Stage) -> dict[str, Any]:
        return {"symbols": {"A": {"first": 100, "last": 150}, "B": {"first": None, "last": 99}}}

    async def withheld(_: Stage) -> dict[str, Any]:
        return {"A": {"certain": [(101, 102, "x")], "in_doubt": [(107, 107, "y")]}}

    async def audit(_: Stage) -> SimpleNamespace:
        stored = {"store": SimpleNamespace(count=51)}
        return SimpleNamespace(
            ok=not problems,
            problems=[SimpleNamespace(text=text) for text in problems],
            streams=[SimpleNamespace(stages=stages) for stages in (stored, {})],
            gaps=[SimpleNamespace(state=state) for state in gaps],
            missing=0,
            doubled=0,
            mutated=0,
        )

    for method in (truth, withheld, audit):
        monkeypatch.setattr(Stage, method.__name__, method)
