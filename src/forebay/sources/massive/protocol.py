"""Massive, formerly Polygon, pure: what its messages mean; it needs no Arrow.

Facts from the venue's published pages ("Aggregates", "Quotes", "Trades", "WebSocket forex",
"WebSocket crypto") and its official client (massive-com/client-python):

* Numbers are JSON numbers, times whole milliseconds on the stream and in bars, nanoseconds in
  pages of quotes and trades; so ``event_ts`` is in milliseconds.
* A frame of the stream is a JSON array, also with one event; a page of REST is an object whose
  ``results`` are absent, null or empty when there is nothing. No message has a sequence number.
* ``t`` of a bar is its start. None exists of a period in which nothing happened.
"""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from forebay.domain.calendars import FOREX as FOREX_WEEK
from forebay.domain.channels import Channel
from forebay.domain.frames import FrameKind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from forebay.domain.calendars import Calendar
    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Parsed

MILLISECOND = 1_000_000
_CHANNEL = partial(Channel, time_unit_ns=MILLISECOND, history=True)
TRADES = _CHANNEL("trade", identity="native", unit="time")
"""An id names a trade on the exchange where it happened, and is the same on both paths."""
QUOTES = _CHANNEL("quote", identity="content", unit="time")
BARS = _CHANNEL("bar", identity="content", unit="none")
"""Of a minute; one that is corrected comes anew."""
CHANNELS: Mapping[str, Channel] = {channel.kind: channel for channel in (TRADES, QUOTES, BARS)}
"""By kind of event."""

FOREX, CRYPTO = "forex", "crypto"
PREFIXES = {FOREX: "C", CRYPTO: "X"}
"""What a ticker of each market begins with."""
TRADED = {FOREX: (QUOTES.kind, BARS.kind), CRYPTO: tuple(CHANNELS)}
"""By market, the kinds of event that there are: nobody publishes trades of currencies."""

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
"""The venue's multiplier and time span of each time frame."""


def ticker_of(market: str, symbol: str) -> str:
    """Return what REST calls the aggregates of a symbol: ``C:EURUSD``."""
    return pair_of(market, symbol).replace("-", "")


def pair_of(market: str, symbol: str) -> str:
    """Return what REST calls a symbol elsewhere: ``C:EUR-USD``."""
    return f"{PREFIXES[market]}:{symbol}"


def taken(batch: FrameBatch) -> Collection[str]:
    """Return the kinds of events that were asked for: all, where the context names none."""
    return batch.context.channels or CHANNELS.keys()


class MassiveParser:
    """Parser of everything that the streams and the REST answers send."""

    name = "massive/1"
    """Name and version, kept with every dead letter."""
    channels: Mapping[str, Channel] = CHANNELS
    calendars: Mapping[str, Calendar] = MappingProxyType({FOREX: FOREX_WEEK})
    """See :class:`~forebay.ports.KnowsHours`; crypto never closes."""

    def parse(self, batch: FrameBatch) -> Parsed:
        """Account for every frame of ``batch``; see :class:`~forebay.ports.Parser`."""
        # Capture imports this module too, and needs no Arrow.
        if batch.kind is FrameKind.REST:
            from forebay.sources.massive.pages import read_pages  # noqa: PLC0415

            return read_pages(batch)
        from forebay.sources.massive.stream import read_stream  # noqa: PLC0415

        return read_stream(batch)
