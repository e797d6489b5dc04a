"""What Massive tells, as events: times in milliseconds, trades by their exchange and number."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from msgspec.structs import astuple

from forebay.lab.truth import Bar, Bars, Source, Tickers, TruthEvent
from forebay.lab.truth.texts import digest_bits, fixed
from forebay.lab.truth.tickers import Quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forebay.lab.truth import Trades

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


class CryptoQuote(Quote, frozen=True):
    """Best bid and ask, with sizes."""

    market: ClassVar[str] = CRYPTO


class ForexBar(Bar, frozen=True):
    """One minute that is over."""

    market: ClassVar[str] = FOREX
    of: ClassVar[str] = "quote"


class CryptoBar(Bar, frozen=True):
    """The same, with a weighted mean: here, the close."""

    market: ClassVar[str] = CRYPTO

    def mean(self) -> str:
        return fixed(self.close)


def _head(trades: Trades, index: int) -> tuple[int, str, str, int]:
    at, venue, symbol, time_ns = trades.head(index)
    return at, venue, symbol, time_ns // _MS * _MS


def _trades(trades: Trades) -> Source:
    def event(index: int) -> TruthEvent | None:
        if market_of(trades.symbol) == FOREX:
            return None
        told = trades.event(index)
        own = (told.price, told.size, told.side)
        return MassiveTrade(*_head(trades, index), f"{EXCHANGE}:{told.trade_id}", *own)

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
        return CryptoQuote(*head, *astuple(quote)[len(head) :])

    return event


def _bars(trades: Trades) -> Source:
    bars = Bars(trades)

    def event(index: int) -> TruthEvent | None:
        bar = bars.event(index)
        if bar is None:
            return None
        kind = ForexBar if market_of(trades.symbol) == FOREX else CryptoBar
        return kind(*astuple(bar))

    return event


SOURCES: Final[Mapping[str, Callable[[Trades], Source]]] = MappingProxyType(
    {"trade": _trades, "quote": _quotes, "bar": _bars}
)
