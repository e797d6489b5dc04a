"""Downloading bars without a capture: all that the source has, once, whatever happens."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from forebay.app.offline.download import download
from forebay.app.offline.download_plan import WantedBars
from forebay.app.reader import Data
from forebay.app.wiring import venues
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.domain.coverage import StreamKey
from forebay.errors import ConfigError, Unreachable
from forebay.sources import coinbase
from forebay.sources.venue import Limits
from forebay.telemetry import ignore
from forebay.times import to_text
from tests.support.http_server import serving
from tests.support.made_history import BEGIN_S, DAY_S, MadeHistory, bars, on_weekdays

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.app.offline.download_plan import Downloaded

BTC, ETH = "BTC-USD", "ETH-USD"
NS = 1_000_000_000
EVERY = (
    "SELECT symbol, timeframe, epoch(open_ts)::BIGINT AS opened, close::VARCHAR AS close, state "
    "FROM bars ORDER BY ALL"
)


class Later(SystemClock):
    """So many seconds ahead of the wall clock."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self._ahead_ns = round(ahead_s * NS)

    def wall_ns(self) -> int:
        return SystemClock.wall_ns() + self._ahead_ns


@pytest.fixture(autouse=True)
def _unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    unpaced = replace(coinbase.VENUE, limits=Limits(rest=()))
    monkeypatch.setitem(venues.VENUES, "coinbase", unpaced)


def wanted(
    url: str,
    *,
    symbols: tuple[str, ...] = (BTC,),
    timeframes: tuple[str, ...] = ("1m",),
    begin_s: int = BEGIN_S,
    end_s: int = BEGIN_S + DAY_S,
) -> WantedBars:
    since, until = (to_text(seconds * NS) for seconds in (begin_s, end_s))
    return WantedBars("coinbase", symbols, timeframes, since, until, rest_url=url)


async def run(folder: Path, wish: WantedBars, *, ahead_s: float = 0.0) -> Downloaded:
    config = Config(data=str(folder))
    return await download(DataFolder(folder), config, wish, ignore, clock=Later(ahead_s))


def stored(folder: Path, symbol: str = BTC, timeframe: str = "1m") -> list[tuple[int, str]]:
    rows = [
        row
        for row in Data(folder).sql(EVERY).to_pylist()
        if (row["symbol"], row["timeframe"]) == (symbol, timeframe)
    ]
    assert {row["state"] for row in rows} <= {"final"}
    return [(row["opened"], row["close"].rstrip("0")) for row in rows]


async def test_every_bar_of_every_series_is_stored_once_and_asked_for_once(tmp_path: Path) -> None:
    history = MadeHistory(on_weekdays)
    end = BEGIN_S + 8 * DAY_S
    async with serving(history.answer) as url:
        wish = wanted(url, symbols=(BTC, ETH), timeframes=("1m", "1h"), end_s=end)
        found = await run(tmp_path, wish)
        pages = len(history.asked)
        again = await run(tmp_path, wish)
    for symbol in (BTC, ETH):
        assert stored(tmp_path, symbol) == bars(history, symbol, 60, BEGIN_S, end)
        assert stored(tmp_path, symbol, "1h") == bars(history, symbol, 3600, BEGIN_S, end)
    assert found.complete
    assert found.stored == 2 * (6 * 1440 + 6 * 24)
    assert pages == sum(each.pages for each in found.progress) == 2 * (39 + 1)
    assert len({*history.asked}) == pages, "no window twice"
    assert len(history.asked) == pages, "what was answered is not asked for again"
    assert (again.complete, again.stored) == (True, 0)


async def test_what_the_source_says_it_has_not_is_on_record_and_found_when_it_has(
    tmp_path: Path,
) -> None:
    history = MadeHistory(on_weekdays)
    end = BEGIN_S + 7 * DAY_S
    saturday = ("2026-03-07T00:00:00Z", "2026-03-09T00:00:00Z")
    async with serving(history.answer) as url:
        wish = wanted(url, timeframes=("15m",), end_s=end)
        document = (await run(tmp_path, wish)).document()
        asked = len(history.asked)
        assert (await run(tmp_path, wish, ahead_s=30)).complete
        assert len(history.asked) == asked, "it said so a moment ago"
        told = document["downloads"][0]["empty"]
        assert [(each["from"], each["to"]) for each in told] == [saturday]
        history.exists = lambda _symbol, _opened: True
        later = await run(tmp_path, wish, ahead_s=7200)
        assert len(history.asked) == asked + 1
    assert later.stored == 2 * 96
    assert later.document()["downloads"][0]["empty"] == []
    assert stored(tmp_path, BTC, "15m") == bars(history, BTC, 900, BEGIN_S, end)


async def test_a_beginning_long_before_the_first_bar_is_walked_through(tmp_path: Path) -> None:
    listed = BEGIN_S + 300 * DAY_S // 10
    history = MadeHistory(lambda _symbol, opened: opened >= listed)
    begin = BEGIN_S - 365 * DAY_S
    async with serving(history.answer) as url:
        wish = wanted(url, timeframes=("1h",), begin_s=begin, end_s=listed + DAY_S)
        found = await run(tmp_path, wish)
    assert found.complete
    assert stored(tmp_path, BTC, "1h") == bars(history, BTC, 3600, listed, listed + DAY_S)


async def test_a_bar_that_is_not_over_is_not_asked_for_and_comes_with_the_next_download(
    tmp_path: Path,
) -> None:
    history = MadeHistory()
    now_s = SystemClock.wall_ns() // NS
    begin = now_s // 60 * 60 - 600
    async with serving(history.answer) as url:
        wish = wanted(url, begin_s=begin, end_s=now_s + 7200)
        first = await run(tmp_path, wish)
        count = len(stored(tmp_path))
        assert first.complete
        assert count in (9, 10, 11)
        await run(tmp_path, wish, ahead_s=120)
    assert len(stored(tmp_path)) == count + 2


def text(body: str, kind: str = "application/json", status: int = 200) -> web.Response:
    return web.Response(text=body, content_type=kind, status=status)


@pytest.mark.parametrize(
    ("spoilt", "letters"),
    [
        (text("<html>maintenance</html>", "text/html"), 0),
        (text("<html>denied</html>", "text/html", 403), 0),
        (text('{"message":"busy"}', status=503), 0),
        (text('[[1772409600,"1'), 1),
    ],
    ids=["a page for people", "one that refuses", "busy", "half a page"],
)
async def test_an_answer_that_is_none_is_asked_for_again(
    tmp_path: Path, spoilt: web.Response, letters: int
) -> None:
    history = MadeHistory(spoilt=deque([spoilt]))
    async with serving(history.answer) as url:
        found = await run(tmp_path, wanted(url))
    assert found.complete
    assert found.dead_letters == letters
    assert stored(tmp_path) == bars(history, BTC, 60, BEGIN_S, BEGIN_S + DAY_S)


async def test_a_page_that_never_is_one_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.services.downloader.TRIES", 2)
    bad = BEGIN_S + 300 * 60
    history = MadeHistory(spoil=lambda _symbol, begin: text("[[[") if begin == bad else None)
    async with serving(history.answer) as url:
        found = await run(tmp_path, wanted(url))
        assert not found.complete
        (only,) = found.document()["downloads"]
        assert (only["pages"], only["answered"], only["failed"]) == (5, 4, 1)
        assert "cannot be read" in only["problem"]
        assert len(stored(tmp_path)) == 1440 - 300
        history.spoil = lambda _symbol, _begin: None
        asked = len(history.asked)
        assert (await run(tmp_path, wanted(url))).complete
        assert len(history.asked) == asked + 1
    assert stored(tmp_path) == bars(history, BTC, 60, BEGIN_S, BEGIN_S + DAY_S)


async def test_a_symbol_that_is_refused_does_not_keep_the_others(tmp_path: Path) -> None:
    history = MadeHistory(gone=frozenset({"GONE-USD"}))
    async with serving(history.answer) as url:
        found = await run(tmp_path, wanted(url, symbols=("GONE-USD", BTC)))
    assert not found.complete
    refused, complete = found.document()["downloads"]
    assert "404" in refused["refused"]
    assert complete["answered"] == complete["pages"] == 5
    assert len(stored(tmp_path)) == 1440


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"timeframes": ("2m",)}, "has no bars of '2m'. There is: 1m, 5m, 15m, 1h, 1d"),
        ({"until": "2026-03-01"}, "is empty"),
        ({"since": "2126-03-01", "until": "2126-03-02"}, "is over yet"),
        ({"venue": "coinbsae"}, "Did you mean 'coinbase'"),
        ({"symbols": ("btcusd",)}, "has no symbol 'btcusd'"),
        ({"market": "forex"}, "has no market 'forex'"),
        ({"since": "yesterday"}, "is not a time"),
    ],
)
async def test_what_the_source_does_not_offer_is_refused_in_a_sentence(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    wish = replace(wanted("http://127.0.0.1:1"), **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        await run(tmp_path / "data", wish)
    assert says in str(caught.value)
    assert not (tmp_path / "data").exists(), "nothing was made"


async def test_a_folder_that_is_in_use_is_an_error_that_says_by_whom(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path).create()
    with folder.owned(), pytest.raises(Unreachable, match="is in use by the capture"):
        await run(tmp_path, wanted("http://127.0.0.1:1"))


async def test_coverage_is_of_the_series_and_the_audit_finds_nothing_wrong(tmp_path: Path) -> None:
    history = MadeHistory(on_weekdays)
    async with serving(history.answer) as url:
        await run(tmp_path, wanted(url, end_s=BEGIN_S + 6 * DAY_S))
    report = Data(tmp_path).audit_report()
    assert report.ok, report.problems
    assert [(each.channel, each.events) for each in report.streams] == [("bar", 5 * 1440)]
    rows = Data(tmp_path).sql("SELECT * FROM coverage ORDER BY first").to_pylist()
    keys = {StreamKey(*(row[name] for name in StreamKey._fields)) for row in rows}
    assert keys == {StreamKey("coinbase", "spot", "bar:1m", BTC)}
    saturday = (BEGIN_S + 5 * DAY_S) * NS
    assert [(row["origin"], row["first"]) for row in rows] == [
        ("fill", BEGIN_S * NS),
        ("looked", saturday),
    ]
