"""`forebay check` says all that is wrong at once, and makes nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from forebay.app.offline import preflight
from forebay.app.wiring.data_folder import DataFolder
from tests.support.commands import OURS, invoked

if TYPE_CHECKING:
    from pathlib import Path

NOWHERE = 'ws_url = "ws://127.0.0.1:9"\nrest_url = "http://127.0.0.1:9"\n'
VENUE = '[[venues]]\nname = "coinbase"\nsymbols = ["BTC-USD"]\n'
WRONG = """
jurnal = 1
[resilience]
critical = ["coinbase-reest"]
[resilience.store]
timeout_s = 5
[[venues]]
name = "coinbse"
symbols = ["BTC-USD"]
[[venues]]
name = "coinbase"
symbols = ["BTC-USD"]
ws_url = "here"
rest_url = "there"
market = "perp"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start commands in an empty folder, with nothing of Forebay in the environment."""
    for name in [*os.environ]:
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "TRIES", 1)
    return tmp_path


def tree(root: Path) -> list[tuple[str, int, int]]:
    """Return everything that is there, with sizes and times."""
    there = sorted([root, *root.rglob("*")])
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in there]


@pytest.mark.parametrize("data", ["new/data", "empty", "old", "made"])
def test_it_makes_nothing(here: Path, data: str) -> None:
    (here / "empty").mkdir()
    DataFolder(here / "made").create()
    DataFolder(here / "old").create()
    (here / "old" / "FOREBAY").write_text("Forebay data folder, layout 1\n")
    (here / "forebay.toml").write_text(VENUE + NOWHERE)
    before = tree(here)

    answer = invoked("check", "--data", data, "--json")

    assert tree(here) == before
    assert answer.code == 3
    parts = {part["part"]: part for part in answer.json["parts"]}
    assert parts["data folder"]["ok"] is (data != "old")
    assert ("forebay rebuild" in parts["data folder"]["text"]) is (data == "old")


def test_it_makes_no_byte_code_of_a_plugin(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(here)
    (here / "a_plugin_of_mine.py").write_text("VENUE = 1\n")
    (here / "forebay.toml").write_text(
        '[[venues]]\nname = "mine"\nsymbols = ["A"]\nplugin = "a_plugin_of_mine:VENUE"\n'
    )
    before = tree(here)
    assert invoked("check").code == 2
    assert tree(here) == before


def test_everything_that_is_wrong_is_said_in_one_go(here: Path) -> None:
    (here / "forebay.toml").write_text(WRONG)
    (here / "file").write_text("")

    answer = invoked("check", "--data", "file/data")

    assert answer.code == 2
    errors = answer.stderr.splitlines()
    assert all(line.startswith("error: ") for line in errors)
    for each in (
        *("'jurnal'", "'coinbase-reest'", "[resilience.store]", "'coinbse'"),
        *("The ws_url of coinbase", "The rest_url of coinbase", "no market 'perp'"),
    ):
        assert sum(each in line for line in errors) == 1, each
    assert len(errors) == 7
    assert "no data folder: " in answer.stdout
    assert "file/data cannot be used" in answer.stdout
    parts = invoked("check", "--data", "file/data", "--json").json["parts"]
    assert [part["part"] for part in parts] == ["configuration"] * 7 + ["data folder"]
    assert not any(part["ok"] for part in parts)


def test_a_start_says_all_of_it_too(here: Path) -> None:
    (here / "forebay.toml").write_text(WRONG)
    answer = invoked("run")
    assert answer.code == 2
    assert len(answer.stderr.splitlines()) == 7
    assert [path.name for path in here.iterdir()] == ["forebay.toml"]


def test_values_are_explained_as_people_write_them(here: Path) -> None:
    (here / "forebay.toml").write_text(
        f"{VENUE}{NOWHERE}stale_after_s = 5\n[resilience.rest]\nfailure_threshold = 9\n"
    )
    lines = invoked("check", "--explain").stdout.splitlines()
    for line in (
        "venues[0].symbols = BTC-USD  (forebay.toml)",
        "venues[0].stale_after_s = 5.0  (forebay.toml)",
        "store.parquet = true  (default)",
        "journal.retain_gb = not set  (default)",
        "resilience.rest.failure_threshold = 9  (forebay.toml)",
        "resilience.websocket.failure_threshold = 3  (default)",
        "resilience.store.recovery_timeout_s = 60.0  (default)",
    ):
        assert line in lines
    assert max(map(len, lines)) <= 80
    assert not any(sign in line for line in lines for sign in ("{", "None", "True", "('"))
    rows = {row["key"]: row["value"] for row in invoked("check", "--explain", "--json").json}
    assert rows["resilience.websocket.failure_threshold"] == 3
    assert rows["venues"][0]["symbols"] == ["BTC-USD"]


@pytest.mark.parametrize(
    ("symbol", "ok", "said"),
    [
        ("KXB", False, 'there is no KXB; all of a series are "KXB-*". See `forebay symbols'),
        ("kxa-*", True, "answers, 0 markets now, none of kxa-*: upper and lower case differ"),
    ],
)
def test_a_pattern_that_stands_for_nothing_and_a_series_are_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, symbol: str, ok: bool, said: str
) -> None:
    async def nothing(*_: object) -> list[str]:
        return []

    monkeypatch.setattr(preflight, "_listed_now", nothing)
    (here / "forebay.toml").write_text(f'[[venues]]\nname = "kalshi"\nsymbols = ["{symbol}"]\n')
    parts = {part["part"]: part for part in invoked("check", "--json").json["parts"]}
    assert parts["kalshi REST"]["ok"] is ok
    assert str(parts["kalshi REST"]["text"]).startswith(said)


def test_secrets_that_everybody_may_read_are_warned_of(here: Path) -> None:
    (here / "secrets.toml").write_text('key = "top secret"\n')
    (here / "secrets.toml").chmod(0o644)
    (here / "forebay.toml").write_text(VENUE + NOWHERE + 'credentials_file = "secrets.toml"\n')
    said = {part["part"]: part for part in invoked("check", "--json").json["parts"]}["secrets"]
    assert said["ok"] is True
    assert str(said["text"]).endswith("Run: chmod 600 secrets.toml")
