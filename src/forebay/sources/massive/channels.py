"""What Massive declares of its channels, its markets and its spelling; it needs no Arrow.

Facts from the venue's published pages ("Aggregates", "Quotes", "Trades", "WebSocket forex",
"WebSocket crypto") and from its official client. The stream tells milliseconds and REST
nanoseconds of one event, so ``event_ts`` is in milliseconds. No message has a sequence number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.channels import Channel

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from forebay.domain.frames import FrameBatch

MILLISECOND, SECOND = 1_000_000, 1_000_000_000

TRADES = Channel("trade", identity="native", unit="time", time_unit_ns=MILLISECOND, history=True)
"""An id names a trade on the exchange where it happened, and is the same on both paths."""
QUOTES = Channel("quote", identity="content", unit="time", time_unit_ns=MILLISECOND, history=True)
BARS = Channel("bar", identity="content", unit="none", time_unit_ns=MILLISECOND, history=True)
"""Of a minute; one that is corrected comes anew."""

CHANNELS: Mapping[str, Channel] = {channel.kind: channel for channel in (TRADES, QUOTES, BARS)}
"""By kind of event."""

FOREX, CRYPTO = "forex", "crypto"
PREFIXES = {FOREX: "C", CRYPTO: "X"}
"""What a ticker of each market begins with."""
MARKETS = {prefix: market for market, prefix in PREFIXES.items()}
TRADED = {FOREX: (QUOTES.kind, BARS.kind), CRYPTO: tuple(CHANNELS)}
"""By market, the kinds of event that there are: nobody publishes trades of currencies."""

SECONDS = {
    "1s": 1,
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "1h": 3600,
    "4h": 14_400,
    "1d": 86_400,
    "1w": 604_800,
}
"""Bars by their length."""
SPANS = {
    "1s": (1, "second"),
    "1m": (1, "minute"),
    "5m": (5, "minute"),
    "15m": (15, "minute"),
    "1h": (1, "hour"),
    "4h": (4, "hour"),
    "1d": (1, "day"),
    "1w": (1, "week"),
}
"""The venue's multiplier and time span for each."""
TIMEFRAMES = {span: timeframe for timeframe, span in SPANS.items()}


def ticker_of(market: str, symbol: str) -> str:
    """Return what REST calls the aggregates of a symbol: ``C:EURUSD``."""
    return f"{PREFIXES[market]}:{symbol.replace('-', '')}"


def pair_of(market: str, symbol: str) -> str:
    """Return what REST calls a symbol elsewhere: ``C:EUR-USD``."""
    return f"{PREFIXES[market]}:{symbol}"


def taken(batch: FrameBatch) -> Collection[str]:
    """Return the kinds of events that were asked for: all, where the context names none."""
    return batch.context.channels or CHANNELS.keys()
