"""The truth in closed form: what a simulated market says at any index, without its history."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.errors import ConfigError
from forebay.lab.truth.bars import Bar, Bars
from forebay.lab.truth.book import BookTruth
from forebay.lab.truth.event import Source, TruthDigest, TruthEvent, events
from forebay.lab.truth.texts import MARKET, parse_start, parse_symbols
from forebay.lab.truth.tickers import Tickers
from forebay.lab.truth.trades import CHANNEL, DEFAULT_START_NS, DEFAULT_STEP_US, Trade, Trades

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "CHANNEL",
    "DEFAULT_START_NS",
    "DEFAULT_STEP_US",
    "MARKET",
    "SOURCES",
    "Bar",
    "Bars",
    "BookTruth",
    "Source",
    "Tickers",
    "Trade",
    "Trades",
    "TruthDigest",
    "TruthEvent",
    "events",
    "parse_start",
    "parse_symbols",
    "source_named",
]

SOURCES: Final[Mapping[str, Callable[[Trades], Source]]] = MappingProxyType(
    {
        CHANNEL: lambda trades: trades.event,
        "ticker": lambda trades: Tickers(trades).event,
        "quote": lambda trades: Tickers(trades).quote,
        "book_delta": lambda trades: BookTruth(trades).delta,
        "book_snapshot": lambda trades: BookTruth(trades).snapshot,
        "bar": lambda trades: Bars(trades).event,
    }
)
"""By channel, what makes all of its events from the market's trades."""


def source_named(
    channel: str, sources: Mapping[str, Callable[[Trades], Source]] = SOURCES
) -> Callable[[Trades], Source]:
    """What makes the events of a channel; raises :class:`~forebay.errors.ConfigError`."""
    if channel not in sources:
        raise ConfigError(f"{channel!r} is no channel.", hint=f"There are {', '.join(sources)}.")
    return sources[channel]
