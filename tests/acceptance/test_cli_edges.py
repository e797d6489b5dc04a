"""Commands in places that are seldom visited: after a reboot, with odd values, from a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from forebay.app.data_folder import DataFolder
from forebay.cli.sql import Format, write
from tests.support import made_recording as made
from tests.support.commands import forebay, refused

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


def test_what_is_no_number_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    odd = [float("nan"), float("inf"), 1.5]
    table = pa.table({"a": odd, "b": [odd] * 3, "c": [{"d": cell} for cell in odd]})

    write(table, Format.json)

    expected = [None, None, 1.5]
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == [
        {"a": cell, "b": expected, "c": {"d": cell}} for cell in expected
    ]
