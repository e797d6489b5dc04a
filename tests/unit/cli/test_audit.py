"""``forebay audit``: where it looks, and what it exits with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from typer.testing import CliRunner

from forebay.cli.main import app
from forebay.services.audit import AuditReport
from tests.support.audit_scale import make

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand events, a ledger, and no frame."""
    root = tmp_path_factory.mktemp("audited")
    make(root, 2000)
    return root


def run(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["audit", "--data", str(folder), *options])


@pytest.mark.parametrize("options", [(), ("--from", "auto"), ("--from", "ledger")])
def test_the_ledger_is_looked_at_by_default(folder: Path, options: tuple[str, ...]) -> None:
    done = run(folder, "--json", *options)

    assert done.exit_code == 0
    report = msgspec.json.decode(done.stdout, type=AuditReport)
    assert report.ok
    assert report.verified_by == ["ledger"]
    assert [each.verified_by for each in report.streams] == [["ledger"], ["ledger"]]


def test_the_table_says_what_was_used(folder: Path) -> None:
    done = run(folder)

    assert done.exit_code == 0
    assert "Nothing lost: 2,000 events stored" in done.stdout


def test_frames_that_are_gone_prove_nothing(folder: Path) -> None:
    done = run(folder, "--json", "--from", "frames")

    assert done.exit_code == 1
    report = msgspec.json.decode(done.stdout, type=AuditReport)
    assert {"nothing_verified", "journal_short"} <= {each.kind for each in report.problems}
    assert report.verified_by == []


def test_a_source_that_is_none_is_a_wrong_command_line(folder: Path) -> None:
    assert run(folder, "--from", "memory").exit_code == 2


def test_a_ledger_that_is_insisted_on_and_not_there_is_a_wrong_command_line(
    tmp_path: Path, folder: Path
) -> None:
    other = tmp_path / "other"
    make(other, 10)
    for path in (other / "ledger").iterdir():
        path.unlink()

    done = run(other, "--from", "ledger")

    assert done.exit_code == 2
    assert "There is no ledger yet." in done.stderr


def test_the_html_report_says_of_which_folder_it_is(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert run(folder, "--html", str(file)).exit_code == 0
    assert f"of the data in {folder}." in file.read_text(encoding="utf-8")
    lost = run(folder, "--html", str(tmp_path / "no" / "report.html"))
    assert lost.exit_code == 2
    assert "cannot be written" in lost.stderr
