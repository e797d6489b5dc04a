"""The truth in closed form: what a simulated market says at any index, without its history."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.errors import ConfigError
from forebay.lab.truth.bars import Bars
from forebay.lab.truth.book import BookTruth, Deltas, Snapshots
from forebay.lab.truth.digest import Event, TruthDigest, TruthStream
from forebay.lab.truth.texts import (
    MARKET,
    decimal_text,
    fixed,
    iso_micros,
    parse_start,
    parse_symbols,
    uuid_text,
)
from forebay.lab.truth.tickers import Quotes, Tickers
from forebay.lab.truth.trades import CHANNEL, DEFAULT_START_NS, DEFAULT_STEP_US, Trade, Trades

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "CHANNEL",
    "DEFAULT_START_NS",
    "DEFAULT_STEP_US",
    "MARKET",
    "SOURCES",
    "Bars",
    "BookTruth",
    "Deltas",
    "Event",
    "Quotes",
    "Snapshots",
    "Tickers",
    "Trade",
    "Trades",
    "TruthDigest",
    "TruthStream",
    "decimal_text",
    "events",
    "fixed",
    "iso_micros",
    "parse_start",
    "parse_symbols",
    "source_named",
    "uuid_text",
]

SOURCES: Final[Mapping[str, Callable[[Trades], TruthStream]]] = MappingProxyType(
    {
        CHANNEL: lambda trades: trades,
        "ticker": Tickers,
        "quote": Quotes,
        "book_delta": Deltas,
        "book_snapshot": Snapshots,
        "bar": Bars,
    }
)
"""By channel, what makes all of its events from the market's trades."""


def source_named(channel: str) -> Callable[[Trades], TruthStream]:
    """What makes the events of a channel; raises :class:`~forebay.errors.ConfigError`."""
    if channel not in SOURCES:
        raise ConfigError(f"{channel!r} is no channel.", hint=f"There are {', '.join(SOURCES)}.")
    return SOURCES[channel]


def events(source: TruthStream, first: int, end: int) -> Iterator[Event]:
    """What belongs to indices ``first`` to ``end - 1``, in order."""
    return (event for index in range(first, end) if (event := source.event(index)) is not None)
