"""Massive from the command line: what is captured of the simulator is its truth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import capture, connected, forebay, process

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "forebay-lab"


@pytest.mark.parametrize(
    ("market", "symbols"),
    [
        ("forex", "EUR-USD,GBP-USD"),
        pytest.param("crypto", "BTC-USD,ETH-USD", marks=pytest.mark.drill),
    ],
)
def test_a_capture_is_the_truth_and_the_key_is_in_nothing_of_it(
    tmp_path: Path, market: str, symbols: str
) -> None:
    data, secrets, file = (tmp_path / name for name in ("data", "secrets.toml", "forebay.toml"))
    secrets.write_text(f'key = "{SECRET}"\n')
    asked = ("--symbols", symbols, "--rate", 400, "--start", "now")
    with process("lab", "serve", "massive", *asked) as lab:
        assert lab.stdout is not None
        urls = json.loads(lab.stdout.readline())
        told = {
            "name": "massive",
            "market": market,
            "symbols": symbols.split(","),
            "ws_url": f"{urls['ws_url']}/{{market}}",
            "rest_url": urls["rest_url"],
            "credentials_file": str(secrets),
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
        file.write_text("\n".join(["[[venues]]", *lines]))
        checked = forebay("check", "-c", file, "--data", data)
        assert checked.code == 0, checked
        with capture(data, file=file) as running:
            connected(running)
            running.captured(200)
            answer = forebay("audit", "--data", data, "--truth", urls["truth_url"], "--json")
            running.stop()
    assert answer.code == 0, answer
    streams = {(stream["channel"], stream["market"]) for stream in answer.json["streams"]}
    assert streams >= {("quote", market), ("bar", market)}
    compared = [each for each in answer.json["streams"] if each["stages"].get("truth")]
    assert {each["channel"] for each in compared} >= {"quote"}
    kept = [path for path in data.rglob("*") if path.is_file()]
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert SECRET not in running.log.read_text()
