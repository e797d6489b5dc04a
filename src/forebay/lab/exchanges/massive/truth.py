"""What Massive tells, as events: times in milliseconds, trades by their exchange and number."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from forebay.lab.truth import Bars, Source, Tickers, TruthEvent
from forebay.lab.truth.texts import digest_bits, fixed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forebay.lab.truth import Trade, Trades

FOREX: Final = "forex"
CRYPTO: Final = "crypto"
CURRENCIES: Final = frozenset(
    ("AUD", "CAD", "CHF", "CNH", "EUR", "GBP", "HKD", "JPY", "MXN", "NOK", "NZD", "PLN", "SEK",
     "SGD", "TRY", "USD", "ZAR")
)  # fmt: skip
EXCHANGE: Final = 1
"""Where every trade happens."""
_MS = 1_000_000


def market_of(symbol: str) -> str:
    """Return the market of a symbol: of currencies if both sides are such."""
    return FOREX if CURRENCIES.issuperset(symbol.split("-")) else CRYPTO


class MassiveTrade(TruthEvent, frozen=True):
    """One trade; its id is made of its exchange and number."""

    channel: ClassVar[str] = "trade"
    market: ClassVar[str] = CRYPTO

    trade_id: str
    price: str
    size: str
    side: str

    @property
    def event_id(self) -> int:
        return digest_bits(f"native|{self.venue}|{CRYPTO}|trade|{self.symbol}|{self.trade_id}")

    def content(self) -> str:
        return f"{self.trade_id}|{fixed(self.price)}|{fixed(self.size)}|{self.side}"


class ForexQuote(TruthEvent, frozen=True):
    """Best bid and ask of currencies, which have no sizes."""

    channel: ClassVar[str] = "quote"
    market: ClassVar[str] = FOREX

    bid_price: str
    ask_price: str

    def content(self) -> str:
        return f"{fixed(self.bid_price)}||{fixed(self.ask_price)}|"


class CryptoQuote(TruthEvent, frozen=True):
    """Best bid and ask, with sizes."""

    channel: ClassVar[str] = "quote"
    market: ClassVar[str] = CRYPTO

    bid_price: str
    bid_size: str
    ask_price: str
    ask_size: str


class ForexBar(TruthEvent, frozen=True):
    """One minute that is over."""

    channel: ClassVar[str] = "bar"
    market: ClassVar[str] = FOREX
    of: ClassVar[str] = "quote"

    close_ts: int
    open: str
    high: str
    low: str
    close: str
    volume: str

    def content(self) -> str:
        prices = "|".join(map(fixed, (self.open, self.high, self.low, self.close, self.volume)))
        head = f"1m|UTC|{self.of}|false|{self.event_ts}|{self.close_ts}"
        return f"{head}|{prices}||{self.vwap()}|final|1"

    def vwap(self) -> str:
        """The weighted mean as it is told."""
        return ""


class CryptoBar(ForexBar, frozen=True):
    """The same, with a weighted mean: here, the close."""

    market: ClassVar[str] = CRYPTO
    of: ClassVar[str] = "trade"

    def vwap(self) -> str:
        return fixed(self.close)


def _head(trades: Trades, index: int) -> tuple[int, str, str, int]:
    at, venue, symbol, time_ns = trades.head(index)
    return at, venue, symbol, time_ns // _MS * _MS


def trade_id(trade: Trade) -> str:
    """What identifies a trade on every path."""
    return f"{EXCHANGE}:{trade.trade_id}"


def _trades(trades: Trades) -> Source:
    def event(index: int) -> TruthEvent | None:
        if market_of(trades.symbol) == FOREX:
            return None
        told = trades.event(index)
        own = (trade_id(told), told.price, told.size, told.side)
        return MassiveTrade(*_head(trades, index), *own)

    return event


def _quotes(trades: Trades) -> Source:
    tickers = Tickers(trades)

    def event(index: int) -> TruthEvent | None:
        quote = tickers.quote(index)
        if quote is None:
            return None
        head = _head(trades, index)
        if market_of(trades.symbol) == FOREX:
            return ForexQuote(*head, quote.bid_price, quote.ask_price)
        sizes: tuple[Any, ...] = (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size)
        return CryptoQuote(*head, *sizes)

    return event


def _bars(trades: Trades) -> Source:
    bars = Bars(trades)

    def event(index: int) -> TruthEvent | None:
        bar = bars.event(index)
        if bar is None:
            return None
        kind = ForexBar if market_of(trades.symbol) == FOREX else CryptoBar
        own = (bar.close_ts, bar.open, bar.high, bar.low, bar.close, bar.volume)
        return kind(bar.index, bar.venue, bar.symbol, bar.event_ts, *own)

    return event


SOURCES: Final[Mapping[str, Callable[[Trades], Source]]] = MappingProxyType(
    {"trade": _trades, "quote": _quotes, "bar": _bars}
)
