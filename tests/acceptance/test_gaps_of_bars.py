"""`forebay gaps check` and `fill` on recordings of forex: all that is lost, and nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import duckdb
import pytest

from forebay.app.wiring.data_folder import DataFolder
from forebay.lab.commands import FOREBAY
from tests.acceptance.test_backfill_massive import ended, recorded
from tests.support.commands import environment

if TYPE_CHECKING:
    from pathlib import Path

QUIET = 124
"""Minutes without quotes in the recording of GBP-USD: 120 within weeks and 4 at their ends."""


async def gaps(tmp_path: Path, verb: str, *more: str, code: int) -> str:
    process = await asyncio.create_subprocess_exec(
        *(*FOREBAY, "gaps", verb, "-c", str(tmp_path / "forebay.toml"), "--json", *more),
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == code, said.decode() + out.decode()
    return out.decode()


async def missing(tmp_path: Path, *, code: int) -> dict[str, tuple[int, int]]:
    told = json.loads(await gaps(tmp_path, "check", code=code))
    return {each["symbol"]: (each["missing"], each["expected"]) for each in told}


def lose(tmp_path: Path, *hours: str) -> None:
    database = DataFolder(tmp_path / "data").database("duckdb")
    with duckdb.connect(str(database)) as connection:
        for hour in hours:
            connection.execute(
                "DELETE FROM bars WHERE symbol = 'EUR-USD' AND date_trunc('hour', open_ts) = ?",
                [hour],
            )


@pytest.mark.drill
async def test_only_what_is_lost_is_missing_and_it_comes_back(tmp_path: Path) -> None:
    async with recorded(tmp_path) as (served, _):
        await ended(tmp_path, "EUR-USD")
        assert await missing(tmp_path, code=0) == {"EUR-USD": (0, 6225)}
        lose(
            tmp_path,
            "2017-01-01 22:00:00",  # the first bar
            "2017-03-12 21:00:00",  # the first one after New York changed its clocks
            "2017-12-25 07:00:00",  # the last one before the break at Christmas
            "2017-12-29 21:00:00",  # the last bar
        )
        assert await missing(tmp_path, code=1) == {"EUR-USD": (4, 6225)}
        counts = json.loads(await gaps(tmp_path, "fill", "--rest-url", served.rest_url, code=0))
        assert (counts["open"], counts["filled"]) == (0, 4)
        assert await missing(tmp_path, code=0) == {"EUR-USD": (0, 6225)}


async def test_minutes_without_quotes_are_all_that_the_recording_lacks(tmp_path: Path) -> None:
    async with recorded(tmp_path) as _:
        await ended(tmp_path, "GBP-USD")
        assert (await missing(tmp_path, code=1))["GBP-USD"][0] == QUIET
