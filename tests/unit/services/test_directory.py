"""The market registry, live: whom it asks, what it leaves alone, and what it puts on record."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from forebay.clock import ManualClock
from forebay.domain.frames import Context, FrameKind, StreamsOwed
from forebay.domain.listing import Directory, ListedMarket, ListPage, ListQuery
from forebay.errors import Permanent, Unreachable
from forebay.services.directory import (
    PAGES_PER_FLUSH,
    PARTS_PER_LOOK,
    QUIET_S,
    MarketDirectory,
)
from forebay.services.registry import Registry
from forebay.telemetry import (
    MarketGone,
    MarketImpossible,
    MarketsUnreadable,
    MarketsWanted,
    RegistryFailed,
    ValueUnknown,
)
from tests.support.sinks import RecordingSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from forebay.ports import FrameSink
    from forebay.services.registry import RegistryMemory
    from forebay.telemetry import TelemetryEvent

S = 10**9
CONTEXT = Context(
    venue="v", source="rest", purpose="live", collector="c", epoch="", channels=("market",)
)


def first(query: ListQuery) -> str:
    if query.names:
        return f"/markets?names={','.join(query.names)}"
    return f"/markets?head={query.head}&state={query.state}"


def read(body: bytes) -> ListPage:
    rows = json.loads(body)["markets"]
    good = [row for row in rows if row["symbol"]]
    return ListPage(tuple(map(market, good)), ("no symbol",) * (len(rows) - len(good)))


def market(row: dict[str, Any]) -> ListedMarket:
    return ListedMarket(
        symbol=row["symbol"],
        state=row["state"],
        open_ns=row.get("open_ns"),
        ends_ns=tuple(row.get("ends_ns", ())),
        belongs=tuple(row.get("belongs", ("/about",))),
        unknown=tuple((column, value) for column, value in row.get("unknown", ())),
        impossible=row.get("impossible", ""),
    )


def following(target: str, body: bytes) -> str:
    cursor = json.loads(body).get("cursor", "")
    return f"{target.partition('&cursor')[0]}&cursor={cursor}" if cursor else ""


DIRECTORY = Directory(first=first, read=read, following=following, kinds=("market",), names=4)


class FakeVenue:
    """A venue that lists some markets, and what captures it."""

    def __init__(self) -> None:
        self.markets: dict[str, dict[str, Any]] = {}
        self.rows = 1000
        """Of a page."""
        self.down: Exception | None = None
        self.refused: set[str] = set()
        """Names that no list takes."""
        self.cursor: Callable[[int], str] = str
        self.asked: list[str] = []
        self.captured: list[str] = []

    def lists(self, symbol: str, state: str = "open", **said: object) -> None:
        self.markets[symbol] = {"symbol": symbol, "state": state, **said}

    def want(self, symbols: Iterable[str]) -> None:
        self.captured = list(symbols)

    async def page(self, target: str, cost: int, context: Context, sink: FrameSink) -> bytes:
        assert cost == 1
        self.asked.append(target)
        if self.down is not None:
            raise self.down
        asked = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        names = asked.get("names", "").split(",") if "names" in asked else None
        if names and self.refused & {*names}:
            raise Permanent("HTTP 400: a name is wrong.")
        rows = [
            row
            for symbol, row in self.markets.items()
            if (names is None and row["state"] == asked.get("state")) or symbol in (names or ())
        ]
        start = int(asked.get("cursor", 0))
        page: dict[str, Any] = {"markets": rows[start : start + self.rows]}
        if start + self.rows < len(rows):
            page["cursor"] = self.cursor(start + self.rows)
        body = json.dumps(page).encode()
        sink.open(context).frame(FrameKind.REST, body)
        return body


class Rig:
    def __init__(self, venue: FakeVenue, *asked: str, refresh_s: float = 60.0) -> None:
        self.venue, self.clock, self.sink = venue, ManualClock(), RecordingSink()
        self.heard: list[TelemetryEvent] = []
        self.kept: list[RegistryMemory] = []
        self.captured_first: list[bool] = []
        """Whether all was captured when each of them was kept."""
        self.records = 0
        self.directory = MarketDirectory(
            DIRECTORY,
            Registry(asked or ("M*",), self.clock.wall_ns()),
            venue,
            CONTEXT,
            kinds=("trade", "ticker"),
            refresh_s=refresh_s,
            clock=self.clock,
            rng=random.Random(7),
            observer=self.heard.append,
            remember=self._keep,
        )

    def _keep(self, memory: RegistryMemory) -> None:
        frames = sum(len(epoch.frames) for epoch in self.sink.epochs)
        self.captured_first.append(self.sink.flushes[-1:] == [frames])
        self.kept.append(memory)

    def _record(self) -> None:
        self.records += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it, and have its first look done."""
        task = asyncio.create_task(self.directory.run(self.sink, self._record))
        try:
            await self.kept_times(1)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def kept_times(self, times: int) -> None:
        """Wait until so many looks or askings are done."""
        async with asyncio.timeout(20):
            while len(self.kept) < times:  # noqa: ASYNC110 - a thread keeps them
                await asyncio.sleep(0)
        for _ in range(20):  # until it waits for its clock
            await asyncio.sleep(0)

    async def look(self, seconds: float = 67.0) -> None:
        times = len(self.kept)
        self.clock.advance(seconds)
        await self.kept_times(times + 1)

    def told(self, kind: type[TelemetryEvent]) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]

    def owed(self) -> list[StreamsOwed]:
        controls = [control for epoch in self.sink.epochs for control in epoch.controls]
        return [control for control in controls if isinstance(control, StreamsOwed)]


async def test_a_market_that_opens_is_captured_within_one_refresh_and_ends_when_it_does() -> None:
    rig = Rig(venue := FakeVenue())
    venue.lists("M1")
    venue.lists("OTHER")
    async with rig.running():
        assert venue.captured == ["M1"]
        opened = rig.clock.wall_ns() + 10 * S
        venue.lists("M2", open_ns=opened)
        await rig.look()
        assert venue.captured == ["M1", "M2"]
        old, streams = ((("trade", name), ("ticker", name)) for name in ("M1", "M2"))
        assert rig.owed() == [StreamsOwed(old), StreamsOwed(streams, opened)]
        closed = rig.clock.wall_ns() + S
        venue.lists("M2", "ended", open_ns=opened, ends_ns=[closed, closed + 10**15])
        await rig.look()
        assert rig.owed()[2:] == [StreamsOwed(streams, opened, closed)]
        await rig.look()
        assert venue.captured == ["M1"]
    assert all(rig.captured_first), "what is remembered as done is not lost"
    assert rig.records == 3, "each change of what is asked for is on record"
    assert [(event.added, event.removed) for event in rig.told(MarketsWanted)] == [
        *([(1, 0)] * 2),
        (0, 1),
    ]
    assert all(epoch.context.purpose == "live" for epoch in rig.sink.epochs)


async def test_what_the_venue_tells_of_is_asked_for_at_once_and_by_name() -> None:
    """KA04: a market of another channel is in the registry as soon as that names it."""
    rig = Rig(venue := FakeVenue(), "KXMVE*")
    async with rig.running():
        venue.lists("KXMVE-1")
        before = len(venue.asked)
        rig.directory.listed(frozenset({"KXMVE-1", "ELSEWHERE"}))
        await rig.kept_times(2)
        assert venue.asked[before:] == ["/markets?names=KXMVE-1"]
        assert venue.captured == ["KXMVE-1"]


async def test_something_that_changed_brings_the_next_look_sooner() -> None:
    rig = Rig(FakeVenue())
    async with rig.running():
        rig.directory.listed(frozenset({""}))
        await rig.look(67.0 / 5)


async def test_a_venue_that_is_away_leaves_what_is_captured_and_is_asked_again() -> None:
    rig = Rig(venue := FakeVenue())
    venue.lists("M1")
    async with rig.running():
        venue.down = Unreachable("Nobody answers.")
        before = len(venue.asked)
        await rig.look()
        assert len(venue.asked) == before + 1, "the others would not be answered either"
        assert venue.captured == ["M1"]
        assert rig.directory.looks == 1
        (failed,) = rig.told(RegistryFailed)
        assert failed.call == "GET /markets?head=M&state=coming"
        venue.down = None
        venue.lists("M2")
        await rig.look()
        assert venue.captured == ["M1", "M2"]


async def test_pages_are_read_to_their_end_and_those_that_lead_back_are_left() -> None:
    """HD02: neither a short page nor an empty one is the end."""
    rig = Rig(venue := FakeVenue())
    venue.rows = 3
    for number in range(10):
        venue.lists(f"M{number}")
    async with rig.running():
        assert len(venue.captured) == 10
        venue.cursor = lambda start: str(min(start, 6))
        before = len(venue.asked)
        await rig.look()
        pages = [path for path in venue.asked[before:] if "state=open" in path]
        assert len(pages) == 3, "a cursor that repeats is not followed"
        assert "names a page twice" in rig.told(RegistryFailed)[0].reason
        assert len(venue.captured) == 10
        assert rig.directory.looks == 1, "a list without its end is no look"
        assert "/markets?names=M9" in venue.asked, "what the list did not tell is asked by name"


async def test_one_name_that_is_refused_costs_itself_alone() -> None:
    names = [f"M{number}" for number in range(8)]
    rig = Rig(venue := FakeVenue(), *names)
    venue.refused = {"M5"}
    for name in names[:5] + names[6:]:
        venue.lists(name, "ended", ends_ns=[1])
    async with rig.running():
        assert venue.captured == ["M5"], "the others have ended"
        calls = [event.call for event in rig.told(RegistryFailed)]
        assert calls[-1] == "GET /markets?names=M5"


async def test_one_market_that_cannot_be_stops_nothing() -> None:
    rig = Rig(venue := FakeVenue())
    for number in range(999):
        venue.lists(f"M{number}", unknown=[["price_level_structure", "never_seen"]])
    venue.lists("M-BAD", impossible="close_ts")
    venue.markets["nameless"] = {"symbol": "", "state": "open"}
    async with rig.running():
        assert len(venue.captured) == 1000
        assert [event.symbol for event in rig.told(MarketImpossible)] == ["M-BAD"]
        assert [event.value for event in rig.told(ValueUnknown)] == ["never_seen"]
        assert [event.rows for event in rig.told(MarketsUnreadable)] == [1]
        del venue.markets["M-BAD"]
        await rig.look()
        await rig.look()
        assert [event.symbol for event in rig.told(MarketGone)] == ["M-BAD"]


async def test_what_markets_are_parts_of_is_asked_once_and_a_few_at_a_time() -> None:
    rig = Rig(venue := FakeVenue())
    for number in range(PARTS_PER_LOOK + 2):
        venue.lists(f"M{number}", belongs=["/about", f"/about/{number}"])
    venue.lists("OTHER", belongs=["/other"])
    async with rig.running():
        for asked in (PARTS_PER_LOOK, PARTS_PER_LOOK + 3, PARTS_PER_LOOK + 3):
            parts = [path for path in venue.asked if "/markets" not in path]
            assert len(parts) == len({*parts}) == asked
            assert "/other" not in parts, "nobody asked for that market"
            await rig.look()


async def test_pages_are_captured_before_many_more_are_asked_for() -> None:
    rig = Rig(venue := FakeVenue())
    venue.rows = 1
    for number in range(20):
        venue.lists(f"M{number}")
    async with rig.running():
        flushes = rig.sink.flushes
        between = [after - before for before, after in itertools.pairwise([0, *flushes])]
        assert max(between) <= 2 * PAGES_PER_FLUSH + 1, "each page with a record of its market"


async def test_what_is_told_of_again_and_again_is_asked_for_a_second_apart() -> None:
    rig = Rig(venue := FakeVenue())
    async with rig.running():
        for _ in range(3):
            rig.directory.listed(frozenset({"M1"}))
            await rig.kept_times(2)
        assert venue.asked.count("/markets?names=M1") == 1
        rig.clock.advance(QUIET_S)
        await rig.kept_times(3)
        assert venue.asked.count("/markets?names=M1") == 2
