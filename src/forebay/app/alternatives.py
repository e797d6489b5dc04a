"""Other sources of bars, as the configuration lists them: who they are, and asked how."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from forebay.app.offline.download_plan import BAR, WantedBars, plan, venue_config
from forebay.app.processes.local_socket import ask
from forebay.app.wiring import venues
from forebay.domain.coverage import COVERAGES
from forebay.domain.coverage.gaps import Row
from forebay.errors import ConfigError, Permanent
from forebay.services.alternatives import SILENT_S, Alternative, WithAlternatives
from forebay.sources.history import ByBars
from forebay.times import to_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.ports import HistoryRequest
    from forebay.services.alternatives import Fills, Translated
    from forebay.sources.history import Series
    from forebay.sources.live import Wiring

    Held = Callable[[StreamKey], Awaitable[Coverage | None]]
    """Returns what is stored of a stream's coverage."""


class BarSource(NamedTuple):
    """Where bars of one symbol come from."""

    venue: str
    market: str
    symbol: str

    @property
    def name(self) -> str:
        """As a configuration spells it, with the market."""
        return f"{self.venue}/{self.market}:{self.symbol}"


def bar_source(text: str) -> BarSource:
    """Return what ``venue:SYMBOL`` or ``venue/market:SYMBOL`` means; the venue must be known.

    Raises :class:`~forebay.errors.ConfigError`.
    """
    place, colon, symbol = text.partition(":")
    venue, slash, market = place.partition("/")
    if not (venue and colon and symbol and bool(slash) is bool(market)):
        hint = "Write venue:SYMBOL or venue/market:SYMBOL."
        raise ConfigError(f"The alternative source {text!r} cannot be read.", hint=hint)
    return BarSource(venues.check_venue(venue), market or venues.VENUES[venue].markets[0], symbol)


def orders(config: Config) -> list[list[BarSource]]:
    """Return each list of sources, in order.

    Raises :class:`~forebay.errors.ConfigError` if one cannot be, or is not clear.
    """
    found = [[bar_source(text) for text in each.sources] for each in config.alternatives]
    firsts = [order[0] for order in found]
    for order in found:
        if len({*order}) < len(order):
            message = f"A source stands twice in the alternatives of {order[0].name}."
            raise ConfigError(message, hint="Name each once.")
        if firsts.count(order[0]) > 1:
            message = f"There are several lists of alternatives of {order[0].name}."
            raise ConfigError(message, hint="Write one, in the order to ask in.")
        for each in order:
            series_of(each)
    return found


def check(config: Config) -> None:
    """Raise :class:`~forebay.errors.ConfigError` for alternatives that cannot be asked."""
    for order in orders(config):
        for each in order:
            venue_config(config, WantedBars(each.venue, (each.symbol,), (), "", "", each.market))


def alternatives_of(config: Config, key: StreamKey) -> list[BarSource]:
    """Return which other sources may have bars of a stream, in order."""
    for first, *others in orders(config):
        if first == (key.venue, key.market, key.symbol):
            return others
    return []


def stands_in(config: Config, venue: str, market: str, symbol: str) -> bool:
    """Return whether bars of a symbol are another one's alternative."""
    return any((venue, market, symbol) in order[1:] for order in orders(config))


@contextlib.asynccontextmanager
async def with_alternatives(
    first: Fills,
    venue: str,
    config: Config,
    wiring: Wiring,
    held: Held,
    *,
    silent_s: float = SILENT_S,
) -> AsyncIterator[Fills]:
    """Give ``first`` with the other sources of the bars of ``venue``, while the block runs.

    Without any it is ``first`` itself. ``wiring`` is that of ``first``, with its breaker
    if it has one.
    """
    mine = [order for order in orders(config) if order[0].venue == venue]
    if not mine:
        yield first
        return
    symbols: dict[tuple[str, str], list[str]] = defaultdict(list)
    for _, *others in mine:
        for each in others:
            symbols[each.venue, each.market].append(each.symbol)
    async with contextlib.AsyncExitStack() as stack:
        sources: dict[tuple[str, str], Fills] = {}
        for (name, market), several in symbols.items():
            wanted = WantedBars(name, tuple(dict.fromkeys(several)), (), "", "", market)
            breaker = wiring.rest_breakers.get(name)
            guarded = replace(wiring, roster=None, rest_breaker=breaker, websocket_breaker=None)
            source = venues.source(venue_config(config, wanted), guarded)
            sources[name, market] = await stack.enter_async_context(source)
        found = {
            (head.market, head.symbol): [
                Alternative(
                    other.name,
                    sources[other.venue, other.market],
                    _translated(head, other, held, wiring.clock),
                )
                for other in others
            ]
            for head, *others in mine
        }
        yield WithAlternatives(
            first,
            found,
            clock=wiring.clock,
            observer=wiring.observer,
            breaker=wiring.rest_breaker,
            silent_s=silent_s,
        )


def _translated(first: BarSource, other: BarSource, held: Held, clock: Clock) -> Translated:
    """Return what puts a request to one source as requests to another."""

    async def translated(request: HistoryRequest) -> Sequence[HistoryRequest]:
        ours, theirs = (series_of(each).get(request.series) for each in (first, other))
        if ours is None or theirs is None or not _alike(ours, theirs):
            raise Permanent(f"{other.name} has no bars of {request.series!r} as {first.name} has.")
        ends = to_text(request.first, exact=True), to_text(request.last + 1, exact=True)
        wanted = WantedBars(other.venue, (other.symbol,), (request.series,), *ends, other.market)
        now_ns = clock.wall_ns()
        (download,) = plan(wanted, other.market, now_ns)
        asked = download.requests(await held(download.key), now_ns)
        return [replace(each, bulk=request.bulk) for each in asked]

    return translated


def series_of(source: BarSource) -> Mapping[str, Series]:
    """Return which series of bars the history of a source has.

    Raises :class:`~forebay.errors.ConfigError` if it has none.
    """
    history = venues.VENUES[source.venue].history.get(BAR)
    if not isinstance(history, ByBars):
        message = f"The history of {source.venue} has no bars."
        raise ConfigError(message, hint="It is no alternative source.")
    return history.series


def _alike(one: Series, other: Series) -> bool:
    """Return whether bars of two series are of the same periods, and equally adjusted."""
    return (one.step_s, one.session, one.adjusted) == (other.step_s, other.session, other.adjusted)


def by_deliver(folder: DataFolder) -> Held:
    """Return what asks a running deliver for coverage."""

    async def held(key: StreamKey) -> Coverage | None:
        request = {"op": "coverage", "stream": list(key)}
        answer, _ = await asyncio.to_thread(ask, folder.deliver_socket, request)
        if not answer["unit"]:
            return None
        return COVERAGES[answer["unit"]].from_rows(msgspec.convert(answer["rows"], list[Row]), ())

    return held


def by_deliverer(coverage_of: Callable[[StreamKey], Coverage | None]) -> Held:
    """Return what asks the deliverer of this process."""

    async def held(key: StreamKey) -> Coverage | None:
        return coverage_of(key)

    return held
