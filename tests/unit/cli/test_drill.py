"""``forebay drill``: what it lists, refuses and answers."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from forebay.cli import drill as verb
from forebay.errors import Unreachable
from forebay.lab.drills import run as running
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import DrillCheck, DrillReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.lab.drills.plan import Drill, Timing


def invoke(*arguments: object) -> Any:  # noqa: ANN401
    return CliRunner().invoke(verb.app, [str(each) for each in arguments])


def report(drill: Drill, root: Path, seed: int, *, ok: bool) -> DrillReport:
    return DrillReport(
        name=drill.name, ok=ok, seed=seed, fault_happened=True, fault_hits=1, produced=9,
        withheld=0, stored=9, missing=0, doubled=0, mutated=0, recovery_s=1.0, peak_rss_mb=1.0,
        healthy_rss_mb=1.0, peak_disk_mb=1.0, servers=[], breakers={}, states=[], alerts=[],
        alerts_skipped="not asked for", checks=[DrillCheck("it held", ok)], took_s=1.0,
        folder=str(root),
    )  # fmt: skip


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, float]]:
    """Drills that are not run, but noted; one named emergency is red."""
    noted: list[tuple[str, int, float]] = []

    async def run_drill(
        drill: Drill,
        root: Path,
        *,
        seed: int,
        timing: Timing,
        say: Callable[[str], None],
        **_: object,
    ) -> DrillReport:
        say("something")
        noted.append((drill.name, seed, timing.fault_s))
        return report(drill, root, seed, ok=drill.name != "emergency")

    monkeypatch.setattr(running, "run_drill", run_drill)
    return noted


def test_the_list_has_every_drill_as_a_table_and_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # on a narrow terminal names are folded
    table, document = invoke("list"), invoke("list", "--json")

    assert [row["name"] for row in json.loads(document.stdout)] == list(DRILLS)
    assert all(name in table.stdout for name in DRILLS)


def test_drills_run_one_after_the_other_and_the_reports_are_written(
    ran: list[tuple[str, int, float]], tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    done = invoke(
        *("run", "rest-500", "rest-429", "--seed", 7, "--fault", 0.5),
        *("--report", file, "--keep", tmp_path / "kept", "--json"),
    )

    assert done.exit_code == 0
    assert ran == [("rest-500", 7, 0.5), ("rest-429", 7, 0.5)]
    assert [each["name"] for each in json.loads(done.stdout)] == ["rest-500", "rest-429"]
    assert json.loads(file.read_text()) == json.loads(done.stdout)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["rest-429", "rest-500"]


def test_all_is_every_drill_and_one_that_is_red_makes_it_1(
    ran: list[tuple[str, int, float]], tmp_path: Path
) -> None:
    done = invoke("run", "all", "--keep", tmp_path / "kept")

    assert done.exit_code == 1
    assert [name for name, *_ in ran] == list(DRILLS)
    assert "emergency: RED" in done.stdout
    assert "NO   it held" in done.stdout
    assert "rest-500: ok" in done.stdout


def test_an_unknown_drill_or_a_folder_in_use_is_2(
    ran: list[tuple[str, int, float]], tmp_path: Path
) -> None:
    (tmp_path / "there").write_text("something")

    assert invoke("run", "rest-501", "--keep", tmp_path / "kept").exit_code == 2
    assert invoke("run", "rest-500", "--keep", tmp_path).exit_code == 2
    assert ran == []


def test_a_part_that_cannot_be_had_is_3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def run_drill(*_: object, **__: object) -> DrillReport:
        raise Unreachable("The simulated exchange does not start.")

    monkeypatch.setattr(running, "run_drill", run_drill)

    assert invoke("run", "rest-500", "--keep", tmp_path / "kept").exit_code == 3


def test_what_green_drills_made_is_gone_and_what_red_ones_made_stays(
    ran: list[tuple[str, int, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    assert invoke("run", "rest-500").exit_code == 0
    assert not list(tmp_path.iterdir())
    red = invoke("run", "emergency")
    assert red.exit_code == 1
    (kept,) = tmp_path.iterdir()
    assert f"Data and logs are in {kept}." in red.stdout
    assert len(ran) == 2
