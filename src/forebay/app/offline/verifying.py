"""Verification: what a venue's history has of bars, against what a data folder holds."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from forebay.app.offline.download_plan import WantedBars, plan, venue_config
from forebay.app.processes.history_pages import PagesByCapture
from forebay.app.processes.local_socket import ask
from forebay.app.statements import ONE_BAR
from forebay.app.wiring import venues
from forebay.clock import SystemClock
from forebay.domain.channels import SERIES
from forebay.domain.digest import id_texts
from forebay.domain.kinds.bar import BAR
from forebay.errors import ConfigError, Unreachable
from forebay.services.verifier import DAY_NS, DayComparison, Fill, Rows, told_rows, verify
from forebay.sources.history import ByBars
from forebay.sources.live import Wiring
from forebay.sources.rest import Budgets
from forebay.text import literal
from forebay.times import in_sql, to_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from forebay.app.reader import Data
    from forebay.app.wiring.config import Config
    from forebay.clock import Clock
    from forebay.ports import HistoryRequest
    from forebay.services.downloader import Download
    from forebay.telemetry import Observer

Query = Callable[[str], "pa.Table"]
"""Returns the rows of a reading statement; blocking."""
Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Verified:
    """What verification found of one stream."""

    download: Download
    days: dict[int, DayComparison]
    """By their number since the Unix epoch."""
    refused: int
    """Rows of the source that are no bars: captured, they are dead letters."""

    @property
    def same(self) -> bool:
        """Whether the store has what the source has."""
        return all(day.same for day in self.days.values())

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Return from when to when bars lack or differ, of consecutive days together."""
        begin = last = None
        for number, day in sorted(self.days.items()):
            if not day.wants_repair:
                continue
            if last is not None and begin is not None and number > last + 1:
                yield self._within(begin, last)
                begin = None
            begin, last = number if begin is None else begin, number
        if begin is not None and last is not None:
            yield self._within(begin, last)

    def _within(self, first: int, last: int) -> tuple[int, int]:
        """Return begin and end of some days, as far as they were looked at."""
        begin = max(self.download.first, first * DAY_NS)
        return begin, min(self.download.last + 1, (last + 1) * DAY_NS)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        download = self.download
        return {
            "venue": download.venue,
            "market": download.market,
            "symbol": download.symbol,
            "timeframe": download.channel.partition(SERIES)[2],
            "same": self.same,
            "refused": self.refused,
            "days": [_day(*each) for each in self.days.items()],
        }


def _day(number: int, day: DayComparison) -> dict[str, Any]:
    found: dict[str, Any] = {"day": to_text(number * DAY_NS)[:10], "same": day.same}
    for side in ("source", "stored"):
        count, ids, rows = getattr(day, side).hex()
        found[side] = {"count": count, "ids": ids, "rows": rows}
    for what in ("missing", "differing", "extra"):
        times = getattr(day, what)
        found[what] = {"count": times.count, "first": [to_text(each) for each in times.first]}
    return found


async def verify_bars(
    data: Data,
    config: Config,
    wanted: WantedBars,
    observer: Observer,
    progress: Progress = lambda *_: None,
) -> list[Verified]:
    """Compare each stream that is wanted; without symbols, those that are stored.

    A capture that runs in the folder asks for the pages. ``progress`` is told pages compared, and
    pages in all. Raises as :func:`.download.download`.
    """
    clock = SystemClock()
    if not wanted.symbols:
        wanted = replace(wanted, symbols=_symbols(data, wanted))
    venue = venue_config(config, wanted)
    downloads = plan(replace(wanted, again=True), venue.market, clock.wall_ns())
    if await asyncio.to_thread(_captures, data):
        capture = PagesByCapture(data.folder.capture_socket, wanted)
        return await verified(capture.fill, data.sql, downloads, clock, progress)
    wiring = Wiring(config.collector, clock, random.Random(), observer, budgets=Budgets(clock))
    async with venues.source(venue, wiring) as source:
        return await verified(source.fill, data.sql, downloads, clock, progress)


def _captures(data: Data) -> bool:
    with contextlib.suppress(Unreachable):
        return bool(ask(data.folder.capture_socket, {"op": "status"}))
    return False


async def verified(
    fill: Fill,
    query: Query,
    downloads: Sequence[Download],
    clock: Clock,
    progress: Progress = lambda *_: None,
) -> list[Verified]:
    """Compare streams one after the other; ``fill`` asks for a page, ``query`` the store."""
    todo = [(each, each.requests(None, 0)) for each in downloads]
    pages, before = sum(len(requests) for _, requests in todo), 0
    found = []
    for download, requests in todo:
        stream = _Stream(query, download)
        comparison = await verify(
            fill,
            requests,
            venues.parsers(),
            clock=clock,
            told=stream.told,
            stored=stream.stored,
            progress=lambda done, before=before: progress(before + done, pages),  # type: ignore[misc]
        )
        before += len(requests)
        found.append(Verified(download, comparison.days, comparison.refused))
    return found


def _symbols(data: Data, wanted: WantedBars) -> tuple[str, ...]:
    frames = ", ".join(literal(each.partition(",")[0]) for each in wanted.timeframes)
    query = f"SELECT DISTINCT symbol FROM {BAR.table} WHERE venue = {literal(wanted.venue)} "  # noqa: S608 - quoted
    rows = data.sql(f"{query} AND timeframe IN ({frames}) ORDER BY ALL")
    if not len(rows):
        message = f"No bars of {wanted.venue} are stored in {data.folder.root}."
        raise ConfigError(message, hint="Name the symbols, or download them: forebay backfill.")
    return tuple(rows["symbol"].to_pylist())


class _Stream:
    """The bars of one series of one symbol, on both sides."""

    def __init__(self, query: Query, download: Download) -> None:
        self._query = query
        self._download = download
        history = venues.VENUES[download.venue].history[BAR.channel]
        name = download.channel.partition(SERIES)[2]
        series = history.series[name] if isinstance(history, ByBars) else None
        self._is: dict[str, object] = {"timeframe": name.partition(",")[0]}
        if series is not None:
            self._is |= {"session": series.session, "adjusted": series.adjusted}
            self._is |= {"of": series.of} if series.of else {}

    def told(self, request: HistoryRequest, events: pa.Table) -> Rows:
        """Return the bars of the series within a request that a table has."""
        mask = pc.equal(events["symbol"].cast("string"), request.symbol)
        for name, value in self._is.items():
            mask = pc.and_(mask, pc.equal(events[name], value))
        some = events.filter(mask)
        rows = told_rows(some, BAR, id_texts(some).to_pylist())
        return {at: row for at, row in rows if request.first <= at <= request.last}

    def stored(self, request: HistoryRequest) -> Rows:
        """Return what the store has of a request: of each bar what it is now."""
        key = self._download.key
        where = {"venue": key.venue, "market": key.market, "symbol": key.symbol, **self._is}
        some = " AND ".join(f'"{name}" = {_value(value)}' for name, value in where.items())
        first, last = map(in_sql, (request.first, request.last))
        times = f"event_ts BETWEEN {first} AND {last}"
        query = f"SELECT * FROM {BAR.table} WHERE {some} AND {times}{ONE_BAR}"  # noqa: S608 - quoted
        events = self._query(query)
        ids = [str(each) for each in events["event_id"].to_pylist()]
        return dict(told_rows(events, BAR, ids))


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else literal(str(value))


async def repair(
    found: list[Verified], wanted: WantedBars, download: Callable[[WantedBars], Any]
) -> list[dict[str, Any]]:
    """Have what lacks or differs downloaded once more; return what came of each part."""
    documents = []
    for each in found:
        for begin, end in each.ranges():
            part = replace(
                wanted,
                symbols=(each.download.symbol,),
                timeframes=(each.download.channel.partition(SERIES)[2],),
                since=to_text(begin),
                until=to_text(end),
                again=True,
            )
            documents.append(await download(part))
    await asyncio.sleep(0)
    return documents
