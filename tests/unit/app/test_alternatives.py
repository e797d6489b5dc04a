"""A venue that is away for hours, and another one that has its bars: both end as they truly are."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from aiohttp import web

from forebay.app import alternatives
from forebay.app.offline import gaps
from forebay.app.offline.download import download
from forebay.app.offline.download_plan import WantedBars
from forebay.app.offline.gaps import check_bars, fill_gaps
from forebay.app.reader import Data
from forebay.app.wiring import venues
from forebay.app.wiring.config import Config, VenueConfig
from forebay.app.wiring.data_folder import DataFolder
from forebay.app.wiring.history_config import AlternativeConfig
from forebay.clock import SystemClock
from forebay.errors import ConfigError
from forebay.ports import HistoryRequest
from forebay.resilience import CircuitOpen
from forebay.services.alternatives import AnsweredElsewhere
from forebay.sources import coinbase
from forebay.sources.history import ByBars
from forebay.sources.live import Wiring
from forebay.sources.venue import Limits
from forebay.telemetry import ignore
from forebay.times import to_text
from tests.support import mirror_venue
from tests.support.commands import invoked
from tests.support.http_server import serving
from tests.support.made_history import BEGIN_S, DAY_S, MadeHistory, prices
from tests.support.sinks import RecordingSink

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.app.offline.download_plan import Downloaded
    from forebay.ports import FrameSink
    from tests.support.commands import Answer

BTC, XBT, NS, HOUR = "BTC-USD", "XBT-USD", 10**9, 3600
LOST = BEGIN_S + 5 * HOUR, BEGIN_S + 6 * HOUR
"""What the store lost of what the first source had told, from when to when."""
AWAY = BEGIN_S + DAY_S, BEGIN_S + 3 * DAY_S
"""What is wanted first while the first source is away."""
Bars = Counter[tuple[str, str, int, str]]
"""Venue, symbol, when each bar opens, and its close."""


class Quick(SystemClock):
    """Nobody waits for long."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.001))


def other_prices(symbol: str, step_s: int, opened_s: int) -> tuple[str, str, str, str, str]:
    """Return those of :func:`prices`, dearer: another venue is another market."""
    *four, volume = prices(symbol, step_s, opened_s)
    low, high, opened, close = ("4" + each for each in four)
    return low, high, opened, close, volume


@pytest.fixture(autouse=True)
def _venues(monkeypatch: pytest.MonkeyPatch) -> None:
    unpaced = replace(coinbase.VENUE, limits=Limits(rest=()))
    monkeypatch.setitem(venues.VENUES, "coinbase", unpaced)
    monkeypatch.setitem(venues.VENUES, "mirror", mirror_venue.VENUE)
    monkeypatch.setattr(gaps, "SystemClock", Quick)


@dataclass
class Place:
    """Two venues, and a data folder that has the first one's bars, or the second one's."""

    folder: Path
    theirs: str = XBT
    """How the second venue spells the symbol."""
    ours: MadeHistory = field(default_factory=MadeHistory)
    other: MadeHistory = field(default_factory=lambda: MadeHistory(prices=other_prices))
    urls: tuple[str, str] = "", ""

    @property
    def config(self) -> Config:
        """What is configured."""
        first, second = self.urls
        there = VenueConfig(name="mirror", symbols=(self.theirs,), rest_url=second)
        order = f"coinbase:{BTC}", f"mirror:{self.theirs}"
        return Config(
            data=str(self.folder),
            venues=(VenueConfig(name="coinbase", symbols=(BTC,), rest_url=first), there),
            alternatives=(AlternativeConfig(sources=order),),
        )

    def away(self, *, is_away: bool) -> None:
        """Have the first venue answer nothing of use, or what it has."""
        self.ours.spoil = lambda *_: web.Response(status=503) if is_away else None

    async def download(self, until_s: int) -> Downloaded:
        since, until = to_text(BEGIN_S * NS), to_text(until_s * NS)
        wish = WantedBars("coinbase", (BTC,), ("1m",), since, until)
        return await download(DataFolder(self.folder), self.config, wish, ignore, clock=Quick())

    async def fill(self) -> dict[str, int]:
        return await fill_gaps(DataFolder(self.folder), self.config, ignore)

    def lose(self) -> None:
        """Take what the first venue told of an hour out of the database."""
        with duckdb.connect(str(DataFolder(self.folder).database("duckdb"))) as connection:
            first, end = LOST
            where = f"venue = 'coinbase' AND epoch(open_ts) >= {first} AND epoch(open_ts) < {end}"
            connection.execute(f"DELETE FROM bars WHERE {where}")  # noqa: S608 - two numbers

    def stored(self) -> Bars:
        query = (
            "SELECT venue, symbol, epoch(open_ts)::BIGINT AS opened, close::VARCHAR AS close "
            "FROM bars"
        )
        return Counter(
            (row["venue"], row["symbol"], row["opened"], row["close"].rstrip("0"))
            for row in Data(self.folder).sql(query).to_pylist()
        )

    def truth(self, *ranges: tuple[int, int], venue: str = "coinbase") -> Bars:
        """Return what a venue has from when to when, in seconds."""
        history, symbol = (self.ours, BTC) if venue == "coinbase" else (self.other, self.theirs)
        return Counter(
            (venue, symbol, opened, history.prices(symbol, 60, opened)[3])
            for first, end in ranges
            for opened in range(first, end, 60)
        )


async def down_for_hours(place: Place) -> None:
    """Have the first venue away while a day is there, two are wanted, and an hour is lost."""
    async with serving(place.ours.answer) as first, serving(place.other.answer) as second:
        place.urls = first, second
        assert (await place.download(BEGIN_S + DAY_S)).complete
        assert place.other.asked == []
        place.lose()

        place.away(is_away=True)
        found = await place.download(AWAY[1])
        (progress,) = found.progress
        assert not found.complete
        assert progress.elsewhere == progress.pages
        assert f"mirror/spot:{place.theirs}" in progress.problem
        assert (await place.fill())["open"] == 1, "another's bars fill no gap"
        there = place.truth(LOST, AWAY, venue="mirror")
        mine = place.truth((BEGIN_S, LOST[0]), (LOST[1], AWAY[0]))
        assert place.stored() == there + mine
        told = json.loads(explained(place, "--json").stdout)
        assert told["elsewhere"] == {f"mirror/spot:{place.theirs}": 60}
        assert f"mirror/spot:{place.theirs} has 60 events" in explained(place).stdout
        asked = len(place.other.asked)
        await place.download(AWAY[1])
        await place.fill()
        assert len(place.other.asked) == asked, "what it has told is not asked for again"

        place.away(is_away=False)
        assert (await place.fill())["open"] == 0
        assert (await place.download(AWAY[1])).complete
        assert len(place.other.asked) == asked
        assert place.stored() == there + place.truth((BEGIN_S, AWAY[1]))
        checked = await check_bars(DataFolder(place.folder), place.config, ignore)
    assert [(each.stream.venue, each.absent) for each in checked] == [("coinbase", 0)], (
        "one that stands in is not expected to be whole"
    )
    report = Data(place.folder).audit_report()
    assert report.ok, report.problems


def explained(place: Place, *more: str) -> Answer:
    """Return what is said of the gap."""
    file = place.folder / "forebay.toml"
    order = json.dumps(place.config.alternatives[0].sources)
    file.write_text(f"[[alternatives]]\nsources = {order}\n")
    inside = to_text(LOST[0] * NS)
    answer = invoked(
        *("gaps", "explain", BTC, inside, "--venue", "coinbase", "--data", place.folder, *more)
    )
    assert answer.code == 0, answer
    return answer


@pytest.mark.parametrize("theirs", [XBT, BTC])
async def test_down_for_hours_both_venues_end_as_they_truly_are(
    tmp_path: Path, theirs: str
) -> None:
    await down_for_hours(Place(tmp_path, theirs))


@pytest.mark.parametrize("name", ["mirror", "coinbase"])
async def test_an_alternative_that_is_written_under_the_first_name_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(venues.VENUES, "mirror", replace(mirror_venue.VENUE, name=name))
    place = Place(tmp_path, BTC)
    async with serving(place.ours.answer) as first, serving(place.other.answer) as second:
        place.urls = first, second
        place.away(is_away=True)
        await place.download(AWAY[0])
        place.away(is_away=False)
        await place.download(AWAY[0])
    whole = BEGIN_S, AWAY[0]
    is_true = place.stored() == place.truth(whole) + place.truth(whole, venue="mirror")
    assert is_true is (name == "mirror")


class Away:
    """A source behind an open breaker."""

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        raise CircuitOpen("coinbase-rest", 30.0, "it fell")


@pytest.mark.parametrize("unlike", [{}, {"adjusted": True}, {"session": "NY17"}, {"step_s": 61}])
async def test_only_bars_of_the_same_periods_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlike: dict[str, Any]
) -> None:
    history = mirror_venue.VENUE.history["bar"]
    assert isinstance(history, ByBars)
    series = {"1m": replace(history.series["1m"], **unlike)}
    there = replace(mirror_venue.VENUE, history={"bar": replace(history, series=series)})
    monkeypatch.setitem(venues.VENUES, "mirror", there)
    place = Place(tmp_path)
    held = alternatives.by_deliverer(lambda _: None)
    wiring = Wiring("c", Quick(), random.Random(1))
    first, last = BEGIN_S * NS, (BEGIN_S + HOUR) * NS - 1
    request = HistoryRequest("bar:1m", BTC, first, last, "time")
    async with serving(place.other.answer) as second:
        place.urls = "http://127.0.0.1:1", second
        given = Away(), "coinbase", place.config, wiring, held
        async with alternatives.with_alternatives(*given) as source:
            with pytest.raises(CircuitOpen if unlike else AnsweredElsewhere):
                await source.fill(request, RecordingSink())
    assert len(place.other.asked) == (0 if unlike else 1)


@pytest.mark.parametrize(
    ("orders", "part"),
    [
        ([["coinbase:BTC-USD", "mirror"]], "'mirror' cannot be read"),
        ([["coinbase:BTC-USD", "mirror/:BTC-USD"]], "cannot be read"),
        ([["coinbase:BTC-USD", "miror:BTC-USD"]], "Did you mean 'mirror'"),
        ([["coinbase:BTC-USD", "mirror/perp:BTC-USD"]], "no market 'perp'"),
        ([["coinbase:BTC-USD", "mirror:btcusd"]], "no symbol 'btcusd'"),
        ([["coinbase:BTC-USD", "coinbase/spot:BTC-USD"]], "twice"),
        ([["coinbase:BTC-USD", "mirror:BTC-USD"]] * 2, "several lists"),
    ],
)
def test_what_cannot_be_an_order_is_said(orders: list[list[str]], part: str) -> None:
    tables = tuple(AlternativeConfig(sources=tuple(order)) for order in orders)
    with pytest.raises(ConfigError) as raised:
        alternatives.check(Config(alternatives=tables))
    assert part in str(raised.value)
