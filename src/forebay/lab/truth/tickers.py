"""Tickers in closed form: the last trade, the best of the book, and what 24 hours were like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.lab.truth.book import BookTruth
from forebay.lab.truth.texts import decimal_text, fixed
from forebay.lab.truth.told import TruthEvent
from forebay.lab.truth.trades import SWING

if TYPE_CHECKING:
    from forebay.lab.truth.trades import Trade, Trades

EVERY: Final = 4
"""Indices from one ticker to the next. Events of one moment share their last one's, as an exchange
tells trades that one order made in one ticker; so no two tickers have one time."""


class TickerTruth(TruthEvent, frozen=True, kw_only=True):
    """What a venue says of the last trade and the last 24 hours."""

    price: str
    size: str
    bid_size: str
    ask_size: str
    volume_24h: str
    bid_price: str
    ask_price: str
    open_24h: str
    high_24h: str
    low_24h: str

    def channel(self) -> str:
        return "ticker"

    def content(self) -> str:
        told = (
            *(self.price, self.size, self.bid_size, self.ask_size, self.volume_24h),
            *(self.bid_price, self.ask_price, self.open_24h, self.high_24h, self.low_24h),
        )
        return "|".join(map(fixed, told)) + "|"  # a weighted mean is not told


class Quote(TruthEvent, frozen=True, kw_only=True):
    """Best bid and ask."""

    bid_price: str
    bid_size: str
    ask_price: str
    ask_size: str

    def channel(self) -> str:
        return "quote"

    def content(self) -> str:
        told = (self.bid_price, self.bid_size, self.ask_price, self.ask_size)
        return "|".join(map(fixed, told))


class Tickers:
    """Tickers by index; most indices have none."""

    def __init__(self, trades: Trades) -> None:
        self.trades = trades
        self._book = BookTruth(trades)

    def due(self, index: int) -> bool:
        """Whether this index has a ticker."""
        trades = self.trades
        return index % EVERY == EVERY - 1 and trades.time_ns(index + 1) > trades.time_ns(index)

    def last(self, index: int) -> TickerTruth | None:
        """The latest ticker as of ``index``."""
        while index >= 0:
            if self.due(index):
                return self.event(index)
            index -= 1
        return None

    def event(self, index: int) -> TickerTruth | None:
        return self.of(self.trades.event(index)) if self.due(index) else None

    def of(self, trade: Trade) -> TickerTruth:
        """The ticker that a trade causes."""
        trades, index = self.trades, trade.index
        swing, level, decimals = trades.level // 10, trades.level, trades.price_decimals
        bid, ask = self._book.best(index)
        return TickerTruth(
            index=index,
            venue=trade.venue,
            symbol=trade.symbol,
            event_ts=trade.event_ts,
            price=trade.price,
            size=trade.size,
            bid_price=bid[0],
            bid_size=bid[1],
            ask_price=ask[0],
            ask_size=ask[1],
            # A market that swings for ever swung so the day before.
            open_24h=decimal_text(level - swing // 2 + index // SWING % swing, decimals),
            high_24h=decimal_text(level + swing // 2 + level // 500, decimals),
            low_24h=decimal_text(level - swing // 2, decimals),
            volume_24h=decimal_text(level * 1_000_000 + index % SWING, 8),
        )


class Quotes:
    """Best bid and ask of each ticker."""

    def __init__(self, trades: Trades) -> None:
        self._tickers = Tickers(trades)

    def event(self, index: int) -> Quote | None:
        ticker = self._tickers.event(index)
        if ticker is None:
            return None
        return Quote(
            index=index,
            venue=ticker.venue,
            symbol=ticker.symbol,
            event_ts=ticker.event_ts,
            bid_price=ticker.bid_price,
            bid_size=ticker.bid_size,
            ask_price=ticker.ask_price,
            ask_size=ticker.ask_size,
        )
