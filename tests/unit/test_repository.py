"""The root of the repository keeps its promises: locks, decision records, make and CI."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import forebay
from tests.conftest import LeftTheHost, is_local

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ["run.lock", "dev.lock", "pip.lock"]
RECORDS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
QUIET = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
"""The environment without what an outer `make test` tells an inner make."""
SECTIONS = ["## Context", "## Decision", "## Consequences", "## Rejected"]


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _normal(requirement: str) -> str:
    """The normalised name of the package that a requirement asks for."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def unhashed(lock: str) -> list[str]:
    """Pins of a lock that no hash guards."""
    entries = re.split(r"\n(?=\S)", lock)
    return [
        entry.split()[0]
        for entry in entries
        if "==" in entry and not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)
    ]


def foreign(lock: str) -> list[str]:
    """Lines of a lock that name a host, a path, an index or an unpinned package."""
    allowed = re.compile(
        r"#.*"
        r"|[a-z0-9-]+==[0-9a-z.+]+( ; [A-Za-z_<>=!' .0-9]+)? \\"
        r"|    --hash=sha256:[0-9a-f]{64}( \\)?"
        r"|"
    )
    secret = re.compile(r"://|(^|\s)/|--(extra-)?index|--find|@ ")
    lines = lock.splitlines()
    return [line for line in lines if not allowed.fullmatch(line) or secret.search(line)]


def pins(lock: str) -> Mapping[str, set[str]]:
    """Versions by normalised name; more than one where a marker chooses."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


# --------------------------------------------------------------------------- locks


@pytest.mark.parametrize("name", [*LOCKS, "bench.lock"])
def test_a_lock_is_hashed_and_names_no_host(name: str) -> None:
    lock = _read(f"requirements/{name}")
    assert pins(lock)
    assert unhashed(lock) == []
    assert foreign(lock) == []


def test_the_locks_hold_everything_that_is_asked_for() -> None:
    run, dev, pip = (pins(_read(f"requirements/{name}")) for name in LOCKS)
    groups = PROJECT["dependency-groups"]
    asked = [*PROJECT["project"]["dependencies"], *groups["build"]]
    assert {_normal(item) for item in asked} <= run.keys()
    assert pip.keys() == {"pip"}
    assert {_normal(item) for item in groups["dev"] if isinstance(item, str)} <= dev.keys()


def test_tests_run_with_the_versions_that_users_run() -> None:
    run, dev, _ = (pins(_read(f"requirements/{name}")) for name in LOCKS)
    assert {name: dev.get(name) for name in run} == run


HASHED = f"aiohttp==3.1 \\\n    --hash=sha256:{'a' * 64}\n"


@pytest.mark.parametrize(
    "line",
    [
        "aiohttp>=3.1",
        "aiohttp @ https://host.example/aiohttp.whl",
        "--index-url https://host.example/simple",
        "--find-links /somewhere",
        "aiohttp==3.1",
    ],
)
def test_a_bad_line_in_a_lock_is_seen(line: str) -> None:
    assert foreign(HASHED) == []
    assert foreign(f"{HASHED}{line}\n") == [line]


def test_a_pin_without_a_hash_is_seen() -> None:
    assert unhashed(f"{HASHED}duckdb==2.0 \\\n    --hash=sha256:short\n") == ["duckdb==2.0"]


# --------------------------------------------------------------------------- decisions


def test_decision_records_are_numbered_without_holes() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_decision_record_is_short_and_whole(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    assert re.search(r"^Status: (accepted|superseded by \d{4})", text, re.MULTILINE)
    assert len(text.splitlines()) < 60
    assert f"({path.name})" in _read("docs/adr/README.md")


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?![a-z]+:|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


# --------------------------------------------------------------------------- make and CI


def test_the_changelog_speaks_of_what_is_not_released_and_of_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", _read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == forebay.__version__
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in headings[1:])


def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", _read("Makefile"), re.MULTILINE)
    assert phony
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, env=QUIET, capture_output=True, text=True, check=True
    ).stdout
    assert set(re.findall(r"^  make ([\w-]+)", shown, re.MULTILINE)) == set(phony.group(1).split())


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        (
            f'exec {sys.executable} -c "import sys; sys.version_info = (3, 10, 14); $2"',
            "Forebay needs Python 3.11 or newer",
        ),
        ("exit 127", "Forebay needs Python 3.11 or newer"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "cannot make virtual environments"),
    ],
)
def test_make_setup_says_what_is_missing(tmp_path: Path, python: str, sentence: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{python}\n", encoding="utf-8")
    fake.chmod(0o700)
    for name in (*(f"requirements/{name}" for name in LOCKS), "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    result = subprocess.run(
        ["make", "setup", f"PYTHON={fake}"],
        cwd=tmp_path,
        env=QUIET,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert sentence in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_what_a_person_types() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "set -euo pipefail" in _read(".ci/run")
    assert "make test" in _read(".ci/run")


# --------------------------------------------------------------------------- loopback only


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        (b"localhost", True),
        (None, True),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("exchange.example", False),
        ("localhost.exchange.example", False),
    ],
)
def test_only_loopback_is_local(host: object, local: bool) -> None:
    assert is_local(host) is local


def test_a_test_cannot_leave_the_host() -> None:
    with pytest.raises(LeftTheHost), socket.socket() as outward:
        outward.connect(("192.0.2.1", 9))
    with pytest.raises(LeftTheHost):
        socket.getaddrinfo("exchange.example", 443)


# --------------------------------------------------------------------------- README


def promises(text: str) -> list[tuple[str, str]]:
    """The tests that a page names, each with its file as seen from the root."""
    files = dict(re.findall(r"^\[(\w+)\]: (\S+)$", text, re.MULTILINE))
    named = re.findall(r"\[`(test_\w+)`\](?:\((?:\.\./)?(\S+?)\)|\[(\w+)\])", text)
    return [(name, path or files[key]) for name, path, key in named]


@pytest.mark.parametrize("page", ["README.md", "docs/promises.md"])
def test_every_promise_names_a_test_that_exists(page: str) -> None:
    named = promises(_read(page))
    assert len(named) >= 6
    for name, path in named:
        assert re.search(rf"^(async )?def {name}\(", _read(path), re.MULTILINE), name


def test_the_readme_promises_six_things_and_the_page_all() -> None:
    named = promises(_read("README.md"))
    assert len(named) == 6
    assert {*named} < {*promises(_read("docs/promises.md"))}


def test_the_readme_fits_80_columns() -> None:
    assert [line for line in _read("README.md").splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)", _read("README.md")))
def test_a_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
