"""``forebay demo``: where its data goes, and what it leaves."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring.data_folder import DataFolder
from forebay.lab.drills.kill import KillDrill
from tests.support.commands import invoked
from tests.unit.services.test_audit_views import report

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.services.audit import AuditReport


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a demo keeps its data; the demo itself only writes a file there."""

    async def run(self: KillDrill) -> AuditReport:
        (self.folder.root / "forebay.toml").write_text(str(self.plan.seed))
        return report()

    monkeypatch.setattr(KillDrill, "run", run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    return tmp_path / "cache" / "forebay" / "demo"


def test_a_demo_replaces_the_data_of_the_one_before(cache: Path) -> None:
    for seed in ("1", "2"):
        done = invoked("demo", "--seed", seed)
        assert done.code == 0, done
        assert f"The data is in {cache}." in done.stdout
        assert (cache / "forebay.toml").read_text() == seed
    assert DataFolder(cache).existing().root == cache
    assert sorted(path.name for path in cache.parent.iterdir()) == ["demo", "demo.lock"]


def test_what_is_no_data_folder_is_never_removed(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "letter").write_text("mine")

    assert invoked("demo").code == 2
    assert (cache / "letter").read_text() == "mine"


def test_the_next_command_is_one_line(cache: Path) -> None:
    shown = invoked("demo").stdout.rstrip().splitlines()[-1]
    assert shown.endswith(f'sql "FROM trades LIMIT 2" --data {cache}')


def test_a_folder_that_holds_something_is_not_captured_into(cache: Path, tmp_path: Path) -> None:
    kept = DataFolder(tmp_path / "mine").create().root
    before = sorted(kept.iterdir())

    done = invoked("demo", "--keep", kept)
    assert (done.code, "is not empty" in done.stderr) == (2, True)
    assert sorted(kept.iterdir()) == before
    assert invoked("demo", "--keep", tmp_path / "new").code == 0
    assert not cache.exists()
