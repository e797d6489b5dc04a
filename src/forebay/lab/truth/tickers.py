"""Tickers in closed form: the last trade, the best of the book, and what 24 hours were like."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from forebay.lab.truth.book import BookTruth
from forebay.lab.truth.event import TruthEvent
from forebay.lab.truth.texts import decimal_text
from forebay.lab.truth.trades import SWING

if TYPE_CHECKING:
    from forebay.lab.truth.trades import Trade, Trades

EVERY: Final = 4
"""Indices from one ticker to the next. Events of one moment share their last one's, as an exchange
tells trades that one order made in one ticker; so no two tickers have one time."""


class TickerTruth(TruthEvent, frozen=True):
    """What a venue says of the last trade and the last 24 hours."""

    channel: ClassVar[str] = "ticker"

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

    def content(self) -> str:
        return super().content() + "|"  # a weighted mean is not told


class Quote(TruthEvent, frozen=True):
    """Best bid and ask."""

    channel: ClassVar[str] = "quote"

    bid_price: str
    bid_size: str
    ask_price: str
    ask_size: str


class Tickers:
    """Tickers, and their quotes, by index; most indices have none."""

    def __init__(self, trades: Trades) -> None:
        self.trades = trades
        self._book = BookTruth(trades)

    def due(self, index: int) -> bool:
        """Whether this index has a ticker."""
        trades = self.trades
        return index % EVERY == EVERY - 1 and trades.time_ns(index + 1) > trades.time_ns(index)

    def last(self, index: int) -> TickerTruth | None:
        """The latest ticker as of ``index``."""
        due = filter(self.due, range(index, -1, -1))
        return next(map(self.event, due), None)

    def event(self, index: int) -> TickerTruth | None:
        return self.of(self.trades.event(index)) if self.due(index) else None

    def quote(self, index: int) -> Quote | None:
        """The best bid and ask that its ticker tells."""
        if not self.due(index):
            return None
        (bid, bid_size), (ask, ask_size) = self._book.best(index)
        return Quote(*self.trades.head(index), bid, bid_size, ask, ask_size)

    def of(self, trade: Trade) -> TickerTruth:
        """The ticker that a trade causes."""
        trades, index = self.trades, trade.index
        swing, level, decimals = trades.level // 10, trades.level, trades.price_decimals
        bid, ask = self._book.best(index)
        return TickerTruth(
            *trades.head(index),
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
