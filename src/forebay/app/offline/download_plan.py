"""What bars are wanted of a venue, what of that it offers, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.wiring import venues
from forebay.app.wiring.config import VenueConfig
from forebay.domain.channels import SERIES
from forebay.domain.intervals import IntervalSet
from forebay.errors import ConfigError
from forebay.services.downloader import Download, Progress
from forebay.sources.history import ByBars
from forebay.text import did_you_mean
from forebay.times import to_ns, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from forebay.app.wiring.config import Config
    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.ports import HistoryRequest
    from forebay.sources.history import Series
    from forebay.sources.venue import Venue

BAR, TABLE = "bar", "bars"
"""What is downloaded, as streams and as a table; capture reads it too, without Arrow."""
_NS = 1_000_000_000
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class WantedBars:
    """Bars that are wanted: every series of every symbol, in one range."""

    venue: str
    symbols: tuple[str, ...]
    timeframes: tuple[str, ...]
    """Series: a time frame and what else tells it from others, such as ``1m,adjusted``."""
    since: str
    until: str
    """Not included; ISO 8601, empty: now."""
    market: str = ""
    """Empty: the venue's first."""
    rest_url: str = ""
    at_once: int = 4
    again: bool = False
    """Whether to ask for all of it, whatever was answered before."""


def configured(config: Config) -> WantedBars | None:
    """Return what ``[downloader]`` wants; None if that is nothing.

    Raises :class:`~forebay.errors.ConfigError` if something is missing.
    """
    said = config.downloader
    if not said.venue:
        return None
    if missing := [name for name in ("symbols", "timeframes", "since") if not getattr(said, name)]:
        message = f"The table downloader lacks {' and '.join(missing)}."
        raise ConfigError(message, hint="`forebay init` writes an example.")
    return WantedBars(
        said.venue,
        said.symbols,
        said.timeframes,
        said.since,
        "",
        said.market,
        at_once=said.at_once,
    )


def venue_config(config: Config, wanted: WantedBars) -> VenueConfig:
    """Return how the venue is reached; raises :class:`~forebay.errors.ConfigError`."""
    venues.check_venue(wanted.venue)
    market = wanted.market or venues.VENUES[wanted.venue].markets[0]
    base = VenueConfig(name=wanted.venue, symbols=wanted.symbols, market=market)
    for configured in config.venues:
        if configured.name == wanted.venue and venues.market_of(configured) == market:
            base = msgspec.structs.replace(
                configured, symbols=wanted.symbols, channels=(), market=market
            )
    if wanted.rest_url:
        base = msgspec.structs.replace(base, rest_url=wanted.rest_url)
    venues.check(base)
    return base


def plan(wanted: WantedBars, market: str, now_ns: int) -> list[Download]:
    """Return what is to be downloaded of each symbol and series.

    Raises :class:`~forebay.errors.ConfigError` for what the source does not offer.
    """
    venue = venues.VENUES[wanted.venue]
    history = venue.history.get(BAR)
    if not isinstance(history, ByBars):
        message = f"The history of {venue.title} has no bars."
        raise ConfigError(message, hint="What it has of other kinds is asked for to fill gaps.")
    found = []
    for name in dict.fromkeys(wanted.timeframes):
        series = history.series.get(name)
        if series is None:
            hint = did_you_mean(name, (), f"There is: {', '.join(history.series)}.")
            raise ConfigError(f"{venue.title} has no bars of {name!r}.", hint=hint)
        first, end = _range(wanted, venue, name, series, now_ns)
        found += [
            Download(
                wanted.venue,
                market,
                f"{BAR}{SERIES}{name}",
                symbol,
                first,
                end - 1,
                series.step_s * _NS,
                series.page_s * _NS,
                venue.channels[BAR].believed_after_s,
                wanted.again,
            )
            for symbol in dict.fromkeys(wanted.symbols)
        ]
    return found


def _range(
    wanted: WantedBars, venue: Venue, name: str, series: Series, now_ns: int
) -> tuple[int, int]:
    """Return when the first bar opens and the last one that is over closes."""
    step = series.step_s * _NS
    since, until = to_ns(wanted.since), to_ns(wanted.until) if wanted.until else now_ns
    if until <= since:
        message = f"The range from {wanted.since} to {wanted.until or 'now'} is empty."
        raise ConfigError(message, hint="--to is not included, and comes after --from.")
    listed = to_ns(series.since) if series.since else since
    if until <= listed:
        message = f"{venue.title} has no bars of {name} from before {series.since}."
        raise ConfigError(message, hint="Ask for a later range.")
    over = now_ns - round(series.lag_s * _NS)
    if series.session != "UTC" or series.step_s > _DAY_S:
        over -= step  # its bars do not begin at multiples of their length
    first = -(-max(since, listed) // step) * step
    end = min(-(-until // step) * step, over // step * step)
    if end <= first:
        message = f"No bar of {name} from {to_text(since)} to {to_text(until)} is over yet."
        raise ConfigError(message, hint="Ask for an earlier range, or later.")
    return first, end


@dataclass(frozen=True, slots=True)
class AskedDays:
    """A download, and what of it was asked for: whole days, as far as it reaches."""

    download: Download
    ranges: tuple[tuple[int, int], ...]
    """Both ends included."""

    @classmethod
    def of(cls, download: Download, requests: Iterable[HistoryRequest]) -> AskedDays:
        """Return the days that requests are of."""
        asked = IntervalSet()
        for each in requests:
            asked.add(each.first, each.last)
        return cls(download, days_of(download, asked))


def days_of(download: Download, times: IntervalSet) -> tuple[tuple[int, int], ...]:
    """Return the ranges of a download that have the whole days, or longer bars, of some times."""
    days, length = IntervalSet(), max(download.step_ns, _DAY_S * _NS)
    for first, last in times:
        days.add(first // length * length, (last // length + 1) * length - 1)
    return tuple(days.within(download.first, download.last))


@dataclass(slots=True)
class Downloaded:
    """What a download came to."""

    progress: list[Progress]
    stored: int = 0
    """Bars that were not stored before."""
    dead_letters: int = 0
    empty: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By stream, the longer times of which the source said that it has nothing."""

    @classmethod
    def of(
        cls,
        ended: list[Progress],
        coverage_of: Callable[[StreamKey], Coverage | None],
        stored: int = 0,
        dead_letters: int = 0,
    ) -> Downloaded:
        """Return what came of downloads, by the coverage that there is then."""
        empty = {
            each.download.key.name: each.download.empty(coverage_of(each.download.key))
            for each in ended
        }
        return cls(ended, stored, dead_letters, empty)

    @property
    def complete(self) -> bool:
        """Whether everything that was wanted has been answered."""
        return all(each.complete for each in self.progress)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "complete": self.complete,
            "stored": self.stored,
            "dead_letters": self.dead_letters,
            "downloads": [self._one(each) for each in self.progress],
        }

    def _one(self, each: Progress) -> dict[str, Any]:
        download = each.download
        return {
            "venue": download.venue,
            "market": download.market,
            "symbol": download.symbol,
            "timeframe": download.channel.partition(SERIES)[2],
            "from": to_text(download.first),
            "to": to_text(download.last + 1),
            "pages": each.pages,
            "answered": each.answered,
            "failed": each.failed,
            "elsewhere": each.elsewhere,
            "refused": each.refused,
            "problem": "" if each.complete else each.problem,
            "empty": [
                {"from": to_text(first), "to": to_text(last + 1)}
                for first, last in self.empty.get(download.key.name, ())
            ],
        }
