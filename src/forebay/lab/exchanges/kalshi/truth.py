"""What happens in a market of yes and no, in closed form; prices are dollars inside (0, 1).

A ticker has a grid of prices, of a whole cent or a finer one. A **middle** walks up and down that
grid, at most one line in :data:`PERIOD` events; bids for YES lie below it, bids for NO, which are
asks of YES, above it. Each event changes one line of the book, or none: each line has its turn
once in a period, and decides at its turn whether it is a bid, an ask or nothing, and of what size.
Between two turns of a line the middle moves by no more than one line, so that bids and asks never
meet.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from forebay.lab.truth.bars import Bar, Bars
from forebay.lab.truth.book import ASK, BID, Delta, SnapshotTruth
from forebay.lab.truth.event import Source, TruthEvent
from forebay.lab.truth.texts import decimal_text, digest_bits, fixed
from forebay.lab.truth.tickers import EVERY
from forebay.lab.truth.trades import SIZE_DECIMALS, Trade, Trades

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

VENUE: Final = "kalshi"
MARKET: Final = "prediction"
DECIMALS: Final = 4
"""Of prices; :data:`WHOLE` units of the last one are a dollar."""
WHOLE: Final = 10_000
COUNT_DECIMALS: Final = 2
DEPTH: Final = 24
"""Lines of the grid on each side; about six in seven hold something."""
PERIOD: Final = 52
"""Events from one turn of a line to its next: one line more than the book can reach, and that is
coprime to :data:`_TURN`."""

_TURN = 5
_EMPTY = 7
_COUNTS = 50_000
_MS = 1_000_000
_S = 1_000_000_000
_DAY_NS = 86_400 * _S


class PriceGrid(NamedTuple):
    """Which prices a market has."""

    structure: str
    """The venue's word for it."""
    step: int
    """From one price to the next, in units of the last decimal."""
    swing: int
    """How many lines the middle walks up before it walks down again."""


GRIDS: Final = (
    PriceGrid("linear_cent", 100, 8),
    PriceGrid("deci_cent", 10, 40),
    PriceGrid("centi_cent", 1, 90),
)
"""The last one is a word that nobody else knows: the venue invents such."""


@dataclass(slots=True)
class Life:
    """What has become of one market, in venue time; moments are whole seconds but for some."""

    created_ns: int
    open_ns: int
    close_ns: int
    status: str = "active"
    updated_ns: int = 0
    result: str = ""
    determined_ns: int | None = None
    settled_ns: int | None = None
    idle: bool = False
    """Whether nothing happens in it even while it is open."""
    determine_after_s: int | None = None
    """So long after it has closed it is determined by itself, if at all."""
    settle_after_s: int | None = None
    """The same of settling, after it was determined."""
    told: dict[str, object] = field(default_factory=dict)
    """What else of it was changed, as REST has it."""

    @classmethod
    def of_old(cls, start_ns: int) -> Life:
        """The life of a market that has been open for long and will be."""
        at = start_ns // _S * _S
        created_ns, open_ns, close_ns = at - 2 * _DAY_NS, at - _DAY_NS, at + 30 * _DAY_NS
        return cls(created_ns, open_ns, close_ns, updated_ns=created_ns)


class KalshiTrades(Trades):
    """All trades of one market."""

    def __init__(self, seed: int, symbol: str, *, start_ns: int, step_us: int) -> None:
        super().__init__(seed, VENUE, symbol, start_ns=start_ns, step_us=step_us)
        character = zlib.crc32(symbol.encode())
        self.price_decimals = DECIMALS
        self.life = Life.of_old(start_ns)
        self.grid = GRIDS[character % len(GRIDS)]
        self._low = WHOLE // self.grid.step * (35 + character // 3 % 23) // 100

    def middle(self, index: int) -> int:
        """The line of the grid between bids and asks."""
        swing = self.grid.swing
        phase = index // PERIOD % (2 * swing)
        return self._low + min(phase, 2 * swing - phase)

    def price(self, line: int) -> str:
        """A line of the grid in dollars."""
        return decimal_text(line * self.grid.step, DECIMALS)

    def event(self, index: int) -> Trade:
        roll = self._roll(index)
        return Trade(
            *self.head(index),
            trade_id=self.first_trade_id + index,
            price=decimal_text(self._ticks(index, roll), DECIMALS),
            size=decimal_text(_count(roll), COUNT_DECIMALS),
            side="buy" if roll[12] & 1 else "sell",
            sequence=0,
            maker_order_id=trade_id(roll),
            taker_order_id="",
        )

    def units(self, index: int) -> tuple[int, int]:
        roll = self._roll(index)
        return self._ticks(index, roll), _count(roll) * 10 ** (SIZE_DECIMALS - COUNT_DECIMALS)

    def _ticks(self, index: int, roll: bytes) -> int:
        return (self.middle(index) + roll[0] % 5 - 2) * self.grid.step


def _count(roll: bytes) -> int:
    """Contracts, in hundredths of one; most are whole."""
    whole = 1 + int.from_bytes(roll[5:7], "big") % 500
    return whole * 100 if roll[7] % 3 else 1 + int.from_bytes(roll[5:8], "big") % 20_000


def trade_id(roll: bytes) -> str:
    """A trade's id from 64 bytes of dice: as the venue's, a UUID of no version."""
    text = roll[16:32].hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def complement(price: str) -> str:
    """What the other outcome costs."""
    return decimal_text(WHOLE - int(price.replace(".", "")), DECIMALS)


class KalshiTrade(TruthEvent, frozen=True):
    """One trade, known by its id; times are of milliseconds, as the stream has them."""

    channel: ClassVar[str] = "trade"
    market: ClassVar[str] = MARKET

    trade_id: str
    price: str
    size: str
    side: str

    @property
    def event_id(self) -> int:
        stream = f"{self.venue}|{self.market}|{self.channel}|{self.symbol}"
        return digest_bits(f"native|{stream}|{self.trade_id}")

    def content(self) -> str:
        return f"{self.trade_id}|{fixed(self.price)}|{fixed(self.size)}|{self.side}"


class KalshiDelta(Delta, frozen=True):
    """What one level has more or less than before."""

    market: ClassVar[str] = MARKET


class KalshiSnapshot(SnapshotTruth, frozen=True):
    """The whole book on the axis of YES, best first."""

    market: ClassVar[str] = MARKET


class KalshiTicker(TruthEvent, frozen=True):
    """The last trade and the best of the book; nothing else of a ticker is told here."""

    channel: ClassVar[str] = "ticker"
    market: ClassVar[str] = MARKET

    price: str
    size: str
    bid_price: str
    bid_size: str
    ask_price: str
    ask_size: str
    volume: str
    """Of the market since it began, which is no volume of 24 hours."""

    def content(self) -> str:
        price, size, *best = map(
            fixed,
            (self.price, self.size, self.bid_size, self.ask_size, self.bid_price, self.ask_price),
        )
        return f"{price}|{size}|{best[0]}|{best[1]}||{best[2]}|{best[3]}||||"


class KalshiBar(Bar, frozen=True):
    """One minute that is over."""

    market: ClassVar[str] = MARKET


class KalshiBook:
    """The book of one market at any index; holds nothing per event."""

    def __init__(self, trades: KalshiTrades) -> None:
        self.trades = trades
        name = f"{trades.seed}|{trades.venue}|{trades.symbol}|book|"
        self._dice = hashlib.blake2b(name.encode(), digest_size=8)

    def sides(self, index: int) -> tuple[tuple[tuple[str, str], ...], ...]:
        """All bids and all asks as of ``index``, best first, on the axis of YES."""
        return tuple(self._levels(index, -1)), tuple(self._levels(index, 1))

    def best(self, index: int) -> tuple[tuple[str, str], tuple[str, str]]:
        """Best bid and best ask as of ``index``; price and size are 0 where there is none."""
        none = decimal_text(0, DECIMALS), decimal_text(0, COUNT_DECIMALS)
        return next(self._levels(index, -1), none), next(self._levels(index, 1), none)

    def delta(self, index: int) -> KalshiDelta | None:
        """What ``index`` changes; None if that is nothing."""
        middle = self.trades.middle(index)
        turn = index * pow(_TURN, -1, PERIOD)
        first = middle - PERIOD // 2
        line = first + (turn - first) % PERIOD
        before, after = self._held(line, index - 1), self._held(line, index)
        if before == after:
            return None
        side = ASK if (after or before) < 0 else BID
        more = abs(after) - abs(before)
        told = decimal_text(abs(more), COUNT_DECIMALS)
        change = side, self.trades.price(line), f"-{told}" if more < 0 else told
        return KalshiDelta(*self.trades.head(index), (change,))

    def snapshot(self, index: int) -> KalshiSnapshot:
        """The whole book, which is empty while the market is halted."""
        halted = self.trades.halted_ns is not None
        sides = ((), ()) if halted else self.sides(index)
        return KalshiSnapshot(*self.trades.head(max(index, 0)), *sides)

    def before_halt(self, index: int) -> KalshiSnapshot:
        """The whole book as of an index that happened."""
        return KalshiSnapshot(*self.trades.head(index), *self.sides(index))

    def _levels(self, index: int, step: int) -> Iterator[tuple[str, str]]:
        """Bids if ``step`` is -1, asks if it is 1, best first."""
        middle = self.trades.middle(index)
        # A line that has not had its turn since the middle moved may lie on it, or one too far.
        for line in range(middle, middle + step * (DEPTH + 2), step):
            held = self._held(line, index)
            if held * step < 0:
                yield self.trades.price(line), decimal_text(abs(held), COUNT_DECIMALS)

    def _held(self, line: int, index: int) -> int:
        """What a line holds as of ``index``: above 0 a bid, below an ask."""
        changed, since = divmod(index - line * _TURN % PERIOD, PERIOD)
        away = line - self.trades.middle(index - since)
        if not 0 < abs(away) <= DEPTH or changed % _EMPTY == line % _EMPTY:
            return 0
        dice = self._dice.copy()
        dice.update(f"{line}|{changed}".encode())
        number = int.from_bytes(dice.digest(), "big") % _COUNTS
        count = 2 * (1 + number) + changed % 2  # two in a row are never equal
        return count if away < 0 else -count


class KalshiTickers:
    """Tickers by index; most indices have none."""

    def __init__(self, trades: KalshiTrades) -> None:
        self._trades = trades
        self._book = KalshiBook(trades)

    def event(self, index: int) -> KalshiTicker | None:
        trades = self._trades
        if index % EVERY != EVERY - 1 or trades.time_ns(index + 1) == trades.time_ns(index):
            return None
        trade = trades.event(index)
        (bid, bid_size), (ask, ask_size) = self._book.best(index)
        own = (trade.price, trade.size, bid, bid_size, ask, ask_size, volume(index))
        return KalshiTicker(*to_ms(trades, index), *own)

    def last(self, index: int) -> KalshiTicker | None:
        """The latest ticker as of ``index``."""
        told = map(self.event, range(index, -1, -1))
        return next((each for each in told if each is not None), None)


def volume(index: int) -> str:
    """How many contracts were traded up to an index, about: nobody adds them up here."""
    return decimal_text(20_037 * (index + 1), COUNT_DECIMALS)


def to_ms(trades: Trades, index: int) -> tuple[int, str, str, int]:
    """The head of what happens at an index, its time in whole milliseconds."""
    at, venue, symbol, time_ns = trades.head(index)
    return at, venue, symbol, time_ns // _MS * _MS


def told_trade(trades: Trades, trade: Trade) -> KalshiTrade:
    """A trade as its event."""
    own = (trade.maker_order_id, trade.price, trade.size, trade.side)
    return KalshiTrade(*to_ms(trades, trade.index), *own)


def _trades(trades: Trades) -> Source:
    return lambda index: told_trade(trades, trades.event(index))


def _if_happened(trades: Trades, source: Source) -> Source:
    """Leave out what never happened, because the market was halted."""
    return lambda index: source(index) if trades.happened(index) else None


def _bars(trades: Trades) -> Source:
    bars = Bars(trades)

    def event(index: int) -> TruthEvent | None:
        bar = bars.event(index)
        if bar is None:
            return None
        own = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        return KalshiBar(*trades.head(index)[:3], bar.event_ts, bar.close_ts, *own)

    return event


def of_kalshi(trades: Trades) -> KalshiTrades:
    """Return trades that are this venue's as such."""
    if not isinstance(trades, KalshiTrades):
        raise TypeError(type(trades))
    return trades


SOURCES: Final[Mapping[str, Callable[[Trades], Source]]] = MappingProxyType(
    {
        "trade": lambda trades: _if_happened(trades, _trades(trades)),
        "ticker": lambda trades: _if_happened(trades, KalshiTickers(of_kalshi(trades)).event),
        "book_delta": lambda trades: _if_happened(trades, KalshiBook(of_kalshi(trades)).delta),
        "book_snapshot": lambda trades: KalshiBook(of_kalshi(trades)).before_halt,
        "bar": _bars,
    }
)
