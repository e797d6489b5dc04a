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
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.frames import FrameKind
from forebay.sources.coinbase.channels import CHANNELS, MARKET, TRADES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from forebay.domain.channels import Channel
    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Parsed

__all__ = [
    "FEWEST",
    "MARKET",
    "PARSER",
    "TRADES",
    "UNBUILT",
    "VENUE",
    "CoinbaseParser",
]

VENUE = "coinbase"
PARSER = "coinbase/1"
"""Name and version of this parser, kept with every dead letter."""
FEWEST = 512
"""Fewer frames than this are read sooner one by one than as columns."""

UNBUILT = ("status", "received", "open", "done", "change", "activate", "auction", "rfq_matches")
"""Types of messages of channels that are not captured."""
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything msgspec raises over bytes: the last two are no DecodeError."""


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


class CoinbaseParser:
    """Parser of everything that the feed and the REST answers send.

    Each way of reading a message says the same; ``fewest`` frames are read as columns if they can.
    """

    name = PARSER
    channels: Mapping[str, Channel] = CHANNELS

    def __init__(self, fewest: int = FEWEST) -> None:
        self._fewest = fewest

    def may_tell(self, payload: bytes, kinds: Collection[str], symbol: str) -> bool:
        """See :class:`~forebay.services.books.Guesses`: a frame that is torn says how it began."""
        begun, product = _TYPE.match(payload), _OF_PRODUCT.search(payload)
        told = kinds if begun is None else KINDS_OF_TYPE.get(begun[1], set()) & {*kinds}
        return bool(told) and (product is None or product[1] == symbol.encode())

    def parse(self, batch: FrameBatch) -> Parsed:
        """Account for every frame of ``batch``; see :class:`~forebay.ports.Parser`."""
        # Capture imports this module too, and needs no Arrow.
        if batch.kind is FrameKind.REST:
            from forebay.sources.coinbase.pages import read_pages  # noqa: PLC0415

            return read_pages(batch)
        from forebay.sources.coinbase.feed import read_feed  # noqa: PLC0415

        return read_feed(batch, self._fewest)
