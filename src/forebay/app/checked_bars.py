"""Which series of bars are checked: those that the store has; and what it holds of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from forebay.app.alternatives import alternatives_of, series_of, stands_in
from forebay.app.wiring import venues
from forebay.app.wiring.calendars import calendar_of
from forebay.domain.calendars import ALWAYS
from forebay.domain.calendars.grid import Grid
from forebay.domain.channels import SERIES
from forebay.domain.coverage import StreamKey, TimeCoverage
from forebay.services.book_bases import in_integers
from forebay.services.gap_detector import BarSeries, StoredBars, WatchedBars
from forebay.sources.history import ByBars
from forebay.text import literal
from forebay.times import in_sql, span_ns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from forebay.app.wiring.config import Config, VenueConfig
    from forebay.domain.calendars import Calendar
    from forebay.domain.coverage import Gap
    from forebay.services.gap_detector import HeldCoverage
    from forebay.sources.history import Series

Query = Callable[[str], pa.Table]
"""Returns the rows of a reading statement; blocking."""

LAG_NS = 300 * 10**9
"""How long after its end a bar may take to be stored: histories lag behind by minutes."""
FOUND = """
SELECT venue, market, symbol, timeframe, session, "of", adjusted,
    min(open_ts) AS first_ns, max(close_ts) AS end_ns, max(origin = 'venue') AS live
FROM bars GROUP BY ALL ORDER BY ALL"""
"""The series that are stored, and whether some of their bars came live."""


class StoredSeries(NamedTuple):
    """One row of :data:`FOUND`."""

    venue: str
    market: str
    symbol: str
    timeframe: str
    session: str
    of: str
    adjusted: bool
    first_ns: int
    end_ns: int
    live: bool


def watched(rows: pa.Table, config: Config, coverage: HeldCoverage) -> list[WatchedBars]:
    """Return what is to be checked; ``rows`` are those of :data:`FOUND`.

    A series is expected from its first bar on, stored or listed by history, until its last one,
    or until now if it is captured or kept up now. One that only stands in for another is not
    expected to be whole. Raises :class:`~forebay.errors.ConfigError` for
    a calendar that cannot be had.
    """
    joined: dict[StreamKey, WatchedBars] = {}
    for row in in_integers(rows).to_pylist():
        found = StoredSeries(**row)
        if not _on_a_grid(found):
            continue
        name, series = _named(found)
        key = StreamKey(found.venue, found.market, f"bar:{name}", found.symbol)
        held, begin_ns, end_ns = coverage(key), found.first_ns, found.end_ns
        if isinstance(held, TimeCoverage) and held.fill:
            begin_ns = min(begin_ns, held.fill.first)
            end_ns = max(end_ns, held.fill.last + 1)
        if (other := joined.get(key)) is not None:  # of something else, in one series
            begin_ns = min(begin_ns, other.begin_ns)
            end_ns = max(end_ns, other.end_ns or end_ns)
        kept_up, lag_ns = _kept_up(found, name, config), LAG_NS
        if kept_up:
            lag_ns += span_ns(config.downloader.every)
        is_live = kept_up or (found.live and _captured(found, config))
        if not is_live and stands_in(config, *found[:3]):
            continue  # it has what another one lacked, and need not be whole
        joined[key] = WatchedBars(
            key,
            BarSeries(
                found.timeframe, found.session, series.of if series else found.of, found.adjusted
            ),
            _calendar(found, config),
            begin_ns,
            None if is_live or (other is not None and other.end_ns is None) else end_ns,
            lag_ns + (round(series.lag_s * 1e9) if series else 0),
        )
    return list(joined.values())


def _named(found: StoredSeries) -> tuple[str, Series | None]:
    """Return the name of a series, and what its venue's history says of it if it has it."""
    venue = venues.VENUES.get(found.venue)
    history = venue.history.get("bar") if venue is not None else None
    for name, series in history.series.items() if isinstance(history, ByBars) else ():
        said = name.partition(",")[0], series.session, series.adjusted
        if said == (found.timeframe, found.session, found.adjusted) and series.of in ("", found.of):
            return name, series
    own = [found.timeframe, found.session if found.session != "UTC" else "", found.of]
    return ",".join(filter(None, [*own, "adjusted" if found.adjusted else ""])), None


def _on_a_grid(found: StoredSeries) -> bool:
    """Return whether a calendar can say which bars there should be.

    No market has something to tell in each second, and the weeks of some venues begin on a Sunday.
    """
    if found.timeframe != "1w":
        return found.timeframe != "1s"
    week = Grid(found.timeframe, found.session).bars(found.first_ns, found.first_ns + 1)
    return len(week.opens) > 0


def _is_of(config: VenueConfig, found: StoredSeries) -> bool:
    return config.name == found.venue and venues.market_of(config) == found.market


def _captured(found: StoredSeries, config: Config) -> bool:
    return any(_is_of(venue, found) and found.symbol in venue.symbols for venue in config.venues)


def _kept_up(found: StoredSeries, name: str, config: Config) -> bool:
    """Return whether the downloader of the configuration looks for new bars of a series."""
    wanted = config.downloader
    is_market = wanted.market in ("", found.market)
    is_wanted = found.symbol in wanted.symbols and name in wanted.timeframes
    return wanted.venue == found.venue and is_market and is_wanted


def _calendar(found: StoredSeries, config: Config) -> Calendar:
    for captured in config.venues:
        if captured.calendar and _is_of(captured, found):
            return calendar_of(captured.calendar, config)
    venue = venues.VENUES.get(found.venue)
    return venue.calendars.get(found.market, ALWAYS) if venue is not None else ALWAYS


def stored_bars(query: Query) -> StoredBars:
    """Return what asks the store for the bars of a series."""

    async def stored(bars: WatchedBars, begin_ns: int, end_ns: int) -> npt.NDArray[np.int64]:
        wanted = _opens(bars.stream, bars.series, begin_ns, end_ns)
        table = await asyncio.to_thread(query, wanted)
        opens: npt.NDArray[np.int64] = in_integers(table)["open_ns"].to_numpy()
        return opens

    return stored


def held_elsewhere(query: Query, config: Config, hole: Gap) -> dict[str, int]:
    """Return how many bars each alternative source has within a hole, by its name."""
    stream = StreamKey(hole.venue, hole.market, hole.channel, hole.symbol)
    found: dict[str, int] = {}
    name = hole.channel.partition(SERIES)[2]
    for other in alternatives_of(config, stream) if name else ():
        if (series := series_of(other).get(name)) is not None:
            their = stream._replace(venue=other.venue, market=other.market, symbol=other.symbol)
            told = BarSeries(name.partition(",")[0], series.session, series.of, series.adjusted)
            found[other.name] = query(_opens(their, told, hole.first, hole.last + 1)).num_rows
    return found


def _opens(stream: StreamKey, series: BarSeries, begin_ns: int, end_ns: int) -> str:
    texts = {
        "venue": stream.venue,
        "market": stream.market,
        "symbol": stream.symbol,
        "timeframe": series.timeframe,
        "session": series.session,
        **({'"of"': series.of} if series.of else {}),
    }
    return " AND ".join(
        (
            "SELECT DISTINCT open_ts AS open_ns FROM bars WHERE state = 'final'",
            *(f"{name} = {literal(text)}" for name, text in texts.items()),
            f"adjusted = {str(series.adjusted).lower()}",
            f"open_ts >= {in_sql(begin_ns)}",
            f"open_ts < {in_sql(end_ns)}",
        )
    )
