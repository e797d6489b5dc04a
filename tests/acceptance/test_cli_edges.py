"""Commands in places that are seldom visited: after a reboot, with odd values, from a file."""

from __future__ import annotations

import json
import subprocess
from fractions import Fraction
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

import forebay as package
from forebay.app.wiring.data_folder import DataFolder
from forebay.cli.sql import Format, write
from forebay.lab.commands import FOREBAY
from tests.support import made_recording as made
from tests.support.commands import environment, forebay, refused

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    recording, data = tmp_path / "a.rec", tmp_path / "data"
    recording.write_bytes(made.rec())
    assert forebay("replay", recording, "--venue", "coinbase", "--data", data).code == 0
    return data


def test_the_journal_can_be_read_after_a_reboot(data: Path) -> None:
    watermark = DataFolder(data).journal / "watermark"
    for verb in ("export", "tail"):
        watermark.unlink()
        answer = forebay("journal", verb, "--data", data)
        assert (answer.code, answer.stderr) == (0, "")
        assert json.loads(answer.stdout.splitlines()[-1])["kind"] == 1


def test_fill_takes_the_folder_from_its_file(tmp_path: Path) -> None:
    DataFolder(tmp_path / "elsewhere").create()
    file = tmp_path / "forebay.toml"
    file.write_text(f'data = "{tmp_path / "elsewhere"}"\n')
    answer = forebay("gaps", "fill", "-c", file, "--json", cwd=tmp_path)
    assert (answer.code, answer.stderr) == (0, "")
    assert answer.json == {"open": 0, "filled": 0, "permanent": 0, "accepted": 0}
    flagged = forebay("gaps", "fill", "-c", file, "--data", tmp_path / "none", cwd=tmp_path)
    refused(flagged, 2, "none is not a Forebay data folder")


def test_what_is_no_number_is_said_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    odd = [float("nan"), float("inf"), 1.5]
    table = pa.table({"a": odd, "b": [odd] * 3, "c": [{"d": cell} for cell in odd]})

    write(table, Format.json)

    expected = ["NaN", "Infinity", 1.5]
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == [
        {"a": cell, "b": expected, "c": {"d": cell}} for cell in expected
    ]


LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_people_write_is_utf_8_in_any_locale(tmp_path: Path, mark: str) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text(f'{mark}collector = "Zürich ✓"  # é\n', encoding="utf-8")
    answer = forebay("check", "--explain", "-c", file, env=LOCALE, cwd=tmp_path)
    assert answer.code == 0, answer
    assert "Zürich ✓" in answer.stdout


@pytest.mark.drill
def test_commands_print_what_they_have_in_any_locale(data: Path) -> None:
    for command in (
        ["sql", "SELECT chr(10003) AS a"],
        ["audit"],
        ["gaps", "list"],
        ["dlq", "list"],
    ):
        answer = forebay(*command, "--data", data, env=LOCALE)
        assert answer.code in (0, 1), answer
        assert "Traceback" not in answer.stderr
    for query in ("SELECT chr(10003) AS a", "SELECT '✓' AS a"):
        assert "✓" in forebay("sql", query, "--data", data, env=LOCALE).stdout


def test_a_folder_that_this_locale_cannot_spell_is_refused(tmp_path: Path) -> None:
    recording = tmp_path / "a.rec"
    recording.write_bytes(made.rec())
    there = ("--venue", "coinbase", "--data", tmp_path / "é")
    refused(forebay("replay", recording, *there, env=LOCALE), 2, "LC_ALL=C.UTF-8")


@pytest.mark.parametrize(
    "closed",
    [
        *(pytest.param(one, marks=pytest.mark.drill) for one in ("0<&-", "1>&-", "2>&-")),
        "0<&- 1>&- 2>&-",
    ],
)
def test_commands_do_without_the_streams_that_are_closed(data: Path, closed: str) -> None:
    for command in (["--version"], ["--help"], ["sql", "SELECT 1"], ["journal", "fsck"]):
        place = ["--data", str(data)] if "-" not in command[0] else []
        done = subprocess.run(
            ["bash", "-c", f'exec {closed}; exec "$@"', "sh", *FOREBAY, *command, *place],
            env=environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, command
        assert b"Traceback" not in done.stderr


def test_a_mean_price_by_volume_is_one_plain_query(data: Path) -> None:
    query = "SELECT sum(price*size)/sum(size) AS vwap FROM trades"
    rows = forebay("sql", "SELECT price, size FROM trades", "--data", data, "--json").json
    trades = [(Fraction(row["price"]), Fraction(row["size"])) for row in rows]
    exact = Fraction(sum(price * size for price, size in trades)) / sum(size for _, size in trades)
    (told,) = forebay("sql", query, "--data", data, "--json").json
    assert abs(Fraction(told["vwap"]) / exact - 1) < Fraction(1, 10**12)
    assert package.open(data).sql(query)["vwap"].to_pylist() == [told["vwap"]]
