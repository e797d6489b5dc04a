"""Massive's quotes, trades and bars: rows of pages, which the stream writes shorter, as columns."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

import msgspec

from forebay.domain.calendars.grid import STEPS
from forebay.domain.channels import Channel
from forebay.domain.parsed import Moments, RawEvents
from forebay.sources import parsing
from forebay.sources.massive.protocol import BARS, FOREX, QUOTES, TRADES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.domain.frames import FrameBatch
    from forebay.sources.parsing import Placed

SELL, BUY = 1, 2
"""Conditions of a trade: which side took."""
_DAY_MS, _SUNDAY, _MONDAY = 86_400_000, 3, 4
_COLUMNS = {
    QUOTES: ("bid_price", "ask_price", "bid_size", "ask_size"),
    TRADES: ("price", "size", "side"),
    BARS: ("open", "high", "low", "close", "volume", "vwap", "trades"),
}
_TIME = {"time": "participant_timestamp"}


class QuoteRow(msgspec.Struct, kw_only=True, rename=_TIME):
    """A quote of a page; there are no sizes of currencies."""

    channel: ClassVar[Channel] = QUOTES

    time: int
    bid_price: Decimal
    ask_price: Decimal
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None


class TradeRow(msgspec.Struct, kw_only=True, rename=_TIME):
    """A trade of a page; ``id`` names it on ``exchange``."""

    channel: ClassVar[Channel] = TRADES

    time: int
    id: str | int
    exchange: int
    price: Decimal
    size: Decimal
    conditions: list[int] | None = None

    @property
    def native(self) -> str:
        """What identifies it on every path; nothing if the venue names none."""
        return "" if self.id == "" else f"{self.exchange}:{self.id}"

    @property
    def side(self) -> str:
        """Which side took, if exactly one is said to have."""
        said = {SELL, BUY}.intersection(self.conditions or ())
        if len(said) != 1:
            return "unknown"
        return "buy" if BUY in said else "sell"


class BarRow(
    msgspec.Struct,
    kw_only=True,
    rename={"begin": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v",
            "vwap": "vw", "trades": "n"},
):  # fmt: skip
    """A bar of a page; what is told of it but the last two is never left out."""

    channel: ClassVar[Channel] = BARS

    begin: int
    """In milliseconds."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal | None = None
    trades: int | None = None

    @property
    def possible(self) -> bool:
        """Whether prices and volume can be those of a bar."""
        numbers = (self.open, self.high, self.low, self.close, self.volume)
        if not all(number.is_finite() for number in numbers):
            return False
        low, high = min(self.open, self.close), max(self.open, self.close)
        return 0 < self.low <= low and high <= self.high and self.volume >= 0


def on_grid(begin_ms: int, timeframe: str) -> bool:
    """Return whether a bar can begin then; a week begins with its Sunday or its Monday, UTC."""
    if timeframe == "1w":
        return begin_ms % _DAY_MS == 0 and begin_ms // _DAY_MS % 7 in (_SUNDAY, _MONDAY)
    return begin_ms % (STEPS[timeframe] * 1000) == 0


def ticks(
    rows: Sequence[Placed],
    unit_ns: int,
    *,
    market: str,
    symbol: Sequence[str],
    venue_symbol: Sequence[str],
) -> RawEvents:
    """Return quotes or trades as columns; ``unit_ns`` is that of their times."""
    told = [row for _, _, row in rows]
    channel: Channel = told[0].channel
    return RawEvents(
        channel=channel,
        market=market,
        frame=[frame for frame, _, _ in rows],
        item=[item for _, item, _ in rows],
        venue_symbol=venue_symbol,
        symbol=symbol,
        native=[row.native for row in told] if channel is TRADES else None,
        time=Moments([row.time for row in told], unit_ns),
        columns={
            name: [
                parsing.plain(cell) if isinstance(cell, Decimal) else cell
                for cell in (getattr(row, name) for row in told)
            ]
            for name in _COLUMNS[channel]
        },
    )


def bars(
    batch: FrameBatch,
    rows: Sequence[Placed],
    timeframe: str,
    *,
    market: str,
    symbol: Sequence[str],
    venue_symbol: Sequence[str],
    adjusted: bool = False,
    skew_ns: int = 0,
) -> RawEvents:
    """Return bars of one time frame as columns."""
    begins = [row.begin for _, _, row in rows]
    return parsing.bars(
        batch,
        BARS,
        rows,
        market=market,
        symbol=symbol,
        venue_symbol=venue_symbol,
        timeframe=timeframe,
        of="quote" if market == FOREX else "trade",
        adjusted=adjusted,
        begins=begins,
        ends=[begin + STEPS[timeframe] * 1000 for begin in begins],
        skew_ns=skew_ns,
        columns={name: [getattr(row, name) for _, _, row in rows] for name in _COLUMNS[BARS]},
    )
