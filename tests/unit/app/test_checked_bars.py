"""Bars that a store lost: found by a calendar, asked for, and closed, without a capture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest

from forebay.app.checked_bars import watched
from forebay.app.offline.download import download
from forebay.app.offline.download_plan import WantedBars
from forebay.app.offline.gaps import check_bars, fill_gaps
from forebay.app.reader import Data
from forebay.app.wiring import venues
from forebay.app.wiring.calendar_config import CalendarConfig
from forebay.app.wiring.config import Config, VenueConfig
from forebay.app.wiring.data_folder import DataFolder
from forebay.sources import coinbase
from forebay.sources.venue import Limits
from forebay.telemetry import ignore
from forebay.times import to_text
from tests.support.http_server import serving
from tests.support.made_history import BEGIN_S, DAY_S, MadeHistory, on_weekdays

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.services.gap_detector import CheckedBars

BTC, NS, MINUTE, HOUR = "BTC-USD", 10**9, 60, 3600
END_S = BEGIN_S + 9 * DAY_S
WEEKDAYS = CalendarConfig(name="weekdays", weekly=("Mon-Fri 00:00-24:00",))


@pytest.fixture(autouse=True)
def _unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    unpaced = replace(coinbase.VENUE, limits=Limits(rest=()))
    monkeypatch.setitem(venues.VENUES, "coinbase", unpaced)


def config(folder: Path, calendar: str = "weekdays") -> Config:
    captured = VenueConfig(name="coinbase", symbols=(BTC,), calendar=calendar)
    return Config(data=str(folder), venues=(captured,), calendars=(WEEKDAYS,))


async def downloaded(folder: Path, url: str, *timeframes: str) -> None:
    since, until = to_text(BEGIN_S * NS), to_text(END_S * NS)
    wish = WantedBars("coinbase", (BTC,), timeframes, since, until, rest_url=url)
    assert (await download(DataFolder(folder), config(folder), wish, ignore)).complete


def lose(folder: Path, *ranges: tuple[int, int], timeframe: str = "1m") -> int:
    """Take bars that open in ranges of seconds out of the database, as a bug of a store would."""
    with duckdb.connect(str(DataFolder(folder).database("duckdb"))) as connection:
        lost = 0
        for first, end in ranges:
            where = f"timeframe = '{timeframe}' AND epoch(open_ts) >= {first}"
            where += f" AND epoch(open_ts) < {end}"
            found = connection.execute(f"DELETE FROM bars WHERE {where}").fetchone()  # noqa: S608
            lost += found[0] if found else 0
        return lost


async def checked(folder: Path, calendar: str = "weekdays") -> dict[str, CheckedBars]:
    found = await check_bars(DataFolder(folder), config(folder, calendar), ignore)
    return {each.stream.channel: each for each in found}


def gaps(folder: Path) -> list[tuple[str, str, int, int]]:
    query = "SELECT state, channel, first, last FROM gaps WHERE reason = 'not_stored' ORDER BY ALL"
    return [
        (row["state"], row["channel"], row["first"] // NS, (row["last"] + 1) // NS)
        for row in Data(folder).sql(query).to_pylist()
    ]


HOLES = (
    (BEGIN_S, BEGIN_S + MINUTE),  # the first one
    (BEGIN_S + 90 * MINUTE, BEGIN_S + 91 * MINUTE),
    (BEGIN_S + 5 * HOUR, BEGIN_S + 9 * HOUR),
    (BEGIN_S + 2 * DAY_S, BEGIN_S + 3 * DAY_S),  # longer than a page
    (END_S - MINUTE, END_S),  # the last one
)
"""In seconds, each of them a gap of its own; the week-end from day 5 to day 7 is none."""


async def test_what_a_store_lost_is_found_filled_and_on_record(tmp_path: Path) -> None:
    history = MadeHistory(on_weekdays)
    async with serving(history.answer) as url:
        await downloaded(tmp_path, url, "1m", "1h")
        before = await checked(tmp_path)
        assert {name: each.absent for name, each in before.items()} == {"bar:1m": 0, "bar:1h": 0}
        lost = lose(tmp_path, *HOLES)
        assert lost == 1 + 1 + 240 + 1440 + 1
        found = await checked(tmp_path)
        assert found["bar:1m"].absent == lost
        assert found["bar:1h"].absent == 0
        assert gaps(tmp_path) == [("open", "bar:1m", *hole) for hole in HOLES]
        counts = await fill_gaps(DataFolder(tmp_path), config(tmp_path), ignore, rest_url=url)
    assert counts["open"] == 0
    assert (await checked(tmp_path))["bar:1m"].absent == 0
    assert sorted(gaps(tmp_path)) == [("filled", "bar:1m", *hole) for hole in HOLES]
    rows = Data(tmp_path).sql("SELECT count(*) n, count(DISTINCT open_ts) m FROM bars").to_pylist()
    assert rows[0]["n"] == 7 * (1440 + 24)


async def test_a_quiet_minute_is_asked_for_and_no_bar_is_made_up(tmp_path: Path) -> None:
    quiet = BEGIN_S + 100 * MINUTE
    history = MadeHistory(lambda name, opened: on_weekdays(name, opened) and opened != quiet)
    async with serving(history.answer) as url:
        await downloaded(tmp_path, url, "1m")
        assert (await checked(tmp_path))["bar:1m"].absent == 1
        (before,) = (
            Data(tmp_path).sql("SELECT looks FROM gaps WHERE reason = 'not_stored'").to_pylist()
        )
        assert before["looks"] == 1, "the download was told so already"
        await fill_gaps(DataFolder(tmp_path), config(tmp_path), ignore, rest_url=url)
    assert gaps(tmp_path) == [("open", "bar:1m", quiet, quiet + MINUTE)]
    assert (await checked(tmp_path))["bar:1m"].absent == 1


async def test_a_bar_that_never_became_final_is_missing(tmp_path: Path) -> None:
    async with serving(MadeHistory(on_weekdays).answer) as url:
        await downloaded(tmp_path, url, "1h")
    with duckdb.connect(str(DataFolder(tmp_path).database("duckdb"))) as connection:
        opened = f"epoch(open_ts) = {BEGIN_S + HOUR}"
        connection.execute(f"UPDATE bars SET state = 'provisional' WHERE {opened}")  # noqa: S608
    assert (await checked(tmp_path))["bar:1h"].absent == 1
    assert gaps(tmp_path) == [("open", "bar:1h", BEGIN_S + HOUR, BEGIN_S + 2 * HOUR)]


async def test_by_another_calendar_the_week_end_is_missing_too(tmp_path: Path) -> None:
    history = MadeHistory(on_weekdays)
    async with serving(history.answer) as url:
        await downloaded(tmp_path, url, "1h")
    assert (await checked(tmp_path, "24/7"))["bar:1h"].absent == 48
    assert len(gaps(tmp_path)) == 1
    assert (await checked(tmp_path))["bar:1h"].absent == 0
    assert gaps(tmp_path) == [], "what is expected no more is no gap"


def test_only_bars_that_have_a_grid_are_checked() -> None:
    monday, day = 1_704_067_200 * NS, DAY_S * NS
    row = {"venue": "massive", "market": "forex", "session": "UTC", "of": "quote",
           "adjusted": False, "end_ns": monday + 70 * day, "live": False}  # fmt: skip
    series = [("1s", monday, "A"), ("1m", monday, "A"), ("1w", monday, "A"),
              ("1w", monday - day, "B")]  # fmt: skip
    rows = [{**row, "timeframe": t, "first_ns": at, "symbol": name} for t, at, name in series]
    found = watched(pa.Table.from_pylist(rows), Config(data="x"), lambda _: None)
    names = [(each.stream.channel, each.stream.symbol) for each in found]
    assert names == [("bar:1m", "A"), ("bar:1w", "A")]
