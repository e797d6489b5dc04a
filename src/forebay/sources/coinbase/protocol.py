"""Coinbase Exchange, pure: what its messages mean.

Facts from the exchange's published pages ("Exchange WebSocket feed", "Exchange REST API")
and from recorded frames:

* ``side`` of a match is the *maker's*; Forebay's is the taker's, the opposite. A ticker's is
  the taker's, a book's says of which side of the book a level is.
* ``trade_id`` rises by one per product. ``last_match`` repeats the latest trade at the
  moment of subscribing, and a heartbeat's ``last_trade_id`` says what exists.
* Prices and sizes are JSON strings, times RFC 3339 in microseconds, on both paths; those of
  candles are JSON numbers, and whole seconds.
* A ``snapshot`` is a whole book, an ``l2update`` the sizes that some levels have from now on.
* Only trades have ids. Of all else the same facts at the same time are one event, whichever
  connection told them, and what is owed is to be heard: see ``docs/explanation/coinbase.md``.

Capture reads this too, so it needs no Arrow.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from forebay.domain.channels import Channel
from forebay.domain.frames import FrameKind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Parsed

VENUE = "coinbase"
PARSER = "coinbase/1"
"""Name and version of this parser, kept with every dead letter."""
FEWEST = 512
"""Fewer frames than this are read sooner one by one than as columns."""

UNBUILT = ("status", "received", "open", "done", "change", "activate", "auction", "rfq_matches")
"""Types of messages of channels that are not captured."""

_MICROSECOND, _SECOND = 1000, 1_000_000_000

TRADES = Channel("trade", identity="native", unit="id", time_unit_ns=_MICROSECOND, history=True)
"""``trade_id`` rises by one and is the same on every path; times are in microseconds."""
_HEARD = partial(Channel, identity="content", unit="time")
TICKERS = _HEARD("ticker", time_unit_ns=_MICROSECOND)
QUOTES = _HEARD("quote", time_unit_ns=_MICROSECOND)
"""Best bid and ask as the ticker tells them: with each trade, and not with each change."""
BOOK_SNAPSHOTS = _HEARD("book_snapshot")
"""It has no time of the venue's, mostly; then it is that of receipt, in nanoseconds."""
BOOK_DELTAS = _HEARD("book_delta", time_unit_ns=_MICROSECOND)
BARS = Channel("bar", identity="content", unit="none", time_unit_ns=_SECOND, history=True)
"""Candles are asked for by REST, whenever that is."""
PERIODS_S = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86_400}
"""Seconds of a candle by time frame; Forebay has no word for the venue's 21 600, six hours."""

CHANNELS: Mapping[str, Channel] = {
    channel.kind: channel
    for channel in (TRADES, TICKERS, QUOTES, BOOK_SNAPSHOTS, BOOK_DELTAS, BARS)
}
"""By kind of event."""
MARKET = "spot"

KINDS_OF_TYPE = {
    b"match": {"trade"},
    b"last_match": {"trade"},
    b"ticker": {"ticker", "quote"},
    b"snapshot": {"book_snapshot"},
    b"l2update": {"book_delta"},
}
"""By type of message, the kinds of events that it tells; all others tell none."""
_TYPE = re.compile(rb'\s*\{\s*"type"\s*:\s*"(\w+)"')
_OF_PRODUCT = re.compile(rb'"product_id"\s*:\s*"([^"]*)"')


def taken(batch: FrameBatch) -> Collection[str]:
    """Return the kinds of events that were asked for: all, where the context names none."""
    return batch.context.channels or CHANNELS.keys()


class CoinbaseParser:
    """Parser of everything that the feed and the REST answers send.

    Each way of reading a message says the same; ``fewest`` frames are read as columns if they can.
    """

    name = PARSER
    channels: Mapping[str, Channel] = CHANNELS

    def __init__(self, fewest: int = FEWEST) -> None:
        self._fewest = fewest

    def may_tell(self, payload: bytes, kinds: Collection[str], symbol: str) -> bool:
        """See :class:`~forebay.services.book_telling.Guesses`: what is torn says how it began."""
        begun, product = _TYPE.match(payload), _OF_PRODUCT.search(payload)
        told = kinds if begun is None else KINDS_OF_TYPE.get(begun[1], set()) & {*kinds}
        return bool(told) and (product is None or product[1] == symbol.encode())

    def parse(self, batch: FrameBatch) -> Parsed:
        """Account for every frame of ``batch``; see :class:`~forebay.ports.Parser`."""
        if batch.kind is FrameKind.REST:
            from forebay.sources.coinbase.pages import read_pages  # noqa: PLC0415

            return read_pages(batch)
        from forebay.sources.coinbase.feed import read_feed  # noqa: PLC0415

        return read_feed(batch, self._fewest)
