"""Kalshi, pure: what its messages mean; it needs no Arrow.

Facts from the venue's published specifications (its OpenAPI and AsyncAPI documents, "Fixed-Point
Migration", "Orderbook Responses") and from recorded frames and answers:

* Of a market the YES contract is the instrument: prices are those of YES, in dollars between 0 and
  1. A book has bids only, on both sides; a NO bid at p is an ask of YES at 1 - p, exactly.
* Prices are JSON strings (``*_dollars``), counts too (``*_fp``): contracts have fractions. Up to
  early 2026 there were whole cents and whole contracts instead, and both for a time. Where both
  are, the strings are right: the old field may stay, as 0.
* Every frame of a subscription but those of ``ticker`` has a number, ``seq``, which rises by one
  over all markets of the subscription ``sid``, acknowledgements included. One market's frames
  therefore show holes that are none; see :class:`~forebay.domain.parsed.CountedMessages`.
* ``trade_id`` is a UUID, the same over the websocket and by REST. The former tells milliseconds,
  the latter microseconds. ``taker_outcome_side`` is the outcome that the taker bought.
* A candle's ``end_period_ts`` is the end of its period, and a day's is midnight in New York.

Capture reads this too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from forebay.domain.channels import Channel
from forebay.domain.frames import FrameKind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Parsed

VENUE = "kalshi"
PARSER = "kalshi/1"
"""Name and version of this parser, kept with every dead letter."""
MARKET = "prediction"
FEWEST = 512
"""Fewer frames than this are read sooner one by one than as columns."""
MICROSECOND, MILLISECOND, SECOND = 1000, 1_000_000, 1_000_000_000

TRADES = Channel(
    "trade", identity="native", unit="time", time_unit_ns=MILLISECOND, history=True, counted=True
)
"""Ids are not counted: what is owed is to be heard, or to be asked for."""
TICKERS = Channel("ticker", identity="content", unit="time", time_unit_ns=MILLISECOND)
BOOK_SNAPSHOTS = Channel("book_snapshot", identity="content", unit="time", counted=True)
"""It has no time of the venue's: that is the one of receipt, in nanoseconds."""
BOOK_DELTAS = Channel(
    "book_delta",
    identity="session",
    unit="time",
    time_unit_ns=MICROSECOND,
    relative=True,
    counted=True,
)
"""Two that say the same are two: each is known by its number, which is its connection's."""
BARS = Channel("bar", identity="content", unit="none", time_unit_ns=SECOND, history=True)
"""Candles are asked for by REST, whenever that is."""
MARKETS = Channel("market", identity="content", unit="none")
"""What the venue says of its markets and their kin whenever it is asked, or something changes."""
EVENTS = Channel("market_event", identity="content", unit="none")
SERIES = Channel("market_series", identity="content", unit="none")
CHANNELS: Mapping[str, Channel] = {
    channel.kind: channel
    for channel in (
        *(TRADES, TICKERS, BOOK_SNAPSHOTS, BOOK_DELTAS, BARS),
        *(MARKETS, EVENTS, SERIES),
    )
}
"""By kind of event."""

PERIODS_MIN = {"1m": 1, "1h": 60, "1d": 1440}
"""Minutes of a candle by time frame."""
SESSION_OF = {"1d": "NY00"}
"""What a day is; all else is on one grid from midnight UTC."""
KEY_ID, PRIVATE_KEY = "key_id", "private_key"
"""What the secrets are called in a file of credentials."""
SEQ_BITS = 40
"""Below the number of the subscription in the number of a message: more than a year's messages."""
BOOK_KINDS = (BOOK_SNAPSHOTS.kind, BOOK_DELTAS.kind)
KINDS_OF_TYPE: Mapping[str, tuple[str, ...]] = {
    "trade": (TRADES.kind,),
    "ticker": (TICKERS.kind,),
    "orderbook_snapshot": (BOOK_SNAPSHOTS.kind,),
    "orderbook_delta": (BOOK_DELTAS.kind,),
    "market_lifecycle_v2": (MARKETS.kind,),
    "multivariate_market_lifecycle": (MARKETS.kind,),
    "event_lifecycle": (EVENTS.kind,),
}
"""By type of message, the kinds of events that it tells; all others tell none."""
KINDS_OF_CHANNEL: Mapping[str, tuple[str, ...]] = {
    "orderbook_delta": BOOK_KINDS,
    "trade": (TRADES.kind,),
    "market_lifecycle_v2": (MARKETS.kind, EVENTS.kind),
    "multivariate_market_lifecycle": (MARKETS.kind, EVENTS.kind),
}
"""By channel whose messages are numbered, all kinds of events that a subscription to it tells."""
UNBUILT = (
    "event_fee_update",
    "fill",
    "market_position",
    "market_positions",
    "user_order",
    "user_orders",
    "order_group_updates",
    "communications",
    "cfbenchmarks_value",
    "pyth_value",
)
"""Types of messages of channels that are not captured."""
TICKER = r"[A-Z0-9][A-Za-z0-9_.-]{0,99}"
"""What a market's symbol looks like, as a regular expression."""
_SYMBOL = re.compile(TICKER)
_TYPE = re.compile(rb'\s*\{\s*"type"\s*:\s*"(\w+)"')
_OF_MARKET = re.compile(rb'"market_ticker"\s*:\s*"([^"]*)"')


def taken(batch: FrameBatch) -> Collection[str]:
    """Return the kinds of events that were asked for: all, where the context names none."""
    return batch.context.channels or CHANNELS.keys()


def wanted(batch: FrameBatch, markets: set[str]) -> set[str]:
    """Return those of some markets that were asked for: all that can be, where none is named."""
    if batch.context.symbols:
        return markets & set(batch.context.symbols)
    return {market for market in markets if _SYMBOL.fullmatch(market)}


class KalshiParser:
    """Parser of everything that the websocket and the REST answers send.

    Each way of reading a message says the same; ``fewest`` frames are read as columns if they can.
    """

    name = PARSER
    channels: Mapping[str, Channel] = CHANNELS

    def __init__(self, fewest: int = FEWEST) -> None:
        self._fewest = fewest

    def may_tell(self, payload: bytes, kinds: Collection[str], symbol: str) -> bool:
        """See :class:`~forebay.services.book_telling.Guesses`: what is torn says how it began."""
        begun, market = _TYPE.match(payload), _OF_MARKET.search(payload)
        told = {*kinds}
        if begun is not None:
            told &= {*KINDS_OF_TYPE.get(begun[1].decode(), ())}
        return bool(told) and (market is None or market[1] == symbol.encode())

    def parse(self, batch: FrameBatch) -> Parsed:
        """Account for every frame of ``batch``; see :class:`~forebay.ports.Parser`."""
        if batch.kind is FrameKind.REST:
            from forebay.sources.kalshi.pages import read_pages  # noqa: PLC0415

            return read_pages(batch)
        from forebay.sources.kalshi.feed import read_feed  # noqa: PLC0415

        return read_feed(batch, self._fewest)
