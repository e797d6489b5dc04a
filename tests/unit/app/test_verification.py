"""Verification beside delivery: what was downloaded, all now and then, and what differed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from forebay.app.offline.download import download
from forebay.app.offline.download_plan import AskedDays, WantedBars, plan
from forebay.app.processes.downloads import Pacing
from forebay.app.processes.history_pages import HistoryPages, PagesByCapture
from forebay.app.processes.local_socket import Handler, LocalServer
from forebay.app.processes.maintenance import BREATH_S, DeliveryPace
from forebay.app.processes.verification import BarVerification
from forebay.app.reader import Data
from forebay.app.wiring import venues
from forebay.app.wiring.config import Config, DownloaderConfig, VenueConfig
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock, SystemClock
from forebay.errors import Permanent, Unreachable
from forebay.ports import HistoryRequest
from forebay.services.pages_in_hand import PagesInHand
from forebay.sources import coinbase
from forebay.sources.live import Wiring
from forebay.sources.rest import Budgets
from forebay.sources.venue import Limits
from forebay.telemetry import BarsVerified, TelemetryEvent, VerificationFailed, ignore
from forebay.times import to_ns, to_text
from tests.support.http_server import serving
from tests.support.made_history import BEGIN_S, DAY_S, MadeHistory, on_weekdays, prices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from forebay.services.downloader import Download
    from forebay.services.group_commit import GroupCommit

BTC, DAYS, HOURS = "BTC-USD", 3, 24
BEGIN = BEGIN_S + 2 * DAY_S
HOUR_NS = 3600 * 10**9


@dataclass
class Journal:
    """As far as a page waits for it."""

    pressure: bool = False
    full: bool = False


@dataclass
class Site:
    """A source, a folder that was filled from it, a capture's socket and its verification."""

    history: MadeHistory
    config: Config
    download: Download
    clock: ManualClock
    pace: DeliveryPace
    journal: Journal
    verification: BarVerification = field(init=False)
    events: deque[TelemetryEvent] = field(default_factory=deque)

    async def took(self, *requests: HistoryRequest) -> None:
        told = [AskedDays.of(self.download, requests)]
        await self.verification.take({"downloads": msgspec.to_builtins(told)})

    async def found(self, *requests: HistoryRequest) -> BarsVerified:
        """Return what is told once these were downloaded."""
        await self.took(*requests)
        event = await self.told()
        assert isinstance(event, BarsVerified)
        return event

    async def told(self) -> TelemetryEvent:
        async with asyncio.timeout(20):
            while not self.events:  # noqa: ASYNC110 - of threads, too
                await asyncio.sleep(0.005)
        return self.events.popleft()

    def sample(self, name: str, **labels: str) -> float:
        (found,) = (
            each.value
            for each in self.verification.samples()
            if each.name == name and labels.items() <= each.labels.items()
        )
        return found

    def asked_days(self) -> set[int]:
        found = {(begin - BEGIN) // DAY_S for _, _, begin in self.history.asked}
        self.history.asked.clear()
        return found


@contextlib.asynccontextmanager
async def capturing(folder: DataFolder, config: Config, journal: Journal) -> AsyncIterator[None]:
    """Answer as a capture does that is asked for pages."""
    clock = SystemClock()
    wiring = Wiring("c", clock, random.Random(1), ignore, budgets=Budgets(clock))
    pacing = Pacing(folder, cast("GroupCommit", journal), clock, lambda: "")
    pages = HistoryPages(config, wiring, pacing)

    async def status(_: object) -> dict[str, int]:
        return {"pid": 1}

    handlers: dict[str, Handler] = {"history": pages.page, "status": status}
    async with LocalServer(folder.capture_socket, handlers).serving():
        try:
            yield
        finally:
            await pages.close()


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    unpaced = replace(coinbase.VENUE, limits=Limits(rest=()))
    monkeypatch.setitem(venues.VENUES, "coinbase", unpaced)
    history, folder, journal = MadeHistory(on_weekdays), DataFolder(tmp_path), Journal()
    since, until = (to_text(s * 10**9) for s in (BEGIN, BEGIN + DAYS * DAY_S))
    async with serving(history.answer) as url:
        venue = VenueConfig(name="coinbase", symbols=(BTC,), rest_url=url)
        kept = DownloaderConfig(
            venue="coinbase", symbols=(BTC,), timeframes=("1h",), since=since, verify_every="24h"
        )
        config = Config(data=str(tmp_path), venues=(venue,), downloader=kept)
        wanted = WantedBars("coinbase", (BTC,), ("1h",), since, until)
        await download(folder, config, wanted, ignore)
        (planned,) = plan(wanted, "spot", to_ns("2026-04-01"))
        pace, clock = DeliveryPace(frames=0), ManualClock(to_ns("2026-04-01"))
        made = Site(history, config, planned, clock, pace, journal)
        history.asked.clear()
        made.verification = BarVerification(
            config, folder, Data(tmp_path).sql, clock, made.events.append
        )
        async with (
            capturing(folder, config, journal),
            made.verification.beside(pace, lambda: ""),
        ):
            yield made


def hour(day: int, of_day: int = 0) -> HistoryRequest:
    """Ask for one bar of a day."""
    at = BEGIN * 10**9 + (day * HOURS + of_day) * HOUR_NS
    return HistoryRequest("bar:1h", BTC, at, at + HOUR_NS - 1, "time")


def wrong_at(*opened: int) -> Callable[[str, int, int], tuple[str, str, str, str, str]]:
    return lambda symbol, step, at: (
        ("1", "9", "2", "3", "1") if at in opened else prices(symbol, step, at)
    )


async def test_all_is_compared_first_and_then_the_days_that_were_downloaded(site: Site) -> None:
    found = await site.found()
    assert (found.bars, found.missing, found.differing, found.extra) == (72, 0, 0, 0)
    assert site.asked_days() == {0}, "one window of 300 hours"
    found = await site.found(hour(1, 5))
    assert found.bars == 24, "its whole day"
    assert site.sample("forebay_bars_verified") == 72 + 24
    assert site.sample("forebay_bars_verified_time_seconds") == site.clock.wall_ns() / 1e9
    assert not found.first_day


async def test_all_is_compared_again_once_that_is_due(site: Site) -> None:
    await site.found()
    site.clock.advance(DAY_S - 1)
    assert (await site.found(hour(0))).bars == 24
    site.clock.advance(1)
    assert (await site.found(hour(0))).bars == 72
    assert (await site.found(hour(2))).bars == 24, "and not before a day is over"


async def test_differences_are_told_counted_and_looked_at_again_until_they_are_gone(
    site: Site,
) -> None:
    site.history.prices = wrong_at(BEGIN + DAY_S + 3600)
    found = await site.found()
    assert (found.differing, found.first_day) == (1, "2026-03-05")
    assert site.sample("forebay_bars_unlike_source", difference="differing") == 1
    assert site.sample("forebay_bars_unlike_source", difference="missing") == 0
    site.history.asked.clear()
    found = await site.found(hour(2))
    assert (found.bars, found.differing) == (48, 1), "the day that differs, too"
    site.history.prices = prices
    found = await site.found()
    assert (found.bars, found.differing) == (24, 0)
    assert site.sample("forebay_bars_unlike_source", difference="differing") == 0


async def test_extra_bars_are_told_and_stay_and_are_not_asked_for_again(site: Site) -> None:
    site.history.exists = lambda _symbol, opened: opened >= BEGIN + 2 * 3600
    found = await site.found()
    assert (found.bars, found.extra, found.missing) == (70, 2, 0)
    site.history.asked.clear()
    await site.took()
    assert (await site.found(hour(2))).bars == 24
    assert site.sample("forebay_bars_unlike_source", difference="extra") == 2
    rows = Data(site.config.data).sql("SELECT count(*) AS n FROM bars").to_pylist()
    assert rows == [{"n": 72}]


async def test_what_could_not_be_compared_stays_due(site: Site) -> None:
    await site.found()
    site.history.gone = frozenset({BTC})
    await site.took(hour(1))
    event = await site.told()
    assert isinstance(event, VerificationFailed)
    assert event.stream == "coinbase/bar:1h/BTC-USD"
    site.history.gone = frozenset()
    assert (await site.found(hour(2))).bars == 48


async def test_it_waits_while_delivery_is_behind(site: Site) -> None:
    site.pace.frames = 1_000_000
    await site.took()
    async with asyncio.timeout(20):
        while site.clock.slept[-1:] != [BREATH_S]:  # noqa: ASYNC110 - the clock's state
            await asyncio.sleep(0.005)
    assert not site.history.asked
    site.pace.frames = 0
    site.clock.advance(BREATH_S)
    assert isinstance(await site.told(), BarsVerified)


# --------------------------------------------------------------------------- pages by a capture


def by_capture(site: Site) -> PagesByCapture:
    folder = DataFolder(Path(site.config.data))
    return PagesByCapture(folder.capture_socket, WantedBars("coinbase", (BTC,), ("1h",), "", ""))


async def test_a_page_comes_as_it_would_be_captured(site: Site) -> None:
    hand = PagesInHand()
    await by_capture(site).fill(hour(0), hand)
    (page,) = hand.pages
    assert (page.context.purpose, page.context.channels) == ("history", ("bar",))
    assert b"".join(page.payloads) == site.history.page(BTC, 3600, BEGIN, BEGIN).encode()


async def test_what_is_wrong_with_a_page_is_raised_as_what_it_is(site: Site) -> None:
    site.history.gone = frozenset({BTC})
    with pytest.raises(Permanent):
        await by_capture(site).fill(hour(0), PagesInHand())


async def test_a_page_waits_for_the_journal_of_the_capture(site: Site) -> None:
    site.journal.pressure = True
    asking = asyncio.create_task(by_capture(site).fill(hour(0), PagesInHand()))
    await asyncio.wait({asking}, timeout=0.1)
    assert not asking.done()
    assert not site.history.asked
    site.journal.pressure = False
    await asyncio.wait_for(asking, 20)


async def test_without_a_capture_there_is_no_page(tmp_path: Path) -> None:
    pages = PagesByCapture(tmp_path / "nobody", WantedBars("coinbase", (BTC,), ("1h",), "", ""))
    with pytest.raises(Unreachable):
        await pages.fill(hour(0), PagesInHand())
